"""The checks of exercises/08_logistic_regression.py."""

import math

import torch


def test_loss_of(answer, check):
    check.hint = "How often is the sigmoid applied, and what does float32 make of 150?"
    cases = [
        ([0.0], [1.0]),
        ([150.0, -2.0], [0.0, 0.0]),
        ([3.0, -1.0, 0.5], [1.0, 1.0, 0.0]),
    ]
    for logits, y in cases:
        costs = [
            math.log1p(math.exp(z)) - z * t for z, t in zip(logits, y, strict=True)
        ]
        check.given = f"a model that returns x, logits {logits}, y {y}"
        found = answer(
            lambda x: x, torch.tensor(logits)[:, None], torch.tensor(y)[:, None]
        )
        check(found, torch.tensor(sum(costs) / len(costs)))


def test_scaled_safely(answer, check):
    check.hint = (
        "Test rows stand for the future: what may be known of them? And how do you see "
        "that a column is constant, when rounding may spoil its std?"
    )
    cases = [([[0.0], [2.0]], [[3.0], [1.0]], [[-1.0], [1.0]], [[2.0], [0.0]])]
    cases += [
        (
            [[1.0, 10.0], [3.0, 30.0], [1.0, 10.0], [3.0, 30.0]],
            [[2.0, 50.0], [6.0, 20.0]],
            [[-1.0, -1.0], [1.0, 1.0], [-1.0, -1.0], [1.0, 1.0]],
            [[0.0, 3.0], [4.0, 0.0]],
        )
    ]
    cases += [
        (
            [[5.0, 0.0], [5.0, 4.0]],
            [[5.0, 2.0]],
            [[0.0, -1.0], [0.0, 1.0]],
            [[0.0, 0.0]],
        )
    ]
    # Not constant, though tiny, or small beside the mean.
    cases += [([[1e-7], [3e-7]], [[2e-7]], [[-1.0], [1.0]], [[0.0]])]
    cases += [([[10000.0], [10002.0]], [[10003.0]], [[-1.0], [1.0]], [[2.0]])]
    # The std of these is some 1e-8, and not 0.
    for value, n in ((0.1, 7), (5.7, 3), (0.3, 33), (5.7, 100)):
        cases += [([[value]] * n, [[value], [value + 1]], [[0.0]] * n, [[0.0], [1.0]])]
    for train, test, scaled_train, scaled_test in cases:
        given = f"train = {train}, test = {test}"
        rows, others = torch.tensor(train), torch.tensor(test)
        check.given = given
        check(
            answer(rows, others),
            (torch.tensor(scaled_train), torch.tensor(scaled_test)),
        )
        check.given = f"{given}; both inputs, afterwards"
        check((rows, others), (torch.tensor(train), torch.tensor(test)))


def test_accuracy(answer, check):
    check.hint = "Which shape has the comparison? What does a logit of exactly 0 mean?"
    for logits, y, expected in (
        ([[2.0], [-1.0]], [1.0, 1.0], 0.5),
        ([[0.1], [2.0], [-3.0], [-4.0]], [1.0, 1.0, 0.0, 0.0], 1.0),
        ([[1.0], [-2.0], [3.0], [4.0]], [0.0, 0.0, 0.0, 1.0], 0.5),
        ([[1.0], [1.0], [1.0]], [0.0, 0.0, 0.0], 0.0),
        ([[0.0], [3.0]], [0.0, 1.0], 1.0),
    ):
        check.given = f"logits {logits}, y {y}"
        check(answer(torch.tensor(logits), torch.tensor(y)), expected)


def test_precision_and_recall(answer, check):
    check.hint = "Both count right alarms: what does each divide by? (a) & (b) joins."
    p, y = [0.9, 0.6, 0.5, 0.3, 0.2, 0.1], [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    for threshold, expected in (
        (0.5, (2 / 3, 2 / 4)),
        (0.3, (3 / 4, 3 / 4)),
        (0.05, (4 / 6, 1.0)),
        (0.95, (1.0, 0.0)),
    ):
        check.given = f"p = {p}, y = {y}, threshold {threshold}"
        check(answer(torch.tensor(p), torch.tensor(y), threshold), expected)


def test_ranked_right(answer, check):
    check.hint = (
        "Shape (n, 1) against (m,) is a table of all pairs. What is a pair worth?"
    )
    cases = [
        ([2.0, 1.0, 1.0], [1, 0, 1]),
        ([3.0, -1.0, 0.5, 0.5, 2.0, -4.0], [1, 1, 0, 1, 0, 0]),
    ]
    for z, y in cases:
        ones = [a for a, label in zip(z, y, strict=True) if label == 1]
        zeros = [a for a, label in zip(z, y, strict=True) if label == 0]
        pairs = [(a > b) + (a == b) / 2 for a in ones for b in zeros]
        check.given = f"z = {z}, y = {y}"
        check(answer(torch.tensor(z), torch.tensor(y)), sum(pairs) / len(pairs))
