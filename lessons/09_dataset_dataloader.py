"""09 Dataset and dataloader: where samples come from, and how they become batches.

The data is 178 wines from three cultivars, with 13 chemical measurements each (Forina
et al., 1988). The file is sorted by cultivar, as files often are.
"""

import argparse
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils import data

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
DATA = Path(__file__).resolve().parent.parent / "data"


# Reading a data file: no need to read on before section 1.
def read_csv(name, rows, columns):
    """The numbers below the header of data/name, float64; a wrong file ends the run."""
    try:
        text = (DATA / name).read_text("ascii")
        table = np.array(
            [line.split(",") for line in text.splitlines()[1:]], dtype=float
        )
        if (
            table.shape != (rows, columns)
            or not np.isfinite(table).all()
            or text[-1] != "\n"
        ):
            raise ValueError("it is cut short, or a number is missing or not finite")
    except (OSError, ValueError) as error:
        cure = "copy the file from the course again"
        raise SystemExit(
            f"{DATA / name}: {rows} rows of {columns}: {error}; {cure}"
        ) from None
    return table


# %% 1. A Dataset knows its length and each of its samples
class Wine(data.Dataset):
    """Sample i: (13 measurements, float32; class 0, 1 or 2, int64), for 178 wines."""

    def __init__(self):
        table = torch.from_numpy(read_csv("wine.csv", 178, 14))
        self.x = table[:, 1:].float()
        self.y = table[:, 0].long() - 1  # the file counts cultivars from 1

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


def show_1(device):
    print("\n1. A Dataset knows its length and each of its samples")
    wine = Wine()
    x, y = wine[0]
    first = f"{x[0]:.2f}, {x[1]:.2f}, ..."
    print(f"   {len(wine)} samples; the first is {first} of class {y}")


# %% 2. An epoch is every sample once, batch by batch
def batches(n, batch_size, **options):
    """The batches of one epoch over samples 0 ... n - 1, as lists of their numbers."""
    options |= {"batch_size": batch_size, "collate_fn": list}
    return list(data.DataLoader(range(n), **options))


def two_epochs(n, seed):
    """The orders of two epochs from one loader that shuffles by its own generator."""
    options = {"shuffle": True, "generator": torch.Generator().manual_seed(seed)}
    loader = data.DataLoader(range(n), batch_size=None, **options)
    return list(loader), list(loader)


def show_2(device):
    print("\n2. An epoch is every sample once, batch by batch")
    for n, batch_size, drop_last in ((100, 20, False), (178, 4, False), (178, 4, True)):
        sizes = [len(batch) for batch in batches(n, batch_size, drop_last=drop_last)]
        epoch = f"{len(sizes)} batches of {sum(sizes)} in all, the last {sizes[-1:]}"
        by = f"{n} samples by {batch_size:>2}"
        print(f"   {by}, drop_last={drop_last!s:<5}   {epoch}")
    first, second = two_epochs(178, seed=0)
    again, _ = two_epochs(178, seed=0)
    each_once = sorted(first) == list(range(178))
    order = f"same order next epoch {first == second}, same seed {first == again}"
    print(f"   shuffled: each sample once {each_once}, {order}")


# %% 3. Mistake: sorted data and no shuffle
# CrossEntropyLoss wants a logit for each class, and the right class as an integer.
def train_in_batches(model, loss_function, optimizer, loader, device, epochs):
    """Make one step of optimizer for each batch (x, y) of loader, moved to device."""
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            optimizer.zero_grad()
            loss_function(model(x), y).backward()
            optimizer.step()


def train_test_rows(seed):
    """The indices of 142 wines to train with and 36 to test with, by random_split."""
    generator = torch.Generator().manual_seed(seed)
    train, test = data.random_split(range(178), [142, 36], generator=generator)
    return sorted(train.indices), sorted(test.indices)


def accuracy_on_test(seed, device, shuffle=True, lr=0.5, batch_size=32, epochs=3):
    """Share of 36 test wines put right by a linear classifier trained on the others."""
    wine, (train, test) = Wine(), train_test_rows(seed)
    mean, std = wine.x[train].mean(dim=0), wine.x[train].std(dim=0, correction=0)
    x = (wine.x - mean) / std
    dataset = data.TensorDataset(x[train], wine.y[train])
    options = {"shuffle": shuffle, "generator": torch.Generator().manual_seed(seed)}
    options["pin_memory"] = device == "cuda"  # non_blocking copies overlap with work
    loader = data.DataLoader(dataset, batch_size, **options)
    model = nn.Linear(13, 3, device=device)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    train_in_batches(model, nn.CrossEntropyLoss(), optimizer, loader, device, epochs)
    with torch.no_grad():
        predicted = model(x[test].to(device)).argmax(dim=1).cpu()
    return (predicted == wine.y[test]).double().mean().item()


