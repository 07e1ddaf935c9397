"""Exercises for lesson 15, optimizers.

The checks: python -m pytest exercises/test_15_optimizers.py
"""

import torch


# %% 1. Write (easy, 10 minutes)
def momentum_steps(w, gradient, lr, momentum, steps):
    """Write: the weight after each step of SGD with momentum, by hand.

    Gets w, a Python float; a function, gradient(w), that returns a Python float; lr,
    momentum and steps, Python numbers. The memory is 0 before the first step. In each
    step it becomes momentum times the memory plus the gradient, and w loses lr times
    the new memory. Returns a list of `steps` Python floats; no optimizer is needed.
    Example: w = 1.0, gradient = lambda w: w, lr = 0.1, momentum = 0.5 and 3 steps give
    [0.9, 0.76, 0.614].
    """
    raise NotImplementedError


# %% 2. Mend (easy, 5 minutes)
def rates(epochs, batches, optimizer, scheduler):
    """Mend: the rate of each epoch, where the scheduler is stepped in the wrong loop.

    Gets two whole numbers, an optimizer with one group of parameters, and its
    scheduler, which is meant to be stepped once an epoch, after the optimizer's last
    step of that epoch. The optimizer takes one step for each batch. Returns a list of
    Python floats, the rate with which each epoch is trained, its first and its last
    batch alike. Example: lr 1.0, StepLR with step_size=1 and gamma=0.5, 3 epochs of 4
    batches give [1.0, 0.5, 0.25].
    """
    found = []
    for _ in range(epochs):
        for _ in range(batches):
            optimizer.step()
            scheduler.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


# %% 3. Mend (hard, 15 minutes)
def range_losses(model, loss_function, rates):
    """Mend: a range test that sets the rate, and leaves the model as it was.

    Gets a model, a function loss_function(model) that returns its loss, a tensor
    without dimensions, and a list of rates, Python floats. Takes a step of plain SGD
    for each rate, at this rate. Returns the list of the losses before the steps, Python
    floats. Afterwards all parameters and buffers of the model have the values that they
    had before, in the tensors that they were. Example: one weight w = 1.0, the loss
    w^2 and the rates [0.25, 0.5, 0.5] give [1.0, 0.25, 0.0], and w is 1.0 again.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=rates[0])
    losses = []
    for rate in rates:
        optimizer.lr = rate
        optimizer.zero_grad()
        loss = loss_function(model)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% 4. Write (medium, 10 minutes)
def clipped(gradients, bound):
    """Write: gradients, scaled so that their common norm is at most a bound.

    Gets a list of tensors of floats of any shapes, which stay as they are, and a Python
    number above 0. The norm is the root of the sum of the squares of all numbers in all
    of them. Returns a list of new tensors: all multiplied by the same number if the
    norm is above the bound, so that it becomes the bound, and equal to the old ones if
    it is not. Do not use torch.nn.utils. Example: [tensor([3.0]), tensor([[4.0]])] and
    a bound of 1 give [tensor([0.6]), tensor([[0.8]])].
    """
    raise NotImplementedError
