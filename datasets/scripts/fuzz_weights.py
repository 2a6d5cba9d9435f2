"""Make cases of weights with what a real bittensor SDK makes of them, in the format of `datasets/weights/cases.json.gz`.

    python datasets/scripts/fuzz_weights.py --count 3000 --seed 1 cases.json
    tauscore weights --cases cases.json --python 3.11 --numpy 2.4 > /dev/null

Run it by the Python of an environment with bittensor 9, 10 or 11; the SDK's own functions are called, so no network and no wallet is needed:

    pip install "bittensor==9.12.2" "async-substrate-interface<2"
    pip install "bittensor==10.5.0"
    pip install "bittensor==11.3.0"

Every kind of input is drawn: sizes around the blocks of NumPy's sums, sparse and tied weights, magnitudes from denormals to overflow, NaN,
infinities and negatives, limits at and around 1/n, quantiles, minima, lists, arrays and mappings, and broken uids.
"""

import argparse
import hashlib
import json
import random
import sys

U16_MAX = 65535
SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 33, 64, 65, 100, 127, 128, 129, 130, 136, 255, 256, 257, 264]
# One more than divisors of 65535, so that quantiles can fall on a weight.
EXACT = [4, 6, 16, 18, 52, 86, 256, 258]
LARGE = [500, 1024, 1025, 2000, 2500]


def weights_of(draw, size):
    """Weights of one of many shapes."""
    shape = draw.choice(["uniform", "lognormal", "geometric", "integers", "ties", "equal", "sparse", "one", "spread"])
    scale = draw.choice([1.0, 1.0, 1.0, 1.0, 65535.0, 1e-30, 1e-41, 1e-44, 1e29, 1e38, 1e-310, 1e307])
    if shape == "uniform":
        values = [draw.random() for _ in range(size)]
    elif shape == "lognormal":
        values = [draw.lognormvariate(0, 1) for _ in range(size)]
    elif shape == "geometric":
        values = [0.9**place for place in range(size)]
        draw.shuffle(values)
    elif shape == "integers":
        values, scale = [float(draw.randrange(0, 131071)) for _ in range(size)], 1.0
    elif shape == "ties":
        values = [draw.choice([0.0, 0.25, 0.5, 1.0]) for _ in range(size)]
    elif shape == "equal":
        values = [0.7] * size
    elif shape == "sparse":
        values = [draw.random() if draw.random() < 0.2 else 0.0 for _ in range(size)]
    elif shape == "one":
        values = [0.0] * size
        if size:
            values[draw.randrange(size)] = draw.random()
    else:
        values = [10.0 ** draw.uniform(-9, 0) for _ in range(size)]
    values = [value * scale for value in values]
    if size and draw.random() < 0.15:
        for _ in range(draw.choice([1, 1, 2, 3])):
            bad = ["nan", "inf", "-inf", -0.01, -0.0, 1e39, 1e-46, 5e-324, 1.7e308]
            values[draw.randrange(size)] = float(draw.choice(bad))
    return values


