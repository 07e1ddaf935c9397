"""Exercises for lesson 04, backprop.

The checks: python -m pytest exercises/test_04_backprop.py
"""

import torch


# %% 1. Write (medium, 15 minutes)
def neuron_gradients(x, y, w, b):
    """Write: backpropagation through one neuron, by hand.

    Gets x and y, shape (n,), and w and b, shape (), all of the same float dtype. The
    loss is mean((p - y)^2) with p = sigmoid(z) and z = w x + b. The slope of the
    sigmoid is p (1 - p).
    Returns dloss/dw and dloss/db, both of shape () and of that dtype, without autograd.
    Example: x = [0], y = [0], w = 0, b = 0 gives 0 and 0.25.
    """
    raise NotImplementedError


# %% 2. Mend (medium, 10 minutes)
def layer_gradients(x, w, dz):
    """Mend: the gradients of a linear layer z = x w^T + b.

    Gets x, shape (n, inputs), w, shape (outputs, inputs), and dz = dloss/dz, shape
    (n, outputs), all floats of one dtype. Returns a tuple of dx, dw and db, in the
    shapes of x, w and b, which is (outputs,). Example: dz = [[1.0, 2.0], [3.0, 4.0]]
    gives db = [4.0, 6.0].
    """
    return dz @ w, dz.T @ x, dz.mean(dim=0)


# %% 3. Write (easy, 5 minutes)
def softsign_backward(z, gradient):
    """Write: the backward of softsign, h = z / (1 + |z|).

    Gets z, the input of the forward pass, and gradient = dloss/dh, both floats of shape
    (n,). The slope of softsign is 1 / (1 + |z|)^2. Returns dloss/dz, shape (n,).
    Example: z = [1] and gradient = [8] give [2].
    """
    raise NotImplementedError


# %% 4. Mend (medium, 10 minutes)
def first_weights(units, inputs, seed):
    """Mend: weights to start a layer with.

    Gets three whole numbers. Returns float32, shape (units, inputs): normal numbers
    with mean 0 and std 1 / sqrt(inputs). They are drawn with generator=, a
    torch.Generator of their own that is started with the seed (lesson 02, section 7),
    so that torch.rand elsewhere is left as it was. The same seed gives the same
    weights, another seed others. Example: first_weights(50, 400, 0) has std 1/20 and
    50 different rows. (A constant of that size trains, but all units stay the same.)
    """
    return torch.ones(units, inputs) / inputs**0.5
