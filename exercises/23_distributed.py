"""Exercises for lesson 23, distributed.

The checks: python -m pytest exercises/test_23_distributed.py No process is started
here: what the ranks have stands in lists, or each rank calls the function.
"""

import torch


# %% 1. Write (easy, 10 minutes)
def ring_bytes(n, size, itemsize):
    """Write: the bytes that each rank sends in a ring, also where n does not divide.

    Gets the number of ranks n, how many numbers they sum up, and how many bytes one
    has, ints. The numbers are cut in n blocks of size // n numbers, the first size % n
    of which have one more. In round k, from 0 to 2 n - 3, rank r sends block (r - k) %
    n to the next, as in the lesson. Returns a list of n ints: at [r] the bytes that
    rank r sends in all rounds. Example: 3 ranks and 7 numbers of 4 bytes, in blocks of
    3, 2 and 2, give [40, 36, 36].
    """
    raise NotImplementedError


# %% 2. Mend (medium, 10 minutes)
def loss_of_shard(losses, ranks, total):
    """Mend: the loss of a rank's share, for the gradient of the whole batch.

    Gets losses, floats of shape (m,), one for each sample of this rank's share; how
    many ranks there are; and how many samples all shares have together. m differs from
    rank to rank, and may be 0. Returns a tensor of shape () in the dtype of losses, on
    which backward can be called. Its mean over all ranks is the mean loss of all
    samples; and the mean of the ranks' gradients, which DDP takes, is the gradient of
    that. Example: losses [1, 5] on one of 2 ranks, 8 samples in all, give 1.5.
    """
    return losses.mean()


# %% 3. Mend (medium, 10 minutes)
def evaluated(shares):
    """Mend: the accuracy over all rows of a data set, each counted once.

    Gets a list with a pair (rows, right) for each rank, which stays as it is: the rows
    that its DistributedSampler has dealt to it, in any order, a list of ints, and
    whether the model was right about each, a list of bools. All are equally long, since
    some rows were handed out again where the number did not come out even. Each row of
    the data set is there at least once, and has the same answer wherever it is. Returns
    a Python float from 0 to 1. Example: [([0, 2], [True, False]), ([1, 0], [False,
    True])] gives 1/3, one of three rows.
    """
    accuracies = [sum(right) / len(right) for _, right in shares]
    return sum(accuracies) / len(accuracies)


# %% 4. Mend (hard, 15 minutes)
def saved(rank, parallel, optimizer, step, path):
    """Mend: the checkpoint of a distributed run, which each rank calls for.

    Gets the rank, an int; a model in DistributedDataParallel, or in something else that
    has the model itself as its module; the optimizer; how many steps were made, an int;
    and a pathlib.Path, the same on all ranks, where an older checkpoint may be. Returns
    None, without waiting for another rank. Rank 0 alone writes: a dictionary with the
    keys "model" and "optimizer", what their load_state_dict takes in a run of one
    process, and "step". At each moment the older one is at path, or the new one, and
    either is whole, unless the power fails; where there was no older one, there may be
    none. What torch.save raises is raised. Unless it has raised, no other file is left
    over. Other ranks write nothing, anywhere. Example: called by ranks 0, 1 and 2,
    there is one file, with the names and numbers of rank 0's model: a Linear has
    "weight" and "bias". Called by rank 1 alone, there is none.
    """
    state = {"model": parallel.state_dict(), "step": step}
    torch.save(state, path)
