"""Exercises for lesson 09, datasets and dataloaders.

Solve them here, and let python -m pytest exercises/09_dataset_dataloader.py check them.
"""

import copy

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


# %% 1. Write
def batch_sizes(n, batch_size, drop_last):
    """Write: the sizes of the batches of an epoch over n samples.

    Returns a list of integers. Example: 5 samples in batches of 2 give [2, 2, 1], or [2, 2] with
    drop_last=True. Easy, 5 minutes. Hint: // and %.
    """
    raise NotImplementedError


def test_batch_sizes():
    for n, batch_size in ((5, 2), (6, 2), (100, 20), (3, 8), (178, 4)):
        for drop_last in (False, True):
            loader = DataLoader(range(n), batch_size, drop_last=drop_last)
            found, expected = batch_sizes(n, batch_size, drop_last), [len(b) for b in loader]
            thought = "n // batch_size are full; what remains is a batch only if there is any."
            check(f"{n} samples by {batch_size}, drop_last={drop_last}", found, expected, thought)


# %% 2. Mend
def sample(line):
    """Mend: a line of wine.csv as (measurements, class), ready for CrossEntropyLoss.

    Gets text such as "2,12.37,0.94": a cultivar, counted from 1, and d measurements. Returns a
    float32 tensor of shape (d,) and an int64 tensor of shape (). Example: this line gives
    [12.37, 0.94] and 1. Easy, 5 minutes. Hint: where does CrossEntropyLoss begin to count?
    """
    cultivar, *measurements = map(float, line.split(","))
    return torch.tensor(measurements), torch.tensor(int(cultivar))


def test_sample():
    for line, x, y in (
        ("2,12.37,0.94", [12.37, 0.94], 1),
        ("1,14.23,1.71,2.43", [14.23, 1.71, 2.43], 0),
    ):
        expected = torch.tensor(x), torch.tensor(y)
        thought = "Classes are counted from 0: the first cultivar is class 0, an integer."
        check(repr(line), sample(line), expected, thought)


# %% 3. Mend
def noisy(x):
    """Mend: a data set with noise that never repeats.

    Gets x, shape (n, d). Returns a Dataset whose sample i is x[i] plus normal noise of deviation
    0.1, shape (d,). The noise must be new at every reading, and in every worker, which has a
    copy of the data set. After the same torch.manual_seed it must be the same. Example: two
    readings of sample 0 differ. Medium, 10 minutes. Hint: whose random generator does torch seed
    anew for each worker?
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


def test_noisy():
    x, state = torch.arange(4000.0).view(4, 1000), torch.get_rng_state()
    dataset = noisy(x)
    check("x, shape (4, 1000): the length", len(dataset), 4, "__len__ is the number of rows.")
    sample = dataset[2]
    kind = tuple(sample.shape), sample.dtype == torch.float32
    thought = "One number of noise for each number of x[i]."
    check("x, shape (4, 1000): shape of sample 2, is it float32", kind, ((1000,), True), thought)
    moments = (sample - x[2]).mean().item(), (sample - x[2]).std().item()
    thought = "Add 0.1 * torch.randn to a copy of x[i]."
    given = "x, shape (4, 1000): mean and deviation of sample 2 minus x[2]"
    check(given, moments, (0.0, 0.1), thought, rtol=0, atol=0.02)
    unchanged = torch.equal(x, torch.arange(4000.0).view(4, 1000))
    check("x afterwards: unchanged", unchanged, True, thought)
    thought = "Draw in __getitem__, every time, and let nobody seed there."
    check("the same sample twice: equal", torch.equal(dataset[1], dataset[1]), False, thought)
    here, there = copy.deepcopy(dataset), copy.deepcopy(dataset)  # what two workers have
    thought = "A generator of the data set's own is copied with it, state and all."
    equal = torch.equal(here[0], there[0])
    check("the same sample from two workers: equal", equal, False, thought)
    torch.manual_seed(1)
    first = dataset[1]
    torch.manual_seed(1)
    equal = torch.equal(dataset[1], first)
    check("the same torch.manual_seed twice: equal", equal, True, "Draw with torch.randn.")
    torch.set_rng_state(state)


# %% 4. Mend
def share(n, worker, workers):
    """Mend: the rows that one worker of several reads from a file of n rows.

    Gets n, and the worker's number from 0 to workers - 1. Returns the row numbers, a list or a
    range. Together the workers must read each of the rows 0 ... n - 1 once, and the lengths of
    their lists may differ by 1 at most. Example: 5 rows for 2 workers can be [0, 2, 4] and
    [1, 3]. Easy, 5 minutes. Hint: try 5 rows and 2 workers by hand.
    """
    rows = n // workers
    return list(range(worker * rows, (worker + 1) * rows))


def test_share():
    for n, workers in ((5, 2), (6, 3), (178, 4), (2, 3)):
        parts = [share(n, worker, workers) for worker in range(workers)]
        thought = "n need not divide evenly. range has a step."
        found = sorted(row for part in parts for row in part)
        check(f"{n} rows, {workers} workers: all rows", found, list(range(n)), thought)
        lengths = [len(part) for part in parts]
        given = f"{n} rows, {workers} workers that read {lengths}: the most minus the fewest is"
        check(f"{given} at most 1", max(lengths) - min(lengths) <= 1, True, "Deal them like cards.")


# %% 5. Write
def padded_with_mask(rows):
    """Write: a collate_fn for unequal lengths, with a mask of what is real.

    Gets a list of n tensors of shape (length,). Returns (batch, mask), both (n, longest): the
    numbers with zeros at the ends, in their dtype, and True where a number is real. Example:
    [3, 0] and [5] give [[3, 0], [5, 0]] and [[True, True], [True, False]]. Hard, 15 minutes.
    Hint: pad the numbers, and pad ones of the same lengths.
    """
    raise NotImplementedError


def test_padded_with_mask():
    for rows in ([[3, 0], [5]], [[0.5], [1.0, 2.0, 0.0, 4.0], [7.0, 0.0]], [[1.0, 2.0]]):
        longest = max(map(len, rows))
        batch = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[i < len(row) for i in range(longest)] for row in rows])
        sequences = [torch.tensor(row) for row in rows]
        (found,) = DataLoader(sequences, len(rows), collate_fn=padded_with_mask)
        thought = "A real number can be 0, so the mask has to come from the lengths."
        check(rows, found, (batch, mask), thought)


# %% What the checks share: no need to read on
def check(given, found, expected, thought, **tolerance):
    """Fail, in words that help, unless found is expected: its kind, shape, dtype and values."""
    try:
        torch.testing.assert_close(found, expected, **tolerance)
        return
    except (TypeError, RuntimeError):
        reason = "a tensor, a number, a tuple and None are different; .item() makes numbers"
    except AssertionError as error:
        first, *others = str(error).strip().splitlines()
        reason = " ".join([first, *(line for line in others if "for item" in line)])
    parts = f"given      {given}", f"came back  {found!r}", f"expected   {expected!r}"
    raise AssertionError("\n".join([*parts, f"so         {reason}", thought]))
