"""Exercises for lesson 08, logistic regression.

The checks: python -m pytest exercises/test_08_logistic_regression.py
"""

import torch


# %% 1. Mend (easy, 5 minutes)
def loss_of(model, x, y):
    """Mend: the binary cross-entropy of a model that returns logits.

    Gets a model from shape (n, d) to (n, 1), x, shape (n, d), and y of zeros and ones,
    shape (n, 1). Returns a tensor of shape (). Example: a logit of 0 costs log 2 =
    0.693, a logit of 150 for y = 0 costs 150.
    """
    return torch.nn.BCEWithLogitsLoss()(torch.sigmoid(model(x)), y)


# %% 2. Mend (easy, 5 minutes)
def scaled_safely(train, test):
    """Mend: both parts, scaled by what the training rows say.

    Gets train, floats of shape (n, d), and test, shape (m, d), which stay as they are.
    Returns a tuple of both in these shapes, each column minus its mean in train,
    divided by its std there, the one that divides by n, train.std(correction=0). A
    column that is constant in train is not divided: it becomes 0 where it has that
    value, and v - value elsewhere, both up to rounding. Rounding can make the std of
    such a column a tiny number instead of 0. Example: train = [[0], [2]], test = [[3]]
    gives [[-1], [1]] and [[2]]; seven rows of 0.1 and test = [[1.1]] give zeros and
    [[1]].
    """
    parts = []
    for x in (train, test):
        std = x.std(dim=0, correction=0)
        parts.append((x - x.mean(dim=0)) / torch.where(std > 0, std, 1))
    return tuple(parts)


# %% 3. Mend (easy, 5 minutes)
def accuracy(logits, y):
    """Mend: the share of right answers, where a logit above 0 means 1.

    Gets logits as nn.Linear returns them, shape (n, 1), and y of zeros and ones, shape
    (n,). Returns a Python number from 0 to 1. Example: logits [[2], [-1]] and y = [1,
    1] give 0.5.
    """
    return ((logits > 0) == y).sum().item() / len(y)


# %% 4. Write (medium, 10 minutes)
def precision_and_recall(p, y, threshold):
    """Write: precision and recall at a threshold.

    Gets p, probabilities of shape (n,), and y of zeros and ones, shape (n,). A
    probability of at least threshold is an alarm. Returns two Python numbers; the
    precision of no alarms, 0 / 0, is set to 1.0 here (the lesson gives nan). Example: p
    = [0.9, 0.6, 0.2], y = [1, 0, 1], threshold 0.5 gives 0.5 and 0.5.
    """
    raise NotImplementedError


# %% 5. Write (hard, 15 minutes)
def ranked_right(z, y):
    """Write: the area under the ROC, as the share of pairs that are ranked right.

    Gets z, logits of shape (n,), and y of zeros and ones, shape (n,). Of all pairs of
    one sample with y = 1 and one with y = 0, returns the share where the first has the
    larger logit; equal logits count half. It is a Python number. Example: z = [2, 1,
    1], y = [1, 0, 1] gives 0.75.
    """
    raise NotImplementedError
