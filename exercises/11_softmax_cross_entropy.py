"""Exercises for lesson 11, softmax and cross-entropy.

The checks: python -m pytest exercises/test_11_softmax_cross_entropy.py
"""

import torch


# %% 1. Mend (easy, 5 minutes)
def loss_of(model, x, y):
    """Mend: the mean cross-entropy of a model that returns logits.

    Gets a model from shape (n, d) to (n, C), x, shape (n, d), and the classes y,
    integers from 0 to C - 1, shape (n,). Returns a tensor of shape (), from which
    backward() can start. Example: three logits of 0 cost log 3 = 1.099, the logits
    [100, 0] for class 1 cost 100.
    """
    p = torch.softmax(model(x), dim=0)
    return torch.nn.CrossEntropyLoss()(p, y)


# %% 2. Write (medium, 15 minutes)
def cross_entropy_gradient(x, y, w, b):
    """Write: the gradients of a linear model's mean cross-entropy, without autograd.

    Gets x, floats of shape (n, d), the classes y, integers of shape (n,), w, shape (C,
    d), and b, shape (C,). The logits are z = x w^T + b, and may be large. No gradient
    is recorded, and backward() and grad are not allowed. Returns a tuple of dloss/dw,
    shape (C, d), and dloss/db, shape (C,), of the dtype of x. Example: x = [[2]],
    y = [0], w = [[0], [0]], b = [0, 0] gives [[-1], [1]] and [-0.5, 0.5].
    """
    raise NotImplementedError


# %% 3. Write (medium, 10 minutes)
def log_softmax_by_hand(z):
    """Write: the log of softmax, of each row, without PyTorch's own.

    Gets logits z, floats of shape (n, C), which stay as they are. Some may be 1000, and
    some -1000. PyTorch's softmax, log_softmax and losses are not allowed. Returns the
    log of each probability, the same shape and dtype. Example: [[0, 0], [1000, -1000]]
    gives [[-0.693, -0.693], [0, -2000]].
    """
    raise NotImplementedError


# %% 4. Mend (easy, 5 minutes)
def sample(line):
    """Mend: a line of wine.csv as (measurements, class), ready for CrossEntropyLoss.

    Gets text such as "2,12.37,0.94": a cultivar, counted from 1, and d measurements.
    Returns a float32 tensor of shape (d,) and an int64 tensor of shape ().
    Example: this line gives [12.37, 0.94] and 1.
    """
    cultivar, *measurements = map(float, line.split(","))
    return torch.tensor(measurements), torch.tensor(int(cultivar))
