"""Exercises for lesson 08, logistic regression.

Solve them here, and let python -m pytest exercises/08_logistic_regression.py check them.
"""

import math

import torch


# %% 1. Mend
def loss_of(model, x, y):
    """Mend: the binary cross-entropy of a model that returns logits.

    Gets a model from shape (n, d) to (n, 1), x, shape (n, d), and y of zeros and ones, shape
    (n, 1). Returns a scalar tensor. Example: a logit of 0 costs log 2 = 0.693, a logit of 100
    for y = 0 costs 100. Easy, 5 minutes. Hint: who applies the sigmoid?
    """
    return torch.nn.BCEWithLogitsLoss()(torch.sigmoid(model(x)), y)


def test_loss_of():
    for logits, y in (
        ([0.0], [1.0]),
        ([150.0, -2.0], [0.0, 0.0]),
        ([3.0, -1.0, 0.5], [1.0, 1.0, 0.0]),
    ):
        costs = [math.log1p(math.exp(z)) - z * t for z, t in zip(logits, y, strict=True)]
        found = loss_of(lambda x: x, torch.tensor(logits)[:, None], torch.tensor(y)[:, None])
        thought = "BCEWithLogitsLoss applies the sigmoid itself, exactly; BCELoss stops at 100."
        expected = torch.tensor(sum(costs) / len(costs))
        check(f"logits {logits}, y {y}", found, expected, thought)


# %% 2. Mend
def scaled_safely(train, test):
    """Mend: both parts, scaled_safely by what the training rows say.

    Gets train, shape (n, d), and test, shape (m, d). Returns both in these shapes, each column
    minus its mean, divided by its deviation, which divides by n. A column that is constant in train
    becomes 0 where it has that value. Example: train = [[0], [2]],
    test = [[3]] gives [[-1], [1]] and [[2]]. Easy, 5 minutes. Hint: what may be known of the
    test rows?
    """
    parts = []
    for x in (train, test):
        deviation = x.std(dim=0, correction=0)
        parts.append((x - x.mean(dim=0)) / torch.where(deviation > 0, deviation, 1))
    return tuple(parts)


def test_scaled_safely():
    cases = [([[0.0], [2.0]], [[3.0], [1.0]], [[-1.0], [1.0]], [[2.0], [0.0]])]
    cases += [
        (
            [[1.0, 10.0], [3.0, 30.0], [1.0, 10.0], [3.0, 30.0]],
            [[2.0, 50.0], [6.0, 20.0]],
            [[-1.0, -1.0], [1.0, 1.0], [-1.0, -1.0], [1.0, 1.0]],
            [[0.0, 3.0], [4.0, 0.0]],
        )
    ]
    cases += [([[5.0, 0.0], [5.0, 4.0]], [[5.0, 2.0]], [[0.0, -1.0], [0.0, 1.0]], [[0.0, 0.0]])]
    for train, test, *expected in cases:
        rows, others = torch.tensor(train), torch.tensor(test)
        found = scaled_safely(rows, others)
        thought = "Mean and deviation are learned too: from the training rows, for both parts."
        expected = tuple(map(torch.tensor, expected))
        check(f"train = {train}, test = {test}", found, expected, thought)
        thought = "Work on new tensors: -= and /= write into what was given."
        check("train afterwards", rows, torch.tensor(train), thought)
        check("test afterwards", others, torch.tensor(test), thought)


# %% 3. Mend
def accuracy(logits, y):
    """Mend: the share of right answers, where a logit above 0 means 1.

    Gets logits as nn.Linear returns them, shape (n, 1), and y of zeros and ones, shape (n,).
    Returns a Python number from 0 to 1. Example: logits [[2], [-1]] and y = [1, 1] give 0.5.
    Easy, 5 minutes. Hint: how many comparisons are there?
    """
    return ((logits > 0) == y).sum().item() / len(y)


