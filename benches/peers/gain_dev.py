"""Does a kind of loss rank miners as people do, and does it see through cheap attacks?

    python benches/peers/gain_dev.py pairs --data DIR --model MODEL.gguf --out PAIRS.jsonl [--prompts 31]
    tauscore loss PAIRS.jsonl --kind reference_gain > gain.jsonl      (long on a CPU; what is kept need not run again)
    tauscore loss PAIRS.jsonl --kind embedding > cosine.jsonl         (and lm, explained as wanted)
    python benches/peers/gain_dev.py judge --pairs PAIRS.jsonl --quality DIR/dev_quality.csv \\
        --losses reference_gain=gain.jsonl --losses cosine=cosine.jsonl
    python benches/peers/gain_dev.py sharing --data DIR [--tauscore-args "--model MODEL.gguf"]

`pairs` draws prompts of at most 200 tokens (in the chat template) from DIR/dev.jsonl and writes a row
{prompt_id, prompt, miner, response, reference} for each of its miners and for each attack; names of attacks begin with
`attack:`. All are seeded. DIR also has dev_reference.jsonl and adversarial.jsonl.

`judge` reads what `tauscore loss` printed, a line for each pair in the same order. A signal is `gain` where a line has
it, else minus `loss`. For a kind that carries `gain` there is also the score of reference gain, computed here: the gain
less the median over the prompt's distinct honest responses, cut to +-0.3; and where lines have `score`, that too.
Log length and ROUGE-L to the reference stand beside them. Printed: Spearman's correlation of the miners' means with
each quality column, with a 95 % bootstrap over prompts, and given log length; then how many honest miners
each attack would outrank.

`sharing` counts the tokens that go through the model for all of DIR/dev.jsonl, with and without prefix sharing, all prompts in one
call and each by itself. tauscore tells that number when it begins and is ended there: nothing is computed.
"""

import argparse
import csv
import json
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from score_dev import QUALITY, bootstrap, partial, read_jsonl, spearman, table

ATTACK = "attack:"
GOOD = "gpt-4o-2024-05-13"  # whose answers some attacks are made of
MOST_TOKENS = 200  # of a prompt in the chat template
CLIP = 0.3  # nats a token
LENGTH = 600  # characters of a constructed attack, more than 96 tokens

REFUSAL = (
    "I'm sorry, but as an AI language model I am not able to help with that request. I do not have personal opinions or "
    "access to that information. If you have any other questions, please feel free to ask and I will do my best to assist you."
)
ESSAY = """\
# Overview

This is an important topic with many aspects. Here is a comprehensive guide:

## Key points

1. **Understanding the basics**: It is essential to start with a clear understanding of the fundamentals.
2. **Considering the context**: Different situations call for different approaches{first}.
3. **Taking the next steps**: Make a plan, follow it through, and review the results{second}.

## Conclusion

In conclusion, careful thought and consistent effort will lead to the best outcome{third}. I hope this helps!
"""


# ---- pairs ----


def count_tokens(model):
    """A function from a prompt to its tokens in the model's chat template."""
    import jinja2
    from llama_cpp import Llama

    llama = Llama(str(model), vocab_only=True, verbose=False)
    template = jinja2.Template(llama.metadata["tokenizer.chat_template"])

    def count(prompt):
        text = template.render(messages=[{"role": "user", "content": prompt}], add_generation_prompt=True)
        return len(llama.tokenize(text.encode(), add_bos=False, special=True))

    return count


def repeat(text, length=LENGTH):
    """The text over and over, up to a length."""
    return (text * (length // max(1, len(text)) + 1))[:length]


def attacks(prompt_id, prompt, answers, words, null_model, gamed, rng):
    """Constructed responses to one prompt, by name; `answers` are a good miner's to all prompts."""
    good = answers[prompt_id]
    keywords = [word for word in re.findall(r"\w+", prompt) if len(word) > 3] or re.findall(r"\w+", prompt)
    stuffing = ", ".join(keywords)
    letters = "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz    "), LENGTH))
    other = sorted(set(answers) - {prompt_id})
    shuffled = good.split()
    rng.shuffle(shuffled)
    sentence = re.match(r".+?(?:[.!?](?=\s|$)|\n|$)", good.strip(), re.DOTALL)[0].strip()
    parts = [f" ({stuffing})"] * 3
    return {
        "null_model": null_model[prompt_id],
        "gpt4_gamed": gamed[prompt_id],
        "gibberish": letters,
        "word_salad": " ".join(rng.choice(words, 120)),
        "constant": "The answer is 42.",
        "prompt_echo": prompt,
        "refusal": REFUSAL,
        "essay": ESSAY.format(first="", second="", third=""),
        "keyword_stuffing": repeat(stuffing + ", "),
        "stuffed_essay": ESSAY.format(first=parts[0], second=parts[1], third=parts[2]),
        "wrong_prompt": answers[str(rng.choice(other))],
        "shuffled_words": " ".join(shuffled),
        "looped_sentence": repeat(sentence + " "),
    }


