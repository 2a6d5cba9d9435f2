"""Novelty on the CPU, the nearest of all earlier rows: tauscore beside numpy and faiss, in one run.

    python benches/peers/novelty.py [--rows 8192] [--width 384] [--threads 2] [--repeats 7]
    python benches/peers/novelty.py --bank 1000000 --rows 1024

Rows are random, of unit length, one prompt's responses by as many miners in the order of their arrival; a tenth are altered copies of
earlier ones, a twentieth are repeated. Asked is the index of the most similar earlier row. All get the same rows (tauscore exact gets
them rounded to 32768ths, as its encoder makes them), the same cores (by affinity) and the same number of threads, and take turns, each
in a process of its own:

    numpy                   sgemm of a block of queries with a block of no later rows, then argmax; blocks as large as is fastest
    faiss                   IndexFlatIP: a block of queries is searched among all blocks before it, which is added afterwards; what is
                            within the block numpy does, as above; blocks as large as is fastest
    tauscore exact          stages::novelty on i16 rows (benches/novelty.rs, which cargo builds first)
    tauscore f32            the same on the float rows

A turn runs from rows in memory to all answers. Before anything is timed each answer is compared with a plain reference (numpy in f64, no
blocks), of the rows that the engine was given: where it differs, the two rows must be equally similar but for rounding, and how many
differ is printed.

With --bank there are as many rows of earlier rounds, and each response is compared with these alone: tauscore's time and memory, and
the others' (numpy by blocks of the bank, faiss searching an index that is already filled) beside it.
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

PEERS = ["numpy", "faiss"]
PRECISIONS = ["exact", "f32"]
BLOCKS = {"numpy": [256, 512, 1024, 2048], "faiss": [512, 1024, 2048]}  # of which the fastest is taken
BANK_BLOCK = 8192  # rows of the bank that numpy takes at once
PAUSE = 0.2  # seconds before each turn: the threads of OpenBLAS and OpenMP spin for a while when their work is done
TOLERANCE = 2e-6  # of a similarity, in floats of 24 bits; integers are exact


# ---- inputs ----


def write_inputs(folder, rows, width, bank):
    """Unit rows as floats and in 32768ths, and those of the bank."""
    rng = np.random.Generator(np.random.PCG64(1))

    def unit(values):
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    def write(name, values, mode="wb"):
        with open(folder / f"{name}.f32", mode) as file:
            values.tofile(file)
        with open(folder / f"{name}.exact", mode) as file:
            np.rint(values * 32768).clip(-32768, 32767).astype(np.int16).tofile(file)

    values = unit(rng.standard_normal((rows, width), dtype=np.float32))
    for row in rng.permutation(np.arange(1, rows))[: rows * 3 // 20]:
        other = values[rng.integers(row)]
        noise = rng.standard_normal(width, dtype=np.float32) * np.float32(0.5 / width**0.5)
        values[row] = other if row % 3 == 0 else unit((other + noise)[None])[0]
    write("rows", values)
    for first in range(0, bank, 1 << 16):
        count = min(1 << 16, bank - first)
        write("bank", unit(rng.standard_normal((count, width), dtype=np.float32)), "ab" if first else "wb")


def read_rows(folder, name, precision, width):
    """Rows as an engine of that precision has them, one file or both."""
    kind = np.int16 if precision == "exact" else np.float32
    return np.fromfile(folder / f"{name}.{precision}", dtype=kind).reshape(-1, width)


# ---- engines ----


def earlier(queries, rows, first):
    """The nearest of `rows` for each query, and how similar; the queries are rows from `first` on and look only before themselves."""
    similarities = queries @ rows.T
    if first is not None:
        similarities[np.arange(len(rows)) >= np.arange(first, first + len(queries))[:, None]] = -2
    nearest = similarities.argmax(axis=1)
    return nearest, similarities[np.arange(len(queries)), nearest]


def by_numpy(rows, block):
    """Blocks of queries and of candidates, of which those above the diagonal are left out."""
    answers = np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), block):
        queries = rows[start : start + block]
        answers[start : start + block], best = earlier(queries, queries, 0)
        answers[start : start + block] += start
        for first in range(0, start, block):
            nearest, similarities = earlier(queries, rows[first : first + block], None)
            better = similarities > best
            best[better] = similarities[better]
            answers[start : start + block][better] = nearest[better] + first
    return answers


def by_faiss(rows, block):
    """Blocks of queries, each searched among those before it."""
    import faiss

    index = faiss.IndexFlatIP(rows.shape[1])
    answers = np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), block):
        queries = rows[start : start + block]
        nearest, best = earlier(queries, queries, 0)
        nearest += start
        if start:
            similarities, found = index.search(queries, 1)
            better = similarities[:, 0] > best
            nearest[better] = found[better, 0]
        answers[start : start + block] = nearest
        index.add(queries)
    return answers


def in_bank(name, bank):
    """A function from rows to the nearest rows of the bank."""
    if name == "faiss":
        import faiss

        index = faiss.IndexFlatIP(bank.shape[1])
        for first in range(0, len(bank), BANK_BLOCK):
            index.add(bank[first : first + BANK_BLOCK])
        return lambda rows, block: index.search(rows, 1)[1][:, 0]

    def search(rows, block):
        answers, best = np.zeros(len(rows), dtype=np.int64), np.full(len(rows), -2, dtype=np.float32)
        for first in range(0, len(bank), BANK_BLOCK):
            nearest, similarities = earlier(rows, bank[first : first + BANK_BLOCK], None)
            better = similarities > best
            best[better], answers[better] = similarities[better], nearest[better] + first
        return answers

    return search


def serve(name, folder, width, bank, connection):
    """A peer's process: answers at every word of the parent, which is a size of blocks."""
    if name == "faiss":
        import faiss

        faiss.omp_set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    rows = read_rows(folder, "rows", "f32", width)
    if bank:
        find = in_bank(name, read_rows(folder, "bank", "f32", width))
    else:
        find = {"numpy": by_numpy, "faiss": by_faiss}[name]
    find(rows[:1], 1)  # what a process takes once
    connection.send(True)
    while block := connection.recv():
        started = time.perf_counter()
        nearest = find(rows, block)
        connection.send({"seconds": time.perf_counter() - started, "nearest": nearest.tolist()})


