"""Make the arrays in `datasets/logits/` that a miner might send, with their losses from PyTorch.

    python datasets/scripts/make_logits.py [--out DIR]

Logits `[tokens, vocabulary]` from seeded random numbers, as `.npy` (f32, f16, and bf16 as numpy writes that of
ml_dtypes; versions 1, 2 and 3 of the format) and as safetensors; and the k likeliest tokens' log-probabilities as
safetensors. `losses.json` holds the tokens and, for each file, the loss of each token:

    of logits      torch.nn.functional.cross_entropy in f64, of the values as stored
    of logprobs    -logprob where the token is listed, else -ln((1 - sum) / (vocabulary - k)) by math.fsum, as stored

Row 1 has logits up to about 270, in row 2 all but a few are -inf, row 3 holds one number throughout. The k tokens
list the reference's token in some rows and not in others.
"""

import argparse
import json
import math
import os
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # goldens come from the CPU

import ml_dtypes
import numpy as np
import torch
from safetensors.torch import save_file

TOKENS, VOCABULARY, K = 6, 301, 7
NPY = {"f32": ((1, 0), np.float32), "f16": ((2, 0), np.float16), "bf16": ((3, 0), ml_dtypes.bfloat16)}
TORCH = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def random_logits():
    """Logits as f64 [TOKENS, VOCABULARY], and a token for each row."""
    generator = torch.Generator().manual_seed(7)
    logits = 3 * torch.randn(TOKENS, VOCABULARY, generator=generator, dtype=torch.float64)
    logits[1] *= 30
    logits[2, 5:] = -math.inf
    logits[3] = 1.5
    tokens = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
    tokens[1] = logits[1].topk(2).indices[1]  # others would be beyond the largest loss
    tokens[2] = 3
    tokens[4] = logits[4].argmax()
    return logits, tokens


def cross_entropy(stored, tokens):
    """The loss of each token in f64."""
    return torch.nn.functional.cross_entropy(stored.double(), tokens, reduction="none").tolist()


def listed_losses(ids, logprobs, tokens):
    """The loss of each token by what the k likeliest are said to have, plainly."""
    losses = []
    for row, values, token in zip(ids.tolist(), logprobs.double().tolist(), tokens.tolist(), strict=True):
        total = math.fsum(math.exp(value) for value in values)
        if token in row:
            losses.append(math.log(max(total, 1.0)) - values[row.index(token)])
        else:
            losses.append(-math.log((1 - total) / (VOCABULARY - K)))
    return losses


def main():
    """Write the files and their losses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "logits")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    logits, tokens = random_logits()

    losses = {}
    for name, dtype in TORCH.items():
        stored = logits.to(dtype)
        version, element = NPY[name]
        with open(out / f"{name}.npy", "wb") as file:
            np.lib.format.write_array(file, stored.float().numpy().astype(element), version=version)
        losses[f"{name}.npy"] = cross_entropy(stored, tokens)
        tensors = {"logits": stored} if name == "f32" else {"anything": stored}
        if name == "f32":
            tensors["another"] = torch.zeros(3)  # found by its name
        save_file(tensors, out / f"{name}.safetensors")
        losses[f"{name}.safetensors"] = cross_entropy(stored, tokens)

    values, ids = logits.log_softmax(-1).topk(K)
    for name, kind in (("f32", torch.int64), ("bf16", torch.int32), ("f16", torch.uint32)):
        stored = values.to(TORCH[name])
        save_file({"ids": ids.to(kind), "logprobs": stored}, out / f"likeliest_{name}.safetensors")
        losses[f"likeliest_{name}.safetensors"] = listed_losses(ids, stored, tokens)

    versions = {"torch": torch.__version__, "numpy": np.__version__, "ml_dtypes": ml_dtypes.__version__}
    golden = {"versions": versions, "vocabulary": VOCABULARY, "tokens": tokens.tolist(), "losses": losses}
    (out / "losses.json").write_bytes((json.dumps(golden, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