def show_3(device):
    print("\n3. Mistake: sorted data and no shuffle")
    epochs = 1
    options = {"lr": 1.0, "batch_size": 8, "epochs": epochs}
    for shuffle in (False, True):
        accuracies = [accuracy_on_test(s, device, shuffle, **options) for s in range(4)]
        accuracy = f"accuracy {np.mean(accuracies):.2f}, mean of 4 splits"
        print(f"   shuffle={shuffle!s:<5}   epochs {epochs}: {accuracy}")


# %% 4. Mistake: the mean of batch means
# The last batch is smaller, and its samples weigh more.
def mean_of_means_and_mean(correct, batch_size):
    """(mean of the batches' means, mean of all) of correct, shape (n,), of zeros and
    ones."""
    correct = correct.double()
    means = [batch.mean() for batch in correct.split(batch_size)]
    return torch.stack(means).mean().item(), correct.mean().item()


def show_4(device):
    print("\n4. Mistake: the mean of batch means")
    n, wrong, batch_size = 10_000, 16, 64
    correct = torch.arange(n, device=device) < n - wrong
    of_batches, of_all = mean_of_means_and_mean(correct, batch_size)
    batches = f"in batches of {batch_size} and a last one of {n % batch_size}"
    print(f"   {n:,} answers, the last {wrong} wrong, {batches}")
    print(f"   mean of batch means {of_batches:.6f}, mean of all {of_all:.6f}")


# %% 5. Balance and pad
def class_shares(balanced, n, seed):
    """The share of each class in n draws: as in the data, or by weights 1 / count."""
    y = Wine().y
    weights = 1 / y.bincount()[y] if balanced else torch.ones(len(y))
    generator = torch.Generator().manual_seed(seed)
    sampler = data.WeightedRandomSampler(weights, n, generator=generator)
    return (y[list(sampler)].bincount(minlength=3) / n).tolist()


def pad_collate(rows):
    """A collate_fn for unequal lengths: (n, longest), with zeros, and the lengths."""
    lengths = torch.tensor([len(row) for row in rows])
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths


def show_5(device):
    print("\n5. Balance and pad")
    for balanced in (False, True):
        first, second, third = class_shares(balanced, 10_000, seed=0)
        shares = f"{first:.2f}, {second:.2f}, {third:.2f}"
        draws = f"shares of the classes in 10,000 draws {shares}"
        print(f"   balanced={balanced!s:<5}   {draws}")
    table, lengths = pad_collate([torch.tensor([1, 2, 3]), torch.tensor([4])])
    print(f"   rows of lengths {lengths.tolist()} padded: {table.tolist()}")


# %% 6. Workers are processes, each with a copy of the dataset
# They fetch ahead. On Windows and macOS, and on Linux from Python 3.14 on, a worker is
# sent the dataset by pickle.
def shuffled_batches(seed, batch_size, workers, start_method=None):
    """The x of each batch of a shuffled epoch of wines, fetched by so many workers."""
    options = {"shuffle": True, "generator": torch.Generator().manual_seed(seed)}
    options |= {"num_workers": workers, "multiprocessing_context": start_method}
    return [x for x, _ in data.DataLoader(Wine(), batch_size, **options)]


def can_be_pickled(dataset):
    """Whether a dataset can be sent to a worker that was not forked."""
    try:
        pickle.dumps(dataset)
    except (AttributeError, TypeError, pickle.PicklingError):
        return False
    return True


# Each worker has a copy in the same state, new ones each epoch unless
# persistent_workers=True. torch's own generator is seeded anew for each worker and each
# epoch.
class Noise(data.Dataset):
    """8 random numbers: from a NumPy generator of its own, or from torch's."""

    def __init__(self, owned):
        self.random = np.random.default_rng(0) if owned else None

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.random.random() if self.random else torch.rand(()).item()


def distinct_and_repeated(owned, workers):
    """(how many of an epoch's 8 numbers differ, whether the next epoch repeats it)."""
    loader = data.DataLoader(Noise(owned), batch_size=None, num_workers=workers)
    first, second = list(loader), list(loader)
    return len(set(first)), first == second


def show_6(device):
    print("\n6. Workers are processes, each with a copy of the dataset")
    alone = shuffled_batches(0, 32, workers=0)
    together = shuffled_batches(0, 32, workers=2)
    same = torch.equal(torch.cat(alone), torch.cat(together))
    print(f"   0 and 2 workers: the same batches {same}")
    with_lambda = can_be_pickled([lambda x: x])
    pickled = can_be_pickled(Wine())
    print(f"   Wine() can be pickled {pickled}, a list with a lambda {with_lambda}")
    print("   8 random numbers by 2 workers; does the dataset own the generator?")
    for owned in (True, False):
        distinct, repeated = distinct_and_repeated(owned, workers=2)
        next_epoch = f"the next epoch repeats them {repeated}"
        print(
            f"   owned={owned!s:<5}   {distinct} different numbers of 8, {next_epoch}"
        )


