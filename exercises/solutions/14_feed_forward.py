"""The exercises of lesson 14, solved."""

import math

import torch


def cross_validate(new_model, fit, accuracy, x, y, folds):
    """The accuracy on each fold, of a model that knows none of its rows."""
    # A model that has been through fold 0 was trained on the rows of all others, which
    # come next.
    found = []
    for fold in range(folds):
        test = torch.arange(len(x)) % folds == fold
        model = new_model()
        fit(model, x[~test], y[~test])
        found.append(accuracy(model, x[test], y[test]))
    return found


def wilson(right, n):
    """The interval of an accuracy, after Wilson."""
    # p - 1.96 sqrt(p (1 - p) / n) takes the spread at p for that of the truth: none
    # where p is 1. Wilson's ends are those q from which p is 1.96 standard deviations
    # of q away.
    p, z = right / n, 1.96
    whole = 1 + z**2 / n
    centre = (p + z**2 / (2 * n)) / whole
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / whole
    return centre - half, centre + half


def early_stop(losses, patience):
    """The epoch whose weights are kept when training stops early."""
    # The index of the best is all there is to remember: it was i - best steps ago.
    best = 0
    for i, loss in enumerate(losses):
        if loss < losses[best]:
            best = i
        elif i - best == patience:
            break
    return best


def split_rows(x, share, seed):
    """A random split for training and test, where equal rows are on the same side."""
    # Shuffle and cut the different rows. Each row of x then asks where the one that it
    # equals is.
    different, which = x.unique(dim=0, return_inverse=True)
    generator = torch.Generator().manual_seed(seed)
    place = torch.randperm(len(different), generator=generator)
    for_test = place[which] < round(share * len(different))
    rows = torch.arange(len(x))
    return rows[~for_test], rows[for_test]
