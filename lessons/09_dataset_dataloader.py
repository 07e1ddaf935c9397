"""09 Dataset and dataloader: where samples come from, and how they become batches.

The data is 178 wines from three kinds of grape, with 13 chemical measurements each
(Forina et al., 1988). The file is sorted by grape, as files often are.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
DATA = Path(__file__).resolve().parent.parent / "data"


def as_text(vector, digits=2):
    """The numbers of a vector, rounded: [1.00, 2.00]."""
    numbers = [f"{number:.{digits}f}" for number in vector]
    return f"[{', '.join(numbers)}]"


# What the model of sections 3 and 8 gets.
def rows_and_answers(wine):
    """x standardised, (178, 13), and y, 1 for the second grape, else 0, (178, 1)."""
    x = (wine.x - wine.x.mean(dim=0)) / wine.x.std(dim=0)
    y = (wine.y == 1).float()[:, None]
    return x, y


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


# %% 1. A Dataset gives one sample
# Both classes answer the same two questions: how many are you, and what is sample i?
class Wine(Dataset):
    """Sample i: (13 measurements, float32; the number of its class, int64)."""

    def __init__(self):
        table = torch.from_numpy(read_csv("wine.csv", 178, 14))
        self.x = table[:, 1:].float()
        self.y = table[:, 0].long() - 1  # the file counts the grapes from 1

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


class Pictures(Dataset):
    """Sample i: (a picture of folder/class/name.png, its class).

    A picture is float32 from 0 to 1, of shape (3, height, width).
    """

    def __init__(self, folder):
        self.files = sorted(Path(folder).glob("*/*.png"))
        self.classes = sorted({file.parent.name for file in self.files})

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        file = self.files[index]
        picture = Image.open(file).convert("RGB")
        x = torch.tensor(np.array(picture)).permute(2, 0, 1) / 255
        return x, self.classes.index(file.parent.name)


def draw_pictures(folder):
    """Twelve folders with the names 0 to 11, with one grey picture of 8 x 8 in each."""
    for number in range(12):
        os.mkdir(f"{folder}/{number}")
        Image.new("L", (8, 8), 20 * number).save(f"{folder}/{number}/one.png")


def show_1(device):
    print("\n1. A Dataset gives one sample")
    wine = Wine()
    for index in [0, len(wine) - 1]:
        x, y = wine[index]
        print(f"   wine {index:>3}   {len(x)} numbers from {x[0]:.2f}   class {y}")
    with tempfile.TemporaryDirectory() as folder:
        draw_pictures(folder)
        pictures = Pictures(folder)
        print(f"   {len(pictures)} folders with the names 0, 1, 2, ... 11, by class")
        print(f"   {', '.join(pictures.classes)}")


# %% 2. Batches and epochs
def batch_sizes(n, batch_size, drop_last):
    """The sizes of the batches of one epoch over n samples."""
    loader = DataLoader(range(n), batch_size, drop_last=drop_last)
    return [len(batch) for batch in loader]


def two_epochs(n, seed):
    """The samples of each batch of two, in two shuffled epochs over 0 ... n - 1."""
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(range(n), batch_size=2, shuffle=True, generator=generator)
    first = [batch.tolist() for batch in loader]
    second = [batch.tolist() for batch in loader]
    return first, second


def show_2(device):
    print("\n2. Batches and epochs")
    print("   samples   batch size   drop_last   batches   the last   left out")
    for n, batch_size in [(100, 20), (178, 4)]:
        for drop_last in [False, True]:
            sizes = batch_sizes(n, batch_size, drop_last)
            last = sizes[-1] if sizes else 0
            batches = f"{n:>10} {batch_size:>12} {drop_last!s:>11} {len(sizes):>9}"
            print(f"{batches} {last:>10} {n - sum(sizes):>10}")
    for seed in [0, 0, 1]:
        first, second = two_epochs(6, seed)
        print(f"   seed {seed}   epoch 1 {first}   epoch 2 {second}")


# %% 3. Mistake: sorted data and no shuffle
# Is it a wine of the second grape, class 1? Yes or no, as in lesson 08.
def count_right(model, x, y, grapes):
    """How many right answers a model gives for wines of the grapes 0, 1 and 2."""
    with torch.no_grad():
        says_yes = model(x) > 0
    right = (says_yes == (y == 1)).flatten().cpu()
    return grapes[right].bincount(minlength=3).tolist()


def train(wine, shuffle, seed, epochs, device):
    """count_right on all wines after each epoch of training on all of them."""
    x, y = rows_and_answers(wine)
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(TensorDataset(x, y), 8, shuffle, generator=generator)
    model = nn.Linear(13, 1).to(device)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    counts = []
    for _ in range(epochs):
        for x_batch, y_batch in loader:
            loss = loss_function(model(x_batch.to(device)), y_batch.to(device))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        counts.append(count_right(model, x.to(device), y.to(device), wine.y))
    return counts


def show_3(device):
    print("\n3. Mistake: sorted data and no shuffle")
    wine = Wine()
    epochs = 4
    in_order = train(wine, False, 0, epochs, device)
    runs = [train(wine, True, seed, epochs, device) for seed in range(10)]
    shuffled = torch.tensor(runs).float().mean(dim=0)
    print("   right answers among 59, 71 and 48 wines of three grapes")
    print("   epoch   in the file's order   shuffled, mean of 10 seeds")
    for epoch in range(epochs):
        mean = as_text(shuffled[epoch].tolist(), digits=1)
        print(f"   {epoch + 1:>5}   {in_order[epoch]!s:<21}   {mean}")


# %% 4. Mistake: the mean of batch means
# The last batch is smaller, and its samples weigh more.
def mean_of_batch_means(numbers, batch_size):
    """The mean of the means of the batches of numbers, of shape (n,)."""
    means = []
    for batch in DataLoader(numbers, batch_size):
        means.append(batch.mean().item())
    return sum(means) / len(means)  # WRONG if the last batch is smaller


def mean_of_all(numbers, batch_size):
    """The mean of numbers, of shape (n,), which come in batches."""
    total = 0.0
    count = 0
    for batch in DataLoader(numbers, batch_size):
        total += batch.sum().item()
        count += len(batch)
    return total / count


def rmse_of_batch_rmses(errors, batch_size):
    """The mean of the batches' root mean squared errors; errors has the shape (n,)."""
    roots = []
    for batch in DataLoader(errors, batch_size):
        roots.append(batch.square().mean().sqrt().item())
    return sum(roots) / len(roots)  # WRONG even if all batches are of one size


