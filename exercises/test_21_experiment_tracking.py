"""The checks of exercises/21_experiment_tracking.py."""

import json
import math
import random
import statistics
import tempfile
from pathlib import Path

import torch
from torch import nn


def test_log(answer, check):
    check.hint = (
        "Read the file after two calls: what stands in it, and how would another "
        "program read it?"
    )
    settings = '{"lr": 0.01, "seed": 0, "name": "Größe"}\n'
    for words, before, calls in (
        ("no file", "", [{"step": 3, "loss": 0.1 + 0.2, "norm": math.nan}]),
        (
            "a file",
            settings,
            [{"step": 0, "loss": math.log(10)}, {"step": 1, "loss": 1 / 3}],
        ),
        (
            "a file",
            settings,
            [{"lr": 1e-5}, {"lr": 2.5e-310, "n": 2**70, "t": 1.7e9 + 1 / 7}],
        ),
        (
            "a file",
            settings,
            [{"loss": math.inf, "step": 7}, {"loss": -math.inf, "norm": 0.5}],
        ),
        (
            "no file",
            "",
            [{"diverged": True, "crashed": False, "why": None, "x": -2.0, "y": -2}],
        ),
        (
            "no file",
            "",
            [{"name": 'NaN, "Infinity" and\n-Infinity', "NaN": math.nan}, {"ü": "ß"}],
        ),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.jsonl"
            if before:
                path.write_text(before, "utf-8")
            for number, values in enumerate(calls, 1):
                given = f"{words}, and call {number} of log(path, **{values})"
                older = text_of(path)
                check.given = given
                check(answer(path, **values), None)
                text = text_of(path)
                check.given = f"{given}; the file afterwards, as far as it went before"
                check(text[: len(older)], older)
                after = "each line after that, as JSON, or as text (NaN is no JSON)"
                check.given = f"{given}; {after}"
                *lines, rest = text[len(older) :].split("\n")
                expected = [sorted(map(as_json, values.items()))]
                check([items_of(line) for line in lines], expected, rtol=0, atol=0)
                check.given = f"{given}; what follows the last newline"
                check(rest, "")


def text_of(path):
    """What a file holds, if there is one, with newlines as Linux writes them."""
    text = path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
    return text.replace("\r\n", "\n")


def as_json(item):
    """A name and its value, with None for a float that JSON does not have."""
    name, value = item
    return name, value if not isinstance(value, float) or abs(
        value
    ) < math.inf else None


def items_of(line):
    """The names and values of a line of JSON, in order of the names; the line if it is
    none."""
    try:
        values = json.loads(line, parse_constant=int)  # int("NaN") is a ValueError
    except ValueError:
        return line
    return sorted(values.items()) if isinstance(values, dict) else line


def test_paired_difference(answer, check):
    check.hint = (
        "Write down the n numbers whose mean it is. How far do they lie from it, and "
        "what is n?"
    )
    for a, b in (
        ([0.9, 0.8], [0.7, 0.7]),
        ([0.93, 0.94, 0.92, 0.95], [0.92, 0.93, 0.90, 0.94]),
        ([0.5, 0.625, 0.75, 0.875, 1.0], [0.5, 0.75, 0.75, 0.875, 0.75]),
        ([0.2, 0.4, 0.9], [0.8, 0.7, 0.1]),
        (
            [0.61, 0.7, 0.66, 0.9, 0.35, 0.5, 0.81],
            [0.9, 0.71, 0.99, 0.94, 0.36, 0.77, 0.8],
        ),
    ):
        less = [first - second for first, second in zip(a, b, strict=True)]
        expected = statistics.mean(less), statistics.stdev(less) / math.sqrt(len(less))
        given = f"a = {a}, b = {b}"
        both = [torch.tensor(values, dtype=torch.float64) for values in (a, b)]
        check.given = given
        check(answer(*both), expected)
        check.given = f"{given}; both inputs, afterwards"
        check([values.tolist() for values in both], [a, b], rtol=0, atol=0)


def test_choose(answer, check):
    check.hint = (
        "Which numbers may the choice see, and which the report? Over what is each a "
        "mean?"
    )
    for choosing, testing, row, mean in (
        ([[0.9, 0.5], [0.8, 0.8]], [[0.6, 0.8], [0.5, 0.7]], 1, 0.6),
        (
            [[0.7, 0.8, 0.9], [0.5, 0.5, 1.0]],
            [[0.7, 0.7, 0.85], [0.9, 0.9, 0.9]],
            0,
            0.75,
        ),
        (
            [[0.25, 1.0], [0.5, 1.0], [0.75, 0.75]],
            [[0.9, 0.9], [0.5, 0.6], [0.7, 0.8]],
            1,
            0.55,
        ),
        ([[0.1], [0.6], [0.3], [0.5]], [[0.8], [0.45], [0.6], [0.7]], 1, 0.45),
        ([[0.3, 0.4, 0.3, 0.4]], [[0.1, 0.2, 0.3, 0.8]], 0, 0.35),
        (
            [[0.1, 0.2], [0.4, 0.2], [0.6, 0.5]],
            [[1.0, 1.0], [0.9, 0.9], [0.25, 0.75]],
            2,
            0.5,
        ),
    ):
        check.given = f"choosing = {choosing}, testing = {testing}"
        check(answer(*map(float64, (choosing, testing))), (row, mean))
    # Of 50 * 3 * 16 coins the share of heads is off by more than 0.067 once in 10^9
    # (Hoeffding).
    coin, means = random.Random(0), []
    check.given = (
        "50 times 20 settings, 3 seeds, 16 rows, each answer a coin; the mean reported"
    )
    for _ in range(50):
        flat = [coin.getrandbits(16).bit_count() / 16 for _ in range(2 * 20 * 3)]
        means.append(answer(*float64(flat).view(2, 20, 3))[1])
    bound = math.sqrt(math.log(2e9) / (2 * 50 * 3 * 16))
    check(sum(means) / len(means), 0.5, rtol=0, atol=bound)


def float64(rows):
    return torch.tensor(rows, dtype=torch.float64)


class Part(nn.Module):
    """A module that computes function(itself, x), with parts in it, or none; it counts
    its runs."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function, self.runs = function, 0
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x):
        self.runs += 1
        return self.function(self, x)


def leaf(function):
    return Part(lambda self, x: function(x))


def linear(**numbers):
    """A Linear(2, 2) of ones, with the first of its weights or biases set."""
    layer = nn.Linear(2, 2)
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    for name, number in numbers.items():
        getattr(layer, name).data.view(-1)[0] = number
    return layer


def test_first_bad(answer, check):
    check.hint = (
        "When is a hook called, which name does it know, and who removes it if "
        "model(x) ends early?"
    )
    for words, model, numbers, expected in cases():
        given = f"{words}, x = {numbers}"
        before = hooks(model)
        check.given = given
        check(answer(model, torch.tensor(numbers)), expected)
        check.given = f"{given}; how often the model was run"
        check(model.runs, 1)
        check.given = (
            f"{given}; how many hooks each module has afterwards, and all together"
        )
        check(hooks(model), before)
    for words, model in models_that_raise():
        given, before = f"{words}, x = [[1.0, 2.0]]", hooks(model)
        check.given = f"{given}; what it raises"
        check(raised(answer, model, torch.tensor([[1.0, 2.0]])), "ValueError: too long")
        check.given = (
            f"{given}; how many hooks each module has afterwards, and all together"
        )
        check(hooks(model), before)


def cases():
    """What is special, a model that counts its runs, x as a list, and the name of the
    bad leaf."""
    inf, nan, x = math.inf, math.nan, [[1.0, 2.0], [3.0, 4.0]]

    def whole(*parts):
        model = nn.Sequential(*parts)
        model.runs = 0
        model.register_forward_pre_hook(
            lambda *_: setattr(model, "runs", model.runs + 1)
        )
        return model

    inner = nn.Sequential(linear(bias=inf), nn.ReLU())
    yield (
        "Linear, then a Sequential of Linear, bias inf, and ReLU",
        whole(linear(), inner),
        x,
        "1.0",
    )
    yield "Linear, ReLU, Linear", whole(linear(), nn.ReLU(), linear()), x, None
    parts = (
        linear(),
        nn.Tanh(),
        linear(weight=nan),
        nn.Tanh(),
        linear(weight=nan),
        nn.ReLU(),
    )
    yield (
        "Linear and an activation, thrice, a nan in the last two",
        whole(*parts),
        x,
        "2",
    )
    yield (
        "log, then exp",
        whole(leaf(torch.log), leaf(torch.exp)),
        [1.0, 2.0, 0.0, 5.0],
        "0",
    )
    parts = {"exp": leaf(torch.exp), "inverse": leaf(lambda x: 1 / x), "last": linear()}
    through = Part(lambda self, x: self.last(self.inverse(self.exp(x))), **parts)
    yield "1 / exp(x), then a Linear", through, [[1.0, 200.0]], "exp"
    parts = {"last": linear(bias=nan), "middle": leaf(torch.sqrt), "first": linear()}
    through = Part(lambda self, x: self.last(self.middle(self.first(x))), **parts)
    yield "last, middle = sqrt, first, run backwards", through, [[-9.0, 2.0]], "middle"
    parts = {"a": linear(bias=inf), "b": linear(), "c": nn.Sequential(linear(bias=inf))}
    through = Part(lambda self, x: self.a(self.c(self.b(x))), **parts)
    yield (
        "a and c = Sequential(Linear) of bias inf, run in the order b, c, a",
        through,
        x,
        "c.0",
    )
    unused = Part(
        lambda self, x: self.used(x), unused=linear(weight=nan), used=linear()
    )
    yield "a nan in a part that is not run", unused, x, None
    through = Part(lambda self, x: self.a(x) / 0, a=linear())
    yield "a Linear, and its output / 0", through, x, None
    through = Part(
        lambda self, x: self.b(self.a(x) / 0),
        a=linear(),
        b=leaf(torch.tanh),
        c=linear(),
    )
    yield "a Linear, its output / 0, then b = tanh", through, x, None
    through = Part(lambda self, x: self.b(self.a(x) / 0), a=linear(), b=linear())
    yield "a Linear, its output / 0, then b, a Linear", through, x, "b"
    parts = leaf(torch.log), nn.ReLU(inplace=True), linear()
    yield (
        "log, then ReLU(inplace=True), then a Linear",
        whole(*parts),
        [[0.0, 2.0]],
        "0",
    )
    twice = Part(
        lambda self, x: self.last(self.log(self.log(x))),
        last=linear(),
        log=leaf(torch.log),
    )
    yield "log, twice, then last, a Linear", twice, [[1.0, 2.0]], "log"
    yield "a leaf of its own, log", leaf(torch.log), [0.0, 1.0], ""
    hooked = whole(linear(), nn.Tanh(), linear(bias=nan))
    hooked[0].register_forward_hook(lambda *_: None)
    yield "three layers, the first with a hook, a nan in the last", hooked, x, "2"


def models_that_raise():
    """What is special, and a model that raises ValueError("too long")."""

    def fail(*_):
        raise ValueError("too long")

    yield (
        "Linear, then a leaf that raises",
        nn.Sequential(linear(), nn.Sequential(leaf(fail))),
    )
    yield (
        "Linear, then the model raises",
        Part(lambda self, x: fail(self.a(x)), a=linear()),
    )


def hooks(model):
    """How many hooks each module has, and how many there are for all modules."""
    every = torch.nn.modules.module
    return [
        *(
            len(part._forward_hooks) + len(part._forward_pre_hooks)
            for part in model.modules()
        ),
        len(every._global_forward_hooks) + len(every._global_forward_pre_hooks),
    ]


def raised(function, *arguments):
    """What a call raises, in short, or "nothing"."""
    try:
        function(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    return "nothing"
