"""Token losses on the CPU: tauscore beside llama.cpp and transformers, in one run.

    python benches/peers/loss.py --model MODEL.gguf --pairs round.jsonl [--threads 2] [--repeats 3]

All get the same prompts and responses (the loss of each response token, given the prompt in the model's chat
template), the same GGUF, the same cores (by affinity) and the same number of threads, and take turns, so that a busy
machine slows all of them. Each peer keeps its model loaded; a turn runs from token ids to losses.

    transformers            torch f32 from the expanded GGUF; pairs sorted by length, in batches of the size that was
                            fastest on a sample; no mask is needed (padding stands behind), the head on scored rows only
    llama.cpp               llama-cpp-python as its users call it: `Llama(logits_all=True)`, a pair at a time, losses
                            from its logits in numpy
    llama.cpp, batched      its low-level calls: several pairs in a batch, logits of scored rows only
    tauscore                `tauscore loss PAIRS.jsonl --kind lm --device cpu --threads N --no-prefix-sharing`: `seconds`
                            of its last {"event":"done"} line on stderr, from texts to losses, loading left out; the
                            wall time of the whole command is reported beside it
    tauscore, shared        the same without `--no-prefix-sharing`: responses to one prompt share its prefix

Before anything is timed the answers are compared: tauscore must agree with transformers within 1e-3 a token.
llama.cpp also rounds activations, so it is held loosely.
"""

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from embed import Tauscore as EmbedCommand
from engines import Served, cpu_name, cpu_seconds, limit_threads, pin, ratios
from score_dev import read_jsonl

PEERS = ["transformers", "llama.cpp", "llama.cpp, batched"]
TOLERANCE = 1e-3  # nats a token, between two f32 implementations
LOOSE = 0.1  # median of a token, llama.cpp against f32; 0.023 on other texts
BATCHES = [1, 4, 8, 16]  # sizes that transformers may choose from
POSITIONS = 2048  # tokens of a llama.cpp context and batch


# ---- pairs ----


def choose_pairs(rows, prompts, miners):
    """The first different responses to each of the first prompts, in order of the file: {prompt, response}."""
    chosen, texts = {}, {}
    for row in rows:
        texts.setdefault(row["prompt_id"], row.get("prompt"))
        group = chosen.setdefault(row["prompt_id"], [])
        # tauscore reads the same pair once, which is not what is measured here.
        if len(group) < miners and row["response"].strip() and row["response"] not in group:
            group.append(row["response"])
    return [
        {"prompt": texts[prompt], "response": response}
        for prompt, group in list(chosen.items())[:prompts]
        for response in group
    ]


def tokenise(model, pairs, most):
    """Cut each response to `most` tokens, and give (prefix, response) ids of each, by llama.cpp's tokenizer."""
    import jinja2
    from llama_cpp import Llama

    llama = Llama(str(model), vocab_only=True, verbose=False)
    template = jinja2.Template(llama.metadata["tokenizer.chat_template"])
    ids = []
    for pair in pairs:
        turn = {"role": "user", "content": pair["prompt"]}
        prefix = template.render(messages=[turn], add_generation_prompt=True)
        whole = response = llama.tokenize(pair["response"].encode(), add_bos=False, special=False)
        kept = most
        while len(response) > most:  # cut as text, so that everyone tokenises the same
            pair["response"] = llama.detokenize(whole[:kept]).decode(errors="ignore")
            response = llama.tokenize(pair["response"].encode(), add_bos=False, special=False)
            kept -= 1
        ids.append((llama.tokenize(prefix.encode(), add_bos=False, special=True), response))
    return ids


# ---- peers: each returns a function from [(prefix, response)] to losses of the response's tokens ----


