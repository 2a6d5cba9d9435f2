"""What the head and the loss cost in torch on the CPU: [rows, hidden] x [hidden, vocabulary], then cross entropy.

    python benches/peers/head.py [--rows 2048] [--hidden 576] [--vocabulary 49152] [--threads 2] [--repeats 5]

Two ways, each in a process of its own, so that the peak of memory is its own: all logits at once, as the libraries do it,
and in chunks of rows. Inputs are seeded and of the size that real logits have. Beside each time stands the
rate of the multiplication, 2 rows hidden vocabulary operations, and the peak above what the inputs took.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
from pathlib import Path

from embed import cpu_name, cpu_seconds, limit_threads, pick_cores

CHUNKS = {"all logits": None, "chunks of 64 rows": 64, "chunks of 256 rows": 256}


def memory(kind):
    """Bytes of this process: VmRSS held now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(kind))


def measure(settings, connection):
    """Time one way; its own process."""
    limit_threads(settings["cores"])
    import torch

    torch.set_num_threads(len(settings["cores"]))
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(settings["rows"], settings["hidden"], generator=generator)
    head = torch.randn(settings["vocabulary"], settings["hidden"], generator=generator) * 3 / settings["hidden"] ** 0.5
    targets = torch.randint(settings["vocabulary"], (settings["rows"],), generator=generator)
    chunk = settings["chunk"] or settings["rows"]

    def once():
        parts = zip(hidden.split(chunk), targets.split(chunk), strict=True)
        return torch.cat([torch.nn.functional.cross_entropy(h @ head.T, t, reduction="none") for h, t in parts])

    with torch.inference_mode():
        torch.nn.functional.cross_entropy(hidden[:1] @ head.T, targets[:1])  # what the library takes once
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = memory("VmRSS")
        losses = once()
        connection.send({"extra_bytes": memory("VmHWM") - before, "mean": losses.double().mean().item()})
        while connection.recv():
            cpu, started = cpu_seconds(resource.RUSAGE_SELF), time.perf_counter()
            once()
            seconds = time.perf_counter() - started
            connection.send({"seconds": seconds, "cpu_seconds": cpu_seconds(resource.RUSAGE_SELF) - cpu})


def main():
    """Take turns, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--vocabulary", type=int, default=49152)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cores", help="pin to these, such as 2,3 (default: chosen)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    cores = [int(core) for core in args.cores.split(",")] if args.cores else pick_cores(args.threads)
    sizes = {"rows": args.rows, "hidden": args.hidden, "vocabulary": args.vocabulary, "cores": cores}
    limit_threads(cores)
    context = multiprocessing.get_context("spawn")
    ways = {}
    for name, chunk in CHUNKS.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=measure, args=(sizes | {"chunk": chunk}, theirs), daemon=True)
        process.start()
        ways[name] = {"process": process, "connection": ours, "first": ours.recv(), "turns": []}
    load = os.getloadavg()[0]
    for _ in range(args.repeats):
        for way in ways.values():
            way["connection"].send(True)
            way["turns"].append(way["connection"].recv())
    for way in ways.values():
        way["connection"].send(None)
        way["process"].join()

    operations = 2 * args.rows * args.hidden * args.vocabulary
    print(f"{cpu_name()}, cores {cores}, load {load:.1f}")
    print(f"[{args.rows}, {args.hidden}] x [{args.hidden}, {args.vocabulary}], cross entropy; of {args.repeats} turns")
    print(
        f"{'':<20}{'median ms':>10}{'best ms':>9}{'GFLOP/s':>9}{'at best':>9}{'CPU s':>7}{'extra MB':>10}{'mean loss':>11}"
    )
    result = sizes | {"ways": {}}
    for name, way in ways.items():
        seconds = [turn["seconds"] for turn in way["turns"]]
        median, best = statistics.median(seconds), min(seconds)
        cpu = statistics.median(turn["cpu_seconds"] for turn in way["turns"])
        print(
            f"{name:<20}{1e3 * median:>10.0f}{1e3 * best:>9.0f}{operations / median / 1e9:>9.1f}{operations / best / 1e9:>9.1f}"
            f"{cpu:>7.2f}{way['first']['extra_bytes'] / 1e6:>10.0f}{way['first']['mean']:>11.5f}"
        )
        result["ways"][name] = way["first"] | {"seconds": seconds, "cpu_seconds": cpu}
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