def case(draw, index, kinds):
    """One case without what is expected."""
    size = draw.choice(SIZES + ([draw.choice(LARGE)] if index % 20 == 0 else []))
    exact = draw.random() < 0.1
    size = draw.choice(EXACT) if exact else size
    n = size + draw.choice([0, 0, 0, 1, 5, 50])
    uids = sorted(draw.sample(range(n), size)) if draw.random() < 0.7 else draw.sample(range(n), size)
    if draw.random() < 0.5:
        uids, n = list(range(size)), max(size, 1)
    weights = weights_of(draw, size)
    if draw.random() < 0.05:
        n = max(0, n - draw.randrange(4))
    if draw.random() < 0.04 and size:
        uids[draw.randrange(size)] = draw.choice([-1, 65535, 65536, 70000, uids[0]])
    if draw.random() < 0.04:
        (uids if draw.random() < 0.5 else weights)[size // 2 :] = []
    share = draw.choice([size, size, max(1, size // 2), 3, 10])
    near = min(U16_MAX, max(0, round(U16_MAX / max(1, share)) + draw.choice([-1, 0, 0, 1, 2])))
    limit = draw.choice([U16_MAX, near, near, near, 0, 1, 655, 6553, 13107, 21845, 32767, draw.randrange(U16_MAX + 1)])
    made = {"id": f"f{index:05}", "n": n, "min_allowed_weights": draw.choice([0, 1, 1, 1, 3, 8, size, size + 1, n, n + 1])}
    made |= {"max_weight_limit_u16": limit, "max_weight_limit": repr(limit / U16_MAX), "uids": uids}
    kind = draw.choice(kinds)
    made |= {"family": "legacy" if kind in ("process", "emit") else "v11", "api": kind}
    if kind == "process":
        made["weights_form"] = draw.choice(["f32", "f64", "f64", "f64", "list"]) if index % 50 == 0 else draw.choice(["f32", "f64"])
        kept = sum(weight > 0 for weight in weights)
        on_weight = min(U16_MAX, draw.randrange(kept + 1) * U16_MAX // max(1, kept - 1))
        made["exclude_quantile"] = on_weight if exact else draw.choice([0, 0, 0, draw.randrange(U16_MAX + 1), on_weight])
    elif kind == "emit":
        made["weights_form"] = draw.choice(["list", "f32", "f64"])
        made["exclude_quantile"] = 0
    else:
        made["weights_form"] = draw.choice(["list", "list", "mapping"])
        made["self_uid"] = draw.choice([n, uids[0] if uids else 0])
        if kind == "raw_u16":
            weights = [float(draw.choice([0, 1, 2, 500, 65535, draw.randrange(65536)])) for _ in weights]
            if weights and draw.random() < 0.3:
                weights[draw.randrange(len(weights))] = draw.choice([1.5, -1.0, 65536.0, float("nan"), float("inf")])
    made["weights"] = [repr(weight) for weight in weights]
    return made


NAMES = {
    "min() arg is an empty": "empty",
    "min() iterable argument": "empty",
    "Passed weight is neg": "negative_weight",
    "Passed uid is neg": "negative_uid",
    "Passed weights and uids": "length_mismatch",
    "uids and weights must be": "length_mismatch",
    "cannot convert float NaN": "nan_to_int",
    "index ": "index_error",
    "'list' object has no": "attribute_error",
    "float division by zero": "zero_division",
    "All weights are zero": "all_zero",
    "Weights must be finite": "not_finite_or_negative",
    "Duplicate UIDs": "duplicate_uids",
    "UIDs must be in": "uid_out_of_u16",
    "Subnet ": "below_min_allowed",
    "Raw weights require": "raw_pairs",
    "Raw weights must be": "raw_not_integer",
    "Raw weights exceed": "raw_exceeds_limit",
}


def expected(call):
    """What the SDK gives, or raises."""
    mid = []
    try:
        uids, values = call(mid)
        return {"uids": [int(uid) for uid in uids], "values": [int(value) for value in values]} | dict(mid)
    except Exception as error:
        message = str(error)
        name = next((name for start, name in NAMES.items() if message.startswith(start)), None)
        if name is None:
            raise
        return {"error": name, "exception": type(error).__name__, "message": message} | dict(mid)


def legacy(made):
    """Calls SDK 9 or 10."""
    import numpy as np
    from bittensor.utils.weight_utils import convert_and_normalize_weights_and_uids, process_weights

    forms = {"f32": lambda v: np.array(v, dtype=np.float32), "f64": lambda v: np.array(v, dtype=np.float64), "list": list}
    weights = forms[made["weights_form"]]([float(weight) for weight in made["weights"]])
    uids = made["uids"] if made["api"] == "emit" and made["weights_form"] == "list" else np.array(made["uids"], dtype=np.int64)

    def call(mid):
        if made["api"] == "emit":
            return convert_and_normalize_weights_and_uids(uids, weights)
        limit = float(made["max_weight_limit"])
        sent = process_weights(uids, weights, made["n"], made["min_allowed_weights"], limit, made["exclude_quantile"])
        if not np.isnan(sent[1]).any():
            digest = hashlib.sha256(np.ascontiguousarray(sent[1]).tobytes()).hexdigest()[:16]
            mid.append(("mid", {"dtype": str(sent[1].dtype), "len": len(sent[1]), "sha256": digest}))
        return convert_and_normalize_weights_and_uids(*sent)

    with np.errstate(all="ignore"):
        return expected(call)


def current(made):
    """Calls SDK 11."""
    from bittensor.intents import weights as sdk

    weights = [float(weight) for weight in made["weights"]]

    def call(_):
        given = (None, dict(zip(made["uids"], weights))) if made["weights_form"] == "mapping" else (made["uids"], weights)
        uids, values = sdk._as_pairs(*given)
        preflight = sdk._Preflight(made["self_uid"], False, made["min_allowed_weights"], made["max_weight_limit_u16"])
        return sdk._conform(uids, values, preflight, 1, made["api"] == "raw_u16")

    return expected(call)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    # The SDKs log to standard output.
    parser.add_argument("out")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    import bittensor

    is_legacy = int(bittensor.__version__.split(".")[0]) < 11
    kinds = ["process"] * 4 + ["emit"] if is_legacy else ["conform"] * 5 + ["raw_u16"]
    draw = random.Random(options.seed)
    cases = []
    for index in range(options.count):
        made = case(draw, index, kinds)
        cases.append(made | {"expect": (legacy if is_legacy else current)(made)})
    meta = {"bittensor": bittensor.__version__, "python": sys.version.split()[0], "seed": options.seed}
    with open(options.out, "w") as file:
        json.dump({"meta": meta, "cases": cases}, file)


if __name__ == "__main__":
    main()