# %% 7. A stream has to be shared out among the workers
# Each worker has a copy of it, and would read everything unless told which lines are
# its own.
class Stream(data.IterableDataset):
    """The rows below the header of a CSV file, float64 tensors, read one at a time."""

    def __init__(self, path, shared_out):
        self.path, self.shared_out = path, shared_out

    def __iter__(self):
        worker = data.get_worker_info()  # None in the main process
        with open(self.path, encoding="ascii") as lines:
            next(lines)  # the header
            for number, line in enumerate(lines):
                mine = worker is None or number % worker.num_workers == worker.id
                if mine or not self.shared_out:
                    numbers = [float(word) for word in line.split(",")]
                    yield torch.tensor(numbers, dtype=torch.float64)


def times_read(shared_out, workers, batch_size):
    """How often each of the 178 rows comes in an epoch of a Stream, on average."""
    stream = Stream(DATA / "wine.csv", shared_out)
    loader = data.DataLoader(stream, batch_size=batch_size, num_workers=workers)
    return sum(len(batch) for batch in loader) / 178


def show_7(device):
    print("\n7. A stream has to be shared out among the workers")
    for shared_out in (False, True):
        times = times_read(shared_out, workers=2, batch_size=50)
        reading = f"2 workers read each row {times:.1f} times"
        print(f"   shared_out={shared_out!s:<5}   {reading}")


# %% 8. Mini-batches: each gradient is the full one, on average
def gradient(x, y, weight):
    """d CrossEntropyLoss(x weight^T, y) / d weight; x (n, d), y (n,), weight (c, d)."""
    weight = weight.detach().clone().requires_grad_()
    nn.CrossEntropyLoss()(x @ weight.T, y).backward()
    return weight.grad


def average_of_batch_gradients(x, y, weight, batch_size):
    """The gradients of the batches, averaged with the batches' sizes as weights."""
    total = torch.zeros_like(weight)
    for x_batch, y_batch in zip(x.split(batch_size), y.split(batch_size), strict=True):
        total += len(y_batch) * gradient(x_batch, y_batch, weight)
    return total / len(y)


def show_8(device):
    print("\n8. Mini-batches: each gradient is the full one, on average")
    wine, generator = Wine(), torch.Generator().manual_seed(0)
    weight = torch.randn(3, 13, generator=generator, dtype=torch.float64)
    full = gradient(wine.x.double(), wine.y, weight)
    average = average_of_batch_gradients(wine.x.double(), wine.y, weight, batch_size=16)
    error = (average - full).abs().max() / full.abs().max()
    agree = "average and full gradient agree to 1e-12"
    print(f"   batches of 16: {agree}: {error < 1e-12}")
    accuracies = [accuracy_on_test(seed, device) for seed in range(3)]
    mean = sum(accuracies) / 3
    spread = f"from {min(accuracies):.2f} to {max(accuracies):.2f}"
    print(f"   accuracy on the test rows of 3 splits: {mean:.2f}, {spread}")


# %% The picture
def figure(device="cpu"):
    """An epoch as a grid, a row a batch of 16, coloured by class: sorted, shuffled."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(8, 3.6), layout="constrained")
    for axes, shuffle in zip(fig.subplots(1, 2), (False, True), strict=True):
        options = {"shuffle": shuffle, "generator": torch.Generator()}
        loader = data.DataLoader(Wine(), 16, **options)
        grid = np.full((len(loader), 16), np.nan)
        for row, (_, y) in zip(grid, loader, strict=True):
            row[: len(y)] = y
        axes.imshow(grid, cmap="viridis")
        axes.set(title=f"shuffle={shuffle}")
        axes.set(xlabel="place in the batch", ylabel="batch")
    return fig


# %% Run it
TITLE = "09 Dataset and dataloader"
SECTIONS = [show_1, show_2, show_3, show_4, show_5, show_6, show_7, show_8]


# %% The command line: the same in every lesson, no need to read on
def main(device, section=None):
    """Print the title and all sections, or only the one with this number."""
    print(f"{TITLE} on {device}")
    for number, show in enumerate(SECTIONS, start=1):
        if section is None or section == number:
            show(device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--device", choices=DEVICES, default=DEVICES[-1])
    numbers = range(1, len(SECTIONS) + 1)
    parser.add_argument("--section", metavar="N", type=int, choices=numbers)
    parser.add_argument("--figure", metavar="FILE", help="save as .png, .svg or .pdf")
    args = parser.parse_args()
    try:
        (torch.ones(1, device=args.device) + 1).item()
    except RuntimeError as error:  # a card that this build of torch cannot use
        reason = str(error).splitlines()[0]
        sys.exit(f"--device {args.device}: {reason}; see lessons/01_install_check.py")
    try:
        main(args.device, args.section)
        sys.stdout.flush()
    except BrokenPipeError:  # what reads the output, head for instance, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if args.figure is not None:
        fig = figure(args.device)
        part = f"{args.figure}.part"  # an old picture stays until the new one is whole
        try:
            fig.savefig(part, format=args.figure.rpartition(".")[2])
            os.replace(part, args.figure)
        except (OSError, ValueError) as error:
            if os.path.exists(part):
                os.remove(part)
            parser.error(f"--figure {args.figure!r}: {error}")
