"""Plausible wrong answers to the exercises of lesson 11, each with its thought."""

import numpy as np
import torch
import torch.nn.functional as F


def loss_of_1(model, x, y):
    """The classes are dim 1; that was all."""
    return torch.nn.CrossEntropyLoss()(torch.softmax(model(x), dim=1), y)


def loss_of_2(model, x, y):
    """A log belongs between the softmax and the loss; dim 0 stays."""
    return torch.nn.CrossEntropyLoss()(torch.log_softmax(model(x), dim=0), y)


def loss_of_3(model, x, y):
    """NLLLoss is the one that takes probabilities."""
    return torch.nn.NLLLoss()(torch.softmax(model(x), dim=1), y)


def loss_of_4(model, x, y):
    """Minus the log of p, as the formula says: a p of e^-150 is 0 in float32."""
    return torch.nn.NLLLoss()(torch.softmax(model(x), dim=1).log(), y)


def loss_of_5(model, x, y):
    """Log-likelihoods add up."""
    return -torch.log_softmax(model(x), dim=1)[torch.arange(len(y)), y].sum()


def loss_of_6(model, x, y):
    """The sigmoid, for which 0 and 1 say which class it is."""
    return torch.nn.BCEWithLogitsLoss()(
        model(x), F.one_hot(y, model(x).shape[1]).to(x.dtype)
    )


def sample_1(line):
    """The class as the number that the loss compares with: a float."""
    cultivar, *measurements = map(float, line.split(","))
    return torch.tensor(measurements), torch.tensor(cultivar - 1)


def sample_2(line):
    """A batch of one label."""
    cultivar, *measurements = map(float, line.split(","))
    return torch.tensor(measurements), torch.tensor([int(cultivar) - 1])


def sample_3(line):
    """The whole line is the sample."""
    numbers = [float(number) for number in line.split(",")]
    return torch.tensor(numbers), torch.tensor(int(numbers[0]) - 1)


def sample_4(line):
    """NumPy reads numbers, in float64."""
    numbers = np.array(line.split(","), dtype=float)
    return torch.from_numpy(numbers[1:].copy()), torch.tensor(int(numbers[0]) - 1)


def log_softmax_by_hand_1(z):
    """The formula as it stands: e^1000 is inf."""
    powers = torch.exp(z)
    return (powers / powers.sum(dim=1, keepdim=True)).log()


def log_softmax_by_hand_2(z):
    """The largest logit of all: rows that are far below it are all 0."""
    z = z - z.max()
    return z - z.exp().sum(dim=1, keepdim=True).log()


def log_softmax_by_hand_3(z):
    """softmax is safe, so its log is."""
    return torch.softmax(z, dim=1).log()


def log_softmax_by_hand_4(z):
    """A little more than 0 in the log, so that nothing is infinite."""
    return (torch.softmax(z, dim=1) + 1e-12).log()


def log_softmax_by_hand_5(z):
    """The batch comes first, so dim 0."""
    z = z - z.max(dim=0).values
    return z - z.exp().sum(dim=0).log()


def log_softmax_by_hand_6(z):
    """Logits that cannot overflow."""
    z = z.clamp(min=-80, max=80)
    return z - z.exp().sum(dim=1, keepdim=True).log()


def log_softmax_by_hand_7(z):
    """No second tensor is needed."""
    z -= z.max(dim=1, keepdim=True).values
    z -= z.exp().sum(dim=1, keepdim=True).log()
    return z


def log_softmax_by_hand_8(z):
    """log_sum_exp of each row, without the largest logit that was taken away."""
    largest = z.max(dim=1, keepdim=True).values
    return z - torch.exp(z - largest).sum(dim=1, keepdim=True).log()


def log_softmax_by_hand_9(z):
    """float64 has room for more."""
    return torch.log_softmax(z.double(), dim=1)


def cross_entropy_gradient_1(x, y, w, b):
    """The gradient of a row's loss; the rows add up."""
    dz = torch.softmax(x @ w.T + b, dim=1) - F.one_hot(y, len(b))
    return dz.T @ x, dz.sum(dim=0)


def cross_entropy_gradient_2(x, y, w, b):
    """x^T (p - y) / n, as in lesson 08."""
    dz = (torch.softmax(x @ w.T + b, dim=1) - F.one_hot(y, len(b))) / len(y)
    return x.T @ dz, dz.sum(dim=0)