def write_pairs(args):
    """Draw prompts, construct attacks, write."""
    rows = read_jsonl(args.data / "dev.jsonl")
    references = {row["prompt_id"]: row["reference"] for row in read_jsonl(args.data / "dev_reference.jsonl")}
    adversarial = {}
    for row in read_jsonl(args.data / "adversarial.jsonl"):
        adversarial.setdefault(row["miner"], {})[row["prompt_id"]] = row["response"]
    prompts = {row["prompt_id"]: row["prompt"] for row in rows}
    count = count_tokens(args.model)
    short = [prompt_id for prompt_id in sorted(prompts) if count(prompts[prompt_id]) <= MOST_TOKENS]
    rng = np.random.Generator(np.random.PCG64(args.seed))
    wanted = [prompt_id for prompt_id in args.always.split(",") if prompt_id]
    if unknown := sorted(set(wanted) - set(short)):
        sys.exit(f"no prompt of at most {MOST_TOKENS} tokens: {', '.join(unknown)}")
    rest = [prompt_id for prompt_id in short if prompt_id not in wanted]
    chosen = wanted + [rest[index] for index in rng.permutation(len(rest))]
    chosen = chosen[: args.prompts or None]
    answers = {row["prompt_id"]: row["response"] for row in rows if row["miner"] == GOOD}
    words = sorted({word for row in rows for word in re.findall(r"[a-z]+", row["response"].lower())})
    with open(args.out, "w", encoding="utf-8") as file:
        for prompt_id in chosen:
            own = {row["miner"]: row["response"] for row in rows if row["prompt_id"] == prompt_id}
            made = attacks(
                *(prompt_id, prompts[prompt_id], answers, words),
                *(adversarial["NullModel"], adversarial["gpt4_gamed"], rng),
            )
            for miner, response in [*own.items(), *((ATTACK + name, text) for name, text in made.items())]:
                row = {"prompt_id": prompt_id, "prompt": prompts[prompt_id], "miner": miner, "response": response}
                file.write(json.dumps(row | {"reference": references[prompt_id]}, ensure_ascii=False) + "\n")
    print(
        f"{len(chosen)} of {len(short)} prompts of at most {MOST_TOKENS} tokens, {len(own)} miners, {len(made)} attacks"
    )


# ---- judge ----


def rouge_l(response, reference):
    """F1 of the longest common subsequence of words (Lin 2004), by bits of one integer (Hyyrö 2004)."""
    left, right = (re.findall(r"[a-z0-9]+", text.lower()) for text in (response, reference))
    if not left or not right:
        return 0.0
    places = {}
    for index, word in enumerate(left):
        places[word] = places.get(word, 0) | 1 << index
    whole = (1 << len(left)) - 1
    rest = whole
    for word in right:
        used = rest & places.get(word, 0)
        rest = ((rest + used) | (rest - used)) & whole
    common = len(left) - rest.bit_count()
    return 2 * common / (len(left) + len(right))


def repeats(text):
    """Whether fewer than a quarter of a text's runs of three words are different ones."""
    words = re.findall(r"[^\W_]+", text.lower())
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return len(runs) >= 20 and 4 * len(set(runs)) < len(runs)


