"""What the lessons cost: prints the tables of tests/README.md.

A lesson and its floor run in turn, five times each; medians count. The floor is a fresh
Python that imports what a plain run of the lesson imports, and no more: on top, inside
functions, and what torch puts off until it is first used, which FIRST_USES therefore
uses once: an optimizer's step, backward(v), a Jacobian, gradcheck, a dispatch mode, the
device meta, each where the lesson has it. After that: where the time of each lesson
goes, what a stream adds to the memory, and how the cost of training grows with the
work.
"""

import argparse
import ast
import itertools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LESSONS = sorted((Path(__file__).resolve().parent.parent / "lessons").glob("*.py"))
# What torch imports at its first use only, by the words in a lesson that say so.
FIRST_USES = {
    "torch.optim": """
layer = torch.nn.Linear(1, 1)
layer(torch.ones(1, 1)).sum().backward()
torch.optim.SGD(layer.parameters(), lr=0.1).step()
""",
    ".backward(v)": """
x = torch.ones(2, requires_grad=True)
(2 * x).backward(torch.ones(2))
""",
    ".jacobian(": """
torch.autograd.functional.jacobian(torch.square, torch.ones(2))
""",
    ".gradcheck(": """
x = torch.ones(2, dtype=torch.float64, requires_grad=True)
torch.autograd.gradcheck(torch.square, x)
""",
    "TorchDispatchMode": """
from torch.utils._python_dispatch import TorchDispatchMode
class Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))
with Mode():
    torch.ones(1)
""",
    'device="meta"': """
torch.ones(2, device="meta") + 1
""",
}


def floor(path):
    """A program with all imports of a run of a lesson, with those that torch puts off.

    Only the picture's are left out.
    """
    source = path.read_text("utf-8")
    imports = []
    for part in ast.parse(source).body:
        if getattr(part, "name", None) == "figure":
            continue
        for node in ast.walk(part):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                imports.append(ast.unparse(node))
    if path == LESSONS[0]:  # it imports what it checks, one after the other
        imports.append("import torch, torchvision, numpy, matplotlib, pytest")
    uses = [code for words, code in FIRST_USES.items() if words in source]
    return "\n".join(imports) + "\n" + "".join(uses)