def load_transformers(model, threads, sample):
    """f32, the batch size that is fastest on the sample."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    language = AutoModelForCausalLM.from_pretrained(model.parent, gguf_file=model.name, dtype=torch.float32).eval()

    def score(pairs, batch):
        order = sorted(range(len(pairs)), key=lambda index: -sum(map(len, pairs[index])))
        found = [None] * len(pairs)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            longest = sum(map(len, pairs[chosen[0]]))
            ids = torch.zeros(len(chosen), longest, dtype=torch.long)
            rows, columns = [], []
            for row, index in enumerate(chosen):
                prefix, response = pairs[index]
                ids[row, : len(prefix) + len(response)] = torch.tensor(prefix + response)
                rows += [row] * len(response)
                columns += range(len(prefix) - 1, len(prefix) + len(response) - 1)
            hidden = language.model(input_ids=ids, use_cache=False).last_hidden_state[rows, columns]
            targets = ids[rows, [column + 1 for column in columns]]
            losses = torch.nn.functional.cross_entropy(language.lm_head(hidden), targets, reduction="none")
            for index, part in zip(chosen, losses.split([len(pairs[i][1]) for i in chosen]), strict=True):
                found[index] = part.tolist()
        return found

    def timed(batch):
        started = time.perf_counter()
        score(sample, batch)
        return time.perf_counter() - started

    with torch.inference_mode():
        score(sample[:2], 1)
        best = min(BATCHES, key=lambda batch: min(timed(batch) for _ in range(3)))

    def run(pairs):
        with torch.inference_mode():
            return score(pairs, best)

    return run, {"batch": best}


def softmax_losses(logits, targets):
    """-ln softmax of [rows, vocabulary] f32 at the targets."""
    most = logits.max(axis=1)
    total = np.exp(logits - most[:, None]).sum(axis=1)
    return np.log(total) + most - logits[np.arange(len(targets)), targets]


def load_llama(model, threads, sample):
    """The class as its users call it."""
    from llama_cpp import Llama

    llama = Llama(
        str(model),
        n_ctx=POSITIONS,
        n_batch=POSITIONS,
        n_threads=threads,
        n_threads_batch=threads,
        logits_all=True,
        verbose=False,
    )

    def run(pairs):
        found = []
        for prefix, response in pairs:
            llama.reset()
            llama.eval(prefix + response)
            logits = llama.scores[len(prefix) - 1 : len(prefix) + len(response) - 1]
            found.append(softmax_losses(logits, response).tolist())
        return found

    run(sample[:2])
    return run, {}


def load_llama_batched(model, threads, sample):
    """Several sequences in one batch of at most POSITIONS tokens, logits of scored rows only."""
    import llama_cpp as api

    api.llama_backend_init()
    silent = api.llama_log_callback(lambda *_: None)
    api.llama_log_set(silent, None)
    weights = api.llama_model_load_from_file(str(model).encode(), api.llama_model_default_params())
    parameters = api.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = POSITIONS
    parameters.n_ubatch = 512
    parameters.n_seq_max = 64
    parameters.kv_unified = True
    parameters.n_threads = parameters.n_threads_batch = threads
    context = api.llama_init_from_model(weights, parameters)
    words = api.llama_vocab_n_tokens(api.llama_model_get_vocab(weights))
    batch = api.llama_batch_init(POSITIONS, 0, 1)

    def flush(group):
        batch.n_tokens, targets = 0, []
        for sequence, (prefix, response) in enumerate(group):
            for place, token in enumerate(prefix + response[:-1]):  # nothing is scored after the last token
                at = batch.n_tokens
                batch.token[at], batch.pos[at] = token, place
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
                batch.logits[at] = place >= len(prefix) - 1
                batch.n_tokens += 1
            targets += response
        api.llama_memory_clear(api.llama_get_memory(context), True)
        if status := api.llama_decode(context, batch):
            sys.exit(f"llama_decode ended with {status}")
        logits = np.ctypeslib.as_array(api.llama_get_logits(context), shape=(len(targets), words))
        cuts = np.cumsum([len(response) for _, response in group])[:-1]
        return [part.tolist() for part in np.split(softmax_losses(logits, targets), cuts)]

    def run(pairs, most=512):
        found, group, held = [], [], 0
        for pair in pairs:
            tokens = len(pair[0]) + len(pair[1])
            if group and (held + tokens > most or len(group) == parameters.n_seq_max):
                found += flush(group)
                group, held = [], 0
            group.append(pair)
            held += tokens
        return found + flush(group)

    run(sample[:2])
    run.keep = silent, batch  # must outlive the calls
    return run, {}


LOADERS = dict(zip(PEERS, [load_transformers, load_llama, load_llama_batched], strict=True))


# ---- turns ----


def serve(name, settings, connection):
    """A peer's process: load, then score at every word of the parent."""
    limit_threads(settings["cores"])
    run, notes = LOADERS[name](settings["model"], len(settings["cores"]), settings["sample"])
    connection.send(notes)
    while connection.recv() is not None:
        cpu, started = cpu_seconds(resource.RUSAGE_SELF), time.perf_counter()
        losses = run(settings["ids"])
        seconds = time.perf_counter() - started
        connection.send(
            {"seconds": seconds, "cpu_seconds": cpu_seconds(resource.RUSAGE_SELF) - cpu, "token_losses": losses}
        )


