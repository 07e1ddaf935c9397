"""The checks of exercises/23_distributed.py."""

import contextlib
import functools
import io
import itertools
import math
import pickle
import sys
import tempfile
import warnings
from pathlib import Path
from unittest import mock

import torch
from torch import nn


def test_ring_bytes(answer, check):
    check.hint = (
        "On paper, for 3 ranks: which blocks does each send, round by round, and how "
        "long are they?"
    )
    for n, size, itemsize in (
        *((3, 7, 4), (4, 8, 8), (4, 10, 8), (2, 5, 4), (5, 18, 2), (7, 100, 8)),
        *((4, 2, 4), (6, 0, 8), (1, 9, 4), (3, 8, 1)),
    ):
        check.given = f"{n} ranks, {size} numbers of {itemsize} bytes"
        check(
            answer(n, size, itemsize),
            [itemsize * numbers for numbers in sent_around(n, size)],
        )


def sent_around(n, size):
    """How many numbers each rank sends in a ring of lists, which ends with all sums
    everywhere."""
    starts = [0]
    for block in range(n):
        starts.append(starts[-1] + size // n + (block < size % n))
    held = [
        [
            [(rank + 1) * i for i in range(*starts[block : block + 2])]
            for block in range(n)
        ]
        for rank in range(n)
    ]
    sent = [0] * n
    for k in range(2 * n - 2):
        messages = [held[rank][(rank - k) % n] for rank in range(n)]
        for rank, message in enumerate(messages):
            sent[rank] += len(message)
            mine, place = held[(rank + 1) % n], (rank - k) % n
            summed = [a + b for a, b in zip(mine[place], message, strict=True)]
            mine[place] = summed if k < n - 1 else message
    sums = [i * n * (n + 1) // 2 for i in range(size)]
    assert all([*itertools.chain(*blocks)] == sums for blocks in held)
    return sent


def test_loss_of_shard(answer, check):
    check.hint = (
        "How much does one sample count in the whole batch, and how much here, when "
        "the mean over the ranks has been taken? What is there to count where a share "
        "is empty?"
    )
    check.given = "losses [1, 5] on one of 2 ranks, 8 samples in all"
    check(answer(torch.tensor([1.0, 5.0]), 2, 8), torch.tensor(1.5))
    weights = [0.5, -0.25, 1.0]
    for sizes in (
        (2, 6),
        (4, 4),
        (1, 2, 5),
        (7, 1),
        (9,),
        (3, 3, 1, 2),
        (3, 0, 2),
        (0, 0, 4, 1),
    ):
        x = [
            [(7 * i + 3 * j) % 11 / 5 - 1 for j in range(3)] for i in range(sum(sizes))
        ]
        errors = [
            sum(w * v for w, v in zip(weights, row, strict=True)) - 0.5 for row in x
        ]
        expected = [
            sum(2 * error * row[j] for row, error in zip(x, errors, strict=True))
            / len(x)
            for j in range(3)
        ]
        shares = f"{len(sizes)} ranks with {', '.join(map(str, sizes))} samples"
        gradients, start = torch.zeros(3, dtype=torch.float64), 0
        for rank, m in enumerate(sizes):
            w = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
            share = torch.tensor(x[start : start + m], dtype=torch.float64).view(m, 3)
            check.given = f"{shares}; the loss of rank {rank}"
            found = answer((share @ w - 0.5).square(), len(sizes), len(x))
            mine = sum(error**2 for error in errors[start : start + m])
            value = torch.tensor(mine * len(sizes) / len(x), dtype=torch.float64)
            check(found, value, rtol=1e-12, atol=1e-12)
            check.given = f"{shares}; can backward be called on the loss of rank {rank}"
            check(found.requires_grad, True)
            found.backward()
            gradients, start = gradients + w.grad, start + m
        check.given = (
            f"{shares}, squared errors of x @ w; the mean of the ranks' gradients"
        )
        whole = torch.tensor(expected, dtype=torch.float64)
        check(gradients / len(sizes), whole, rtol=1e-12, atol=1e-12)


def test_evaluated(answer, check):
    check.hint = (
        "On paper, for 3 rows and 2 ranks: which rows has each rank, and how often is "
        "each there?"
    )
    for order, ranks, right in (
        ([0, 1, 2], 2, {0}),
        (range(10), 4, set(range(7))),
        (range(10), 4, {2, 3, 4}),
        ([3, 1, 4, 0, 2], 2, {3, 1}),
        ([5, 6, 0, 2, 4, 1, 3], 4, {0, 1, 2, 5}),
        (range(8), 4, {0, 3, 5, 6, 7}),
        ([2, 0, 1], 8, {0, 2}),
        ([1, 0], 3, {0}),
        (range(11), 3, set()),
        (range(5), 4, set(range(5))),
        (range(6), 1, {4}),
    ):
        shares = dealt(order, ranks, right)
        check.given = f"{shares}"
        check(answer(shares), len(right) / len(order))
        check.given = "the same; the input itself, afterwards"
        check(shares, dealt(order, ranks, right))


def dealt(order, ranks, right):
    """Rows in this order, dealt as DistributedSampler does, with their answers."""
    many = math.ceil(len(order) / ranks) * ranks
    rows = [order[i % len(order)] for i in range(many)]
    return [
        (rows[i::ranks], [row in right for row in rows[i::ranks]]) for i in range(ranks)
    ]


@contextlib.contextmanager
def quiet():
    """torch 2.0 warns of its own torch.save."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TypedStorage is deprecated", UserWarning)
        yield


class Parallel(nn.Module):
    """Stands for DistributedDataParallel, which wants a process group: module is the
    model."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)


class Run:
    """A rank of a run: a weight that is w at first, batch norm, SGD with momentum."""

    def __init__(self, w):
        model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
        nn.init.constant_(model[0].weight, w)
        self.model, self.parallel = model, Parallel(model)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.5)

    def train(self, steps):
        """So many steps, in each of which the weight's gradient is 1."""
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.model[0].weight.sum().backward()
            self.optimizer.step()

    def restore(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def saved(self, answer, rank, step, path):
        return answer(rank, self.parallel, self.optimizer, step, path)


def weight_after(w, steps):
    """The weight of a Run: w minus rate times velocity, step by step."""
    velocity = 0.0
    for _ in range(steps):
        velocity = 0.5 * velocity + 1
        w -= 0.5 * velocity
    return w


@quiet()
def test_saved(answer, check):
    check.hint = (
        "Who calls this? What is at path before and after each line, on each rank, and "
        "what would a run of one process look for there?"
    )
    runs = [Run(16.0 * (rank + 1)) for rank in range(3)]
    for run in runs:
        run.train(2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.pt")
        check_content(answer, check, runs[0], path)
    for first, order in (("no file", (2, 1, 0)), ("weight 99", (0, 1, 2))):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "run.pt")
            put(first, path)
            check_ranks(answer, check, runs, order, path)
        for n in (0, 100, 1500):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "run.pt")
                put(first, path)
                check_stopped(answer, check, runs[0], n, path)


def check_content(answer, check, run, path):
    """What rank 0 writes, and what a run of one process makes of it."""
    given = "rank 0, a Linear(1, 1) and batch norm after 2 steps"
    check.given = f"{given}; what came back"
    check(run.saved(answer, 0, 2, path), None)
    check.given = f"{given}; what torch.load with weights_only raises"
    check(raised(torch.load, path, weights_only=True), "nothing")
    state = torch.load(path, weights_only=True)
    check.given = f"{given}; the keys"
    check(sorted(state), ["model", "optimizer", "step"])
    check.given = f"{given}; the step"
    check(state["step"], 2)
    check.given = f"{given}; the names in the model's state"
    check(list(state["model"]), list(run.model.state_dict()))
    resumed = Run(0.0)
    check.given = f"{given}; what is raised when a run of one process loads it"
    check(raised(resumed.restore, state), "nothing")
    check.given = f"{given}; the weight in a run that has loaded it, and 3 steps later"
    weights = [resumed.model[0].weight.item()]
    resumed.train(3)
    weights.append(resumed.model[0].weight.item())
    check(weights, [weight_after(16.0, 2), weight_after(16.0, 5)])


def check_ranks(answer, check, runs, order, path):
    """What is at path, and beside it, while the ranks call one after the other."""
    new = f"weight {weight_after(16.0, 2):g}"
    for rank in order:
        before = content(path)
        given = f"ranks {order} in turn, rank {rank} finds {before}"
        check.given = f"{given}; what was at path while it ran"
        seen, others = watched(
            functools.partial(runs[rank].saved, answer, rank, 2), path
        )
        check(seen, [before] if rank or before == new else [before, new])
        check.given = f"{given}; other files in the folder " + (
            "ever" if rank else "afterwards"
        )
        check(others if rank else beside(path), [])


def check_stopped(answer, check, run, n, path):
    """What is left where torch.save stops half way, and when it is called once more."""
    first, new = content(path), f"weight {weight_after(16.0, 2):g}"
    given = f"rank 0 finds {first}, torch.save stops after {n} bytes"
    check.given = f"{given}; what is raised"
    with mock.patch.object(torch, "save", stops_after(n, torch.save)):
        found = raised(run.saved, answer, 0, 2, path)
    check(found, "OSError: no space left")
    check.given = f"{given}; what is at path afterwards"
    check(content(path), first)
    check.given = f"{given}; what is raised when it is called once more"
    check(raised(run.saved, answer, 0, 2, path), "nothing")
    check.given = f"{given}; what is at path when it was called once more"
    check(content(path), new)


def raised(function, *arguments, **options):
    """What a call raises, in short, or "nothing"."""
    try:
        function(*arguments, **options)
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    return "nothing"


def stops_after(n, save):
    """A torch.save that stops after n bytes, as it does when the disk is full."""

    def save_a_part(state, f, *arguments, **options):
        file = io.BytesIO()
        save(state, file)
        if hasattr(f, "write"):
            f.write(file.getvalue()[:n])
        else:
            Path(f).write_bytes(file.getvalue()[:n])
        raise OSError("no space left")

    return save_a_part


def put(first, path):
    """An older checkpoint at path, unless there is to be no file."""
    if first != "no file":
        older = Run(float(first.split()[1]))
        state = {
            "model": older.model.state_dict(),
            "optimizer": older.optimizer.state_dict(),
        }
        torch.save({**state, "step": 0}, path)


def watched(save, path):
    """What was at path, one after the other, and all files that ever were beside it.

    Python calls look after each call of C, which alone can change a file, while the
    answer runs.
    """
    seen, others = [content(path)], set()

    def look(frame=None, event="c_return", called=None):
        if event in ("c_return", "c_exception"):
            found = content(path)
            if found != seen[-1]:
                seen.append(found)
            others.update(beside(path))

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        save(path)
    finally:
        sys.setprofile(before)
    look()
    return seen, sorted(others)


def beside(path):
    """The names of the other files in a folder."""
    return sorted(other.name for other in path.parent.iterdir() if other != path)


def content(path):
    """What is at path, in words."""
    return meaning(path.read_bytes()) if path.is_file() else "no file"


@functools.cache
def meaning(data):
    """What the bytes of a file are, in words."""
    try:
        state = torch.load(io.BytesIO(data), weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError):
        return "a part of a checkpoint"
    return f"weight {next(iter(state['model'].values())).item():g}"
