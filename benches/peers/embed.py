"""Embedding throughput on the CPU: tauscore beside sentence-transformers and onnxruntime, in one run.

    python benches/peers/embed.py --model DIR --texts FILE [--threads 2] [--repeats 3]

All get the same texts, the same weights, the same cores (by affinity) and the same number of threads,
and take turns, so that a busy machine slows all of them. Each keeps its model loaded between turns; a
turn is timed from texts to normalised embeddings, tokenising included.

    sentence-transformers   torch f32, `encode(batch_size=32)`, which sorts by length itself
    onnxruntime             f32, BERT's fused operators, batches of 32 sorted by tokens
    tauscore f32, exact     `tauscore embed FILE --device cpu --precision f32 --json`, or exact: `seconds` of its
                            last {"event":"done","texts","tokens","seconds"} line on stderr, which leaves loading
                            out; the wall time of the whole command is reported beside it

Before anything is timed the answers are compared: an engine that computes something else stops the run.
"""

import argparse
import json
import math
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

from engines import Served, cpu_name, cpu_seconds, limit_threads, pin, ratios

PEERS = ["sentence-transformers", "onnxruntime"]
PRECISIONS = ["f32", "exact"]
EXACT = "tauscore exact"
TOLERANCE = 1e-5  # between two f32 implementations; between them and f64 it is about 2e-7
LEAST_COSINE = 0.99  # of embeddings in integers to those in f32; of 10,436 texts the least was 0.9965
UNIT = 32768  # the length of an embedding in integers


# ---- texts ----


def read_texts(path):
    """Texts of a JSON list of strings, a round's JSONL (`response`), or JSONL rows with `text`."""
    content = path.read_text(encoding="utf-8")
    if content.lstrip().startswith("["):
        return json.loads(content)
    rows = [json.loads(line) for line in content.split("\n") if line.strip()]
    return [row["response"] if "response" in row else row["text"] for row in rows]


def load_tokenizer(model, limit):
    """The model's tokenizer, its own truncation and padding overridden."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    return tokenizer


# ---- peers: each returns a function from texts to normalised f32 rows ----


def load_sentence_transformers(model, threads, limit, batch):
    """The library as its users call it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    encoder = SentenceTransformer(str(model), device="cpu")
    encoder.float().max_seq_length = limit
    return lambda texts: encoder.encode(texts, batch_size=batch, normalize_embeddings=True, show_progress_bar=False)


