"""Dump a metagraph of bittensor 11 as JSON, for `tauscore state import`.

    python dump_metagraph_11.py --netuid 1 [--mechid 0] [--network finney] [--block N] > metagraph.json

or, where the objects are there already, `dump(metagraph, weights, bonds, neurons)` in Python: it reads attributes only, and never the
network. `weights` and `bonds` are what `client.weights.weights(netuid, mechid)` and `.bonds(...)` give; or `neurons` is what
`client.neurons.all(netuid, lite=False)` gives, whose `raw` has the chain's own pairs.

Only the standard library, and bittensor for the command. The traps of these objects:

- a Metagraph has no matrices, no columns and no parameters: it has `neurons`, and the chain's record as `raw`;
- balances: `.tao` raises on alpha and `.alpha` on TAO, so their integer, `.rao`, is written;
- matrices are dicts in the order of submission, which readers of JSON need not keep: rows are written as pairs.
"""

import argparse
import asyncio
import json
import sys

NEURON = (
    "uid hotkey coldkey active validator_permit last_update block_at_registration rank trust consensus incentive dividends "
    "pruning_score emission alpha_stake tao_stake total_stake"
).split()
SUBNET = (
    "netuid mechid name symbol block tempo last_step blocks_since_last_step owner_hotkey owner_coldkey network_registered_at "
    "num_uids max_uids"
).split()


def plain(value):
    """Balances as their rao, and keys as texts."""
    if hasattr(value, "rao"):
        return int(value.rao)
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, (bytes, bytearray)):
        return "0x" + bytes(value).hex()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def fields(thing, names):
    """Those of the attributes that are there."""
    return {name: plain(getattr(thing, name)) for name in names if getattr(thing, name, None) is not None}


def pairs(neurons, name):
    """The chain's own rows, by uid, of neurons that were asked for with lite=False."""
    return {str(neuron.uid): [[int(uid), int(value)] for uid, value in neuron.raw.get(name) or []] for neuron in neurons}


def rows(matrix):
    """`{validator: {miner: value}}` with rows as pairs, which keep their order in JSON: it is that of submission, and the epoch's."""
    return {str(uid): [[int(miner), value] for miner, value in row.items()] for uid, row in matrix.items()} if matrix else None


def dump(metagraph, weights=None, bonds=None, neurons=None):
    """What `tauscore state import` reads of a metagraph and its matrices."""
    out = {"sdk": "bittensor 11", **fields(metagraph, SUBNET)}
    out["neurons"] = [fields(neuron, NEURON) for neuron in metagraph.neurons]
    out["raw"] = plain(metagraph.raw)
    out["weights"] = pairs(neurons, "weights") if neurons else rows(weights)
    out["bonds"] = pairs(neurons, "bonds") if neurons else rows(bonds)
    return out


async def fetch(network, netuid, mechid, block=None, **options):
    """The metagraph and its matrices, all of one block."""
    import bittensor

    async with bittensor.Client(network, **options) as client:
        view = await client.at(block)
        metagraph = await view.subnets.metagraph(netuid, commitments=False)
        if metagraph is None:
            raise SystemExit(f"there is no subnet {netuid}")
        weights = await view.weights.weights(netuid, mechid)
        bonds = await view.weights.bonds(netuid, mechid)
    # The record is the subnet's, whichever mechanism's matrices were asked for.
    return {**dump(metagraph, weights, bonds), "mechid": mechid}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--netuid", type=int, required=True)
    parser.add_argument("--mechid", type=int, default=0)
    parser.add_argument("--network", default="finney")
    parser.add_argument("--block", type=int)
    args = parser.parse_args()
    json.dump(asyncio.run(fetch(args.network, args.netuid, args.mechid, args.block)), sys.stdout, allow_nan=False)
    print()


if __name__ == "__main__":
    main()