class Tauscore:
    """The command, started anew at every turn."""

    def __init__(self, name, binary, file, threads, device, extra):
        self.name, self.ready = name, {}
        self.command = [str(binary), "loss", str(file), "--kind", "lm", "--token-losses", "--json"]
        self.command += ["--device", device, *(["--threads", str(threads)] if device == "cpu" else []), *extra]

    def turn(self):
        """Score all pairs."""
        cpu, started = cpu_seconds(resource.RUSAGE_CHILDREN), time.perf_counter()
        run = subprocess.run(self.command, capture_output=True, encoding="utf-8", check=False)
        wall = time.perf_counter() - started
        if run.returncode != 0:
            sys.exit(f"{' '.join(run.args)} ended with {run.returncode}:\n{run.stderr[-2000:]}")
        return {
            "seconds": EmbedCommand.last_event(run.stderr)["seconds"],
            "wall_seconds": wall,
            "cpu_seconds": cpu_seconds(resource.RUSAGE_CHILDREN) - cpu,  # loading included
            "token_losses": [json.loads(line)["token_losses"] for line in run.stdout.splitlines() if line.strip()],
        }

    def close(self):
        """Nothing is left running."""


def check_answers(engines, ids):
    """Each engine's differences from the first one's losses; ends the run where they are too large."""
    agreement, first = {}, None
    for engine in engines:
        losses = engine.turn()["token_losses"]
        if [len(row) for row in losses] != [len(response) for _, response in ids]:
            sys.exit(f"{engine.name} scored other tokens than the tokenizer gave: not timed")
        flat = np.concatenate([np.asarray(row, dtype=np.float64) for row in losses])
        first = flat if first is None else first
        difference = np.abs(flat - first)
        agreement[engine.name] = {"median": float(np.median(difference)), "largest": float(difference.max())}
        near = np.median(difference) < LOOSE if engine.name.startswith("llama") else difference.max() <= TOLERANCE
        if not (np.isfinite(flat).all() and near):
            sys.exit(f"{engine.name} differs from {engines[0].name}: {agreement[engine.name]}: not timed")
    return agreement


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the GGUF, for the peers")
    parser.add_argument("--pairs", type=Path, required=True, help="a round's JSONL: prompt_id, prompt, miner, response")
    parser.add_argument("--prompts", type=int, default=4, help="the first so many prompts of it")
    parser.add_argument("--miners", type=int, default=16, help="and so many responses to each")
    parser.add_argument("--tokens", type=int, default=96, help="responses are cut to so many tokens")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cores", help="pin to these, such as 2,3 (default: chosen)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", default=";".join(PEERS), help=f"of {';'.join(PEERS)}; may be empty")
    parser.add_argument("--device", default="cpu", help="of tauscore")
    parser.add_argument("--tauscore", type=Path, default=Path("target/release/tauscore"))
    parser.add_argument("--tauscore-args", default="", help='more options for it, such as "--model FILE"')
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    return parser.parse_args()


