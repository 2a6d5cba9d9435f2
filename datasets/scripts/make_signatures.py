"""Sign with a bittensor SDK's own keys, for `tests/signatures.rs`; or let the SDK verify what tauscore signed.

    python datasets/scripts/make_signatures.py datasets/signatures/bittensor_11.json
    python datasets/scripts/make_signatures.py --verify approvals.jsonl

Run it by the Python of an environment with one of

    pip install "bittensor-wallet==4.1.1"      what bittensor 10 has its wallets from
    pip install "bittensor==11.3.0"            which has them in bittensor-core

The keys are throwaway keys from fixed seeds: THEY ARE PUBLIC, NEVER SEND ANYTHING TO THEM. Signatures of sr25519 are randomised, so that a
new file has other ones. The key files are byte for byte what the package writes; `bittensor-wallet` 4.1.1 writes a seed whose bytes happen to
be text as that text, not in hexadecimal, as here.

With --verify every line is one that `tauscore criteria approve` printed.
"""

import argparse
import importlib.metadata
import json
import sys

try:
    from bittensor_core import Keypair, serialized_keypair_to_keyfile_data

    PACKAGES = ["bittensor", "bittensor-core"]
    from_seed = bytes.fromhex
except ImportError:
    from bittensor_wallet import Keypair
    from bittensor_wallet.keyfile import serialized_keypair_to_keyfile_data

    PACKAGES = ["bittensor-wallet"]
    from_seed = "0x{}".format

SCHEMES = {"ed25519": 0, "sr25519": 1}

# 32 bytes.
SEED = b"TEST KEY, NEVER SEND ANYTHING TO".hex()

# A development phrase that every Substrate tool knows.
PHRASE = "bottom drive obey lake curtain smoke basket hold race lonely fit walk"

MESSAGES = {
    "text": b"tauscore test message",
    "lines": "tauscore ledger entry 1\n".encode() + b"0123456789abcdef" * 4 + b"\n",
    "unicode": "Ködel τ 🦀".encode(),
    "empty": b"",
    "binary": bytes(range(256)),
    "zeros": bytes(64),
    "long": b"tauscore " * 2000,
}


def keypair(kind, scheme):
    """One of the test keys."""
    number = SCHEMES[scheme]
    if kind == "seed":
        return Keypair.create_from_seed(from_seed(SEED), crypto_type=number)
    if kind == "phrase":
        return Keypair.create_from_mnemonic(PHRASE, crypto_type=number)
    return Keypair.create_from_uri("//tauscore//test", crypto_type=number)


def make(path):
    """Write keys, key files and signatures."""
    keys, signatures = [], []
    for scheme in SCHEMES:
        for kind in ["seed", "phrase", "uri"]:
            pair = keypair(kind, scheme)
            written = bytes(serialized_keypair_to_keyfile_data(pair)).decode()
            keys.append(
                {
                    "name": f"TEST KEY, {scheme} from a {kind}",
                    "scheme": scheme,
                    "public_key": bytes(pair.public_key).hex(),
                    "address": pair.ss58_address,
                    "key_file": written,
                }
            )
            if kind == "seed":
                keys[-1]["seed"] = SEED
            for name, message in MESSAGES.items():
                for wrapped in [False, True] if name in ["text", "empty"] else [False]:
                    signed = b"<Bytes>" + message + b"</Bytes>" if wrapped else message
                    signature = bytes(pair.sign(signed))
                    assert pair.verify(message, signature), "the SDK takes both"
                    row = {"key": len(keys) - 1, "message": name, "wrapped": wrapped, "signature": signature.hex()}
                    signatures.append(row)
    content = {
        "what": "throwaway test keys from fixed seeds: they are public, never send anything to them",
        "made_by": {name: importlib.metadata.version(name) for name in PACKAGES},
        "messages": {name: message.hex() for name, message in MESSAGES.items()},
        "keys": keys,
        "signatures": signatures,
    }
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        json.dump(content, file, ensure_ascii=False, indent=1)
        file.write("\n")
    print(f"{path}: {len(keys)} keys, {len(signatures)} signatures by {content['made_by']}")


def verify(path):
    """Let the SDK verify approvals; the number of those that fail."""
    failed = 0
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            row = json.loads(line)
            message = "tauscore criteria approval 1\nnetuid {netuid}\nmechanism {mechanism}\nfrom {from}\nto {to}\n"
            pair = Keypair(ss58_address=row["hotkey"], crypto_type=SCHEMES[row["scheme"]])
            good = pair.verify(message.format(**row).encode(), bytes.fromhex(row["signature"]))
            failed += not good
            print(f"{path}:{number}: {row['hotkey']} {row['scheme']}: {'good' if good else 'BAD'}")
    return failed


def main():
    """Make the file, or verify one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", metavar="FILE")
    parser.add_argument("--verify", action="store_true", help="let the SDK verify what `tauscore criteria approve` printed")
    args = parser.parse_args()
    if args.verify:
        return 1 if verify(args.path) else 0
    make(args.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