def cross_entropy_gradient_3(x, y, w, b):
    """What happened minus what was said."""
    dz = (F.one_hot(y, len(b)) - torch.softmax(x @ w.T + b, dim=1)) / len(y)
    return dz.T @ x, dz.sum(dim=0)


def cross_entropy_gradient_4(x, y, w, b):
    """one_hot finds out by itself how many classes there are."""
    dz = (torch.softmax(x @ w.T + b, dim=1) - F.one_hot(y)) / len(y)
    return dz.T @ x, dz.sum(dim=0)


def cross_entropy_gradient_5(x, y, w, b):
    """A mean over all numbers of (n, C)."""
    dz = (torch.softmax(x @ w.T + b, dim=1) - F.one_hot(y, len(b))) / (len(y) * len(b))
    return dz.T @ x, dz.sum(dim=0)


def cross_entropy_gradient_6(x, y, w, b):
    """Softmax by hand, which is short: e^1000 is inf."""
    powers = torch.exp(x @ w.T + b)
    dz = (powers / powers.sum(dim=1, keepdim=True) - F.one_hot(y, len(b))) / len(y)
    return dz.T @ x, dz.sum(dim=0)


def cross_entropy_gradient_7(x, y, w, b):
    """The batch comes first, so dim 0."""
    dz = (torch.softmax(x @ w.T + b, dim=0) - F.one_hot(y, len(b))) / len(y)
    return dz.T @ x, dz.sum(dim=0)


def cross_entropy_gradient_8(x, y, w, b):
    """Only the right class has a say: -log p of it is the loss."""
    p = torch.softmax(x @ w.T + b, dim=1)
    dz = (p - 1) * F.one_hot(y, len(b)) / len(y)
    return dz.T @ x, dz.sum(dim=0)


def cross_entropy_gradient_9(x, y, w, b):
    """The derivative of the softmax comes in as well, p (1 - p)."""
    p = torch.softmax(x @ w.T + b, dim=1)
    dz = (p - F.one_hot(y, len(b))) * p * (1 - p) / len(y)
    return dz.T @ x, dz.sum(dim=0)


def mean_loss_1(batches):
    """As in lesson 09: times the length of the batch, ignored rows and all."""
    total = sum(F.cross_entropy(z, y) * len(y) for z, y in batches)
    return total / sum(len(y) for _, y in batches)


def mean_loss_2(batches):
    """The sum of all that counts, divided by all rows."""
    total = sum(F.cross_entropy(z, y, reduction="sum") for z, y in batches)
    return total / sum(len(y) for _, y in batches)


def mean_loss_3(batches):
    """Times the rows that count; a batch of none is nan times 0, which is nothing."""
    counts = [(y != -100).sum() for _, y in batches]
    total = sum(
        F.cross_entropy(z, y) * n for (z, y), n in zip(batches, counts, strict=True)
    )
    return total / sum(counts)


def mean_loss_4(batches):
    """The nan was the mistake: leave out the batches of which no row counts."""
    losses = [F.cross_entropy(z, y) for z, y in batches if (y != -100).any()]
    return sum(losses) / len(losses)


def mean_loss_5(batches):
    """A loss to print is a Python number."""
    total = count = 0
    for z, y in batches:
        if (y != -100).any():
            total += F.cross_entropy(z, y).item() * (y != -100).sum().item()
            count += (y != -100).sum().item()
    return total / count


def mean_loss_6(batches):
    """What is added up over many batches must not keep their graphs."""
    total = count = 0
    for z, y in batches:
        total += F.cross_entropy(z, y, reduction="sum").detach()
        count += (y != -100).sum()
    return total / count


def mean_loss_7(batches):
    """No class is below 0: -100 is class 0."""
    total = sum(F.cross_entropy(z, y.clamp(min=0), reduction="sum") for z, y in batches)
    return total / sum(len(y) for _, y in batches)


def mean_loss_8(batches):
    """A batch with an ignored row is not complete: leave it out."""
    whole = [(z, y) for z, y in batches if (y != -100).all()]
    return F.cross_entropy(
        torch.cat([z for z, _ in whole]), torch.cat([y for _, y in whole])
    )
