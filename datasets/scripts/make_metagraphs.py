"""Make `datasets/metagraph/`: one small subnet as each SDK's own objects hold it, dumped by the scripts beside this one.

    pip install bittensor==10.5.0 && python datasets/scripts/make_metagraphs.py     writes v10*.json
    pip install bittensor==11.3.0 && python datasets/scripts/make_metagraphs.py     writes v11*.json and btcli_11.json

Each in an environment of its own; no network. The objects are the SDK's: 10 fills its arrays from neurons as `sync` does, 11 decodes the
chain's record as `client.subnets.metagraph` does. The subnet is invented.
"""

import json
from pathlib import Path

import dump_metagraph_9_10
import dump_metagraph_11

OUT = Path(__file__).resolve().parent.parent / "metagraph"
N = 6
RAO = 10**9
NETUID, BLOCK, TEMPO, LAST_STEP = 7, 5_000_000, 360, 4_999_700
HOTKEYS = [f"hotkey_{uid}" for uid in range(N)]
COLDKEYS = ["cold_a", "cold_b", "cold_c", "cold_c", "cold_d", "cold_e"]
# All amounts are exact as f32, which is what 10 makes of them.
STAKE = [int(tao * RAO) for tao in (40_960.5, 20_480.25, 0, 16.125, 0, 1)]
EMISSION = [int(alpha * RAO) for alpha in (64.5, 32.25, 48, 24.5, 0.125, 0)]
CONSENSUS = [0, 0, 65_535, 40_001, 17, 1]
PERMIT = [True, True, False, False, False, False]
LAST_UPDATE = [4_999_990, 4_999_001, 0, 12, 0, 0]
REGISTERED = [100, 200, 300, 4_999_999, 5, 6]
WEIGHTS = {0: [(2, 65_535), (3, 40_001), (4, 7), (5, 1)], 1: [(5, 12_345), (3, 65_535), (2, 65_534)]}
BONDS = {0: [[2, 60_000], [3, 1]], 1: [[2, 5_535], [3, 65_534], [4, 65_535]]}
PARAMETERS = {
    "kappa": 32_767, "alpha_high": 58_982, "alpha_low": 45_875, "bonds_moving_avg": 900_000, "activity_cutoff": 5_000,
    "max_validators": 64, "min_allowed_weights": 3, "max_weights_limit": 21_845, "liquid_alpha_enabled": True,
}


