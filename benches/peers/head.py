"""The head and the loss on the CPU, [rows, hidden] x [hidden, vocabulary], then cross entropy: tauscore beside torch, in one run.

    python benches/peers/head.py [--rows 2048] [--hidden 576] [--vocabulary 49152] [--threads 2] [--repeats 5]

All get the same inputs, seeded and of the size that real logits have, the same cores (by affinity) and the same number of
threads, and take turns. Each is a process of its own, so that the peak of memory is its own:

    torch                   matmul and cross_entropy, all logits at once, as the libraries do it
    torch, N rows           the same in chunks of N rows, as a careful user would
    tauscore f32            the kernels nn/head and nn/surprise (benches/head.rs, which cargo builds first)
    tauscore q8             the same with weights in blocks of 8 bits, as SmolLM2's head has them

A turn runs from hidden rows to losses, with weights in place. Before anything is timed the losses are compared: tauscore must
agree with torch within 1e-3 a row, q8 with torch on the weights that its blocks stand for. Beside each time stands the
rate of the multiplication, 2 rows hidden vocabulary operations, and the peak of memory above what inputs and libraries took.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from engines import Bench, Served, build_bench, cpu_name, memory, pin, ratios

TORCH = "torch"
CHUNKS = {TORCH: None, "torch, 64 rows": 64, "torch, 256 rows": 256}
FORMATS = ["f32", "q8"]
BLOCK = 32  # numbers that share a scale
TOLERANCE = 1e-3  # nats a row
MOST = {"share": 0.9, "extra_bytes": 64e6}  # of torch's time, and of memory


# ---- inputs ----


def write_inputs(folder, sizes):
    """Rows and targets, the head in f32 and in blocks of 8 bits, and what those blocks stand for."""
    rng = np.random.Generator(np.random.PCG64(1))
    rows, hidden, vocabulary = sizes
    rng.standard_normal((rows, hidden), dtype=np.float32).tofile(folder / "hidden")
    rng.integers(vocabulary, size=rows, dtype=np.uint32).tofile(folder / "targets")
    head = rng.standard_normal((vocabulary, hidden), dtype=np.float32) * np.float32(3 / hidden**0.5)
    head.tofile(folder / "f32")
    blocks = head.reshape(-1, BLOCK)
    scales = (np.abs(blocks).max(axis=1, keepdims=True) / 127).astype(np.float16).astype(np.float32)
    bytes_ = np.rint(blocks / scales).clip(-127, 127).astype(np.int8)
    np.concatenate([scales.view(np.uint32), bytes_.view(np.uint32)], axis=1).tofile(folder / "q8")
    (scales * bytes_).tofile(folder / "q8, expanded")


# ---- engines ----


def serve(folder, weights, sizes, chunk, threads, connection):
    """Torch's process: losses at every word of the parent."""
    import torch

    torch.set_num_threads(threads)
    rows, depth, vocabulary = sizes
    hidden = torch.from_numpy(np.fromfile(folder / "hidden", dtype=np.float32)).view(rows, depth)
    head = torch.from_numpy(np.fromfile(folder / weights, dtype=np.float32)).view(vocabulary, depth)
    targets = torch.from_numpy(np.fromfile(folder / "targets", dtype=np.uint32).astype(np.int64))

    def losses(hidden, targets):
        parts = zip(hidden.split(chunk or rows), targets.split(chunk or rows), strict=True)
        return torch.cat([torch.nn.functional.cross_entropy(h @ head.T, t, reduction="none") for h, t in parts])

    with torch.inference_mode():
        losses(hidden[:1], targets[:1])  # what a process takes once
        connection.send(True)
        while connection.recv():
            started = time.perf_counter()
            found = losses(hidden, targets)
            connection.send({"seconds": time.perf_counter() - started, "losses": found.tolist()})


def torch(name, folder, weights, sizes, chunk, threads):
    """torch with all logits at once, or in chunks of rows."""
    return Served(name, serve, (folder, weights, sizes, chunk, threads))


def tauscore(binary, folder, weights):
    """The bench `head`."""
    files = [str(folder / file) for file in ("hidden", "targets", weights)]
    return Bench(f"tauscore {weights}", [binary, *files, weights])


# ---- turns ----


