"""Exercises for lesson 17, transfer learning.

The checks: python -m pytest exercises/test_17_transfer_learning.py
"""

import torch
import torch.nn.functional as F


# %% 1. Mend (easy, 5 minutes)
def freeze(module):
    """Mend: a module of which no parameter trains any more.

    Gets a module, which may hold other modules, and these others again. Returns the
    module itself. No parameter in it gets a gradient any more; gradients still pass
    through it, and what is outside of it trains as before. Example: after
    freeze(model.body) one step of SGD with model.parameters() moves the head alone.
    """
    module.requires_grad = False
    return module


# %% 2. Mend (medium, 10 minutes)
def train_head(model, x, y, steps):
    """Mend: train the head, and leave the frozen body as it is.

    Gets a model with a frozen model.body, which may hold batch norm and dropout, and a
    linear model.head, x, floats of shape (n, d), labels y, shape (n,), and a whole
    number. The body makes the features that it makes when the model is used. Each step
    is one of SGD on the head, with a rate of 0.1, for the mean cross-entropy of all
    rows. Returns a list of Python floats, the loss before each step. No number in the
    body changes. Example: with a head of zeros for 3 classes the first loss is log 3 =
    1.099, whatever x is.
    """
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    losses = []
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% 3. Write (medium, 10 minutes)
def features(body, x, batch_size):
    """Write: what a body makes of all rows, to be stored.

    Gets a body, which may hold batch norm and dropout, x, floats of shape (n, ...), n
    at least 1, and a whole number, at least 1. Returns one tensor: what the body in
    evaluation mode makes of each row, in the order of x. Each row goes through the body
    once, batch_size rows at a time, in the last batch what is left. Nothing is
    recorded, but a head can be trained on the result. Afterwards the body is in the
    mode in which it came, its parameters can be trained, and autograd records again.
    Example: for 5 rows and a batch_size of 2, nn.Identity() gets 2, 2 and 1, and x
    comes back.
    """
    raise NotImplementedError


# %% 4. Write (hard, 15 minutes)
def groups(body, head, body_lr, head_lr):
    """Write: the parameter groups for an optimizer, a rate for each of the two.

    Gets two modules and two Python floats. Returns a list of dicts with "params", a
    list of parameters, and "lr", as torch.optim.Adam takes it. What is frozen is left
    out, and every other parameter is in it exactly once. One may be in several places:
    head.weight = body[0].weight makes it part of both, and then it gets the rate of the
    body. (p is q) says whether p and q are one parameter. Example: Linear(2, 3) and
    Linear(3, 4), nothing frozen, with 0.001 and 0.01 give [{"params": [2 parameters],
    "lr": 0.001}, {"params": [2 parameters], "lr": 0.01}].
    """
    raise NotImplementedError
