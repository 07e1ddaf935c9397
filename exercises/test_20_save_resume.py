"""The checks of exercises/20_save_resume.py."""

import contextlib
import functools
import io
import pickle
import sys
import tempfile
import warnings
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn


@contextlib.contextmanager
def quiet():
    """torch 2.0 warns of its own torch.save."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TypedStorage is deprecated", UserWarning)
        yield


def raised(function, *arguments):
    """What a call raises, in short, or "nothing"."""
    try:
        function(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    return "nothing"


@quiet()
def test_best_weights(answer, check):
    check.hint = (
        "Write down for each epoch what is in the model then, and what in the thing "
        "that you kept."
    )
    for losses in (
        *([3.0, 1.0, 2.0], [4.0, 2.0, 3.0, 2.0], [1.0, 2.0, 3.0, 4.0], [3.0, 2.0, 1.0]),
        *([0.5], [-1.0, -3.0, -2.0], [3e30, 2e30, 4e30]),
    ):
        model = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
        names, epochs = list(model.state_dict()), []
        one_epoch = functools.partial(fill_and_count, losses, epochs)
        given = f"in epoch k all numbers of the model become k, the losses are {losses}"
        check.given = f"{given}; how many epochs were trained"
        found = answer(model, one_epoch, len(losses))
        check(len(epochs), len(losses))
        check.given = f"{given}; the names that came back"
        check(sorted(found), sorted(names))
        for words in ("", "; looked at after one more epoch"):
            check.given = f"{given}{words}"
            best = losses.index(min(losses)) + 1
            check([found[name] for name in names], filled_with(best))
            check.given = f"{given}; the model itself{words}"
            check(list(model.state_dict().values()), filled_with(len(epochs)))
            one_epoch(model)


def fill_and_count(losses, epochs, model):
    """An epoch: write its number into all of the model, note it, return its loss."""
    epochs.append(len(epochs) + 1)
    for tensor in model.state_dict().values():
        tensor.fill_(epochs[-1])
    return losses[min(epochs[-1], len(losses)) - 1]


def filled_with(number):
    """The state of a Linear(2, 1) and a BatchNorm1d(1), all numbers of which are the
    same."""
    vectors = [torch.full((1,), float(number)) for _ in range(5)]
    return [torch.full((1, 2), float(number)), *vectors, torch.tensor(number)]


@quiet()
def test_save(answer, check):
    check.hint = (
        "Any line of yours may be the last that runs. What is at path before and after "
        "it?"
    )
    older, new = {"w": torch.full((500,), 1.0)}, {"w": torch.full((500,), 2.0)}
    for first in ("a checkpoint of 1.0", "no file"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "run.pt")
            given = f"at path {first}, and a state of 2.0"
            if first != "no file":
                torch.save(older, path)
            check.given = f"{given}; what was at path while save ran"
            seen, on_disk = watched(answer, new, path, first)
            check(seen, [first, "a checkpoint of 2.0"])
            question = "was os.fsync called when all was written, but not yet at path"
            check.given = f"{given}; {question}"
            check(on_disk, True)
        for n in (0, 100, 1500):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "run.pt")
                given = (
                    f"at path {first}, a state of 2.0, "
                    f"a torch.save that stops after {n} bytes"
                )
                if first != "no file":
                    torch.save(older, path)
                check.given = f"{given}; what is raised"
                with mock.patch.object(torch, "save", stops_after(n, torch.save)):
                    found = raised(answer, new, path)
                check(found, "OSError: no space left")
                check.given = f"{given}; what is at path afterwards"
                check(content(path), first)
                check.given = f"{given}; what came back when it was saved once more"
                check(answer(new, path), None)
                check.given = f"{given}; what is at path when it was saved once more"
                check(content(path), "a checkpoint of 2.0")


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


def watched(answer, state, path, first):
    """What was at path, one after the other, and whether the new one was on the disk by
    then.

    Python calls look before and after each call, also of C, while the answer runs.
    """
    seen, on_disk = [first], []

    def look(frame=None, event="", called=None):
        found = content(path)
        if found != seen[-1]:
            seen.append(found)
        if (
            event == "c_call"
            and getattr(called, "__name__", "") == "fsync"
            and found == first
        ):
            others = [
                content(other) for other in path.parent.iterdir() if other != path
            ]
            on_disk.append("a checkpoint of 2.0" in others)

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        answer(state, path)
    finally:
        sys.setprofile(before)
    look()
    return seen, any(on_disk)


def content(path):
    """What is at path, in words."""
    return meaning(path.read_bytes()) if path.is_file() else "no file"


@functools.cache
def meaning(data):
    """What the bytes of a file are, in words."""
    try:
        w = torch.load(io.BytesIO(data), weights_only=True)["w"]
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError):
        return "a part of a checkpoint"
    return f"a checkpoint of {w[0].item()}"


class Run:
    """A model with dropout and batch norm, its optimizer, and a generator of rows."""

    def __init__(self, seed, kind, **options):
        torch.manual_seed(seed)
        layers = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)
        self.model = nn.Sequential(*layers)
        self.optimizer = kind(self.model.parameters(), **options)
        self.generator = torch.Generator().manual_seed(seed)
        self.x = torch.arange(60.0).sin().view(20, 3)
        self.y = self.x.sum(dim=1, keepdim=True)

    def train(self, steps):
        for _ in range(steps):
            rows = torch.randperm(20, generator=self.generator)[:8]
            self.optimizer.zero_grad()
            F.mse_loss(self.model(self.x[rows]), self.y[rows]).backward()
            self.optimizer.step()

    def numbers(self):
        """All parameters and buffers, in one vector."""
        return torch.cat(
            [part.flatten().double() for part in self.model.state_dict().values()]
        )

    def restore(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["random"])


@quiet()
def test_checkpoint(answer, check):
    check.hint = (
        "Go through one step, line by line: which numbers does it read, and where are "
        "they kept?"
    )
    for words, kind, options in (
        ("SGD with momentum", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        ("Adam", torch.optim.Adam, {"lr": 0.01}),
    ):
        given = f"a model, {words}, a generator, after 3 steps and a change of the rate"
        with torch.random.fork_rng(devices=[]):
            alone, run, resumed = (Run(seed, kind, **options) for seed in (2, 2, 1))
            for each in (alone, run):
                torch.manual_seed(3)
                each.train(3)
                each.optimizer.param_groups[0]["lr"] = 0.03
                if each is run:
                    check.given = f"{given}; the keys"
                    found = answer(run.model, run.optimizer, run.generator)
                    check(sorted(found), ["generator", "model", "optimizer", "random"])
                each.train(4)
            exact = {"rtol": 0, "atol": 0}
            check.given = (
                f"{given}; its numbers 4 steps later, expected as without a checkpoint"
            )
            check(run.numbers(), alone.numbers(), **exact)
            given += ", and 4 more steps"
            check.given = (
                f"{given}; what torch.save and torch.load with weights_only raise"
            )
            check(raised(loaded, found), "nothing")
            check.given = f"{given}; what is raised when the checkpoint is restored"
            check(raised(resumed.restore, loaded(found)), "nothing")
            check.given = (
                f"{given}; its numbers 4 steps after going on from the checkpoint"
            )
            resumed.train(4)
            check(resumed.numbers(), alone.numbers(), **exact)


def loaded(state):
    """What torch.load makes of what torch.save has made of it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Net(nn.Module):
    """Two layers, a number that is trained, and a buffer."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(2, 3), nn.Linear(3, 1)
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("mean", torch.ones(3))


SHAPES = {"scale": (), "mean": (3,), "body.weight": (3, 2), "body.bias": (3,)}
SHAPES |= {"head.weight": (1, 3), "head.bias": (1,)}


def test_load_matching(answer, check):
    check.hint = (
        "For each name of the two: who has it, and in which shape? Whose memory is "
        "written into?"
    )
    head = {"head.weight": (4, 3), "head.bias": (4,)}
    body = {"body.weight": (3, 2), "body.bias": (3,)}
    stretched = {"scale": (1,), "mean": (1,), "body.weight": (2,), "head.weight": (3,)}
    prefixed = {f"module.{name}": shape for name, shape in SHAPES.items()}
    for shapes, left in (
        (SHAPES, []),
        (SHAPES | head, ["head.bias", "head.weight"]),
        (body, ["head.bias", "head.weight", "mean", "scale"]),
        ({"z": (3,)} | SHAPES | {"a.weight": (3, 2)}, ["a.weight", "z"]),
        ({}, ["body.bias", "body.weight", "head.bias", "head.weight", "mean", "scale"]),
        (SHAPES | stretched, ["body.weight", "head.weight", "mean", "scale"]),
        (SHAPES | {"body.weight": (2, 3)}, ["body.weight"]),
        (prefixed, sorted([*SHAPES, *prefixed])),
        (
            body | {"mean": (4,), "Head.bias": (1,)},
            ["Head.bias", "head.bias", "head.weight", "mean", "scale"],
        ),
    ):
        for dtype in (torch.float32, torch.float64):
            check_loading(answer, check, shapes, left, dtype)
    check.given = (
        "Linear(2, 3), ones for a weight of shape (3, 2), a bias of (1,) "
        "and a b of (3,)"
    )
    layer, shapes = nn.Linear(2, 3), {"weight": (3, 2), "bias": (1,), "b": (3,)}
    check(
        answer(layer, {name: torch.ones(shapes[name]) for name in shapes}),
        ["b", "bias"],
    )
    check.given += "; the weight"
    check(layer.weight.detach(), torch.ones(3, 2))


def check_loading(answer, check, shapes, left, dtype):
    """What was not loaded, and in which state all is afterwards."""
    model, parts = Net(), list(SHAPES)
    parameters = dict(model.named_parameters())
    for tensor in model.state_dict().values():
        tensor.fill_(-1)
    numbers = {name: float(i) for i, name in enumerate(shapes)}
    state = {
        name: torch.full(shapes[name], numbers[name], dtype=dtype) for name in shapes
    }
    given = f"a model of {SHAPES}, each filled with -1; a state of {shapes}, {dtype}"
    check.given = given
    check(answer(model, state), left)
    values = [-1.0 if name in left else numbers[name] for name in parts]
    expected = [
        torch.full(SHAPES[name], value)
        for name, value in zip(parts, values, strict=True)
    ]
    check.given = (
        f"{given}, with 0 for the first name and so on; {parts} of the model afterwards"
    )
    check([model.state_dict()[name] for name in parts], expected)
    check.given = f"{given}; the names in the state afterwards"
    check(list(state), list(shapes))
    check.given = f"{given}; the tensors in the state afterwards"
    filled = [torch.full(shapes[name], numbers[name], dtype=dtype) for name in shapes]
    check(list(state.values()), filled)
    check.given = (
        f"{given}; are the parameters the same objects afterwards, which can be trained"
    )
    same = [
        p is parameters[name] and p.requires_grad
        for name, p in model.named_parameters()
    ]
    check(same, [True for _ in parameters])
    check.given = f"{given}; {parts} of the model, after the state is filled with 99"
    for tensor in state.values():
        tensor.fill_(99)
    check([model.state_dict()[name] for name in parts], expected)
