"""What the lessons cost: python tests/benchmark.py prints the tables of the README.

A lesson and its floor run in turn, five times each; medians count. The floor is a fresh Python
that only imports what the lesson imports, and does once what makes torch import more of itself:
an optimizer step, or backward(v), where the lesson does that. Then lesson 09: how many samples a
second each way of fetching brings, and the memory of a stream.
"""

import argparse
import ast
import importlib
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LESSONS = sorted((Path(__file__).resolve().parent.parent / "lessons").glob("*.py"))
ONE_STEP = """
layer = torch.nn.Linear(1, 1)
layer(torch.ones(1, 1)).sum().backward()
torch.optim.SGD(layer.parameters(), lr=0.1).step()
"""
BACKWARD_V = """
x = torch.ones(2, requires_grad=True)
(2 * x).backward(torch.ones(2))
"""


def floor(path):
    """A program with the imports of a lesson, its own and those that torch puts off."""
    source = path.read_text("utf-8")
    body = ast.parse(source).body
    body += [n for part in body if isinstance(part, ast.Try) for n in part.body]
    imports = [ast.unparse(n) for n in body if isinstance(n, (ast.Import, ast.ImportFrom))]
    if path == LESSONS[0]:  # it imports what it checks, one after the other
        imports.append("import torch, torchvision, numpy, matplotlib, pytest")
    later = ONE_STEP if "torch.optim" in source else ""
    later += BACKWARD_V if "gradcheck" in source or "jacobian" in source else ""
    return "\n".join(imports) + later


def measure(*arguments):
    """(seconds, peak memory in MiB) of one fresh Python process; memory is nan on Windows."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    if not hasattr(os, "wait4"):
        process.wait()
        return time.perf_counter() - start, float("nan")
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(map(str, arguments))} ended with status {status}")
    return seconds, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def lessons_table(runs):
    """Each lesson against its floor."""
    print("| lesson | seconds | imports alone | ratio | peak memory, MiB |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for path in LESSONS:
        pairs = []
        for run in range(runs + 1):
            pair = measure(path), measure("-c", floor(path))
            pairs += [pair] if run else []  # the first warms the caches
        seconds, alone = (statistics.median(pair[i][0] for pair in pairs) for i in (0, 1))
        ratio = statistics.median(lesson[0] / floor[0] for lesson, floor in pairs)
        memory = max(lesson[1] for lesson, _ in pairs)
        print(f"| {path.stem} | {seconds:.2f} | {alone:.2f} | {ratio:.2f} | {memory:.0f} |")


def fetching_table(runs, samples=50_000):
    """Samples a second of lesson 09's three ways to fetch batches of 64."""
    import torch

    x, y = torch.rand(samples, 13), torch.zeros(samples, dtype=torch.int64)
    three_ways = importlib.import_module("09_dataset_dataloader").three_ways
    print("\n| way to fetch batches of 64 | samples a second | times |")
    print("| --- | ---: | ---: |")
    slowest = None
    for way in three_ways(x, y, 64):
        seconds = []
        for _ in range(runs):
            start = time.perf_counter()
            for _ in three_ways(x, y, 64)[way]:
                pass
            seconds.append(time.perf_counter() - start)
        rate = samples / statistics.median(seconds)
        slowest = slowest or rate
        print(f"| {way} | {rate:,.0f} | {rate / slowest:.0f} |")


GROWTH = """
import importlib, resource, sys
import numpy, torch
from torch.utils.data import DataLoader
sys.path.insert(0, sys.argv[1])
Stream = importlib.import_module("09_dataset_dataloader").Stream
def resident():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * resource.getpagesize() / 2**20
before = most = resident()
if sys.argv[4] == "stream":
    rows = 0
    for batch in DataLoader(Stream(sys.argv[2], shared_out=True), batch_size=1000):
        rows, most = rows + len(batch), max(most, resident())
else:
    whole = torch.from_numpy(numpy.loadtxt(sys.argv[2], delimiter=",", skiprows=1, ndmin=2))
    rows, most = len(whole), resident()
assert rows == int(sys.argv[3])
print(f"{most - before:.0f}")
"""


def streaming_table():
    """How much lesson 09's Stream, and reading the whole file, add to the memory (on Linux)."""
    if not Path("/proc/self/statm").exists():
        return
    print("\n| rows | added by the stream, MiB | by the whole file, MiB |")
    print("| ---: | ---: | ---: |")
    row = ",".join(f"{n}.{n}{n}" for n in range(13)) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        for rows in (10_000, 100_000, 1_000_000):
            file = Path(folder, "rows.csv")
            with open(file, "w") as lines:
                lines.writelines(itertools.chain(["header\n"], itertools.repeat(row, rows)))
            command = [sys.executable, "-c", GROWTH, LESSONS[0].parent, file, str(rows)]
            stream, whole = (
                subprocess.check_output([*command, way], text=True).strip()
                for way in ("stream", "whole")
            )
            print(f"| {rows:,} | {stream} | {whole} |")


def positive(text):
    """A whole number from 1 on, from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1 on")
    return int(text)


def main(runs):
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(f"Python {platform.python_version()}, medians of {runs} runs in turn\n")
    lessons_table(runs)
    streaming_table()
    fetching_table(runs)


if __name__ == "__main__":
    sys.path.insert(0, str(LESSONS[0].parent))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=positive, default=5, help="runs of each lesson (default 5)")
    main(parser.parse_args().runs)