def load_onnxruntime(model, threads, limit, batch):
    """A session over the fused graph, mean pooling and normalisation in numpy."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(bert_graph(model), options, providers=["CPUExecutionProvider"])
    tokenizer = load_tokenizer(model, limit)

    def encode(texts):
        encoded = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
        order = sorted(range(len(texts)), key=lambda index: -len(encoded[index]))
        rows = [None] * len(texts)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            longest = len(encoded[chosen[0]])
            ids = np.zeros((len(chosen), longest), dtype=np.int32)
            mask = np.zeros_like(ids)
            for row, index in enumerate(chosen):
                ids[row, : len(encoded[index])] = encoded[index]
                mask[row, : len(encoded[index])] = 1
            (states,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
            means = np.einsum("bsd,bs->bd", states, mask.astype(np.float32)) / mask.sum(axis=1, keepdims=True)
            means /= np.linalg.norm(means, axis=1, keepdims=True)
            for row, index in enumerate(chosen):
                rows[index] = means[row]
        return np.stack(rows)

    return encode


def bert_graph(model):
    """The model as an ONNX graph of the operators onnxruntime's own optimiser would fuse it into.

    Built from the safetensors directly: exporters change from version to version, and where their
    graph escapes the optimiser's patterns, onnxruntime is timed below its worth.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import load_file

    config = json.loads((model / "config.json").read_text())
    if config["hidden_act"] != "gelu":
        sys.exit(f"the onnxruntime peer knows only gelu, the model has {config['hidden_act']}")
    weights = load_file(model / "model.safetensors")
    prefix = "bert." if any(name.startswith("bert.") for name in weights) else ""
    nodes, tensors = [], []

    def weight(name):
        return weights[prefix + name].astype(np.float32)

    def constant(name, value):
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(operator, inputs, output, outputs=1, **attributes):
        names = [output] + [f"{output}.{i}" for i in range(1, outputs)]
        domain = "" if operator == "MatMul" else "com.microsoft"
        nodes.append(helper.make_node(operator, inputs, names, domain=domain, **attributes))
        return output

    def norm(name):
        return [constant(f"{name}.{part}", weight(f"{name}.{part}")) for part in ("weight", "bias")]

    eps = {"epsilon": config["layer_norm_eps"]}
    position, kinds = weight("embeddings.position_embeddings.weight"), weight("embeddings.token_type_embeddings.weight")
    words = constant("words", weight("embeddings.word_embeddings.weight"))
    positions = constant("positions", position + kinds[0])  # every token is of the first type
    hidden = node(
        "EmbedLayerNormalization",
        ["input_ids", "", words, positions, "", *norm("embeddings.LayerNorm"), "attention_mask"],
        "embedded",
        outputs=2,
        **eps,
    )
    for index in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{index}."
        parts = [at + f"attention.self.{part}" for part in ("query", "key", "value")]
        attention = node(
            "Attention",
            [
                hidden,
                constant(at + "qkv.weight", np.concatenate([weight(part + ".weight").T for part in parts], axis=1)),
                constant(at + "qkv.bias", np.concatenate([weight(part + ".bias") for part in parts])),
                "attention_mask",
            ],
            at + "attention",
            num_heads=config["num_attention_heads"],
        )
        for name, source in (("attention.output", attention), ("output", None)):
            if source is None:
                inner = constant(at + "in.weight", weight(at + "intermediate.dense.weight").T)
                inner = node("MatMul", [hidden, inner], at + "inner")
                bias = constant(at + "in.bias", weight(at + "intermediate.dense.bias"))
                source = node("BiasGelu", [inner, bias], at + "gelu")
            outer = constant(at + name + ".weight", weight(at + name + ".dense.weight").T)
            outer = node("MatMul", [source, outer], at + name)
            bias = constant(at + name + ".bias", weight(at + name + ".dense.bias"))
            hidden = node(
                "SkipLayerNormalization",
                [outer, hidden, *norm(at + name + ".LayerNorm"), bias],
                at + name + ".norm",
                **eps,
            )

    graph = helper.make_graph(
        nodes,
        "bert",
        [
            helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info(hidden, TensorProto.FLOAT, ["batch", "tokens", config["hidden_size"]])],
        tensors,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


# ---- turns ----


def serve(name, settings, connection):
    """A peer's process: load, then embed at every word of the parent."""
    limit_threads(settings["cores"])
    loader = load_sentence_transformers if name == "sentence-transformers" else load_onnxruntime
    started = time.perf_counter()
    encode = loader(settings["model"], len(settings["cores"]), settings["limit"], settings["batch"])
    encode(settings["texts"][: settings["batch"]])  # warm up
    connection.send({"load_seconds": time.perf_counter() - started})
    while (wish := connection.recv()) is not None:
        texts = settings["texts"][: wish["count"]]
        cpu, started = cpu_seconds(resource.RUSAGE_SELF), time.perf_counter()
        rows = encode(texts)
        seconds = time.perf_counter() - started
        answer = {"seconds": seconds, "cpu_seconds": cpu_seconds(resource.RUSAGE_SELF) - cpu}
        connection.send(answer | ({"rows": rows.tolist()} if wish["rows"] else {}))


class Peer(Served):
    """A Python peer."""

    def __init__(self, name, settings):
        super().__init__(name, serve, (name, settings))
        self.load_seconds = self.ready["load_seconds"]

    def turn(self, count, rows=False):
        """Embed the first `count` texts."""
        return super().turn({"count": count, "rows": rows})


class Tauscore:
    """The command in one precision, started anew at every turn."""

    def __init__(self, precision, binary, texts, limit, extra, folder):
        self.name = f"tauscore {precision}"
        self.texts, self.folder = texts, folder
        self.options = ["--device", "cpu", "--precision", precision, "--max-tokens", str(limit), "--json", *extra]
        self.binary = str(binary)

    def turn(self, count, rows=False):
        """Embed the first `count` texts; with `rows`, read what the command printed."""
        file = self.folder / f"texts-{count}.jsonl"
        if not file.exists():
            lines = (json.dumps({"text": text}) + "\n" for text in self.texts[:count])
            file.write_text("".join(lines), encoding="utf-8")
        cpu, started = cpu_seconds(resource.RUSAGE_CHILDREN), time.perf_counter()
        run = subprocess.run(
            [self.binary, "embed", str(file), *self.options],
            stdout=subprocess.PIPE if rows else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            check=False,
        )
        wall = time.perf_counter() - started
        if run.returncode != 0:
            sys.exit(f"{' '.join(run.args)} ended with {run.returncode}:\n{run.stderr[-2000:]}")
        done = self.last_event(run.stderr)
        if done["texts"] != count:
            sys.exit(f"tauscore embedded {done['texts']} texts, not {count}")
        answer = {
            "seconds": done["seconds"],
            "tokens": done["tokens"],
            "wall_seconds": wall,
            "cpu_seconds": cpu_seconds(resource.RUSAGE_CHILDREN) - cpu,  # loading included
        }
        return answer | (self.answers(run.stdout) if rows else {})

    @staticmethod
    def last_event(stderr):
        """The closing event; anything else on stderr is let pass."""
        for line in reversed(stderr.splitlines()):
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and event.get("event") == "done":
                return event
        sys.exit('tauscore printed no {"event":"done"} line on stderr')

    def answers(self, stdout):
        """The token ids and the embeddings, of unit length, that it printed."""
        try:
            rows = [json.loads(line) for line in stdout.splitlines() if line.strip()]
            ids, embeddings = [row["ids"] for row in rows], [row["embedding"] for row in rows]
        except (ValueError, KeyError, TypeError):
            sys.exit(f'{self.name} did not print {{"ids", "embedding"}} lines')
        if self.name == EXACT:
            embeddings = [[number / UNIT for number in row] for row in embeddings]
        return {"ids": ids, "rows": embeddings}

    def close(self):
        """Nothing is left running."""


def check_answers(engines, ids):
    """How far each engine's embeddings of the texts with these token ids are from the first engine's."""
    agreement, first = {}, None
    for engine in engines:
        answer = engine.turn(len(ids), rows=True)
        rows = answer["rows"]
        if len(rows) != len(ids):
            sys.exit(f"{engine.name} gave {len(rows)} embeddings for {len(ids)} texts")
        if answer.get("ids", ids) != ids:
            sys.exit(f"{engine.name} has other token ids than the tokenizer: not timed")
        first = first or rows
        pairs = list(zip(rows, first, strict=True))
        difference = max(abs(a - b) for row, other in pairs for a, b in zip(row, other, strict=True))
        cosine = min(sum(a * b for a, b in zip(row, other, strict=True)) for row, other in pairs)
        agreement[engine.name] = {"largest_difference": difference, "least_cosine": cosine}
        finite = all(math.isfinite(number) for row in rows for number in row)
        if not finite or not (cosine >= LEAST_COSINE if engine.name == EXACT else difference <= TOLERANCE):
            sys.exit(f"{engine.name} differs from {engines[0].name}: {agreement[engine.name]}: not timed")
    return agreement


def summarise(runs, texts, tokens):
    """Medians of one engine's turns."""
    seconds = statistics.median(run["seconds"] for run in runs)
    summary = {
        "texts_per_second": texts / seconds,
        "tokens_per_second": tokens / seconds,
        "seconds": [run["seconds"] for run in runs],
        "cpu_seconds": statistics.median(run["cpu_seconds"] for run in runs),
    }
    if "wall_seconds" in runs[0]:
        summary["wall_seconds"] = [run["wall_seconds"] for run in runs]
    return summary


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of the model for the peers")
    parser.add_argument("--texts", type=Path, required=True, help="JSON list, round JSONL or {text} JSONL")
    parser.add_argument("--count", type=int, help="only the first COUNT texts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cores", help="pin to these, such as 2,3 (default: chosen)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of {','.join(PEERS)}; may be empty")
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help=f"of tauscore: {','.join(PRECISIONS)}")
    parser.add_argument("--tauscore", type=Path, default=Path("target/release/tauscore"))
    parser.add_argument("--tauscore-args", default="", help='more options for it, such as "--model DIR"')
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    return parser.parse_args()


