"""The checks of exercises/22_performance.py."""

import itertools
import math
import random

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


class Counter:
    """Counts the calls of torch, the operations of their products, and the bytes they
    write."""

    def __init__(self):
        super().__init__()
        self.calls = self.flops = self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        self.calls += 1
        if name in ("mm", "addmm"):
            (m, k), (_, n) = (factor.shape for factor in args[-2:])
            self.flops += 2 * m * k * n
        alias = [returned.alias_info for returned in function._schema.returns]
        is_view = any(info is not None and not info.is_write for info in alias)
        if not is_view and "empty" not in name and name != "set_":
            for tensor in output if isinstance(output, (tuple, list)) else [output]:
                if isinstance(tensor, torch.Tensor):
                    self.bytes += tensor.numel() * tensor.element_size()
        return output


class Count(Counter, TorchDispatchMode):
    """In two classes, since a mode with a __torch_dispatch__ of its own loads
    torch._dynamo."""


def test_training_flops_of(answer, check):
    check.hint = (
        "By hand, for every layer there is: which products is it part of, and who "
        "needs the result?"
    )
    one = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 10))
    inner = (
        nn.Sequential(nn.Linear(6, 6), nn.PReLU(6)),
        nn.Sequential(nn.Linear(6, 9), nn.Tanh()),
    )
    for words, model, sizes, batch in (
        ("Linear(20, 64), Tanh(), Linear(64, 10)", one, (20, 64, 10), 8),
        ("Linear(5, 3)", nn.Sequential(nn.Linear(5, 3)), (5, 3), 7),
        (
            "Linear(4, 6), then Sequentials of Linear(6, 6), PReLU(6) "
            "and of Linear(6, 9), Tanh()",
            nn.Sequential(nn.Linear(4, 6), *inner),
            (4, 6, 6, 9),
            1,
        ),
        (
            "ReLU(), Linear(3, 8), Linear(8, 2, bias=False), Sigmoid(), Linear(2, 5)",
            nn.Sequential(
                *(nn.ReLU(), nn.Linear(3, 8), nn.Linear(8, 2, bias=False)),
                *(nn.Sigmoid(), nn.Linear(2, 5)),
            ),
            (3, 8, 2, 5),
            2,
        ),
    ):
        # A list for each layer: forward, the gradient of the weight, that of the
        # layer's input.
        layers = [[2 * batch * k * n] * 3 for k, n in itertools.pairwise(sizes)]
        expected = sum(map(sum, layers)) - layers[0][2]
        with Count() as count:
            model(torch.ones(batch, sizes[0])).sum().backward()
        assert count.flops == expected  # torch makes these products, and no others
        check.given = f"a Sequential of {words}, {batch} samples"
        check(answer(model, batch), expected)


def test_pairwise(answer, check):
    check.hint = (
        "On paper, for n = 2 and m = 3: a table of all pairs, of which shape, and of "
        "what in each?"
    )
    draw = random.Random(0)

    def rows(n, d):
        return [[round(draw.uniform(-1, 1), 2) for _ in range(d)] for _ in range(n)]

    many = rows(80, 8)
    for a, b, most in (
        ([[0.0, 0.0], [0.6, 0.0]], [[0.6, 0.8], [0.0, 0.0]], 1e-6),
        (rows(2, 3), rows(4, 3), 1e-10),
        (rows(3, 3), rows(3, 3), 1e-10),
        (rows(1, 1), rows(3, 1), 1e-10),
        (rows(30, 2), rows(20, 2), 1e-10),
        (many, many[::-1], 1e-6),
    ):
        both = (
            torch.tensor(a, dtype=torch.float64),
            torch.tensor(b, dtype=torch.float64),
        )
        given = f"a = {a}, b = {b}"
        if len(a) > 4:
            given = f"a of shape {tuple(both[0].shape)}, b of {tuple(both[1].shape)}"
            given += ", the rows of a backwards" if b == a[::-1] else ""
        check.given = given
        with Count() as count:
            found = answer(*both)
        expected = [[math.dist(row, other) for other in b] for row in a]
        check(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=most)
        check.given = f"{given}; both inputs, afterwards"
        check([table.tolist() for table in both], [a, b], rtol=0, atol=0)
        check.given = (
            f"{given}; calls of torch, or 20, the most allowed, if they are fewer"
        )
        check(max(count.calls, 20), 20)


