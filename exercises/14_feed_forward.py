"""Exercises for lesson 14, feed forward.

The checks: python -m pytest exercises/test_14_feed_forward.py
"""

import torch


# %% 1. Mend (easy, 5 minutes)
def cross_validate(new_model, fit, accuracy, x, y, folds):
    """Mend: the accuracy on each fold, of a model that knows none of its rows.

    Gets new_model(), which returns a model that knows nothing yet, fit(model, x, y),
    which goes on training a model, accuracy(model, x, y), which returns a Python
    number, x, floats of shape (n, d), the labels y, shape (n,), and the number of
    folds. Row i is in fold i % folds. Returns a list: the accuracy on fold 0, 1, ... of
    a model that was trained on all other rows, with one call of fit. Example: a nearest
    neighbour, x = [[0], [1]], y = [0, 1] and 2 folds give [0.0, 0.0].
    """
    model, found = new_model(), []
    for fold in range(folds):
        test = torch.arange(len(x)) % folds == fold
        fit(model, x[~test], y[~test])
        found.append(accuracy(model, x[test], y[test]))
    return found


# %% 2. Write (easy, 5 minutes)
def wilson(right, n):
    """Write: the 95 % interval of an accuracy, after Wilson (1927).

    Gets how many answers were right, from 0 to n, and how many there were, n, at least
    1. Returns a tuple of two Python floats, its lower and its upper end. With p = right
    / n and z = 1.96 the centre is (p + z^2 / (2 n)) / (1 + z^2 / n), and from there it
    is z sqrt(p (1 - p) / n + z^2 / (4 n^2)) / (1 + z^2 / n) to either end. Example: 349
    of 360 gives 0.946 and 0.983, 360 of 360 gives 0.989 and 1.
    """
    raise NotImplementedError


# %% 3. Write (medium, 10 minutes)
def early_stop(losses, patience):
    """Write: the step whose parameters are kept when training stops early.

    Gets a list of validation losses, Python floats, one for each step, and a whole
    number, at least 1. A loss is better if it is smaller than all before it. As soon as
    `patience` losses, one after the other, are not better, training stops, and what
    follows in the list never happens. Returns the index of the best loss until then, a
    Python int; of equal ones the first. Example: [3.0, 1.0, 2.0, 2.0, 0.0] gives 1 with
    a patience of 2, and 4 with a patience of 3.
    """
    raise NotImplementedError


# %% 4. Mend (hard, 15 minutes)
def split_rows(x, share, seed):
    """Mend: a random split for training and test, equal rows on the same side.

    Gets x, floats of shape (n, d), a share from 0 to 1, and a whole number, the seed.
    Of the k different rows in x, round(share * k), drawn at random, are for the test,
    each with all that equal it. x.unique(dim=0, return_inverse=True) returns the k
    different rows, and for each row of x the index of the one that it equals, shape
    (n,). Returns two tensors of int64: the indices of the rows to train with, and of
    those to test with, in any order. The same seed gives the same split. Example:
    x = [[1], [2], [1], [2]] and a share of 0.5 give [0, 2] and [1, 3], or the reverse.
    """
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    count = round(share * len(x))
    return order[count:], order[:count]
