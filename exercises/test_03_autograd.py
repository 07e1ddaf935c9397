"""The checks of exercises/03_autograd.py."""

import math

import torch
from torch.overrides import TorchFunctionMode

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def test_value_and_slope(answer, check):
    check.hint = (
        "torch.tensor(3) is int64 and torch.tensor(0.1) float32, unless dtype= says "
        "more."
    )
    cases = [("x * x", lambda x: x * x, 3, (9.0, 6.0))]
    cases += [("sin", torch.sin, 0.1, (math.sin(0.1), math.cos(0.1)))]
    for name, function, x, expected in cases:
        check.given = f"{name} at {x}"
        check(answer(function, x), expected, rtol=1e-14, atol=0)


def test_trained_weight(answer, check):
    check.hint = (
        "The four lines compute, differentiate, update and reset. "
        "Which dtype has torch.tensor(0.0)?"
    )
    # A step multiplies the distance to the best weight by 1 - 2 lr mean(x^2).
    cases = [([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], 0.05, steps) for steps in (1, 2, 0)]
    cases += [([1.0, -2.0, 0.5, 0.0], [3.0, 1.0, 2.0, 7.0], 0.1, 5)]
    for device in DEVICES:
        for dtype, precision in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
            for xs, targets, lr, steps in cases:
                squares = sum(x * x for x in xs)
                products = sum(x * t for x, t in zip(xs, targets, strict=True))
                left = (1 - 2 * lr * squares / len(xs)) ** steps
                check.given = f"{xs}, {targets}, both {dtype}, lr {lr}, {steps} steps"
                x, target = (
                    torch.tensor(numbers, dtype=dtype, device=device)
                    for numbers in (xs, targets)
                )
                expected = products / squares * (1 - left)
                check(answer(x, target, lr, steps), expected, rtol=precision, atol=0)


class Counted:
    """A function that counts the rows of its Jacobian that backward passes compute."""

    def __init__(self, function):
        self.function, self.rows = function, 0

    def __call__(self, x):
        y = self.function(x)
        if y.requires_grad:
            y.register_hook(self.count)
        return y

    def count(self, v):
        try:
            v.tolist()
            self.rows += 1
        except RuntimeError:  # many vectors at once, which have no numbers of their own
            self.rows += len(v)


def test_row_of_jacobian(answer, check):
    check.hint = (
        "Of which single number is row i the gradient? Or: which v makes only output i "
        "count?"
    )
    matrix = [[1.0, -2.0], [0.0, 3.0], [0.5, 4.0]]
    cases = [
        (
            "x.cumsum(dim=0) ** 2",
            lambda x: x.cumsum(dim=0) ** 2,
            [1.0, 2.0, 3.0],
            [[2.0, 0.0, 0.0], [6.0, 6.0, 0.0], [12.0, 12.0, 12.0]],
        ),
        (
            "[x[0] x[1], x[1] x[2]^2]",
            lambda x: torch.stack([x[0] * x[1], x[1] * x[2] ** 2]),
            [1.0, 2.0, 3.0],
            [[2.0, 1.0, 0.0], [0.0, 9.0, 12.0]],
        ),
        (
            f"A x with A = {matrix}",
            lambda x: torch.tensor(matrix, dtype=x.dtype, device=x.device) @ x,
            [5.0, 7.0],
            matrix,
        ),
    ]
    for device in DEVICES:
        for dtype in (torch.float64, torch.float32):
            for name, function, numbers, table in cases:
                for i, row in enumerate(table):
                    given = f"{name} at {numbers}, {dtype}, i = {i}"
                    x = torch.tensor(numbers, dtype=dtype, device=device)
                    counted = Counted(function)
                    check.given = given
                    expected = torch.tensor(row, dtype=dtype, device=device)
                    check(answer(counted, x, i), expected)
                    check.given = f"{given}; how many rows backward has computed"
                    check(counted.rows, 1)
                    check.given = f"{given}; does x require a gradient afterwards"
                    check(x.requires_grad, False)


class Watch(TorchFunctionMode):
    """Notices whether .data of a tensor is used."""

    used = False

    def __torch_function__(self, function, types, arguments=(), options=None):
        self.used |= getattr(function, "__self__", None) == torch.Tensor.data
        return function(*arguments, **(options or {}))


def test_gradient_and_rounded(answer, check):
    check.hint = (
        "What does backward need of s, and when? What does round() do to s, and "
        "round_()?"
    )
    for numbers in ([0.0, 2.0], [-1.0, 1.0, 3.0]):
        s = [1 / (1 + math.exp(-number)) for number in numbers]
        expected = (
            torch.tensor([p * (1 - p) for p in s]),
            torch.tensor([float(p > 0.5) for p in s]),
        )
        check.given = f"{numbers}"
        with Watch() as watch:
            found = answer(torch.tensor(numbers))
        check(found, expected)
        check.given = f"{numbers}; was .data used"
        check(watch.used, False)


def test_log_or_zero(answer, check):
    check.hint = (
        "The gradient of the branch that is not taken is 0 times its slope: "
        "0 * infinity?"
    )
    for numbers in ([0.0, 2.0], [-1.0, 0.0, 0.25, 4.0], [1e-12, -1e-12]):
        x = torch.tensor(numbers, dtype=torch.float64, requires_grad=True)
        check.given = f"{numbers}; the values"
        y = answer(x)
        values = torch.tensor(
            [math.log(n) if n > 0 else 0 for n in numbers], dtype=x.dtype
        )
        check(y.detach(), values)
        check.given = f"{numbers}; the gradient of their sum"
        y.sum().backward()
        check(
            x.grad,
            torch.tensor([1 / n if n > 0 else 0 for n in numbers], dtype=x.dtype),
        )
