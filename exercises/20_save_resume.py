"""Exercises for lesson 20, save and resume.

The checks: python -m pytest exercises/test_20_save_resume.py
"""

import copy
import os

import torch


# %% 1. Mend (easy, 5 minutes)
def best_weights(model, one_epoch, epochs):
    """Mend: the state of a model after its best epoch, whatever is trained later.

    Gets a model, a function, and a whole number, at least 1. one_epoch(model) trains
    the model for an epoch, and returns the loss that it has then, a Python float.
    Returns a dictionary that model.load_state_dict takes: the state after the epoch
    with the smallest loss, of equal ones the first. The model is left as the last epoch
    left it. Example: losses of 3.0, 1.0, 2.0 in three epochs give the state after the
    second.
    """
    best, smallest = None, float("inf")
    for _ in range(epochs):
        loss = one_epoch(model)
        if loss < smallest:
            best, smallest = model.state_dict(), loss
    return best


# %% 2. Mend (medium, 10 minutes)
def save(state, path):
    """Mend: write a checkpoint, so that at each moment there is a whole one.

    Gets a dictionary as torch.save takes it, and a pathlib.Path, where an older
    checkpoint may be. Returns None. Should the power fail, whenever that is, the older
    checkpoint is at path, or the new one, and either is whole; where there was no older
    one, there may be none. All of the new one is on the disk (os.fsync) before it is at
    path. What torch.save raises is raised, and files in the same folder under other
    names may be left over. Example: a torch.save that raises OSError after 100 bytes
    leaves the older checkpoint at path.
    """
    older = path.with_suffix(".older")
    if path.exists():
        path.replace(older)  # it stays until the new one is there
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    older.unlink(missing_ok=True)


# %% 3. Write (medium, 10 minutes)
def checkpoint(model, optimizer, generator):
    """Write: all that the next steps depend on, in one dictionary.

    Gets a model with dropout and batch norm, which is in training, its optimizer, and
    the torch.Generator that draws the rows of each batch. Dropout draws from torch's
    global generator. Returns a dictionary with four keys: "model" and "optimizer", what
    their load_state_dict takes, "generator", what generator.set_state takes, and
    "random", what torch.set_rng_state takes. Later steps change nothing in it,
    torch.load with weights_only=True loads it, and the steps after it are the same as
    without it. Example: train for 3 steps, make a checkpoint, train for 4 more; who
    goes on from the checkpoint has the same weights after 4 steps, bit for bit.
    """
    raise NotImplementedError


# %% 4. Write (hard, 15 minutes)
def load_matching(model, state):
    """Write: load into a model what fits, and say what does not.

    Gets a model and a dictionary from names to tensors, which stays as it is. A tensor
    fits if model.state_dict() has its name, and there in the same shape; the dtype may
    be another. Returns a sorted list of all names that were not loaded, each once:
    those that only the model has, those that only the dictionary has, and those whose
    shapes differ. What was not loaded stays in the model as it was. The parameters
    remain the same objects, which an optimizer may know already, and share no memory
    with the dictionary. Example: for Linear(2, 3), {"weight": ones(3, 2), "bias":
    ones(1), "b": ones(3)} gives ["b", "bias"], and a weight of ones.
    """
    raise NotImplementedError
