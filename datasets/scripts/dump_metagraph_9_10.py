"""Dump a metagraph of bittensor 9 or 10 as JSON, for `tauscore state import`.

    python dump_metagraph_9_10.py --netuid 1 [--mechid 0] [--network finney] [--block N] > metagraph.json

or, where a metagraph is there already, `dump(metagraph)` in Python: it reads attributes only, and never the network.

Only the standard library, and bittensor for the command. What the SDK holds is written as it is, under its own names; `state import` brings
it back to the chain's integers. The traps of these objects:

- `n` and `block` are zero-dimensional arrays, or (1,) before the first synchronisation;
- a lite synchronisation, the default, leaves W and B empty: they are written as null;
- many attributes do not exist before a full synchronisation, and some only in 9 or only in 10: they are left out;
- W is rows of f32 that sum to 1; the chain's own (uid, u16) pairs stay in the neurons, and are written where they are;
- hparams are floats of a dataclass; balances have their integer in `.rao`.
"""

import argparse
import dataclasses
import json
import sys

COLUMNS = (
    "uids active last_update validator_permit block_at_registration hotkeys coldkeys "
    "S AS TS C I D Tv E R T pruning_score"
).split()
NUMBERS = "netuid mechid n block version tempo last_step blocks_since_last_step num_uids max_uids network_registered_at".split()
TEXTS = "network name symbol owner_hotkey owner_coldkey".split()


def get(thing, name):
    """An attribute, or None where there is none: some are properties that raise."""
    try:
        return getattr(thing, name)
    except (AttributeError, KeyError, RuntimeError):
        return None


def plain(value):
    """Arrays of numpy and torch, balances and dataclasses as what JSON has."""
    if hasattr(value, "rao"):
        return {"rao": int(value.rao)}
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(get(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


def number(value):
    """The number in an array of none or one dimension."""
    value = plain(value)
    while isinstance(value, list):
        value = value[0] if value else None
    return value


def matrix(value):
    """A matrix, or None where there is none."""
    value = plain(value)
    return value if isinstance(value, list) and value and all(isinstance(row, list) for row in value) else None


def pairs(neuron, name):
    """A neuron's row as the chain has it, or None where it was not asked for."""
    row = plain(get(neuron, name))
    return [[int(uid), int(value)] for uid, value in row] if isinstance(row, list) else None


def dump(metagraph):
    """What `tauscore state import` reads of a metagraph."""
    out = {"sdk": "bittensor 9/10"}
    for name in NUMBERS:
        if (value := number(get(metagraph, name))) is not None:
            out[name] = value
    for name in TEXTS:
        if isinstance(value := get(metagraph, name), str):
            out[name] = value
    for name in COLUMNS:
        if isinstance(value := plain(get(metagraph, name)), list):
            out[name] = value
    out["W"], out["B"] = matrix(get(metagraph, "W")), matrix(get(metagraph, "B"))
    if (hparams := get(metagraph, "hparams")) is not None:
        out["hparams"] = plain(hparams)
    if out["W"] is not None:
        neurons = get(metagraph, "neurons") or []
        out["neurons"] = [{"weights": pairs(neuron, "weights"), "bonds": pairs(neuron, "bonds")} for neuron in neurons]
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--netuid", type=int, required=True)
    parser.add_argument("--mechid", type=int, default=0)
    parser.add_argument("--network", default="finney")
    parser.add_argument("--block", type=int)
    args = parser.parse_args()
    from bittensor.core.metagraph import Metagraph

    # By keyword: 9 and 10 have the mechanism in different places. Releases of 9 from before mechanisms have none.
    place = {"netuid": args.netuid, "network": args.network, "lite": False, "sync": False}
    metagraph = Metagraph(mechid=args.mechid, **place) if args.mechid else Metagraph(**place)
    metagraph.sync(block=args.block, lite=False)
    json.dump(dump(metagraph), sys.stdout, allow_nan=False)
    print()


if __name__ == "__main__":
    main()