def process_seconds(pid):
    """CPU seconds that a process has taken, to the kernel's tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_turn(engine, right):
    """The peak of memory above what was held before, and how far the losses are from the right ones."""
    Path(f"/proc/{engine.pid}/clear_refs").write_text("5")  # the peak begins anew
    before = memory(engine.pid, "VmRSS")
    losses = np.array(engine.turn()["losses"])
    found = {"extra_bytes": memory(engine.pid, "VmHWM") - before, "mean": losses.mean()}
    right = losses if right is None else right
    found["largest_difference"] = np.abs(losses - right).max()
    if losses.shape != right.shape or not found["largest_difference"] <= TOLERANCE:
        sys.exit(f"{engine.name} differs from torch: {found}: not timed")
    return found, losses


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--hidden", type=int, default=576, help=f"a multiple of {BLOCK}")
    parser.add_argument("--vocabulary", type=int, default=49152)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cores", help="pin to these, such as 2,3 (default: chosen)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tauscore", help="the executable of benches/head.rs (default: cargo builds it)")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    if args.hidden % BLOCK:
        parser.error(f"--hidden {args.hidden} is no multiple of {BLOCK}")
    return args


def main():
    """Check the answers, take turns, report."""
    args = arguments()
    binary = args.tauscore or build_bench("head", "torch alone is")
    cores = pin(args.threads, args.cores)
    sizes = (args.rows, args.hidden, args.vocabulary)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, sizes)
        engines = [torch(name, folder, "f32", sizes, chunk, args.threads) for name, chunk in CHUNKS.items()]
        first = {}
        first[TORCH], losses = first_turn(engines[0], None)
        right = {engine.name: losses for engine in engines}
        if binary:
            expanded = torch("torch, expanded", folder, "q8, expanded", sizes, 256, args.threads)
            right |= {"tauscore f32": losses, "tauscore q8": np.array(expanded.turn()["losses"])}
            expanded.close()
            engines += [tauscore(binary, folder, weights) for weights in FORMATS]
        for engine in engines[1:]:
            first[engine.name], _ = first_turn(engine, right[engine.name])

        load_before = os.getloadavg()
        runs = {engine.name: [] for engine in engines}
        for turn in range(args.repeats):
            for engine in engines[turn % len(engines) :] + engines[: turn % len(engines)]:
                cpu = process_seconds(engine.pid)
                seconds = engine.turn()["seconds"]
                runs[engine.name].append({"seconds": seconds, "cpu_seconds": process_seconds(engine.pid) - cpu})
                print(f"turn {turn + 1} {engine.name}: {1e3 * seconds:.0f} ms", file=sys.stderr)
        for engine in engines:
            engine.close()

    operations = 2 * args.rows * args.hidden * args.vocabulary
    result = {
        "cpu": cpu_name(),
        "cores": cores,
        "threads": args.threads,
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "sizes": dict(zip(("rows", "hidden", "vocabulary"), sizes, strict=True)),
        "engines": {name: first[name] | {"turns": turns} for name, turns in runs.items()},
        # torch's ratio to tauscore is tauscore's share of torch's time
        "shares": {
            name: {other: ratios(runs[other], runs[name]) for other in CHUNKS} for name in runs if name not in CHUNKS
        },
    }
    print(f"{result['cpu']}, cores {cores}, {args.threads} threads, load {load_before[0]:.1f}")
    print(f"[{args.rows}, {args.hidden}] x [{args.hidden}, {args.vocabulary}], cross entropy; of {args.repeats} turns")
    print(
        f"{'':<18}{'median ms':>10}{'best ms':>9}{'GFLOP/s':>9}{'at best':>9}{'CPU s':>7}{'extra MB':>10}{'largest diff':>14}"
    )
    for name, turns in runs.items():
        seconds = [turn["seconds"] for turn in turns]
        median, best = statistics.median(seconds), min(seconds)
        cpu = statistics.median(turn["cpu_seconds"] for turn in turns)
        print(
            f"{name:<18}{1e3 * median:>10.0f}{1e3 * best:>9.0f}{operations / median / 1e9:>9.1f}{operations / best / 1e9:>9.1f}"
            f"{cpu:>7.2f}{first[name]['extra_bytes'] / 1e6:>10.1f}{first[name]['largest_difference']:>14.1e}"
        )
    for name, others in result["shares"].items():
        for other, at in others.items():
            print(
                f"{name} takes {at['median']:.2f} of the time of {other} ({at['least']:.2f} to {at['most']:.2f} by turn)"
            )
        share, extra = others[TORCH]["median"], first[name]["extra_bytes"]
        kept = share <= MOST["share"] and extra < MOST["extra_bytes"]
        bar = f"at most {MOST['share']} of torch's time in less than {MOST['extra_bytes'] / 1e6:.0f} MB"
        print(f"{name}: {bar}: {'kept' if kept else 'MISSED'}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