def show_4(device):
    print("\n4. Mistake: the mean of batch means")
    correct = torch.ones(10_000, dtype=torch.float64)
    correct[-16:] = 0
    of_batches = mean_of_batch_means(correct, batch_size=64)
    of_all = mean_of_all(correct, batch_size=64)
    print("   10,000 answers in batches of 64, the last 16 are wrong")
    print(f"   mean of batch means   {of_batches:.6f}")
    print(f"   mean of all           {of_all:.6f}")
    errors = torch.tensor([0.0, 0.0, 2.0, 2.0], dtype=torch.float64)
    root = mean_of_all(errors.square(), batch_size=2) ** 0.5
    print("   errors 0, 0, 2, 2 in batches of 2")
    print(f"   mean of batch RMSEs   {rmse_of_batch_rmses(errors, batch_size=2):.4f}")
    print(f"   RMSE of all           {root:.4f}")


# %% 5. Pad and balance
def padded(rows):
    """A collate_fn for rows of unequal lengths: (table, lengths).

    table has the shape (n, longest), with zeros behind the short rows.
    """
    lengths = torch.tensor([len(row) for row in rows])
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths


def class_shares(weights, draws, seed):
    """The share of each class of wines in so many draws by a WeightedRandomSampler."""
    generator = torch.Generator().manual_seed(seed)
    sampler = WeightedRandomSampler(weights, draws, generator=generator)
    drawn = Wine().y[list(sampler)]
    return (drawn.bincount(minlength=3) / draws).tolist()


