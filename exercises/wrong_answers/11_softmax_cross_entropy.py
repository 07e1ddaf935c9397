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


def loss_of_7(model, x, y):
    """A loss to print is a number, and a tensor can be made of it."""
    return torch.tensor(torch.nn.CrossEntropyLoss()(model(x), y).item())


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
    """Autograd knows the chain rule, and can be switched on again."""
    with torch.enable_grad():
        leaves = w.clone().requires_grad_(), b.clone().requires_grad_()
        loss = F.cross_entropy(x @ leaves[0].T + leaves[1], y)
        return torch.autograd.grad(loss, leaves)


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
    """There is a function for it."""
    return torch.log_softmax(z, dim=1)


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