def centred(gains, pairs, miners, prompts):
    """Gains less the median over each prompt's distinct, non-empty honest responses, cut to +-CLIP; -CLIP for what repeats itself."""
    result = gains.copy()
    at_prompt = {prompt: index for index, prompt in enumerate(prompts)}
    at_miner = {miner: index for index, miner in enumerate(miners)}
    distinct = {}
    for pair in pairs:
        if not pair["miner"].startswith(ATTACK) and pair["response"].strip() and not repeats(pair["response"]):
            value = gains[at_miner[pair["miner"]], at_prompt[pair["prompt_id"]]]
            distinct.setdefault(pair["prompt_id"], {})[pair["response"]] = value
    for prompt_id, values in distinct.items():
        column = at_prompt[prompt_id]
        result[:, column] = np.clip(gains[:, column] - np.nanmedian(list(values.values())), -CLIP, CLIP)
    for pair in filter(lambda pair: repeats(pair["response"]), pairs):
        result[at_miner[pair["miner"]], at_prompt[pair["prompt_id"]]] = -CLIP
    return result


def read_signals(args, pairs, miners, prompts):
    """{name: miners x prompts}."""

    def matrix(values):
        joined = [pair | {"value": value} for pair, value in zip(pairs, values, strict=True)]
        return table(joined, lambda row: row["value"], miners, prompts)

    signals = {
        "log length": matrix([np.log1p(len(pair["response"])) for pair in pairs]),
        "ROUGE-L": matrix([rouge_l(pair["response"], pair["reference"]) for pair in pairs]),
    }
    for item in args.losses:
        name, _, path = item.partition("=")
        lines = read_jsonl(path)
        if len(lines) != len(pairs):
            sys.exit(f"{path} has {len(lines)} lines for {len(pairs)} pairs")
        for line, pair in zip(lines, pairs, strict=True):
            if any(line.get(key, pair[key]) != pair[key] for key in ("prompt_id", "miner")):
                sys.exit(f"{path} is of other pairs, or in another order")
        missing = float("nan")
        raw = [line.get("gain", -line["loss"] if line.get("loss") is not None else missing) for line in lines]
        signals[name] = matrix([missing if value is None else value for value in raw])
        if any("gain" in line for line in lines):
            signals[f"{name}, centred"] = centred(signals[name], pairs, miners, prompts)
        if all(line.get("score") is not None for line in lines):
            signals[f"{name}, score"] = matrix([line["score"] for line in lines])
    return signals


def correlations(signals, honest, quality, repeats, seed):
    """{quality column: {signal: {plain, given length}}}, each {value, low, high}."""
    length = signals["log length"]

    def mean(values, rows, columns):
        return np.nanmean(values[np.ix_(rows, columns)], axis=1)

    found = {}
    for name, truth in quality.items():
        found[name] = {}
        for signal, values in signals.items():

            def plain(rows, columns, values=values, truth=truth):
                return spearman(mean(values, rows, columns), truth[rows])

            def given(rows, columns, values=values, truth=truth):
                return partial(mean(values, rows, columns), truth[rows], mean(length, rows, columns))

            shape = (honest, values.shape[1])
            found[name][signal] = {"plain": bootstrap(plain, shape, "prompts", repeats, seed)}
            if signal != "log length":
                found[name][signal]["given length"] = bootstrap(given, shape, "prompts", repeats, seed)
    return found


def judge(args):
    """Read, measure, print."""
    pairs = read_jsonl(args.pairs)
    with open(args.quality, encoding="utf-8", newline="") as file:
        known = {row["miner"]: row for row in csv.DictReader(file)}
    names = list(dict.fromkeys(pair["miner"] for pair in pairs))
    honest = [name for name in names if name in known]
    bad = [name for name in names if name.startswith(ATTACK)]
    miners = honest + bad
    pairs_used = [pair for pair in pairs if pair["miner"] in set(miners)]
    if len(pairs_used) != len(pairs):
        sys.exit("a miner has no known quality and is no attack")
    prompts = list(dict.fromkeys(pair["prompt_id"] for pair in pairs))
    signals = read_signals(args, pairs, miners, prompts)
    quality = {name: np.array([float(known[miner][name]) for miner in honest]) for name in QUALITY}
    found = correlations(signals, len(honest), quality, args.bootstrap, args.seed)

    print(f"{len(honest)} miners, {len(bad)} attacks, {len(prompts)} prompts; 95 % bootstrap over prompts")
    for name, at in found.items():
        print(f"\nSpearman with {name:<34} {'':>24}   given log length")
        for signal, kinds in at.items():
            texts = [f"{kind['value']:+.3f} [{kind['low']:+.3f}, {kind['high']:+.3f}]" for kind in kinds.values()]
            print(f"  {signal:<40} {'   '.join(texts)}")
    outranked = {}
    for signal, values in signals.items():
        means = np.nanmean(values, axis=1)
        outranked[signal] = {
            name: int((means[: len(honest)] < means[len(honest) + place]).sum()) for place, name in enumerate(bad)
        }
    if bad:
        print(f"\nhonest miners (of {len(honest)}) that an attack outranks")
        columns = list(signals)
        print(f"  {'':<28}" + "".join(f"{name[:18]:>20}" for name in columns))
        for name in bad:
            counts = "".join(f"{outranked[signal][name]:>20}" for signal in columns)
            print(f"  {name.removeprefix(ATTACK):<28}{counts}")
    if args.json:
        summary = {"miners": len(honest), "prompts": len(prompts), "spearman": found, "outranked": outranked}
        args.json.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


