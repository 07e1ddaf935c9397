"""Plausible wrong answers to the exercises of lesson 08, and the thoughts behind."""

import torch


def loss_of_1(model, x, y):
    """A probability needs the loss for probabilities."""
    return torch.nn.BCELoss()(torch.sigmoid(model(x)), y)


def loss_of_2(model, x, y):
    """The loss for classes."""
    return torch.nn.CrossEntropyLoss()(model(x), y)


def loss_of_3(model, x, y):
    """The formula, in float32: log(1 - p) of p = 1 is minus infinity."""
    p = torch.sigmoid(model(x))
    return -torch.where(y == 1, p, 1 - p).log().mean()


def scaled_safely_1(train, test):
    """All rows know the mean better than some of them."""
    rows = torch.cat([train, test])
    mean, std = rows.mean(dim=0), rows.std(dim=0, correction=0)
    return (train - mean) / std, (test - mean) / std


def scaled_safely_2(train, test):
    """One mean and one std for the table."""
    mean, std = train.mean(), train.std(correction=0)
    return (train - mean) / std, (test - mean) / std


def scaled_safely_3(train, test):
    """std() divides by n, does it not."""
    mean, std = train.mean(dim=0), train.std(dim=0)
    return (train - mean) / std, (test - mean) / std


def accuracy_1(logits, y):
    """A mean cannot be larger than 1."""
    return ((logits > 0) == y).double().mean().item()


def accuracy_2(logits, y):
    """1 begins at one half, as it does for probabilities."""
    return ((logits[:, 0] > 0.5) == y).sum().item() / len(y)


def accuracy_3(logits, y):
    """Only the first column of the table of all pairs."""
    return ((logits > 0) == y)[:, 0].double().mean().item()


def precision_and_recall_1(p, y, threshold):
    """The one divides by what the other should."""
    alarm = p >= threshold
    right = (alarm & (y == 1)).sum().item()
    return right / y.sum().item(), right / max(alarm.sum().item(), 1)


def precision_and_recall_2(p, y, threshold):
    """The threshold is always 1/2."""
    alarm = p >= 0.5
    right = (alarm & (y == 1)).sum().item()
    return right / alarm.sum().item(), right / y.sum().item()


def precision_and_recall_3(p, y, threshold):
    """Above the threshold, not at it."""
    alarm = p > threshold
    right, alarms = (alarm & (y == 1)).sum().item(), alarm.sum().item()
    return right / alarms if alarms else 1.0, right / y.sum().item()


def precision_and_recall_4(p, y, threshold):
    """No alarms, no precision."""
    alarm = p >= threshold
    right, alarms = (alarm & (y == 1)).sum().item(), alarm.sum().item()
    return right / alarms if alarms else 0.0, right / y.sum().item()


def ranked_right_1(z, y):
    """Equal is not larger: ties count nothing."""
    return (z[y == 1][:, None] > z[y == 0]).double().mean().item()


def ranked_right_2(z, y):
    """Ties are not wrong: they count whole."""
    return (z[y == 1][:, None] >= z[y == 0]).double().mean().item()


def ranked_right_3(z, y):
    """The share of samples on their side of 0."""
    return ((z > 0) == (y == 1)).double().mean().item()


def ranked_right_4(z, y):
    """The pairs turned round."""
    difference = z[y == 0][:, None] - z[y == 1]
    return ((difference > 0).double() + (difference == 0).double() / 2).mean().item()


def scaled_safely_4(train, test):
    """Minus and divided by, written as briefly as possible."""
    mean, std = train.mean(dim=0), train.std(dim=0, correction=0)
    for part in (train, test):
        part -= mean
        part /= std
    return train, test


def accuracy_4(logits, y):
    """From 0 on it means 1."""
    return ((logits[:, 0] >= 0) == y).sum().item() / len(y)


def scaled_safely_5(train, test):
    """Constant columns do not happen."""
    mean, std = train.mean(dim=0), train.std(dim=0, correction=0)
    return (train - mean) / std, (test - mean) / std


def scaled_safely_6(train, test):
    """A constant column has the std 0."""
    mean, std = train.mean(dim=0), train.std(dim=0, correction=0)
    std = torch.where(std > 0, std, 1)
    return (train - mean) / std, (test - mean) / std


def scaled_safely_7(train, test):
    """A little more than 0 below the line, and nothing can happen."""
    mean, std = train.mean(dim=0), train.std(dim=0, correction=0)
    return (train - mean) / (std + 1e-8), (test - mean) / (std + 1e-8)
