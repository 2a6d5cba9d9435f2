"""Record NumPy's sums and quantiles of drawn numbers, by their bits: `datasets/weights/numpy.json`.

    python3 datasets/scripts/make_numpy_sums.py 2.4 sums.json      with NumPy 2.4 or later; makes the file
    python3 datasets/scripts/make_numpy_sums.py 2.0 sums.json      with NumPy 2.0 to 2.3; adds its quantiles to the file

Sizes lie around the blocks in which NumPy sums (8 and 128, then halves), the numbers span 24 powers of two, and half of the quantiles fall
on a number where the size allows it, which is where NumPy 2.0 and 2.4 part.
"""

import json
import sys
from pathlib import Path

import numpy as np

# One more than the divisors of 65535 are among them.
SIZES = [1, 2, 3, 4, 6, 7, 8, 9, 15, 16, 17, 18, 23, 52, 63, 64, 65, 86, 127, 128, 129, 130, 135, 136, 137, 144, 200, 255, 256, 257]
SIZES += [258, 264, 383, 384, 385, 500, 511, 513, 772, 1000, 1023, 1024, 1025, 1286, 2047, 2049, 2500, 4096, 4370]
SEEDS = 6
MASK = 2**64 - 1


def drawn(seed, size):
    """`size` numbers in (0, 1), the same as in tests/conform.rs."""
    state, values = seed, []

    def bits():
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        return state >> 33

    for _ in range(size):
        mantissa = bits()
        values.append(mantissa * 2.0 ** (-31 - bits() % 24))
    return np.array(values)


def hexadecimal(value):
    """The bits of a NumPy float."""
    return value.tobytes()[::-1].hex()


def main():
    version, path = sys.argv[1], Path(sys.argv[2])
    assert (np.lib.NumpyVersion(np.__version__) >= "2.4.0") == (version == "2.4"), np.__version__
    rows = []
    for size in SIZES:
        for seed in range(SEEDS):
            wide = drawn(seed, size)
            narrow = wide.astype(np.float32)
            place = (7919 * seed + 13) % size
            q = place * 65535 // max(1, size - 1) if seed % 2 == 0 else (26339 * seed + 31 * size) % 65536
            row = {"seed": seed, "size": size, "sum_f64": hexadecimal(wide.sum()), "sum_f32": hexadecimal(narrow.sum()), "q": q}
            rows.append(row | {"quantile": {version: hexadecimal(np.quantile(narrow, q / 65535))}})
    if version == "2.0":
        found = json.loads(path.read_text())["rows"]
        for old, row in zip(found, rows, strict=True):
            assert {key: old[key] for key in old if key != "quantile"} == {key: row[key] for key in row if key != "quantile"}
            old["quantile"] |= row["quantile"]
        rows = found
    path.write_text('{"rows": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]}\n")
    print(len(rows), "rows,", sum(len(set(row["quantile"].values())) > 1 for row in rows), "with two quantiles")


if __name__ == "__main__":
    main()