class Noting(nn.Module):
    """A Linear(d, 1), in float64, that notes what goes through it, forward and
    backward."""

    def __init__(self, weights, bias):
        super().__init__()
        self.linear = nn.Linear(len(weights), 1, dtype=torch.float64)
        self.linear.weight.data[0] = torch.tensor(weights, dtype=torch.float64)
        self.linear.bias.data[0] = bias
        self.seen = []

    def forward(self, x):
        z = self.linear(x)
        self.seen.append(f"{len(x)} forward")
        if z.requires_grad:
            z.register_hook(lambda _: self.seen.append(f"{len(x)} backward"))
        return z


def test_accumulated(answer, check):
    check.hint = (
        "How much does one sample count in the large batch, and how much here, in a "
        "part of 1? What is in .grad before, and what does the model see, in which "
        "order?"
    )
    weights, bias = [0.5, -0.25, 1.0], 0.125
    slopes = {  # of a sample's loss, by what the model gives for it
        nn.MSELoss(): lambda z, y: 2 * (z - y),
        nn.L1Loss(): lambda z, y: math.copysign(1, z - y),
        nn.BCEWithLogitsLoss(): lambda z, y: 1 / (1 + math.exp(-z)) - y,
    }
    for sizes in ((3, 1), (4, 4, 4), (5,), (1, 6, 2, 6), (2, 2, 7)):
        x = [
            [(7 * i + 3 * j) % 11 / 5 - 1 for j in range(3)] for i in range(sum(sizes))
        ]
        y = [[i % 3 % 2 * 1.0] for i in range(sum(sizes))]
        split = [
            torch.tensor(rows, dtype=torch.float64).split(sizes) for rows in (x, y)
        ]
        for loss_function, slope in slopes.items():
            expected = [0.0] * 4
            for row, (target,) in zip(x, y, strict=True):
                z = (
                    sum(w * number for w, number in zip(weights, row, strict=True))
                    + bias
                )
                for i, number in enumerate([*row, 1.0]):
                    expected[i] += slope(z, target) * number / len(x)
            model = Noting(weights, bias)
            given = f"Linear(3, 1), {loss_function}, parts of {sizes} samples"
            if sizes != (3, 1):
                given += ", .grad of ones before"
                for parameter in model.parameters():
                    parameter.grad = torch.ones_like(parameter)
            check.given = given
            found = answer(model, loss_function, list(zip(*split, strict=True)))
            check(
                found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12
            )
            check.given = f"{given}; what went through the model, in order"
            check(
                model.seen,
                [f"{n} {way}" for n in sizes for way in ("forward", "backward")],
            )


def test_collected(answer, check):
    check.hint = (
        "On paper, part by part: what is written, and which memory holds the rows that "
        "came before? What if none came?"
    )
    many = [i % 5 for i in range(200)]
    for sizes, d in (
        ([1, 2], 2),
        ([3, 1, 0, 2], 3),
        ([4], 1),
        (many, 8),
        ([0, 0], 2),
        ([], 2),
    ):
        rows = [[i + j / 8 for j in range(d)] for i in range(sum(sizes))]
        expected = torch.tensor(rows).view(sum(sizes), d) if sizes else torch.tensor([])
        for handed_out in (fresh, written_over):
            parts = handed_out(expected.clone().split(sizes) if sizes else [])
            next(parts)  # what it needs is made before the counting begins
            of_each = sizes if len(sizes) < 9 else "0, 1, 2, 3, 4, 0, 1, ... 4"
            given = f"parts of {of_each} rows of"
            given = (
                f"{given} {d} numbers, {handed_out.__doc__}" if sizes else "no parts"
            )
            check.given = given
            with Count() as count:
                found = answer(parts)
            check(found, expected, rtol=0, atol=0)
            most = int(2.5 * 4 * expected.numel())
            least = f"bytes written, or {most}, the most allowed, if they are fewer"
            check.given = f"{given}; {least}"
            check(max(count.bytes, most), most)


def fresh(parts):
    """each in memory of its own"""
    parts = [part.clone() for part in parts]
    yield
    yield from parts


def written_over(parts):
    """each written into the memory of the one before"""
    most = max(map(len, parts), default=0)
    numbers = torch.zeros(most, parts[0].shape[1] if parts else 0).numpy()
    # all in the same memory
    views = [torch.from_numpy(numbers[:k]) for k in range(most + 1)]
    arrays = [part.numpy() for part in parts]
    yield
    for array in arrays:
        numbers[: len(array)] = array
        yield views[len(array)]
        numbers[:] = -1