def show_5(device):
    print("\n5. Pad and balance")
    rows = [torch.tensor([1, 2, 3]), torch.tensor([4]), torch.tensor([5, 6])]
    for table, lengths in DataLoader(rows, batch_size=3, collate_fn=padded):
        last = table[torch.arange(3), lengths - 1]
        print(f"   padded rows           {table.tolist()}")
        print(f"   table[:, -1]          {table[:, -1].tolist()}")
        print(f"   the last real ones    {last.tolist()}")
    y = Wine().y
    of_class = 1 / y.bincount()  # 1/59, 1/71, 1/48
    print("   shares of the classes in 10,000 draws")
    equal = class_shares(torch.ones(178), 10_000, seed=0)
    print(f"   equal weights         {as_text(equal)}")
    balanced = class_shares(of_class[y], 10_000, seed=0)
    print(f"   a weight per wine     {as_text(balanced)}")
    wrong = class_shares(of_class, 10_000, seed=0)  # WRONG
    print(f"   a weight per class    {as_text(wrong)}")


# %% 6. Workers are copies
# A worker is a process of its own, with a copy of the data set.
class OwnNoise(Dataset):
    """Sample i: (a random number from a generator of its own, the process)."""

    def __init__(self):
        self.generator = np.random.default_rng(0)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.generator.random(), os.getpid()


class TorchNoise(OwnNoise):
    """The same, but the number is from torch's generator."""

    def __getitem__(self, index):
        return torch.rand(()).item(), os.getpid()


def fetch_two_epochs(dataset, workers, persistent=False):
    """(numbers of epoch 1, numbers of epoch 2, how many processes fetched them)."""
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(
        dataset,
        batch_size=2,
        generator=generator,
        num_workers=workers,
        persistent_workers=persistent,
    )
    numbers = []
    processes = set()
    for _ in range(2):
        for batch, process in loader:
            numbers += batch.tolist()
            processes |= set(process.tolist())
    return numbers[:4], numbers[4:], len(processes)


def print_two_epochs(title, fetched):
    first, second, processes = fetched
    print(f"   {title}")
    print(f"      epoch 1 {as_text(first)}   epoch 2 {as_text(second)}")
    print(f"      processes that fetched: {processes}")


def show_6(device):
    print("\n6. Workers are copies")
    alone = fetch_two_epochs(OwnNoise(), workers=0)
    print_two_epochs("its own generator, no workers", alone)
    two = fetch_two_epochs(OwnNoise(), workers=2)
    print_two_epochs("its own generator, 2 workers", two)
    kept = fetch_two_epochs(OwnNoise(), workers=2, persistent=True)
    print_two_epochs("its own generator, 2 persistent workers", kept)
    of_torch = fetch_two_epochs(TorchNoise(), workers=2)
    print_two_epochs("torch's generator, 2 workers", of_torch)


# %% 7. A stream is shared out
class Stream(IterableDataset):
    """The rows below the header of a CSV file, float64, read one at a time.

    shared_out: whether a worker leaves the rows of the others alone.
    """

    def __init__(self, path, shared_out):
        self.path = path
        self.shared_out = shared_out

    def __iter__(self):
        worker = get_worker_info()  # None where there are no workers
        with open(self.path, encoding="ascii") as lines:
            next(lines)  # the header
            for number, line in enumerate(lines):
                mine = worker is None or number % worker.num_workers == worker.id
                if self.shared_out and not mine:
                    continue  # a row of another worker
                numbers = [float(word) for word in line.split(",")]
                yield torch.tensor(numbers, dtype=torch.float64)


def rows_of_an_epoch(stream, workers):
    """How many rows come in one epoch."""
    loader = DataLoader(stream, batch_size=50, num_workers=workers)
    count = 0
    for batch in loader:
        count += len(batch)
    return count