class Peer(Served):
    """numpy or faiss."""

    precision = "f32"

    def __init__(self, name, folder, width, bank):
        super().__init__(name, serve, (name, folder, width, bank))
        blocks = [1] if bank else BLOCKS[name]
        times = {block: min(self.turn(block)["seconds"] for _ in range(3 if len(blocks) > 1 else 1)) for block in blocks}
        self.block = min(times, key=times.get)

    def turn(self, block=None):
        """All answers once."""
        return super().turn(block or self.block)


class Tauscore(Bench):
    """The bench `novelty`."""

    block = None

    def __init__(self, binary, folder, width, precision, bank):
        self.precision = precision
        files = [str(folder / f"bank.{precision}")] if bank else []
        command = [binary, str(folder / f"rows.{precision}"), str(width), precision, *files]
        super().__init__(f"tauscore {precision}", command)


# ---- turns ----


def reference(rows, bank):
    """The nearest of each row in f64 and how similar, -1 where there is none: in integers exact, as their sums are below 2^53."""
    values = rows.astype(np.float64)
    nearest, best = np.full(len(rows), -1), np.full(len(rows), -np.inf)
    others = values if bank is None else bank
    for first in range(0, len(others), BANK_BLOCK):
        similarities = values @ others[first : first + BANK_BLOCK].astype(np.float64).T
        if bank is None:
            later = np.arange(first, first + similarities.shape[1]) >= np.arange(len(rows))[:, None]
            similarities[later] = -np.inf
        at = similarities.argmax(axis=1)
        found = similarities[np.arange(len(rows)), at]
        better = found > best
        nearest[better], best[better] = at[better] + first, found[better]
    return nearest, best