def test_accuracy():
    for logits, y, expected in (
        ([[2.0], [-1.0]], [1.0, 1.0], 0.5),
        ([[0.1], [2.0], [-3.0], [-4.0]], [1.0, 1.0, 0.0, 0.0], 1.0),
        ([[1.0], [-2.0], [3.0], [4.0]], [0.0, 0.0, 0.0, 1.0], 0.5),
        ([[1.0], [1.0], [1.0]], [0.0, 0.0, 0.0], 0.0),
        ([[0.0], [3.0]], [0.0, 1.0], 1.0),
    ):
        thought = "(n, 1) == (n,) compares all pairs, n * n of them. A logit of 0 is not above 0."
        found = accuracy(torch.tensor(logits), torch.tensor(y))
        check(f"logits {logits}, y {y}", found, expected, thought)


# %% 4. Write
def precision_and_recall(p, y, threshold):
    """Write: precision and recall at a threshold.

    Gets p, probabilities of shape (n,), and y of zeros and ones, shape (n,). A probability of at
    least threshold is an alarm. Returns two Python numbers; the precision of no alarms is 1.0.
    Example: p = [0.9, 0.6, 0.2], y = [1, 0, 1], threshold 0.5 gives 0.5 and 0.5. Medium, 10
    minutes. Hint: & joins two conditions, each in parentheses.
    """
    raise NotImplementedError


def test_precision_and_recall():
    for threshold, expected in (
        (0.5, (2 / 3, 2 / 4)),
        (0.3, (3 / 4, 3 / 4)),
        (0.05, (4 / 6, 1.0)),
        (0.95, (1.0, 0.0)),
    ):
        p, y = [0.9, 0.6, 0.5, 0.3, 0.2, 0.1], [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
        found = precision_and_recall(torch.tensor(p), torch.tensor(y), threshold)
        thought = (
            "Precision: of the alarms (at the threshold too), the share that is right, or 1.0 if "
            "none rang. Recall: of the ones, the share that rang. Write (p >= t) & (y == 1)."
        )
        check(f"p = {p}, y = {y}, threshold {threshold}", found, expected, thought)


# %% 5. Write
def ranked_right(z, y):
    """Write: the area under the ROC, as the share of pairs that are ranked right.

    Gets z, logits of shape (n,), and y of zeros and ones, shape (n,). Of all pairs of one sample
    with y = 1 and one with y = 0, returns the share where the first has the larger logit; equal
    logits count half. A Python number. Example: z = [2, 1, 1], y = [1, 0, 1] gives 0.75. Hard,
    15 minutes. Hint: (n, 1) against (m,), this time on purpose.
    """
    raise NotImplementedError


def test_ranked_right():
    for z, y in (
        ([2.0, 1.0, 1.0], [1, 0, 1]),
        ([3.0, -1.0, 0.5, 0.5, 2.0, -4.0], [1, 1, 0, 1, 0, 0]),
    ):
        ones, zeros = ([a for a, b in zip(z, y, strict=True) if b == label] for label in (1, 0))
        expected = sum((a > b) + (a == b) / 2 for a in ones for b in zeros)
        thought = "z[y == 1][:, None] against z[y == 0] is a table of all pairs."
        found = ranked_right(torch.tensor(z), torch.tensor(y))
        check(f"z = {z}, y = {y}", found, expected / len(ones) / len(zeros), thought)


# %% What the checks share: no need to read on
def check(given, found, expected, thought, **tolerance):
    """Fail, in words that help, unless found is expected: its kind, shape, dtype and values."""
    try:
        torch.testing.assert_close(found, expected, **tolerance)
        return
    except (TypeError, RuntimeError):
        reason = "a tensor, a number, a tuple and None are different; .item() makes numbers"
    except AssertionError as error:
        first, *others = str(error).strip().splitlines()
        reason = " ".join([first, *(line for line in others if "for item" in line)])
    parts = f"given      {given}", f"came back  {found!r}", f"expected   {expected!r}"
    raise AssertionError("\n".join([*parts, f"so         {reason}", thought]))
