"""Plausible wrong answers to the exercises of lesson 14, each with its thought."""

import copy
import math

import torch


def cross_validate_1(new_model, fit, accuracy, x, y, folds):
    """A new model for each fold, trained on all there is."""
    found = []
    for fold in range(folds):
        test, model = torch.arange(len(x)) % folds == fold, new_model()
        fit(model, x, y)
        found.append(accuracy(model, x[test], y[test]))
    return found


def cross_validate_2(new_model, fit, accuracy, x, y, folds):
    """As many models as folds, in a list."""
    models, found = [new_model()] * folds, []
    for fold, model in enumerate(models):
        test = torch.arange(len(x)) % folds == fold
        fit(model, x[~test], y[~test])
        found.append(accuracy(model, x[test], y[test]))
    return found


def cross_validate_3(new_model, fit, accuracy, x, y, folds):
    """A copy of the new model for each fold, and a copy is a model of its own."""
    first, found = new_model(), []
    for fold in range(folds):
        test, model = torch.arange(len(x)) % folds == fold, copy.copy(first)
        fit(model, x[~test], y[~test])
        found.append(accuracy(model, x[test], y[test]))
    return found


def cross_validate_4(new_model, fit, accuracy, x, y, folds):
    """The fold is what the model is trained on."""
    found = []
    for fold in range(folds):
        test, model = torch.arange(len(x)) % folds != fold, new_model()
        fit(model, x[~test], y[~test])
        found.append(accuracy(model, x[test], y[test]))
    return found


def cross_validate_5(new_model, fit, accuracy, x, y, folds):
    """Folds are blocks: the first rows, the next, and so on."""
    found = []
    for rows in torch.arange(len(x)).chunk(folds):
        test, model = torch.zeros(len(x), dtype=torch.bool), new_model()
        test[rows] = True
        fit(model, x[~test], y[~test])
        found.append(accuracy(model, x[test], y[test]))
    return found


def cross_validate_6(new_model, fit, accuracy, x, y, folds):
    """One number for all, their mean."""
    found = 0.0
    for fold in range(folds):
        test, model = torch.arange(len(x)) % folds == fold, new_model()
        fit(model, x[~test], y[~test])
        found += accuracy(model, x[test], y[test]) / folds
    return found


def cross_validate_7(new_model, fit, accuracy, x, y, folds):
    """Measure the model on what it was trained on."""
    found = []
    for fold in range(folds):
        train, model = torch.arange(len(x)) % folds != fold, new_model()
        fit(model, x[train], y[train])
        found.append(accuracy(model, x[train], y[train]))
    return found


def cross_validate_8(new_model, fit, accuracy, x, y, folds):
    """The new model, one line too late."""
    model, found = new_model(), []
    for fold in range(folds):
        test = torch.arange(len(x)) % folds == fold
        fit(model, x[~test], y[~test])
        model = new_model()
        found.append(accuracy(model, x[test], y[test]))
    return found


def cross_validate_9(new_model, fit, accuracy, x, y, folds):
    """Each fold on its own: the next trains with what came before it, as time would
    have it."""
    found = []
    for fold in range(folds):
        part, model = torch.arange(len(x)) % folds, new_model()
        fit(model, x[part < fold], y[part < fold])
        found.append(accuracy(model, x[part == fold], y[part == fold]))
    return found


def wilson_1(right, n):
    """1.96 standard deviations, as the lesson computes them."""
    p = right / n
    half = 1.96 * math.sqrt(p * (1 - p) / n)
    return p - half, p + half


def wilson_2(right, n):
    """The same, and no share is below 0 or above 1."""
    low, high = wilson_1(right, n)
    return max(low, 0.0), min(high, 1.0)


def wilson_3(right, n):
    """2 n is a factor, and factors can stand in a row."""
    p, z = right / n, 1.96
    whole = 1 + z**2 / n
    centre = (p + z**2 / 2 * n) / whole
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / whole
    return centre - half, centre + half


def wilson_4(right, n):
    """Only the centre is divided."""
    p, z = right / n, 1.96
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def wilson_5(right, n):
    """Under the root, both terms are divided by n."""
    p, z = right / n, 1.96
    whole = 1 + z**2 / n
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n)) / whole
    return (p + z**2 / (2 * n)) / whole - half, (p + z**2 / (2 * n)) / whole + half


def wilson_6(right, n):
    """The centre, and how far it is to the ends."""
    p, z = right / n, 1.96
    whole = 1 + z**2 / n
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / whole
    return (p + z**2 / (2 * n)) / whole, half


def wilson_7(right, n):
    """An accuracy is p, so p is the centre."""
    p, z = right / n, 1.96
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return p - half, p + half


def wilson_8(right, n):
    """Two more that are right and two that are wrong, and then as ever."""
    return wilson_1(right + 2, n + 4)


