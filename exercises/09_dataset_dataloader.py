"""Exercises for lesson 09, datasets and dataloaders.

The checks: python -m pytest exercises/test_09_dataset_dataloader.py
"""

import numpy as np
import torch
from torch.utils.data import Dataset


# %% 1. Write (easy, 5 minutes)
def batch_sizes(n, batch_size, drop_last):
    """Write: the sizes of the batches of an epoch over n samples.

    Gets n and batch_size, whole numbers, and drop_last, True or False.
    Returns a list of whole numbers.
    Example: 5 samples in batches of 2 give [2, 2, 1], or [2, 2] with drop_last=True.
    """
    raise NotImplementedError


# %% 2. Mend (easy, 5 minutes)
def sample(line):
    """Mend: a line of wine.csv as (measurements, class), ready for CrossEntropyLoss.

    Gets text such as "2,12.37,0.94": a cultivar, counted from 1, and d measurements.
    Returns a float32 tensor of shape (d,) and an int64 tensor of shape ().
    Example: this line gives [12.37, 0.94] and 1.
    """
    cultivar, *measurements = map(float, line.split(","))
    return torch.tensor(measurements), torch.tensor(int(cultivar))


# %% 3. Mend (medium, 10 minutes)
def noisy(x):
    """Mend: a data set with noise that never repeats.

    Gets x, float32, shape (n, d). Returns a Dataset whose sample i is x[i] plus normal
    noise with std 0.1, float32, shape (d,). The noise must be new at every reading, and
    in every worker, which has a copy of the data set. After the same torch.manual_seed
    it must be the same. Example: two readings of sample 0 differ.
    """

    class Noisy(Dataset):
        def __init__(self):
            self.random = np.random.default_rng(0)

        def __len__(self):
            return len(x)

        def __getitem__(self, index):
            noise = self.random.normal(size=x.shape[1])
            return x[index] + 0.1 * torch.from_numpy(noise).float()

    return Noisy()


# %% 4. Mend (easy, 5 minutes)
def share(n, worker, workers):
    """Mend: the rows that one worker of several reads from a file of n rows.

    Gets n, and the worker's number from 0 to workers - 1. Returns the row numbers, a
    list or a range. Together the workers must read each of the rows 0 ... n - 1 once,
    and the lengths of their lists may differ by 1 at most. Example: 5 rows for 2
    workers can be [0, 2, 4] and [1, 3].
    """
    rows = n // workers
    return list(range(worker * rows, (worker + 1) * rows))


# %% 5. Write (hard, 15 minutes)
def padded_with_mask(rows):
    """Write: a collate_fn for unequal lengths, with a mask of what is real.

    Gets a list of n tensors of shape (length,). Returns (batch, mask), both (n,
    longest): the numbers with zeros at the ends, in their dtype, and, in bool, True
    where a number is real, not padding (a real number can be 0).
    torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) pads with zeros. Example:
    [3, 0] and [5] give [[3, 0], [5, 0]] and [[True, True], [True, False]].
    """
    raise NotImplementedError
