"""Plausible wrong answers to the exercises of lesson 09, and the thoughts behind."""

import csv

import numpy as np
import torch
from torch.utils.data import Dataset, TensorDataset


class _Table(Dataset):
    """Rows and the numbers of their classes."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


def _rows(path):
    """The lines below the header, as lists of texts."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def _x(rows):
    """The numbers of all columns but the last."""
    return torch.tensor([[float(word) for word in row[:-1]] for row in rows])


def from_csv_1(path):
    """The classes in the order in which they come."""
    rows = _rows(path)
    classes = list(dict.fromkeys(row[-1] for row in rows))
    y = torch.tensor([classes.index(row[-1]) for row in rows])
    return TensorDataset(_x(rows), y), classes


def from_csv_2(path):
    """Numbers in names are sorted as numbers."""
    rows = _rows(path)
    classes = sorted({row[-1] for row in rows}, key=lambda name: (len(name), name))
    y = torch.tensor([classes.index(row[-1]) for row in rows])
    return TensorDataset(_x(rows), y), classes


def from_csv_3(path):
    """Everything is float, the classes too."""
    rows = _rows(path)
    classes = sorted({row[-1] for row in rows})
    y = torch.tensor([float(classes.index(row[-1])) for row in rows])
    return TensorDataset(_x(rows), y), classes


def from_csv_4(path):
    """A class inside the function knows x and y by itself."""
    rows = _rows(path)
    classes = sorted({row[-1] for row in rows})
    x, y = _x(rows), torch.tensor([classes.index(row[-1]) for row in rows])

    class Local(_Table):
        pass

    return Local(x, y), classes


def from_csv_5(path):
    """NumPy reads the numbers, and they stay as it made them."""
    rows = _rows(path)
    classes = sorted({row[-1] for row in rows})
    x = torch.from_numpy(np.array([row[:-1] for row in rows], dtype=float))
    y = torch.tensor([classes.index(row[-1]) for row in rows])
    return TensorDataset(x, y), classes


def mean_loss_1(loss_function, batches):
    """The sum of the batches' losses, divided by the samples."""
    return sum(loss_function(p, y).item() for p, y in batches) / sum(
        len(y) for _, y in batches
    )


def mean_loss_2(loss_function, batches):
    """The last batch is short: leave it out."""
    full = batches[:-1]
    return sum(loss_function(p, y).item() for p, y in full) / len(full)


def mean_loss_3(loss_function, batches):
    """The losses are squared errors."""
    total = sum(((p - y) ** 2).sum().item() for p, y in batches)
    return total / sum(len(y) for _, y in batches)


def noisy_1(samples, generator=np.random.default_rng()):  # noqa: B008
    """No fixed seed, so every worker draws other numbers."""
    batch = torch.stack(samples)
    return batch + torch.from_numpy(generator.normal(0, 0.1, batch.shape)).float()


def noisy_2(samples):
    """A generator made in the call is nobody's copy."""
    generator = torch.Generator().manual_seed(torch.initial_seed() % 2**32)
    batch = torch.stack(samples)
    return batch + 0.1 * torch.randn(batch.shape, generator=generator)


def noisy_3(samples):
    """NumPy's global generator is seeded for each worker."""
    batch = torch.stack(samples)
    return batch + torch.from_numpy(np.random.normal(0, 0.1, batch.shape)).float()


def noisy_4(samples):
    """Noise from 0 to 0.1."""
    batch = torch.stack(samples)
    return batch + 0.1 * torch.rand(batch.shape)


def noisy_5(samples):
    """One draw for all samples."""
    batch = torch.stack(samples)
    return batch + 0.1 * torch.randn(batch.shape[1])


def noisy_6(samples):
    """The noise is written into the samples."""
    for sample in samples:
        sample += 0.1 * torch.randn(sample.shape)
    return torch.stack(samples)


def noisy_7(samples):
    """Python's numbers are float64, so the noise is too."""
    batch = torch.stack(samples)
    return batch + 0.1 * torch.randn(batch.shape, dtype=torch.float64)


def noisy_8(samples):
    """0.1 is the variance."""
    batch = torch.stack(samples)
    return batch + 0.1**0.5 * torch.randn(batch.shape)


def share_1(n, worker, workers):
    """Round up instead of down."""
    rows = n // workers + 1
    return list(range(worker * rows, (worker + 1) * rows))


def share_2(n, worker, workers):
    """Every worker reads everything, and keeps a copy."""
    return list(range(n))


def share_3(n, worker, workers):
    """The last worker takes what is left."""
    rows = n // workers
    return list(
        range(worker * rows, n if worker == workers - 1 else (worker + 1) * rows)
    )


def share_4(n, worker, workers):
    """Workers are counted from 1."""
    return list(range(worker - 1, n, workers))


def padded_with_mask_1(rows):
    """What is not 0 is real."""
    batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return batch, batch != 0


def padded_with_mask_2(rows):
    """The lengths say it all."""
    batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return batch, torch.tensor([len(row) for row in rows])


def padded_with_mask_3(rows):
    """Ones and zeros are as good as True and False."""
    pad = torch.nn.utils.rnn.pad_sequence
    ones = [torch.ones_like(row) for row in rows]
    return pad(rows, batch_first=True), pad(ones, batch_first=True)


def padded_with_mask_4(rows):
    """The default of pad_sequence: (longest, n)."""
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(rows), pad([torch.ones(len(row), dtype=torch.bool) for row in rows])


def padded_with_mask_5(rows):
    """zeros, and then the rows written into them: floats, whatever the rows are."""
    shape = len(rows), max(len(row) for row in rows)
    batch, mask = torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
    for i, row in enumerate(rows):
        batch[i, : len(row)], mask[i, : len(row)] = row, True
    return batch, mask


def padded_with_mask_6(rows):
    """Pad with -1, which is no measurement, and see where it is."""
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    mask = padded != -1
    return torch.where(mask, padded, 0), mask
