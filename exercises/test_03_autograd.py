"""The checks of exercises/03_autograd.py."""

import math

import torch
from torch.overrides import TorchFunctionMode


def test_value_and_slope(answer, check):
    check.hint = "torch.tensor(3) is int64 and torch.tensor(0.1) float32, unless dtype= says more."
    cases = [("x * x", lambda x: x * x, 3, (9.0, 6.0))]
    cases += [("sin", torch.sin, 0.1, (math.sin(0.1), math.cos(0.1)))]
    for name, function, x, expected in cases:
        check.given = f"{name} at {x}"
        check(answer(function, x), expected, rtol=1e-14, atol=0)


class Watch(TorchFunctionMode):
    """Notices whether .data of a tensor is used."""

    used = False

    def __torch_function__(self, function, types, arguments=(), options=None):
        self.used |= getattr(function, "__self__", None) == torch.Tensor.data
        return function(*arguments, **(options or {}))


def test_gradient_and_rounded(answer, check):
    check.hint = "What does backward need of s, and when? What does round() do to s, and round_()?"
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
    check.hint = "The gradient of the branch that is not taken is 0 times its slope: 0 * infinity?"
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


def test_hessian(answer, check):
    check.hint = (
        "Each element of the first gradient has a gradient of its own, a row of the matrix; "
        "grad takes retain_graph=True too, and torch.stack makes a matrix of rows."
    )
    matrix = torch.tensor([[2.0, 1.0, 0.5], [1.0, 4.0, -3.0], [0.5, -3.0, 6.0]])
    cases = [
        ("x[0] * x[1]", lambda x: x[0] * x[1], [5.0, 7.0], [[0.0, 1.0], [1.0, 0.0]])
    ]
    cases += [
        ("x A x / 2", lambda x: x @ matrix @ x / 2, [1.0, 2.0, 3.0], matrix.tolist())
    ]
    cases += [
        ("sum(x)^3", lambda x: x.sum() ** 3, [1.0, 1.0], [[12.0, 12.0], [12.0, 12.0]])
    ]
    for name, function, x, expected in cases:
        check.given = f"{name} at {x}"
        check(answer(function, torch.tensor(x)), torch.tensor(expected))