# ---- sharing ----


def count_read(command, pairs, file):
    """Tokens that tauscore is about to send through the model for these pairs."""
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8") as process:
        told = []
        for line in process.stderr:
            told.append(line)
            event = json.loads(line)
            if event.get("event") == "began" and event["stage"] == "judging":
                process.kill()
                return event["total"]
    sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{''.join(told)[-2000:]}")


def sharing(args):
    """Count, print."""
    references = {row["prompt_id"]: row["reference"] for row in read_jsonl(args.data / "dev_reference.jsonl")}
    prompts = {}
    for row in read_jsonl(args.data / "dev.jsonl"):
        pair = {"prompt": row["prompt"], "response": row["response"], "reference": references[row["prompt_id"]]}
        prompts.setdefault(row["prompt_id"], []).append(pair)
    every = [pair for pairs in prompts.values() for pair in pairs]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.jsonl"
        command = [str(args.tauscore), "loss", str(file), "--kind", args.kind, "--device", "cpu", "--json"]
        command += shlex.split(args.tauscore_args)

        def both(pairs):
            found = {
                "with": count_read(command, pairs, file),
                "without": count_read([*command, "--no-prefix-sharing"], pairs, file),
            }
            return found | {"factor": found["without"] / found["with"]}

        together = both(every)
        each = {prompt_id: both(pairs) for prompt_id, pairs in prompts.items()}
    factors = [found["factor"] for found in each.values()]
    print(f"{args.kind}, {len(every)} responses to {len(prompts)} prompts, tokens through the model")
    print(f"  without sharing {together['without']}, with {together['with']}: {together['factor']:.2f} times fewer")
    print(f"  by prompt {statistics.median(factors):.2f} times in the median, {min(factors):.2f} to {max(factors):.2f}")
    if args.json:
        summary = {"kind": args.kind, "together": together, "each": each}
        args.json.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def main():
    """One of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    pairs = commands.add_parser("pairs", help="write the pairs to score")
    pairs.add_argument("--data", type=Path, required=True, help="folder of dev.jsonl and its companions")
    pairs.add_argument("--model", type=Path, required=True, help="the GGUF, for its tokenizer")
    pairs.add_argument("--out", type=Path, required=True)
    pairs.add_argument("--prompts", type=int, default=31, help="how many; 0: all that are short enough")
    pairs.add_argument("--always", default="", help="prompts that must be among them, such as ae580,ae382")
    pairs.add_argument("--seed", type=int, default=1)
    pairs.set_defaults(run=write_pairs)
    judged = commands.add_parser("judge", help="judge what was scored")
    judged.add_argument("--pairs", type=Path, required=True)
    judged.add_argument("--quality", type=Path, required=True, help="CSV: miner, win_rate, length_controlled_winrate")
    judged.add_argument("--losses", action="append", default=[], metavar="NAME=FILE", help="of each kind; repeat")
    judged.add_argument("--bootstrap", type=int, default=2000, help="resamples (default 2000)")
    judged.add_argument("--seed", type=int, default=1)
    judged.add_argument("--json", type=Path, help="also write the numbers here")
    judged.set_defaults(run=judge)
    shared = commands.add_parser("sharing", help="count what prefix sharing saves")
    shared.add_argument("--data", type=Path, required=True, help="folder of dev.jsonl and dev_reference.jsonl")
    shared.add_argument("--kind", default="reference_gain")
    shared.add_argument("--tauscore", type=Path, default=Path("target/release/tauscore"))
    shared.add_argument("--tauscore-args", default="", help='more options for it, such as "--model FILE"')
    shared.add_argument("--json", type=Path, help="also write the numbers here")
    shared.set_defaults(run=sharing)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
