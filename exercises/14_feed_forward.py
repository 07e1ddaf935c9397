"""Exercises for lesson 14, feed forward.

The checks: python -m pytest exercises/test_14_feed_forward.py
"""

import torch


# %% 1. Mend (easy, 10 minutes)
def cross_validate(new_model, fit, accuracy, x, y, folds):
    """Mend: the accuracy on each fold, of a model that knows none of its rows.

    Gets three functions: new_model() returns a model that knows nothing yet,
    fit(model, x, y) trains a model further, and accuracy(model, x, y) returns a Python
    number. Gets also x, floats of shape (n, d), the labels y, shape (n,), and the
    number of folds. Row i is in fold i % folds.

    Returns a list of the accuracies on fold 0, 1, ... Each is that of a model that was
    trained on all other rows, with one call of fit.

    Example: with a nearest neighbour, x = [[0], [1]], y = [0, 1] and 2 folds the
    answer is [0.0, 0.0].
    """
    model, found = new_model(), []
    for fold in range(folds):
        test = torch.arange(len(x)) % folds == fold
        fit(model, x[~test], y[~test])
        found.append(accuracy(model, x[test], y[test]))
    return found


# %% 2. Write (easy, 10 minutes)
def wilson(right, n):
    """Write: the interval of an accuracy, after Wilson.

    Gets how many answers were right, from 0 to n, and how many there were, n, at least
    1. Let p = right / n and z = 1.96. Then the centre of the interval is

        (p + z^2 / (2 n)) / (1 + z^2 / n)

    and from there the distance to both ends is

        z sqrt(p (1 - p) / n + z^2 / (4 n^2)) / (1 + z^2 / n)

    Returns a tuple of two Python floats, the lower and the upper end.

    Example: 349 of 360 gives 0.946 and 0.983, rounded, and 360 of 360 gives 0.989 and
    1.
    """
    raise NotImplementedError


# %% 3. Write (medium, 10 minutes)
def early_stop(losses, patience):
    """Write: the epoch whose weights are kept when training stops early.

    Gets a list of validation losses, Python floats, at least one, and the patience, a
    whole number, at least 1. The first loss is that of epoch 0. A loss is better if it
    is smaller than all before it. As soon as `patience` losses, one after the other,
    are not better, training stops, and what follows in the list never happens.

    Returns the epoch of the best loss until then, a Python int; of equal losses the
    first.

    Example: [3.0, 1.0, 2.0, 2.0, 0.0] gives 1 with a patience of 2, and 4 with a
    patience of 3.
    """
    raise NotImplementedError


# %% 4. Mend (hard, 15 minutes)
def split_rows(x, share, seed):
    """Mend: a random split for training and test, equal rows on the same side.

    Gets x, floats of shape (n, d), a share from 0 to 1, and the seed, a whole number.
    Say that k of the rows in x are different. Of these, round(share * k) are drawn at
    random for the test, each with all rows that equal it. The rest is for training.

    x.unique(dim=0, return_inverse=True) returns the k different rows, and for each row
    of x the index of the one that it equals, shape (n,).

    Returns two tensors of int64: the indices of the rows to train with, and of those
    to test with, in any order. The same seed gives the same split.

    Example: x = [[1], [2], [1], [2]] and a share of 0.5 give [0, 2] and [1, 3], or the
    reverse.
    """
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    count = round(share * len(x))
    return order[count:], order[:count]