def wilson_9(right, n):
    """An accuracy is a number of percent."""
    p, z = right / n, 1.96
    whole = 1 + z**2 / n
    centre = (p + z**2 / (2 * n)) / whole
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / whole
    return 100 * (centre - half), 100 * (centre + half)


def early_stop_1(losses, patience):
    """The best of all."""
    return losses.index(min(losses))


def early_stop_2(losses, patience):
    """Better than the one before."""
    best = bad = 0
    for i in range(1, len(losses)):
        bad = 0 if losses[i] < losses[i - 1] else bad + 1
        if losses[i] < losses[best]:
            best = i
        if bad == patience:
            break
    return best


def early_stop_3(losses, patience):
    """Where training stopped."""
    best = 0
    for i, loss in enumerate(losses):
        if loss < losses[best]:
            best = i
        elif i - best == patience:
            return i
    return len(losses) - 1


def early_stop_4(losses, patience):
    """Count what was not better, all in all."""
    best = bad = 0
    for i, loss in enumerate(losses[1:], 1):
        if loss < losses[best]:
            best = i
        else:
            bad += 1
        if bad == patience:
            break
    return best


def early_stop_5(losses, patience):
    """As good as the best is good enough."""
    best = 0
    for i, loss in enumerate(losses):
        if loss <= losses[best]:
            best = i
        elif i - best == patience:
            break
    return best


def early_stop_6(losses, patience):
    """Patience ends with one more."""
    best = 0
    for i, loss in enumerate(losses):
        if loss < losses[best]:
            best = i
        elif i - best > patience:
            break
    return best


def early_stop_7(losses, patience):
    """Stop first, look at the loss then: it comes too late."""
    best = 0
    for i, loss in enumerate(losses):
        if i - best == patience:
            break
        if loss < losses[best]:
            best = i
    return best


def early_stop_8(losses, patience):
    """The loss itself."""
    best = 0
    for i, loss in enumerate(losses):
        if loss < losses[best]:
            best = i
        elif i - best == patience:
            break
    return losses[best]


def early_stop_9(losses, patience):
    """Step back from where it stopped; it always stops."""
    best = 0
    for i, loss in enumerate(losses):
        if loss < losses[best]:
            best = i
        elif i - best == patience:
            break
    return i - patience


def dealt(count, seed):
    """A random order."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def split_rows_1(x, share, seed):
    """Throw the twins away first: what is split are the different rows."""
    different = x.unique(dim=0)
    order, count = dealt(len(different), seed), round(share * len(different))
    return order[count:], order[:count]


def split_rows_2(x, share, seed):
    """Sorted, equal rows are neighbours, and a cut parts nobody but neighbours."""
    order, count = x[:, 0].argsort(), round(share * len(x))
    return order[count:], order[:count]


def split_rows_3(x, share, seed):
    """Split as ever, and leave out of training what is also in the test."""
    order, count = dealt(len(x), seed), round(share * len(x))
    train, test = order[count:], order[:count]
    twin = (x[train][:, None] == x[test]).all(dim=2).any(dim=1)
    return train[~twin], test


def split_rows_4(x, share, seed):
    """Split as ever, and let the twins follow into the test."""
    order, count = dealt(len(x), seed), round(share * len(x))
    for_test = (x[:, None] == x[order[:count]]).all(dim=2).any(dim=1)
    rows = torch.arange(len(x))
    return rows[~for_test], rows[for_test]


def split_rows_5(x, share, seed):
    """Rows with the same sum are the same."""
    different, which = x.sum(dim=1).unique(return_inverse=True)
    for_test = dealt(len(different), seed)[which] < round(share * len(different))
    rows = torch.arange(len(x))
    return rows[~for_test], rows[for_test]


def split_rows_6(x, share, seed):
    """A count is a whole number: int."""
    different, which = x.unique(dim=0, return_inverse=True)
    for_test = dealt(len(different), seed)[which] < int(share * len(different))
    rows = torch.arange(len(x))
    return rows[~for_test], rows[for_test]


def split_rows_7(x, share, seed):
    """True and False say it too."""
    different, which = x.unique(dim=0, return_inverse=True)
    for_test = dealt(len(different), seed)[which] < round(share * len(different))
    return ~for_test, for_test


def split_rows_8(x, share, seed):
    """The last ones are for the test, and there is always one."""
    different, which = x.unique(dim=0, return_inverse=True)
    count = max(1, round(share * len(different)))
    place = dealt(len(different), seed)[which]
    rows = torch.arange(len(x))
    return rows[place >= count], rows[place < count]


def split_rows_9(x, share, seed):
    """The seed says where the test begins."""
    different, which = x.unique(dim=0, return_inverse=True)
    place = (which + seed) % len(different)
    for_test = place < round(share * len(different))
    rows = torch.arange(len(x))
    return rows[~for_test], rows[for_test]
