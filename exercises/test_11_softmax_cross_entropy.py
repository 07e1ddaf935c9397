"""The checks of exercises/11_softmax_cross_entropy.py."""

import math
from decimal import Decimal
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def log_p(logits):
    """The log of softmax of a list, as it is defined: Decimal has room for e^1000."""
    powers = [Decimal(z).exp() for z in logits]
    return [float((power / sum(powers)).ln()) for power in powers]


class Softmaxes:
    """Counts the calls of PyTorch's own softmax and log_softmax, in its losses too."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.calls += "softmax" in str(operation)
        return operation(*args, **(kwargs or {}))


class CountSoftmaxes(Softmaxes, TorchDispatchMode):
    """In two classes, since a mode with a __torch_dispatch__ of its own loads
    torch._dynamo."""


def test_loss_of(answer, check):
    check.hint = "Who applies the softmax, how often, and along which axis of (n, C)?"
    cases = [([[0.0, 0.0, 0.0]], [2]), ([[100.0, 0.0]], [1])]
    cases += [([[3.0, -1.0], [0.5, 2.0], [0.0, -150.0]], [0, 0, 1])]
    cases += [([[1.0, 0.0, 4.0], [-2.0, 0.0, 1.0], [0.0, 5.0, 1.0]], [2, 0, 1])]
    for logits, y in cases:
        costs = [-log_p(row)[label] for row, label in zip(logits, y, strict=True)]
        check.given = f"a model that returns x, logits {logits}, y {y}"
        given = check.given
        z = torch.tensor(logits, requires_grad=True)
        found = answer(lambda x: x, z, torch.tensor(y))
        check(found, torch.tensor(sum(costs) / len(costs)))
        check.given = f"{given}; does its result require a gradient"
        check(found.requires_grad, True)
        found.backward()
        expected = [[math.exp(p) / len(y) for p in log_p(row)] for row in logits]
        for row, label in zip(expected, y, strict=True):
            row[label] -= 1 / len(y)
        check.given = f"{given}; the gradient of the logits"
        check(z.grad, torch.tensor(expected))


def test_cross_entropy_gradient(answer, check):
    check.hint = (
        "How does the loss change with each logit? What do w and b do to the logits?"
    )
    backward, grad = torch.autograd.backward, torch.autograd.grad
    cases = [([[2.0]], [0], [[0.0], [0.0]], [0.0, 0.0])]
    cases += [
        (
            [[1.0, -2.0], [0.5, 3.0]],
            [0, 0],
            [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5]],
            [0.0] * 3,
        )
    ]
    cases += [
        ([[1.0], [-1.0], [2.0]], [2, 0, 1], [[0.5], [-1.0], [0.0]], [1.0, 0.0, -2.0])
    ]
    cases += [([[10.0], [-10.0]], [1, 0], [[100.0], [-100.0]], [0.0, 1.0])]
    for x, y, w, b in cases:
        dw = [
            [slope(x, y, w, b, w[k], i) for i in range(len(w[k]))]
            for k in range(len(w))
        ]
        db = [slope(x, y, w, b, b, k) for k in range(len(b))]
        for dtype in (torch.float32, torch.float64):
            name = str(dtype).removeprefix("torch.")
            check.given = f"x = {x}, y = {y}, w = {w}, b = {b}, {name}"
            expected = torch.tensor(dw, dtype=dtype), torch.tensor(db, dtype=dtype)
            tensors = [torch.tensor(numbers, dtype=dtype) for numbers in (x, w, b)]
            given = check.given
            with (
                torch.no_grad(),
                mock.patch("torch.autograd.backward", wraps=backward) as one,
                mock.patch("torch.autograd.grad", wraps=grad) as other,
            ):
                found = answer(tensors[0], torch.tensor(y), *tensors[1:])
            check(found, expected, rtol=0, atol=1e-5)
            check.given = f"{given}; calls of backward() and grad"
            check(one.call_count + other.call_count, 0)


def slope(x, y, w, b, numbers, i):
    """The central difference of the mean cost along numbers[i], a number of w or b."""
    there, costs = numbers[i], []
    for step in (1e-4, -1e-4):
        numbers[i] = there + step
        costs.append(mean_cost(x, y, w, b))
    numbers[i] = there
    return (costs[0] - costs[1]) / 2e-4


def mean_cost(x, y, w, b):
    """The mean cross-entropy of the linear model, in plain Python."""
    total = 0.0
    for row, label in zip(x, y, strict=True):
        z = []
        for line, start in zip(w, b, strict=True):
            z.append(start + sum(a * c for a, c in zip(row, line, strict=True)))
        total -= log_p(z)[label]
    return total / len(x)


def test_log_softmax_by_hand(answer, check):
    check.hint = (
        "What can be taken away from a row and change nothing? Which shape has that?"
    )
    cases = [[[0.0, 0.0]], [[0.0, 0.0], [1000.0, -1000.0]], [[0.0, -200.0, 3.0]]]
    cases += [[[1.0, 2.0, 0.5], [3.0, -1.0, 0.0], [-4.0, 0.0, 4.0]]]
    cases += [[[1000.0, 999.0, 1000.0], [-1000.0, -1001.0, -1003.0]]]
    for numbers in cases:
        expected = [log_p(row) for row in numbers]
        # From 512 to 1024 float32 knows multiples of 6.1e-5: the log-sum-exp is rounded
        # to one there.
        for dtype in (torch.float32, torch.float64):
            z = torch.tensor(numbers, dtype=dtype)
            given = f"{numbers}, {str(dtype).removeprefix('torch.')}"
            check.given = given
            with CountSoftmaxes() as own:
                found = answer(z)
            check(found, torch.tensor(expected, dtype=dtype), rtol=0, atol=1e-4)
            check.given = f"{given}; calls of PyTorch's own softmax or log_softmax"
            check(own.calls, 0)
            check.given = f"{given}; the input itself, afterwards"
            check(z, torch.tensor(numbers, dtype=dtype))


def test_sample(answer, check):
    check.hint = (
        "CrossEntropyLoss wants one whole number for each sample. Where does it begin?"
    )
    cases = [
        ("2,12.37,0.94", [12.37, 0.94], 1),
        ("1,14.23,1.71,2.43", [14.23, 1.71, 2.43], 0),
    ]
    for line, x, y in cases:
        check.given = repr(line)
        check(answer(line), (torch.tensor(x), torch.tensor(y)))
