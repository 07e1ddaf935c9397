"""What each lesson costs beyond its imports: python tests/benchmark.py prints the table.

A lesson and its floor (a fresh Python that only imports what the lesson imports, and makes one
optimizer step where the lesson makes any) run in turn, five times each; medians count.
"""

import argparse
import ast
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

LESSONS = sorted((Path(__file__).resolve().parent.parent / "lessons").glob("*.py"))
ONE_STEP = """
layer = torch.nn.Linear(1, 1)
layer(torch.ones(1, 1)).sum().backward()
torch.optim.SGD(layer.parameters(), lr=0.1).step()
"""


def floor(path):
    """A program with the imports of a lesson and no more, but one step if it uses torch.optim."""
    source = path.read_text("utf-8")
    body = ast.parse(source).body
    imports = [ast.unparse(n) for n in body if isinstance(n, (ast.Import, ast.ImportFrom))]
    if path == LESSONS[0]:  # it imports what it checks, one after the other
        imports.append("import torch, torchvision, numpy, matplotlib, pytest")
    return "\n".join(imports) + (ONE_STEP if "torch.optim" in source else "")


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


def main(runs):
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(f"Python {platform.python_version()}, medians of {runs} runs in turn\n")
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each lesson (default 5)")
    main(parser.parse_args().runs)
