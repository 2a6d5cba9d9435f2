"""How well a run's reference losses rank miners whose quality is known.

    python benches/peers/score_dev.py --scores OUT --quality quality.csv [--responses round.jsonl]

--scores is the folder a scoring run wrote with `--out` (or its scores.jsonl): one row for each answer
with `prompt_id`, `miner` and `loss` = 1 - cosine(answer, reference). --quality has a row for each miner
with `miner`, `win_rate`, `length_controlled_winrate` and, optionally, `avg_length`.

Printed: Spearman's correlation, over the miners, of the mean cosine with each quality column, with a
bootstrap interval (over prompts, unless --over says otherwise). Length is the control: length alone
already predicts many judges, so the correlation of log length stands under it, and then the partial
correlation of the mean cosine given log length. Length comes from --responses (per answer, so that it is
bootstrapped alike), else from `avg_length`.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np

QUALITY = ["win_rate", "length_controlled_winrate"]


def read_jsonl(path):
    """The rows of a JSONL file."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def table(rows, value, miners, prompts):
    """A miners x prompts matrix, NaN where a miner gave no answer."""
    at_miner = {miner: index for index, miner in enumerate(miners)}
    at_prompt = {prompt: index for index, prompt in enumerate(prompts)}
    matrix = np.full((len(miners), len(prompts)), np.nan)
    for row in rows:
        if row["miner"] in at_miner and row["prompt_id"] in at_prompt:
            matrix[at_miner[row["miner"]], at_prompt[row["prompt_id"]]] = value(row)
    return matrix


def ranks(values):
    """Ranks from 1, ties share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def spearman(left, right):
    """Spearman's correlation; NaN if either side is constant."""
    left, right = ranks(left) - (len(left) + 1) / 2, ranks(right) - (len(right) + 1) / 2
    scale = np.sqrt((left @ left) * (right @ right))
    return float(left @ right / scale) if scale > 0 else float("nan")


def partial(left, right, given):
    """Spearman's correlation of left and right with the ranks of `given` held fixed."""
    lr, lg, rg = spearman(left, right), spearman(left, given), spearman(right, given)
    rest = (1 - lg * lg) * (1 - rg * rg)
    return (lr - lg * rg) / np.sqrt(rest) if rest > 0 else float("nan")


def bootstrap(statistic, shape, over, repeats, seed):
    """The value and the 95 % interval of a statistic of chosen miners (rows) and prompts (columns)."""
    rng = np.random.Generator(np.random.PCG64(seed))
    everyone, everything = np.arange(shape[0]), np.arange(shape[1])

    def sample(whole, varies):
        return rng.choice(whole, len(whole)) if varies else whole

    draws = [
        statistic(sample(everyone, over in ("miners", "both")), sample(everything, over in ("prompts", "both")))
        for _ in range(repeats)
    ]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return {"value": float(statistic(everyone, everything)), "low": float(low), "high": float(high)}


def measure(cosine, log_length, quality, over, repeats, seed):
    """All correlations of one run: {quality column: {signal: {value, low, high}}}."""

    def mean_cosine(rows, columns):
        return np.nanmean(cosine[np.ix_(rows, columns)], axis=1)

    def length(rows, columns):
        return log_length[rows] if log_length.ndim == 1 else np.nanmean(log_length[np.ix_(rows, columns)], axis=1)

    def signals(truth):
        yield "mean cosine", lambda rows, columns: spearman(mean_cosine(rows, columns), truth[rows])
        if log_length is None:
            return
        yield "log length (control)", lambda rows, columns: spearman(length(rows, columns), truth[rows])
        yield (
            "mean cosine given log length",
            lambda rows, columns: partial(mean_cosine(rows, columns), truth[rows], length(rows, columns)),
        )

    return {
        name: {signal: bootstrap(statistic, cosine.shape, over, repeats, seed) for signal, statistic in signals(truth)}
        for name, truth in quality.items()
    }


def main():
    """Read, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=Path, required=True, help="folder with scores.jsonl, or the file")
    parser.add_argument("--quality", type=Path, required=True, help="CSV of known quality by miner")
    parser.add_argument("--responses", type=Path, help="the round's JSONL, for the length of each answer")
    parser.add_argument("--bootstrap", type=int, default=2000, help="resamples (default 2000)")
    parser.add_argument(
        "--over",
        choices=["prompts", "miners", "both"],
        default="prompts",
        help="what the bootstrap resamples: other questions to these miners, or other miners too",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()

    scores = read_jsonl(args.scores / "scores.jsonl" if args.scores.is_dir() else args.scores)
    with open(args.quality, encoding="utf-8", newline="") as file:
        known = {row["miner"]: row for row in csv.DictReader(file)}
    present = {row["miner"] for row in scores}
    miners = [miner for miner in known if miner in present]
    if len(miners) < 3:
        sys.exit(f"only {len(miners)} of {len(present)} miners have a known quality: a rank correlation needs 3")
    prompts = sorted({row["prompt_id"] for row in scores if row["miner"] in known})
    cosine = table(scores, lambda row: 1.0 - row["loss"] if row.get("loss") is not None else np.nan, miners, prompts)
    if np.isnan(cosine).all(axis=1).any():
        sys.exit("a miner has no loss at all")

    log_length = None
    if args.responses:
        log_length = table(read_jsonl(args.responses), lambda row: np.log1p(len(row["response"])), miners, prompts)
    elif all(known[miner].get("avg_length") for miner in miners):
        log_length = np.log([float(known[miner]["avg_length"]) for miner in miners])
    quality = {
        name: np.array([float(known[miner][name]) for miner in miners])
        for name in QUALITY
        if all(known[miner].get(name) for miner in miners)
    }
    results = measure(cosine, log_length, quality, args.over, args.bootstrap, args.seed)

    missing = int(np.isnan(cosine).sum())
    print(f"{len(miners)} miners, {len(prompts)} prompts, {missing} answers missing; 95 % bootstrap over {args.over}")
    if left_out := sorted(present - set(known)):
        print(f"left out, no known quality: {', '.join(left_out)}")
    for name, signals in results.items():
        print(f"\nSpearman with {name}")
        for signal, at in signals.items():
            print(f"  {signal:<30} {at['value']:+.3f}   {at['low']:+.3f} to {at['high']:+.3f}")
    if args.json:
        summary = {
            "miners": len(miners),
            "prompts": len(prompts),
            "missing": missing,
            "over": args.over,
            "spearman": results,
        }
        args.json.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