def main():
    """Check the answers, take turns, report."""
    args = arguments()
    peers = [name.strip() for name in args.peers.split(";") if name.strip()]
    if unknown := sorted(set(peers) - set(PEERS)):
        sys.exit(f"no such peer: {', '.join(unknown)}; there are {'; '.join(PEERS)}")
    cores = pin(args.threads, args.cores)
    pairs = choose_pairs(read_jsonl(args.pairs), args.prompts, args.miners)
    ids = tokenise(args.model, pairs, args.tokens)
    scored = sum(len(response) for _, response in ids)
    read = scored + sum(len(prefix) for prefix, _ in ids)
    settings = {"cores": cores, "model": args.model, "ids": ids, "sample": ids[:: max(1, len(ids) // 16)][:16]}

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.jsonl"
        file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
        engines = [Served(name, serve, (name, settings)) for name in peers]
        if args.tauscore.exists():
            extra = shlex.split(args.tauscore_args)
            command = (args.tauscore.resolve(), file, args.threads, args.device)
            engines.append(Tauscore("tauscore", *command, ["--no-prefix-sharing", *extra]))
            engines.append(Tauscore("tauscore, shared", *command, extra))
        else:
            print(f"{args.tauscore} does not exist: the peers alone are measured", file=sys.stderr)
        if not engines:
            sys.exit("nothing to measure")

        agreement = check_answers(engines, ids)
        load_before = os.getloadavg()
        runs = {engine.name: [] for engine in engines}
        for turn in range(args.repeats):
            order = engines[turn % len(engines) :] + engines[: turn % len(engines)]
            for engine in order:
                run = engine.turn()
                del run["token_losses"]
                runs[engine.name].append(run)
                print(f"turn {turn + 1} {engine.name}: {run['seconds']:.2f} s", file=sys.stderr)
        for engine in engines:
            engine.close()

    result = {
        "cpu": cpu_name(),
        "cores": cores,
        "threads": args.threads,
        "device": args.device,
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "pairs": len(pairs),
        "scored_tokens": scored,
        "read_tokens": read,
        "versions": {name: version(name) for name in ("torch", "transformers", "llama-cpp-python")},
        "engines": {
            engine.name: engine.ready
            | {
                "scored_per_second": scored / statistics.median(run["seconds"] for run in runs[engine.name]),
                "best_scored_per_second": scored / min(run["seconds"] for run in runs[engine.name]),
                "turns": runs[engine.name],
            }
            for engine in engines
        },
        "agreement": agreement,
        "ratios": {
            name: {other: ratios(runs[name], runs[other]) for other in list(runs)[:place]}
            for place, name in enumerate(runs)
            if place > 0
        },
    }
    print(f"{result['cpu']}, cores {cores}, {args.threads} threads, load {load_before[0]:.1f}")
    print(f"{len(pairs)} pairs, {scored} tokens scored, {read} with their prompts; median of {args.repeats}")
    print(
        f"{'':<20}{'scored/s':>10}{'best':>8}{'read/s':>9}{'CPU s':>8}{'wall s':>8}{'median diff':>13}{'largest':>10}"
    )
    for name, at in result["engines"].items():
        walls = [run["wall_seconds"] for run in at["turns"] if "wall_seconds" in run]
        wall = f"{statistics.median(walls):.2f}" if walls else ""
        cpu = statistics.median(run["cpu_seconds"] for run in at["turns"])
        read_rate = at["scored_per_second"] * read / scored
        print(
            f"{name:<20}{at['scored_per_second']:>10.1f}{at['best_scored_per_second']:>8.1f}{read_rate:>9.0f}{cpu:>8.1f}"
            f"{wall:>8}{agreement[name]['median']:>13.1e}{agreement[name]['largest']:>10.1e}"
        )
        if "batch" in at:
            print(f"{'':<20}in batches of {at['batch']}")
    for name, others in result["ratios"].items():
        for other, at in others.items():
            print(
                f"{name} is {at['median']:.2f} times as fast as {other} ({at['least']:.2f} to {at['most']:.2f} by turn)"
            )
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
