"""The checks of exercises/05_gradient_descent.py."""

from unittest import mock

import numpy as np
import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def test_minimise(answer, check):
    check.hint = "A step: forward, backward, update, reset. Whose memory is updated?"
    curvature = torch.tensor([2.0, 0.5])

    def loss(w):
        return (curvature.to(w.device) * w**2).sum() / 2

    for device in DEVICES:
        for numbers, lr, steps in (([1.0, -2.0], 0.25, 1), ([3.0, 1.0], 0.4, 7)):
            given = "sum(c w^2) / 2 with c = [2, 0.5]"
            given = f"{given}, start {numbers}, lr {lr}, {steps} steps"
            start = torch.tensor(numbers, device=device)
            expected = torch.tensor(numbers) * (1 - lr * curvature) ** steps
            check.given = given
            found = answer(loss, start, lr, steps)
            check(found.detach(), expected.to(device))
            check.given = f"{given}; does what came back require a gradient"
            check(found.requires_grad, False)
            check.given = f"{given}; does start require a gradient afterwards"
            check(start.requires_grad, False)
            check.given = f"{given}; start afterwards"
            check(start, torch.tensor(numbers, device=device))


def test_two_rates(answer, check):
    check.hint = "A step multiplies the distance by 1 - lr times the second derivative."
    for numbers in ([1.0, 2.0, 3.0, 4.0], [0.5], [-3.0, 0.0, 1.0]):
        squares = sum(number * number for number in numbers)
        expected = len(numbers) / (2 * squares), len(numbers) / squares
        check.given = f"{numbers}"
        x = torch.tensor(numbers, dtype=torch.float64)
        check(answer(x), expected, rtol=1e-12, atol=0)


def test_fitted(answer, check):
    check.hint = "Which rate suits these x? It can be computed before the first step."
    y = [2.0, 4.0, 6.0, 8.0]
    cases = [
        ([1.0, 2.0, 3.0, 4.0], y, 2.0),
        ([1000.0, 2000.0, 3000.0, 4000.0], y, 0.002),
        ([0.001, 0.002, 0.003, 0.004], y, 2000.0),
        # sum(x y) / sum(x x): no line through 0 meets both
        ([30.0, 40.0], [10.0, 30.0], (300 + 1200) / (900 + 1600)),
        ([1.0, 2.0, 3.0, 4.0] * 100, y * 100, 2.0),
        ([1.0] * 99 + [100.0], [2.0] * 99 + [200.0], 2.0),  # one is far larger
    ]
    for amounts, prices, expected in cases:
        name = f"x = {amounts[:4]}, y = {prices[:4]}"
        more = f"{name}, ..., the last {amounts[-1]}, {len(amounts)} in all"
        check.given = name if len(amounts) <= 4 else more
        x = torch.tensor(amounts, dtype=torch.float64)
        y = torch.tensor(prices, dtype=torch.float64)
        given = check.given
        with (
            mock.patch("torch.autograd.backward", wraps=torch.autograd.backward) as one,
            mock.patch("torch.autograd.grad", wraps=torch.autograd.grad) as other,
        ):
            found = answer(x, y)
        check(found, expected, rtol=1e-6, atol=0)
        check.given = (
            f"{given}; slopes from backward() or grad, at least 1, at most 100"
        )
        slopes = one.call_count + other.call_count
        check(slopes, min(max(slopes, 1), 100))
        check.given = f"{given}; x afterwards"
        check(x, torch.tensor(amounts, dtype=torch.float64))


def test_slope_gradient(answer, check):
    check.hint = "Write the slope as a sum over the samples. What does dot add up?"
    for xs, ys, w in (([1, 2, 3, 4], [2, 4, 6, 8], 0.0), ([1, 0, -2], [5, 1, 1], 1.5)):
        slopes = [2 * (w * x - y) * x for x, y in zip(xs, ys, strict=True)]
        expected = sum(slopes) / len(slopes)
        check.given = f"x = {xs}, y = {ys}, w = {w}"
        check(answer(np.array(xs, dtype=float), np.array(ys, dtype=float), w), expected)


def test_hessian(answer, check):
    check.hint = (
        "Each element of the first gradient has a gradient of its own, a row of the "
        "matrix; grad takes retain_graph=True too, and torch.stack makes a matrix of "
        "rows. Does the first gradient require a gradient at all? Does it depend on x? "
        "grad takes allow_unused=True, too."
    )
    matrix = torch.tensor([[2.0, 1.0, 0.5], [1.0, 4.0, -3.0], [0.5, -3.0, 6.0]])
    weights = torch.tensor([3.0, -1.0], requires_grad=True)
    zeros, twelves = [[0.0, 0.0], [0.0, 0.0]], [[12.0, 12.0], [12.0, 12.0]]
    cases = [
        ("x[0] * x[1]", lambda x: x[0] * x[1], [5.0, 7.0], [[0.0, 1.0], [1.0, 0.0]]),
        ("x A x / 2", lambda x: x @ matrix @ x / 2, [1.0, 2.0, 3.0], matrix.tolist()),
        ("sum(x)^3", lambda x: x.sum() ** 3, [1.0, 1.0], twelves),
        ("x[0] - x[1], linear", lambda x: x[0] - x[1], [5.0, 7.0], zeros),
        ("weights @ x, trainable", lambda x: weights @ x, [5.0, 7.0], zeros),
        ("x[0]^2 + x[1]", lambda x: x[0] ** 2 + x[1], [5.0, 7.0], [[2.0, 0.0], [0, 0]]),
    ]
    for name, function, x, expected in cases:
        check.given = given = f"{name} at {x}"
        library = torch.autograd.functional
        with (
            mock.patch.object(library, "hessian", wraps=library.hessian) as one,
            mock.patch.object(torch.func, "hessian", wraps=torch.func.hessian) as other,
        ):
            found = answer(function, torch.tensor(x))
        check(found, torch.tensor(expected))
        check.given = f"{given}; how often a ready-made hessian was called"
        check(one.call_count + other.call_count, 0)