def first_turn(engine, rows, bank, right):
    """Peak of memory above what was held before, and how many answers differ from the right ones."""
    Path(f"/proc/{engine.pid}/clear_refs").write_text("5")  # the peak begins anew
    before = memory(engine.pid, "VmRSS")
    turn = engine.turn()
    found = {"extra_bytes": memory(engine.pid, "VmHWM") - before, "block": engine.block}
    found |= {"buffers": turn["buffers"]} if "buffers" in turn else {}
    nearest, best = right
    answers = np.array([-1 if index is None else index for index in turn["nearest"]])
    if bank is not None and engine.block is None:
        answers -= len(rows)  # counted on from the responses
    has = nearest >= 0  # the first row has nothing before it, whatever a peer says there
    others = rows if bank is None else bank
    given = np.full(len(rows), -np.inf)
    given[has] = np.einsum("ij,ij->i", rows[has].astype(np.float64), others[answers[has]].astype(np.float64))
    late = has & (answers >= np.arange(len(rows))) if bank is None else np.zeros(len(rows), dtype=bool)
    short = (best[has] - given[has]).max()
    found |= {"different": int((answers != nearest)[has].sum()), "largest_shortfall": float(short)}
    if late.any() or answers.min() < -1 or not short <= (0 if engine.precision == "exact" else TOLERANCE):
        sys.exit(f"{engine.name} differs from the reference: {found}: not timed")
    return found


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--bank", type=int, default=0, help="rows of earlier rounds, with which alone rows are compared")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of {','.join(PEERS)}; may be empty")
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help=f"of tauscore: {','.join(PRECISIONS)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cores", help="pin to these, such as 2,3 (default: chosen)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tauscore", help="the executable of benches/novelty.rs (default: cargo builds it)")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    return parser.parse_args()


def main():
    """Check the answers, take turns, report."""
    args = arguments()
    binary = args.tauscore or build_bench("novelty", "the peers alone are")
    cores = pin(args.threads, args.cores)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, args.rows, args.width, args.bank)
        first, engines = {}, []
        for precision in PRECISIONS:
            rows = read_rows(folder, "rows", precision, args.width)
            bank = read_rows(folder, "bank", precision, args.width) if args.bank else None
            right = reference(rows, bank)
            asked = [precision] if binary and precision in args.precisions.split(",") else []
            ours = [Tauscore(binary, folder, args.width, precision, args.bank) for precision in asked]
            wanted = args.peers.split(",") if args.peers and precision == "f32" else []
            peers = [Peer(peer, folder, args.width, args.bank) for peer in wanted]
            for engine in ours + peers:
                first[engine.name] = first_turn(engine, rows, bank, right)
                engines.append(engine)
        load_before = os.getloadavg()
        runs = {engine.name: [] for engine in engines}
        for turn in range(args.repeats):
            for engine in engines[turn % len(engines) :] + engines[: turn % len(engines)]:
                time.sleep(PAUSE)
                runs[engine.name].append({"seconds": engine.turn()["seconds"]})
        for engine in engines:
            engine.close()

    pairs = args.rows * args.bank or args.rows * (args.rows - 1) // 2
    result = {
        "cpu": cpu_name(),
        "cores": cores,
        "threads": args.threads,
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "sizes": {"rows": args.rows, "width": args.width, "bank": args.bank},
        "engines": {name: first[name] | {"turns": turns} for name, turns in runs.items()},
        # a peer's ratio to tauscore is tauscore's share of the peer's time
        "shares": {
            name: {peer: ratios(runs[peer], turns) for peer in PEERS if peer in runs}
            for name, turns in runs.items()
            if name not in PEERS
        },
    }
    print(f"{result['cpu']}, cores {cores}, {args.threads} threads, load {load_before[0]:.1f}")
    among = f"{args.bank} of earlier rounds" if args.bank else "those before each"
    print(f"{args.rows} rows of {args.width} among {among}; of {args.repeats} turns")
    print(f"{'':<16}{'median ms':>10}{'best ms':>9}{'Gop/s':>8}{'at best':>9}{'extra MB':>10}{'block':>7}{'different':>11}")
    for name, turns in runs.items():
        seconds = [turn["seconds"] for turn in turns]
        median, best = statistics.median(seconds), min(seconds)
        # Of the peers it would say what they kept of the search for a size of blocks.
        extra = "" if name in PEERS else f"{first[name]['extra_bytes'] / 1e6:.1f}"
        rates = [2 * pairs * args.width / time / 1e9 for time in (median, best)]
        print(
            f"{name:<16}{1e3 * median:>10.1f}{1e3 * best:>9.1f}{rates[0]:>8.0f}{rates[1]:>9.0f}"
            f"{extra:>10}{first[name]['block'] or '':>7}{first[name]['different']:>11}"
        )
    for name, others in result["shares"].items():
        for other, at in others.items():
            kept = "" if args.bank else ": no slower: kept" if at["median"] <= 1 else ": no slower: MISSED"
            print(
                f"{name} takes {at['median']:.2f} of the time of {other} ({at['least']:.2f} to {at['most']:.2f} by turn){kept}"
            )
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
