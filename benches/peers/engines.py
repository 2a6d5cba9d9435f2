"""What the comparisons share: cores, engines in processes of their own, and the ratios of their turns."""

import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
from pathlib import Path

# ---- the machine ----


def pick_cores(count):
    """`count` allowed cores, no two of them threads of one core where that can be had."""
    if not hasattr(os, "sched_getaffinity"):
        sys.exit("this comparison pins cores and needs Linux")
    first_siblings, others, seen = [], [], set()
    for cpu in sorted(os.sched_getaffinity(0)):
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings = path.read_text().strip() if path.exists() else str(cpu)
        (others if siblings in seen else first_siblings).append(cpu)
        seen.add(siblings)
    cores = (first_siblings + others)[:count]
    if len(cores) < count:
        sys.exit(f"{count} threads were asked for, but only {len(cores)} cores may be used")
    return cores


def pin(threads, cores):
    """Pin this process and its children to so many cores: those that the command line names, else chosen ones."""
    cores = [int(core) for core in cores.split(",")] if cores else pick_cores(threads)
    if len(cores) != threads:
        sys.exit(f"{threads} threads on {len(cores)} cores is no fair comparison")
    limit_threads(cores)
    return cores


def limit_threads(cores):
    """Pin this process and its children, and tell every library its number of threads."""
    os.sched_setaffinity(0, cores)
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"]
    os.environ.update({name: str(len(cores)) for name in names})
    os.environ.update({"TOKENIZERS_PARALLELISM": "true", "CUDA_VISIBLE_DEVICES": ""})
    os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"})


def cpu_name():
    """The processor's own name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cpu_seconds(who):
    """User and system time used so far."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def memory(pid, kind):
    """Bytes of a process: VmRSS held now, VmHWM at the peak."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(kind))


# ---- engines ----


class Served:
    """A Python peer in a process of its own, so that no two share a thread pool."""

    def __init__(self, name, serve, settings):
        """`serve` gets the settings and a connection, on which it first says that it is ready, then answers every word."""
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(*settings, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.ready = self.connection.recv()
        self.pid = self.process.pid

    def turn(self, word=True):
        """The work once."""
        self.connection.send(word)
        return self.connection.recv()

    def close(self):
        """Let the process end."""
        self.connection.send(None)
        self.process.join()


class Bench:
    """One of tauscore's benches that does its work at every line and answers with one."""

    def __init__(self, name, command):
        self.name = name
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="utf-8")
        self.answer()
        self.pid = self.process.pid

    def answer(self):
        """The next line."""
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended with {self.process.wait()}")
        return line

    def turn(self):
        """The work once."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.answer())

    def close(self):
        """Let the process end."""
        self.process.communicate()


def build_bench(bench, alone):
    """A bench's executable, or None where there is no cargo and others are measured `alone`."""
    command = ["cargo", "bench", "--locked", "--bench", bench, "--no-run", "--message-format", "json"]
    try:
        run = subprocess.run(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, check=True)
    except FileNotFoundError:
        print(f"there is no cargo: {alone} measured", file=sys.stderr)
        return None
    messages = map(json.loads, run.stdout.splitlines())
    return next(
        message["executable"]
        for message in messages
        if message.get("target", {}).get("name") == bench and message.get("executable")
    )


# ---- turns ----


def ratios(own, others):
    """How many times as fast: compared within each turn, so that a slow minute slows both sides."""
    each = [other["seconds"] / run["seconds"] for run, other in zip(own, others, strict=True)]
    return {"median": statistics.median(each), "least": min(each), "most": max(each)}