def show_7(device):
    print("\n7. A stream is shared out")
    print("   rows in an epoch over a file of 178 rows")
    for workers in [0, 2]:
        whole = rows_of_an_epoch(Stream(DATA / "wine.csv", False), workers)
        shared = rows_of_an_epoch(Stream(DATA / "wine.csv", True), workers)
        print(f"   {workers} workers   each reads all {whole}   shared out {shared}")


# %% 8. Mini-batch gradients are right on average
# The slope of the loss of one row is (p - y) x, with p the sigmoid of its logit.
def gradients_of_rows(x, y, weight):
    """The gradient of each row's loss, (n, d); x (n, d), y (n, 1), weight (d, 1)."""
    return (torch.sigmoid(x @ weight) - y) * x


def average_of_batches(x, y, weight, batch_size):
    """The batches' gradients by autograd, in order, averaged with their sizes: (d,)."""
    total = torch.zeros_like(weight)
    for x_batch, y_batch in DataLoader(TensorDataset(x, y), batch_size):
        w = weight.detach().clone().requires_grad_()
        nn.functional.binary_cross_entropy_with_logits(x_batch @ w, y_batch).backward()
        total += len(x_batch) * w.grad
    return total.flatten() / len(x)


def typical_miss(gradients, batch_size, draws, seed):
    """The root mean square distance of a random batch's gradient from that of all.

    gradients is that of each row, (n, d); no row stands twice in a batch.
    """
    generator = torch.Generator().manual_seed(seed)
    misses = []
    for _ in range(draws):
        batch = torch.randperm(len(gradients), generator=generator)[:batch_size]
        misses.append(gradients[batch].mean(dim=0) - gradients.mean(dim=0))
    return torch.stack(misses).square().sum(dim=1).mean().sqrt().item()


def miss_in_theory(gradients, batch_size):
    """sigma / sqrt(b) sqrt((n - b) / (n - 1)), sigma a row's own typical distance."""
    n = len(gradients)
    distances = gradients - gradients.mean(dim=0)
    sigma = distances.square().sum(dim=1).mean().sqrt().item()
    return sigma / batch_size**0.5 * ((n - batch_size) / (n - 1)) ** 0.5


def show_8(device):
    print("\n8. Mini-batch gradients are right on average")
    x, y = rows_and_answers(Wine())
    weight = torch.zeros(13, 1)
    gradients = gradients_of_rows(x, y, weight)
    average = average_of_batches(x, y, weight, batch_size=16)
    print("   the slopes for alcohol, malic acid and ash at w = 0")
    print(f"   all 178 wines                  {as_text(gradients.mean(dim=0)[:3])}")
    print(
        f"   the first 16 wines             {as_text(gradients[:16].mean(dim=0)[:3])}"
    )
    print(f"   all batches, weighted by size  {as_text(average[:3])}")
    print("   how far the gradient of a random batch lies from that of all")
    for batch_size in [4, 16, 64]:
        miss = typical_miss(gradients, batch_size, draws=1000, seed=0)
        print(
            f"   {batch_size:>2} wines   measured {miss:.3f}"
            f"   theory {miss_in_theory(gradients, batch_size):.3f}"
        )


# %% The picture
def figure(device="cpu"):
    """Section 3: an epoch as a grid, a row for each batch of 8, by grape."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(7, 5.5), layout="constrained")
    panels = fig.subplots(1, 2, sharey=True)
    for axes, shuffle in zip(panels, [False, True], strict=True):
        generator = torch.Generator().manual_seed(0)
        loader = DataLoader(Wine(), 8, shuffle=shuffle, generator=generator)
        grapes = torch.cat([y for _, y in loader])
        for grape in range(3):
            numbers = (grapes == grape).nonzero().flatten()
            label = f"grape {grape + 1}"
            axes.scatter(numbers % 8, numbers // 8, marker="s", label=label)
        axes.set(title=f"shuffle={shuffle}", xlabel="place in the batch")
    panels[0].invert_yaxis()
    panels[0].set(ylabel="batch of 8 wines")
    handles, labels = panels[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3)
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
