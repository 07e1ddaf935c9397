"""The checks of exercises/07_linear_regression.py."""

import numpy as np
import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def test_fitted_parabola(answer, check):
    check.hint = (
        "For a line the matrix has two columns, x and ones; a parabola needs one more."
    )
    noise = np.random.default_rng(0).normal(size=9)
    for device in DEVICES:
        for a, b, c, scale in ((1.0, 0.0, 1.0, 0.0), (0.5, -3.0, 2.0, 1.0)):
            x = np.linspace(-2, 4, 9)
            y = a * x**2 + b * x + c + scale * noise
            expected = torch.tensor(np.polyfit(x, y, 2).copy(), device=device)
            check.given = (
                f"9 points, y = {a} x^2 + {b} x + {c} + {scale} noise, on {device}"
            )
            found = answer(
                torch.tensor(x, device=device), torch.tensor(y, device=device)
            )
            check(found, expected, rtol=1e-9, atol=1e-9)


def test_r_squared_of_batches(answer, check):
    check.hint = (
        "R-squared is no mean over the rows. torch.cat makes one tensor of a list."
    )
    cases = [[([1.0, 2.0], [1.0, 2.0]), ([3.0], [4.0])]]
    cases += [[([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]), ([8.0, 9.0], [9.0, 7.0])]]
    cases += [[([4.0, 3.0, 1.0], [1.0, 2.0, 3.0])]]
    for batches in cases:
        p = [number for part, _ in batches for number in part]
        y = [number for _, part in batches for number in part]
        left = sum((a - b) ** 2 for a, b in zip(p, y, strict=True))
        spread = sum((a - sum(y) / len(y)) ** 2 for a in y)
        check.given = f"batches = {batches}, as tensors"
        tensors = [(torch.tensor(a), torch.tensor(b)) for a, b in batches]
        check(answer(tensors), 1 - left / spread, rtol=1e-5, atol=1e-6)


def test_line_in_units_of_the_data(answer, check):
    check.hint = (
        "Write the formula for v down, with means and stds in it, and solve it for y."
    )
    cases = [([0.0, 2.0], [0.0, 6.0], 1.0, 0.0)]
    cases += [([1.0, 4.0, 7.0], [5.0, -1.0, 2.0], -0.5, 0.25)]
    for xs, ys, slope, intercept in cases:
        u_at_0, u_at_1 = (np.array([0, 1]) - np.mean(xs)) / np.std(xs)
        y_at_0 = np.mean(ys) + np.std(ys) * (slope * u_at_0 + intercept)
        y_at_1 = np.mean(ys) + np.std(ys) * (slope * u_at_1 + intercept)
        tensors = (
            torch.tensor(xs, dtype=torch.float64),
            torch.tensor(ys, dtype=torch.float64),
        )
        check.given = f"v = {slope} u + {intercept}, x = {xs}, y = {ys}"
        check(
            answer(slope, intercept, *tensors), (float(y_at_1 - y_at_0), float(y_at_0))
        )


def test_model_error(answer, check):
    check.hint = "What is the shape of the difference?"
    model = torch.nn.Linear(2, 1)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.zeros_(model.bias)
    for rows, y in (
        ([[1.0, 0.0], [0.0, 2.0]], [1.0, 2.0]),
        ([[1.0, 1.0]] * 3, [0.0, 2.0, 5.0]),
    ):
        expected = sum(
            (sum(row) - t) ** 2 for row, t in zip(rows, y, strict=True)
        ) / len(y)
        given = f"the model x[0] + x[1], x = {rows}, y = {y}"
        check.given = given
        found = answer(model, torch.tensor(rows), torch.tensor(y))
        check(
            found.detach() if isinstance(found, torch.Tensor) else found,
            torch.tensor(expected),
        )
        check.given = f"{given}; can what came back be differentiated"
        check(found.requires_grad, True)
