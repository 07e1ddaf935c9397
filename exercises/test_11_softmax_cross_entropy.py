"""The checks of exercises/11_softmax_cross_entropy.py."""

import math
from decimal import Decimal

import torch


def log_p(logits):
    """The log of softmax of a list, as it is defined: Decimal has room for e^1000."""
    powers = [Decimal(z).exp() for z in logits]
    return [float((power / sum(powers)).ln()) for power in powers]


def test_loss_of(answer, check):
    check.hint = "Who applies the softmax, how often, and along which axis of (n, C)?"
    cases = [([[0.0, 0.0, 0.0]], [2]), ([[100.0, 0.0]], [1])]
    cases += [([[3.0, -1.0], [0.5, 2.0], [0.0, -150.0]], [0, 0, 1])]
    cases += [([[1.0, 0.0, 4.0], [-2.0, 0.0, 1.0], [0.0, 5.0, 1.0]], [2, 0, 1])]
    for logits, y in cases:
        costs = [-log_p(row)[label] for row, label in zip(logits, y, strict=True)]
        check.given = f"a model that returns x, logits {logits}, y {y}"
        found = answer(lambda x: x, torch.tensor(logits), torch.tensor(y))
        check(found, torch.tensor(sum(costs) / len(costs)))


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


def test_log_softmax_by_hand(answer, check):
    check.hint = (
        "What can be taken away from a row and change nothing? Which shape has that?"
    )
    cases = [[[0.0, 0.0]], [[0.0, 0.0], [1000.0, -1000.0]], [[0.0, -200.0, 3.0]]]
    cases += [[[1.0, 2.0, 0.5], [3.0, -1.0, 0.0], [-4.0, 0.0, 4.0]]]
    cases += [[[1000.0, 999.0, 1000.0], [-1000.0, -1001.0, -1003.0]]]
    for numbers in cases:
        expected = [log_p(row) for row in numbers]
        # From 512 to 1024 float32 knows multiples of 6.1e-5: log_sum_exp is rounded to
        # one there.
        for dtype in (torch.float32, torch.float64):
            z = torch.tensor(numbers, dtype=dtype)
            given = f"{numbers}, {str(dtype).removeprefix('torch.')}"
            check.given = given
            check(answer(z), torch.tensor(expected, dtype=dtype), rtol=0, atol=1e-4)
            check.given = f"{given}; the input itself, afterwards"
            check(z, torch.tensor(numbers, dtype=dtype))


def test_cross_entropy_gradient(answer, check):
    check.hint = (
        "How does the loss change with each logit? What do w and b do to the logits?"
    )
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
            with torch.no_grad():
                found = answer(tensors[0], torch.tensor(y), *tensors[1:])
            check(found, expected, rtol=0, atol=1e-5)


def slope(x, y, w, b, numbers, i):
    """The central difference of the mean cost by numbers[i], a number of w or b."""
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


def test_mean_loss(answer, check):
    check.hint = (
        "For how many rows does each batch's number speak? What is a mean over none?"
    )
    for batches in (
        [[(1.0, 0), (3.0, 1)], [(8.0, 2), (5.0, -100), (5.0, -100)]],
        [[(2.0, 1), (4.0, 0)]],
        [[(1.0, 2)], [(2.0, -100), (2.0, -100)], [(2.0, 1), (6.0, 2), (4.0, 0)]],
        [[(5.0, -100), (2.0, 0)], [(1.0, 1), (7.0, 0)], [(3.0, -100)]],
    ):
        costs = [cost for rows in batches for cost, label in rows if label >= 0]
        given = f"batches of rows (cost, class) {batches}"
        pairs = [pair_of(rows) for rows in batches]
        check.given = given
        found = answer(pairs)
        check(found, torch.tensor(sum(costs) / len(costs)))
        check.given = f"{given}; does its result require a gradient"
        check(found.requires_grad, True)
        found.backward()
        for number, (rows, (z, _)) in enumerate(zip(batches, pairs, strict=True)):
            expected = [gradient_of(cost, label, len(costs)) for cost, label in rows]
            check.given = (
                f"{given}; the gradient by the logits of batch {number} afterwards"
            )
            check(
                torch.zeros_like(z) if z.grad is None else z.grad,
                torch.tensor(expected),
            )


def pair_of(rows):
    """Logits of three classes, and the classes: a row costs log(1 + 2 e^gap)."""
    z = torch.zeros(len(rows), 3)
    for i, (cost, label) in enumerate(rows):
        z[i] = math.log(math.expm1(cost) / 2)
        z[i, max(label, 0)] = 0
    return z.requires_grad_(), torch.tensor([label for _, label in rows])


def gradient_of(cost, label, n):
    """Of three logits: p of the class is e^-cost, the others share the rest equally."""
    if label < 0:
        return [0.0] * 3
    other = -math.expm1(-cost) / 2 / n
    return [-2 * other if k == label else other for k in range(3)]