def main():
    """Check the answers, take turns, report."""
    args = arguments()
    peers = [name for name in args.peers.split(",") if name]
    precisions = [name for name in args.precisions.split(",") if name]
    if unknown := sorted(set(peers + precisions) - set(PEERS + PRECISIONS)):
        sys.exit(f"no such peer or precision: {', '.join(unknown)}; there are {', '.join(PEERS + PRECISIONS)}")
    cores = pin(args.threads, args.cores)
    texts = read_texts(args.texts)[: args.count]
    tokenizer = load_tokenizer(args.model, args.max_tokens)
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    tokens = sum(map(len, ids))
    settings = {
        "cores": cores,
        "texts": texts,
        "model": args.model,
        "limit": args.max_tokens,
        "batch": args.batch,
    }

    with tempfile.TemporaryDirectory() as folder:
        engines = [Peer(name, settings) for name in peers]
        if args.tauscore.exists():
            extra = shlex.split(args.tauscore_args)
            command = (args.tauscore.resolve(), texts, args.max_tokens, extra, Path(folder))
            engines += [Tauscore(precision, *command) for precision in PRECISIONS if precision in precisions]
        else:
            print(f"{args.tauscore} does not exist: the peers alone are measured", file=sys.stderr)
        if not engines:
            sys.exit("nothing to measure")

        # Held to the first one, which is in floats unless only integers are measured.
        agreement = check_answers(engines, ids[: 4 * args.batch])
        load_before = os.getloadavg()
        runs = {engine.name: [] for engine in engines}
        for turn in range(args.repeats):
            order = engines[turn % len(engines) :] + engines[: turn % len(engines)]
            for engine in order:
                runs[engine.name].append(engine.turn(len(texts)))
                print(f"turn {turn + 1} {engine.name}: {runs[engine.name][-1]['seconds']:.2f} s", file=sys.stderr)
        for engine in engines:
            engine.close()

    result = {
        "cpu": cpu_name(),
        "cores": cores,
        "threads": args.threads,
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "texts": len(texts),
        "tokens": tokens,
        "max_tokens": args.max_tokens,
        "batch": args.batch,
        "versions": {name: version(name) for name in ("torch", "transformers", *peers)} if peers else {},
        "engines": {name: summarise(turns, len(texts), tokens) for name, turns in runs.items()},
        "agreement": agreement,
        "ratios": {
            name: {other: ratios(runs[name], runs[other]) for other in list(runs)[:place]}
            for place, name in enumerate(runs)
            if name not in peers
        },
    }
    for name in result["ratios"]:
        if (counted := runs[name][0]["tokens"]) != tokens:
            print(f"{name} counted {counted} tokens, the tokenizer {tokens}", file=sys.stderr)

    print(f"{result['cpu']}, cores {cores}, {args.threads} threads, load {load_before[0]:.1f}")
    print(f"{len(texts)} texts, {tokens} tokens, at most {args.max_tokens} each; median of {args.repeats}")
    print(f"{'':<24}{'texts/s':>10}{'tokens/s':>10}{'CPU s':>8}{'wall s':>8}{'difference':>12}{'cosine':>10}")
    for name, at in result["engines"].items():
        wall = f"{statistics.median(at['wall_seconds']):.2f}" if "wall_seconds" in at else ""
        print(
            f"{name:<24}{at['texts_per_second']:>10.1f}{at['tokens_per_second']:>10.0f}{at['cpu_seconds']:>8.1f}{wall:>8}"
            f"{agreement[name]['largest_difference']:>12.1e}{agreement[name]['least_cosine']:>10.5f}"
        )
    for name, others in result["ratios"].items():
        for other, at in others.items():
            print(f"{name} is {at['median']:.2f} times as fast as {other} ({at['least']:.2f} to {at['most']:.2f} by turn)")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
