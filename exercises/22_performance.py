"""Exercises for lesson 22, performance.

The checks: python -m pytest exercises/test_22_performance.py
"""

import torch
from torch import nn


# %% 1. Write (easy, 10 minutes)
def training_flops_of(model, batch):
    """Write: the operations of one training step, from the model itself.

    Gets an nn.Sequential of Linear layers, with or without bias, and of activations
    before, between and behind them, some of them in a Sequential of their own; and how
    many samples x has, an int. All layers are trained; x has no gradient. Returns an
    int: the operations of all products of matrices, forward and backward. Biases,
    activations and the loss do not count. Example: Sequential(Linear(20, 64), Tanh(),
    Linear(64, 10)) and 8 samples give 71680.
    """
    raise NotImplementedError


# %% 2. Mend (medium, 10 minutes)
def pairwise(a, b):
    """Mend: the distance of each row of one table to each row of another.

    Gets a, shape (n, d), and b, shape (m, d), float64 from -1 to 1, which stay as they
    are. Returns a tensor, float64 of shape (n, m): at [i, j] the length of a[i] - b[j],
    right to 1e-10, and to 1e-6 if a row of a stands in b, too. It takes at most 20
    calls of torch, whatever n, m and d are. Example: a = [[0, 0], [0.6, 0]], b = [[0.6,
    0.8], [0, 0]] give [[1, 0], [0.8, 0.6]].
    """
    distances = torch.empty(len(a), len(b), dtype=a.dtype)
    for i in range(len(a)):
        for j in range(len(b)):
            distances[i, j] = (a[i] - b[j]).square().sum().sqrt()
    return distances


# %% 3. Mend (medium, 10 minutes)
def accumulated(model, loss_function, parts):
    """Mend: the gradient of a large batch, from parts that differ in size.

    Gets a model, float64, a loss that is a mean over samples, such as MSELoss(), and a
    list of pairs (x, y), float64 of shapes (n, d) and (n, 1), where n is at least 1 and
    may differ. What stands in the parameters' .grad before does not count. Returns the
    gradient of the mean loss of all samples, right to 1e-12, as one vector of shape
    (numbers in all parameters,), in the order of model.parameters(). To save memory
    each part in turn goes through model once, forward and backward, before the next
    goes forward. Example: of parts of 3 and 1 samples the first counts 3/4, the second
    1/4.
    """
    model.zero_grad()
    for x, y in parts:
        loss = loss_function(model(x), y) / len(parts)
        loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


# %% 4. Mend (hard, 15 minutes)
def collected(parts):
    """Mend: all parts in one tensor, without copying the same rows again and again.

    Gets a generator of float32 tensors of shape (k, d), where k differs and may be 0.
    It may write each part into the memory of the one before. Returns a tensor of shape
    (sum of all k, d), float32, in which nobody else writes: the rows of all parts, in
    order. The calls of torch write at most 2.5 times the bytes of the result. (A view
    writes none, nor does torch.empty.) If there are no parts, returns torch.empty(0).
    Example: [[1, 2]], then [[3, 4], [5, 6]], give [[1, 2], [3, 4], [5, 6]].
    """
    table = torch.empty(0)  # of shape (0,), which cat leaves out
    for part in parts:
        table = torch.cat([table, part])
    return table