def measure(*arguments):
    """(seconds, peak memory in MiB) of a fresh Python; on Windows memory is nan."""
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
    print("| lesson | seconds | its floor | beyond it | ratio | peak memory, MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for path in LESSONS:
        pairs = []
        for run in range(runs + 1):
            pair = measure(path), measure("-c", floor(path))
            pairs += [pair] if run else []  # the first warms the caches
        seconds, alone = (
            statistics.median(pair[i][0] for pair in pairs) for i in (0, 1)
        )
        beyond = statistics.median(lesson[0] - floor[0] for lesson, floor in pairs)
        ratio = statistics.median(lesson[0] / floor[0] for lesson, floor in pairs)
        memory = max(lesson[1] for lesson, _ in pairs)
        numbers = (
            f"{seconds:.2f} | {alone:.2f} | {beyond:.2f} | {ratio:.2f} | {memory:.0f}"
        )
        print(f"| {path.stem} | {numbers} |", flush=True)


WHERE = """
import contextlib, importlib, io, json, sys, time
spent = {}

def clock(name, action):
    start = time.perf_counter()
    result = action()
    spent[name] = spent.get(name, 0) + time.perf_counter() - start
    return result

sys.path.insert(0, sys.argv[1])
lesson = clock("imports", lambda: importlib.import_module(sys.argv[2]))
clock("late imports", lambda: exec(sys.argv[3], {}))
if hasattr(lesson, "read_csv"):
    read_csv = lesson.read_csv
    lesson.read_csv = lambda *arguments: clock("data", lambda: read_csv(*arguments))
with contextlib.redirect_stdout(io.StringIO()):
    clock("computing", lambda: lesson.main("cpu"))
before = spent.get("data", 0)
clock("drawing", lambda: lesson.figure("cpu").savefig(io.BytesIO(), format="png"))
spent["computing"] -= before
print(json.dumps(spent))
"""
PARTS = ("imports", "late imports", "data", "computing", "drawing")


def parts_table(runs):
    """Where the time of each lesson goes; drawing is what --figure adds."""
    print(f"\n| lesson | {' | '.join(PARTS)} |")
    print(f"| --- |{' ---: |' * len(PARTS)}")
    for path in LESSONS[1:]:
        command = [sys.executable, "-c", WHERE, path.parent, path.stem, floor(path)]
        spent = [json.loads(subprocess.check_output(command)) for _ in range(runs)]
        medians = [
            statistics.median(run.get(part, 0) for run in spent) for part in PARTS
        ]
        print(
            f"| {path.stem} | {' | '.join(f'{m:.2f}' for m in medians)} |", flush=True
        )


def three_ways(x, y, batch_size):
    """Way -> an iterator over the batches (x, y) of an epoch in order."""
    from torch.utils.data import BatchSampler, DataLoader, TensorDataset

    dataset, starts = TensorDataset(x, y), range(0, len(y), batch_size)
    sampler = BatchSampler(range(len(y)), batch_size, drop_last=False)
    return {
        "one at a time": iter(DataLoader(dataset, batch_size=batch_size)),
        "BatchSampler": iter(DataLoader(dataset, sampler=sampler, batch_size=None)),
        "slices": ((x[i : i + batch_size], y[i : i + batch_size]) for i in starts),
    }


def fetching_table(runs, samples=50_000):
    """Samples a second of three ways to fetch batches of 64."""
    import torch

    x, y = torch.rand(samples, 13), torch.zeros(samples, dtype=torch.int64)
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
    table = numpy.loadtxt(sys.argv[2], delimiter=",", skiprows=1, ndmin=2)
    whole = torch.from_numpy(table)
    rows, most = len(whole), resident()
assert rows == int(sys.argv[3])
print(f"{most - before:.0f}")
"""


def streaming_table():
    """What lesson 09's Stream, and the whole file, add to the memory (on Linux)."""
    if not Path("/proc/self/statm").exists():
        return
    print("\n| rows | added by the stream, MiB | by the whole file, MiB |")
    print("| ---: | ---: | ---: |")
    row = ",".join(f"{n}.{n}{n}" for n in range(13)) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        for rows in (10_000, 100_000, 1_000_000):
            file = Path(folder, "rows.csv")
            with open(file, "w") as lines:
                lines.writelines(
                    itertools.chain(["header\n"], itertools.repeat(row, rows))
                )
            command = [sys.executable, "-c", GROWTH, LESSONS[0].parent, file, str(rows)]
            stream, whole = (
                subprocess.check_output([*command, way], text=True).strip()
                for way in ("stream", "whole")
            )
            print(f"| {rows:,} | {stream} | {whole} |")


def seconds_of_an_epoch(model, loss_function, batches, runs):
    """The median time of an epoch over batches (x, y); a first one does not count."""
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seconds = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        for x, y in batches:
            optimizer.zero_grad()
            loss_function(model(x), y).backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def rows_table(runs):
    """Rows -> seconds of an epoch on all rows at once, the loop of lesson 06."""
    import torch

    print("\n| rows | milliseconds an epoch | rows a second |")
    print("| ---: | ---: | ---: |")
    found = {}
    for rows in (1_000, 10_000, 100_000, 1_000_000):
        x = torch.linspace(0, 1, rows)[:, None]
        ten_epochs = 10 * [(x, 2 * x)]
        model = torch.nn.Linear(1, 1)
        seconds = seconds_of_an_epoch(model, torch.nn.MSELoss(), ten_epochs, runs) / 10
        print(
            f"| {rows:,} | {1000 * seconds:.2f} | {rows / seconds:,.0f} |", flush=True
        )
        found[rows] = seconds
    return found


def batches_table(runs, samples=10_000):
    """Batch size -> seconds of an epoch over so many samples, the loop of lesson 09."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    dataset = TensorDataset(torch.rand(samples, 13), torch.arange(samples) % 3)
    print(
        f"\n| batch size | steps an epoch of {samples:,} samples | seconds an epoch |"
    )
    print("| ---: | ---: | ---: |")
    found = {}
    for size in (1, 4, 16, 64, 256, 1024):
        loader = DataLoader(dataset, size, shuffle=True)
        model = torch.nn.Linear(13, 3)
        seconds = seconds_of_an_epoch(model, torch.nn.CrossEntropyLoss(), loader, runs)
        print(f"| {size} | {len(loader):,} | {seconds:.3f} |", flush=True)
        found[size] = seconds
    return found


def figure(rows, batches):
    """How an epoch's time grows with the rows, and falls with the batch size."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = picture.subplots(1, 2)
    left.loglog(list(rows), [1000 * seconds for seconds in rows.values()], "o-")
    left.set(title="All rows at once", xlabel="rows", ylabel="milliseconds an epoch")
    right.loglog(list(batches), list(batches.values()), "o-")
    right.set(
        title="10,000 samples in batches",
        xlabel="batch size",
        ylabel="seconds an epoch",
    )
    for axes in (left, right):
        exponents = [math.log10(seconds) for seconds in axes.lines[0].get_ydata()]
        axes.set_ylim(10 ** math.floor(min(exponents)), 10 ** math.ceil(max(exponents)))
        axes.grid(alpha=0.3)
    return picture


def positive(text):
    """A whole number from 1 on, from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1 on")
    return int(text)


def main(runs):
    import torch

    # tables of small operations: a second thread would only wait
    torch.set_num_threads(1)
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(f"Python {platform.python_version()}, torch {torch.__version__}, ", end="")
    print(f"medians of {runs} runs in turn\n")
    lessons_table(runs)
    parts_table(runs)
    streaming_table()
    fetching_table(runs)
    return figure(rows_table(runs), batches_table(runs))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--runs", type=positive, default=5, help="runs of each lesson (default 5)"
    )
    parser.add_argument(
        "--figure", metavar="FILE", help="save the picture of the last two tables"
    )
    arguments = parser.parse_args()
    if arguments.figure is not None and not Path(arguments.figure).parent.is_dir():
        parser.error(f"--figure: {arguments.figure!r} must be in a real folder")
    picture = main(arguments.runs)
    if arguments.figure is not None:
        picture.savefig(arguments.figure)
