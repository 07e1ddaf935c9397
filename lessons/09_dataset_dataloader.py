"""09 Dataset and dataloader: where samples come from, and how they become batches.

The data is 178 wines from three cultivars, with 13 chemical measurements each (Forina et
al., 1988). The file is sorted by cultivar, as files often are.
"""

import argparse
import io
import itertools
import pickle
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
    random_split,
)

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
DATA = Path(__file__).resolve().parent.parent / "data"
HEADER = (
    "cultivar,alcohol,malic_acid,ash,alcalinity_of_ash,magnesium,total_phenols,flavanoids,"
    "nonflavanoid_phenols,proanthocyanins,color_intensity,hue,od280/od315_of_diluted_wines,proline"
)


def read_csv(name, header, rows):
    """data/name as an array, shape (rows, columns), float64; a file that is not so ends the run."""
    path, columns = DATA / name, header.count(",") + 1
    try:
        first, *lines = path.read_text("ascii").split("\n")
        if first != header or len(lines) != rows + 1 or lines[-1]:
            raise ValueError(f"it starts with {first!r:.40} and has {len(lines)} line ends")
        table = np.array([line.split(",") for line in lines[:-1]], dtype=float)
        if table.shape != (rows, columns) or not np.isfinite(table).all():
            raise ValueError("a row has another length or a number is not finite")
    except (OSError, ValueError) as error:
        expected = f"expected the header {header!r:.40} and {rows} rows of {columns} numbers"
        cure = "put the course's own copy back (git checkout data)"
        raise SystemExit(f"{path}: {expected}, but {error}; {cure}") from None
    return table


# %% 1. A Dataset knows its length and each of its samples
class Wine(Dataset):
    """Sample i: (13 measurements, float32; class 0, 1 or 2, int64), for 178 wines."""

    def __init__(self):
        table = torch.from_numpy(read_csv("wine.csv", HEADER, 178))
        self.x = table[:, 1:].float()
        self.y = table[:, 0].long() - 1  # the file counts cultivars from 1

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


# %% 2. An epoch is every sample once, batch by batch
# An iteration is one batch. The last batch is what remains, unless drop_last drops it.
def batches(n, batch_size, **options):
    """The batches of one epoch over samples 0 ... n - 1, as lists of their numbers."""
    loader = DataLoader(range(n), batch_size=batch_size, collate_fn=list, **options)
    return list(loader)