def write(name, value):
    OUT.mkdir(exist_ok=True)
    (OUT / name).write_text(json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n")


def ten():
    import numpy as np
    from bittensor.core.chain_data import AxonInfo, NeuronInfo, NeuronInfoLite
    from bittensor.core.chain_data.metagraph_info import MetagraphInfoParams
    from bittensor.core.metagraph import Metagraph
    from bittensor.utils.balance import Balance
    import dataclasses

    def metagraph(lite):
        made = Metagraph(netuid=NETUID, network="ws://127.0.0.1:9", lite=lite, sync=False)
        kind = NeuronInfoLite if lite else NeuronInfo
        names = {field.name for field in dataclasses.fields(kind)}
        for uid in range(N):
            values = {
                "hotkey": HOTKEYS[uid], "coldkey": COLDKEYS[uid], "uid": uid, "netuid": NETUID, "active": 1,
                "stake": Balance.from_rao(STAKE[uid]), "stake_dict": {}, "total_stake": Balance.from_rao(STAKE[uid]),
                "emission": EMISSION[uid] / RAO, "incentive": 0.0, "consensus": CONSENSUS[uid] / 65_535, "validator_trust": 0.0,
                "dividends": 0.0, "rank": 0.0, "trust": 0.0, "pruning_score": 0, "last_update": LAST_UPDATE[uid], "validator_permit": PERMIT[uid],
                "weights": WEIGHTS.get(uid, []), "bonds": BONDS.get(uid, []), "prometheus_info": None,
                "axon_info": AxonInfo(1, "0.0.0.0", 0, 4, HOTKEYS[uid], COLDKEYS[uid]),
            }
            made.neurons.append(kind(**{name: value for name, value in values.items() if name in names}))
        made._set_metagraph_attributes(BLOCK)
        if not lite:
            made._set_weights_and_bonds(subtensor=None, block=BLOCK)
        # From here on as `sync` fills them from its other calls: plain lists and floats, parameters divided.
        made.alpha_stake = np.array([stake / RAO for stake in STAKE], dtype=np.float32)
        made.tao_stake = np.zeros(N, dtype=np.float32)
        made.total_stake = made.stake = made.alpha_stake + made.tao_stake
        made.block_at_registration, made.pruning_score = REGISTERED, [0.0] * N
        made.tempo, made.last_step = TEMPO, LAST_STEP
        made.owner_hotkey, made.owner_coldkey = HOTKEYS[5], COLDKEYS[5]
        values = {field.name: 0 for field in dataclasses.fields(MetagraphInfoParams)}
        shares = ("alpha_high", "alpha_low", "min_allowed_weights", "max_weights_limit")
        values.update({name: value / 65_535 if name in shares else value for name, value in PARAMETERS.items()})
        values.update(tempo=TEMPO, bonds_moving_avg=PARAMETERS["bonds_moving_avg"] / (2**64 - 1))
        made.hparams = MetagraphInfoParams(**values)
        return made

    full = dump_metagraph_9_10.dump(metagraph(lite=False))
    write("v10.json", full)
    write("v10_arrays.json", {key: value for key, value in full.items() if key != "neurons"})
    write("v10_lite.json", dump_metagraph_9_10.dump(metagraph(lite=True)))
    write("v10_unsynchronised.json", dump_metagraph_9_10.dump(Metagraph(netuid=NETUID, network="ws://127.0.0.1:9", sync=False)))


def eleven():
    from bittensor import metagraph
    from bittensor.balance import Balance
    from bittensor.reads.neurons import Neuron

    zeros = [0] * N
    record = {
        "netuid": NETUID, "name": "demo", "symbol": "d", "identity": None, "network_registered_at": 1, "owner_hotkey": HOTKEYS[5],
        "owner_coldkey": COLDKEYS[5], "block": BLOCK, "tempo": TEMPO, "last_step": LAST_STEP, "blocks_since_last_step": BLOCK - LAST_STEP,
        "tao_in": 10, "alpha_in": 20, "moving_price": {"bits": 2**31}, "num_uids": N, "max_uids": 256, **PARAMETERS,
        "hotkeys": HOTKEYS, "coldkeys": COLDKEYS, "identities": [None] * N, "axons": [None] * N, "active": [True] * N,
        "validator_permit": PERMIT, "pruning_score": zeros, "last_update": LAST_UPDATE, "emission": EMISSION, "dividends": zeros,
        "incentives": zeros, "consensus": CONSENSUS, "trust": zeros, "rank": zeros, "block_at_registration": REGISTERED,
        "alpha_stake": STAKE, "tao_stake": zeros, "total_stake": STAKE,
    }
    made = metagraph._build(NETUID, dict(record), {})
    # As `reads/weights.py` computes them from the chain's pairs.
    weights = {uid: {miner: value / sum(v for _, v in row) for miner, value in row} for uid, row in WEIGHTS.items()}
    weights[2] = {}
    bonds = {uid: {miner: value / 65_535 for miner, value in row} for uid, row in BONDS.items()}
    write("v11.json", dump_metagraph_11.dump(made, weights, bonds))
    neurons = [
        Neuron(
            uid=uid, hotkey=HOTKEYS[uid], coldkey=COLDKEYS[uid], active=True, validator_permit=PERMIT[uid], last_update=LAST_UPDATE[uid],
            total_stake=Balance.from_rao(STAKE[uid], NETUID), raw={"weights": WEIGHTS.get(uid, []), "bonds": BONDS.get(uid, [])},
        )
        for uid in range(N)
    ]
    write("v11_pairs.json", dump_metagraph_11.dump(made, neurons=neurons))
    # btcli prints the record as it comes.
    write("btcli_11.json", record)


if __name__ == "__main__":
    import bittensor

    eleven() if hasattr(bittensor, "Client") else ten()
