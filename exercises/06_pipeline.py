"""Exercises for lesson 06, the pipeline.

The checks: python -m pytest exercises/test_06_pipeline.py
"""

import torch
from torch import nn


# %% 1. Write (medium, 10 minutes)
def epochs_needed(model, optimizer, x, y, tolerance, most):
    """Write: train until the mean squared error is at most tolerance.

    Gets a model, its optimizer, and x and y, shape (n, 1). Before each epoch (one step
    on all of x and y) look at the loss; stop if it is at most tolerance, or after
    `most` epochs. Returns how many epochs were made. Example: 0 where the loss is small
    enough from the start.
    """
    raise NotImplementedError


# %% 2. Write (easy, 5 minutes)
def two_layers(hidden):
    """Write: a model of your own, with so many numbers between its two layers.

    Gets a whole number. Returns a model of a class that you write yourself, here in the
    function, and not an nn.Sequential. The model gets floats of shape (n, 1) and
    returns shape (n, 1). In between are nn.Linear(1, hidden), torch.tanh and
    nn.Linear(hidden, 1), in this order. Example: two_layers(8) has 25 numbers to train.
    """
    raise NotImplementedError


# %% 3. Write (medium, 10 minutes)
def loaded(model, path):
    """Write: a model, filled from a file and ready to be used.

    Gets a model on the CPU, such as the Network of the chapter, and the path of a file
    that torch.save(other.state_dict(), path) wrote, perhaps on a machine with a
    graphics card. Tell torch.load to accept only tensors and simple values, and to put
    them on the CPU. Returns the model with the numbers of the file.
    Example: loaded(Network(), "flats.pt").training is False.
    """
    raise NotImplementedError


# %% 4. Mend (medium, 10 minutes)
def trained(model, optimizer, x, y, steps):
    """Mend: a loop with two of the mistakes of section 5.

    Gets a model from shape (n, 1) to (n, 1), its optimizer, and how many steps to make
    on all of x, shape (n, 1), and y, shape (n,). Both keep their shapes. Returns the
    mean squared error before each step, a list of Python numbers. Example: for
    nn.Linear(1, 1) from w = b = 0, lr 0.05, x = 1, 2, 3, 4 and y = 2 x + 1, three steps
    give [41.0, 1.129, 0.043].
    """
    losses = []
    for _ in range(steps):
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% 5. Mend (medium, 10 minutes)
def deep(width, depth):
    """Mend: a model of so many hidden layers, all of which are trained.

    Gets two whole numbers. Returns an nn.Module from shape (n, width) to (n, 1):
    depth times nn.Linear(width, width) and tanh, then nn.Linear(width, 1).
    model.parameters() must know them all. Example: deep(10, 3) has 341 numbers to
    train.
    """

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = [nn.Linear(width, width) for _ in range(depth)]
            self.last = nn.Linear(width, 1)

        def forward(self, x):
            for layer in self.hidden:
                x = torch.tanh(layer(x))
            return self.last(x)

    return Deep()