def two_epochs(n, seed):
    """The orders of two epochs from one loader that shuffles with a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(range(n), batch_size=None, shuffle=True, generator=generator)
    return list(loader), list(loader)


# %% 3. Mini-batches: each gradient is the full one, on average
# A softmax classifier is one linear layer with an output for each class. CrossEntropyLoss
# wants those outputs and the class as an integer.
def gradients(x, y, weight, batch_size):
    """(batch gradients, averaged by the batches' sizes; the full gradient), shaped as weight."""

    def gradient(x, y):
        w = weight.detach().clone().requires_grad_()
        torch.nn.CrossEntropyLoss()(x @ w.T, y).backward()
        return w.grad

    pairs = zip(x.split(batch_size), y.split(batch_size), strict=True)
    return sum(len(b) * gradient(a, b) for a, b in pairs) / len(y), gradient(x, y)


def train_in_batches(model, loss_function, optimizer, loader, device, epochs):
    """Make one step of optimizer for each batch (x, y) of loader, moved to device."""
    for _ in range(epochs):
        for x, y in loader:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            optimizer.zero_grad()
            loss_function(model(x), y).backward()
            optimizer.step()


def parts(seed):
    """The indices of 142 wines to train with and of 36 to test with, by random_split."""
    generator = torch.Generator().manual_seed(seed)
    split = random_split(Wine(), [142, 36], generator=generator)
    return [sorted(part.indices) for part in split]


def accuracy(seed, scale, shuffle, lr, batch_size, epochs, device):
    """Share of 36 test wines put right by a softmax classifier trained on the other 142."""
    wine, (rows, test), generator = Wine(), parts(seed), torch.Generator().manual_seed(seed)
    mean, deviation = wine.x[rows].mean(dim=0), wine.x[rows].std(dim=0)
    x = (wine.x - mean) / deviation if scale else wine.x
    pinned = {"pin_memory": device == "cuda"}  # lets non_blocking copies overlap with work
    loader = DataLoader(
        TensorDataset(x[rows], wine.y[rows]), batch_size, shuffle, generator=generator, **pinned
    )
    model = torch.nn.Linear(13, 3, device=device)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    train_in_batches(model, torch.nn.CrossEntropyLoss(), optimizer, loader, device, epochs)
    with torch.inference_mode():
        predicted = model(x[test].to(device)).argmax(dim=1).cpu()
    return (predicted == wine.y[test]).double().mean().item()


# %% 4. Workers are processes that fetch ahead of time, and bring the same
def fetched(seed, batch_size, workers, start_method=None):
    """The batches of x, each (batch_size, 13), of a shuffled epoch, fetched by worker processes."""
    options = {"num_workers": workers, "multiprocessing_context": start_method if workers else None}
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(Wine(), batch_size, shuffle=True, generator=generator, **options)
    return [x for x, _ in loader]


# %% 5. A stream has to be shared out among the workers
# An IterableDataset reads on and on, so memory does not grow with the file. Each worker has
# a copy of it, and would read everything unless told which lines are its own.
class Stream(IterableDataset):
    """The rows below the header of a CSV file, each a float64 tensor, read one at a time."""

    def __init__(self, path, shared_out):
        self.path, self.shared_out = path, shared_out

    def __iter__(self):
        worker = get_worker_info() if self.shared_out else None
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        with open(self.path, encoding="ascii") as lines:
            for line in itertools.islice(lines, 1 + first, None, step):
                yield torch.tensor([float(n) for n in line.split(",")], dtype=torch.float64)


def times_read(shared_out, workers, batch_size):
    """How often the 178 rows of the file come out of a Stream in one epoch, on average."""
    loader = DataLoader(Stream(DATA / "wine.csv", shared_out), batch_size, num_workers=workers)
    return sum(len(batch) for batch in loader) / len(Wine())


# %% 6. Three ways to fetch the same batches
# One sample at a time, stacked; a whole batch by __getitems__; or slices of tensors, without
# a DataLoader. tests/benchmark.py says how many samples a second each of them brings.
class Batched(TensorDataset):
    """A TensorDataset that fetches a batch by one index into each tensor."""

    def __getitems__(self, indices):
        return self[torch.tensor(indices)]


def same(batch):
    """The batch as it is: nothing is left to stack."""
    return batch


def three_ways(x, y, batch_size):
    """Way -> an iterator over the batches (x, y) of an epoch in order."""
    starts = range(0, len(y), batch_size)
    return {
        "one at a time": iter(DataLoader(TensorDataset(x, y), batch_size)),
        "__getitems__": iter(DataLoader(Batched(x, y), batch_size, collate_fn=same)),
        "slices": ((x[i : i + batch_size], y[i : i + batch_size]) for i in starts),
    }


# %% 7. Balance and pad
def shares(balanced, n, seed):
    """The share of each class in n draws: as in the data, or evened out by weights 1 / count."""
    y = Wine().y
    weights = 1 / y.bincount()[y] if balanced else torch.ones(len(y))
    sampler = WeightedRandomSampler(weights, n, generator=torch.Generator().manual_seed(seed))
    return (y[list(sampler)].bincount() / n).tolist()


def padded(rows):
    """A collate_fn for tensors of unequal length: (n, longest), zeros at the ends, and lengths."""
    lengths = torch.tensor([len(row) for row in rows])
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths


# %% 8. Mistake: labels from 1
# CrossEntropyLoss counts classes from 0. Too large a label raises, but -100 means "ignore".
def cross_entropy(labels):
    """The mean loss of three equal outputs for each label, log 3; None if it raises."""
    try:
        return torch.nn.CrossEntropyLoss()(torch.zeros(len(labels), 3), torch.tensor(labels)).item()
    except IndexError:
        return None


# %% 9. Mistake: a random generator that the dataset owns
# Each worker has a copy of it, in the same state, and a new copy for the next epoch.
# torch's own generator is seeded anew for each worker and each epoch.
class Noise(Dataset):
    """8 random numbers: from a NumPy generator of its own, or from torch's."""

    def __init__(self, owned):
        self.random = np.random.default_rng(0) if owned else None

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.random.random() if self.random else torch.rand(()).item()


def noise(owned, workers):
    """Two epochs of Noise: (how many of the 8 numbers differ, whether the epochs are equal)."""
    loader = DataLoader(Noise(owned), batch_size=None, num_workers=workers)
    first, second = list(loader), list(loader)
    return len(set(first)), first == second


# %% 10. Mistake: sorted data and no shuffle
def classes_in_a_batch(shuffle, batch_size, seed):
    """How many classes a batch of wines holds, on average over an epoch."""
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(Wine(), batch_size, shuffle=shuffle, generator=generator)
    counts = [len(y.unique()) for _, y in loader]
    return sum(counts) / len(counts)


# %% 11. Mistake: a lambda in the dataset
# On Windows and macOS, and on Linux from Python 3.14, workers get the dataset by pickle.
def can_be_sent(dataset):
    """Whether a dataset can be pickled, and so be sent to a worker that was not forked."""
    try:
        pickle.dumps(dataset)
    except (AttributeError, pickle.PicklingError):
        return False
    return True


# %% 12. Mistake: reading a loader moves the global random state
def next_draw_is_the_same(own_generator):
    """Whether torch.rand gives what it would have given had the loader not been read."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untouched = torch.rand(1)
        torch.manual_seed(0)
        list(DataLoader(Wine(), generator=torch.Generator() if own_generator else None))
        return torch.equal(torch.rand(1), untouched)


# %% The picture
def figure(device="cpu"):
    """An epoch as a grid, a row for each batch of 16, coloured by class: sorted and shuffled."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(8, 3.6), layout="constrained")
    for axes, shuffle in zip(picture.subplots(1, 2), (False, True), strict=True):
        loader = DataLoader(Wine(), 16, shuffle, generator=torch.Generator().manual_seed(0))
        grid = np.full((len(loader), 16), np.nan)
        for row, (_, y) in zip(grid, loader, strict=True):
            row[: len(y)] = y
        axes.imshow(grid, cmap="viridis")
        axes.set(title=f"shuffle={shuffle}", xlabel="place in the batch", ylabel="batch")
    return picture


# %% Run it
def main(device):
    print(f"09 Dataset and dataloader on {device}")
    wine = Wine()

    print("\n1. A Dataset knows its length and each of its samples")
    x, y = wine[0]
    print(f"   {len(wine)} samples; the first is {x[0]:.2f}, {x[1]:.2f}, ... of class {y}")

    print("\n2. An epoch is every sample once, batch by batch")
    for n, size, drop in ((100, 20, False), (178, 4, False), (178, 4, True)):
        epoch = batches(n, size, drop_last=drop)
        counts = f"{len(epoch)} batches, the last of {len(epoch[-1])}"
        print(f"   {n} samples by {size:>2}, drop_last={drop!s:<5}   {counts}")
    first, second = two_epochs(178, seed=0)
    print(f"   shuffled: every sample once {sorted(first) == list(range(178))}", end=", ")
    print(f"the next epoch in the same order {first == second}")
    print(f"   a new loader, the same seed: the same order {first == two_epochs(178, seed=0)[0]}")

    print("\n3. Mini-batches: each gradient is the full one, on average")
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 13, generator=generator, dtype=torch.float64)
    of_batches, full = gradients(wine.x.double(), wine.y, weight, batch_size=16)
    relative = (of_batches - full).abs().max() / full.abs().max()
    print(f"   largest difference, relative to the full gradient {relative:.12f}")
    for scale in (True, False):
        found = [accuracy(seed, scale, True, 0.1, 16, 10, device) for seed in range(4)]
        print(f"   scale={scale!s:<5}   accuracy over 4 splits {sum(found) / 4:.2f}", end=", ")
        print(f"from {min(found):.2f} to {max(found):.2f}")

    print("\n4. Workers are processes that fetch ahead of time, and bring the same")
    pairs = zip(fetched(0, 32, workers=0), fetched(0, 32, workers=2), strict=True)
    print(f"   0 and 2 workers: the same batches {all(torch.equal(a, b) for a, b in pairs)}")

    print("\n5. A stream has to be shared out among the workers")
    for shared_out in (False, True):
        times = times_read(shared_out, workers=2, batch_size=50)
        print(f"   shared_out={shared_out!s:<5}   2 workers read each row {times:.1f} times")

    print("\n6. Three ways to fetch the same batches")
    epochs = {way: list(epoch) for way, epoch in three_ways(wine.x, wine.y, 64).items()}
    for way, epoch in epochs.items():
        x, y = (torch.cat(column) for column in zip(*epoch, strict=True))
        same_x, same_y = torch.equal(x, wine.x), torch.equal(y, wine.y)
        print(f"   {way:<13}   {len(epoch)} batches, every sample in order {same_x and same_y}")

    print("\n7. Balance and pad")
    for balanced in (False, True):
        drawn = ", ".join(f"{share:.2f}" for share in shares(balanced, 10_000, seed=0))
        print(f"   balanced={balanced!s:<5}   shares of the classes in 10,000 draws {drawn}")
    table, lengths = padded([torch.tensor([1, 2, 3]), torch.tensor([4])])
    print(f"   rows of lengths {lengths.tolist()} padded: {table.tolist()}")

    print("\n8. Mistake: labels from 1")
    for labels in ([0, 1, 2], [1, 2, 3], [1, 2, -100]):
        loss = cross_entropy(labels)
        print(f"   labels {labels!s:<12}   {'raises' if loss is None else f'loss {loss:.4f}'}")

    print("\n9. Mistake: a random generator that the dataset owns")
    for owned in (True, False):
        different, repeats = noise(owned, workers=2)
        print(f"   owned={owned!s:<5}   {different} different numbers of 8", end=", ")
        print(f"the next epoch repeats them {repeats}")

    print("\n10. Mistake: sorted data and no shuffle")
    for shuffle in (False, True):
        found = [accuracy(s, True, shuffle, 1.0, 4, 1, device) for s in range(5)]
        classes = f"{classes_in_a_batch(shuffle, 4, seed=0):.1f} classes a batch"
        print(
            f"   shuffle={shuffle!s:<5}   {classes}, accuracy after one epoch {sum(found) / 5:.2f}"
        )

    print("\n11. Mistake: a lambda in the dataset")
    for name, dataset in (("Wine()", wine), ("a list with a lambda", [lambda x: x])):
        print(f"   {name:<20}   can be sent to a worker {can_be_sent(dataset)}")

    print("\n12. Mistake: reading a loader moves the global random state")
    for own in (False, True):
        print(f"   own_generator={own!s:<5}   torch.rand as before {next_draw_is_the_same(own)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--device", choices=DEVICES, default=DEVICES[-1])
    parser.add_argument("--figure", metavar="FILE", help="save the picture (.png, .svg, .pdf)")
    args = parser.parse_args()
    if args.figure is not None:
        file = Path(args.figure)
        if file.suffix not in (".png", ".svg", ".pdf") or not file.parent.is_dir():
            parser.error(f"--figure: {args.figure!r} must be .png, .svg or .pdf, in a real folder")
    main(args.device)
    if args.figure is not None:
        drawn, part = io.BytesIO(), file.with_name(f"{file.name}.part")
        figure(args.device).savefig(drawn, format=file.suffix[1:])
        try:
            part.write_bytes(drawn.getvalue())
            part.replace(file)
        except OSError as error:
            if part in file.parent.iterdir():
                part.unlink()
            parser.error(f"--figure: {error}")
