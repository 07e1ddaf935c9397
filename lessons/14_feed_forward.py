"""14 Feed forward: a network that reads digits, and what may be said of it.

1797 pictures of digits written by hand, 8 x 8 grey levels (Alpaydin, Kaynak, 1998).
"""

import argparse
import math
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

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


def digits(device="cpu"):
    """x, (1797, 64), (grey level - 5) / 6 in float64, and y, (1797,), the digits."""
    table = torch.from_numpy(read_csv("digits.csv", 1797, 65)).to(device)
    return (table[:, 1:] - 5) / 6, table[:, 0].long()


# The network, its loop and its accuracy, as in the chapter.
class Network(nn.Module):
    """From (n, 64) to (n, 10) logits, by one hidden layer."""

    def __init__(self, hidden=32):
        super().__init__()
        self.first = nn.Linear(64, hidden)
        self.second = nn.Linear(hidden, 10)

    def forward(self, x):
        hidden = torch.relu(self.first(x))
        return self.second(hidden)


def train(model, x, y, epochs, batch_size=64):
    """The losses before each step of plain SGD; a new order of the rows each epoch."""
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).to(x.device).split(batch_size):
            loss = loss_function(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return losses


def accuracy(model, x, y):
    """The share of rows whose largest logit is the one of y."""
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(dim=1) == y).double().mean().item()


# %% 1. Split in three
# Rows to train with, rows to choose with (validation), and rows to test with, once.
def split(n, seed):
    """Indices of n rows in random order: 60 % to train, 20 % to choose, 20 % to test.

    A fifth is rounded up.
    """
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    fifth = math.ceil(n / 5)
    return order[: -2 * fifth], order[-2 * fifth : -fifth], order[-fifth:]


def learnt(x, y, n, epochs, seed):
    """A network learns n training rows: (accuracy on them, on the validation rows)."""
    train_rows, valid_rows, _ = split(len(x), seed)
    rows = train_rows[:n]
    torch.manual_seed(seed)
    model = Network().double().to(x.device)
    train(model, x[rows], y[rows], epochs)
    there = accuracy(model, x[rows], y[rows])
    return there, accuracy(model, x[valid_rows], y[valid_rows])


def show_1(device):
    print("\n1. Split in three")
    x, y = digits(device)
    train_rows, valid_rows, test_rows = split(len(x), seed=0)
    sizes = f"{len(train_rows)}   {len(valid_rows)}   {len(test_rows)}"
    print(f"   rows to train with, to choose with, to test with: {sizes}")
    print("   mean of five splits")
    for n, epochs in [(20, 50), (100, 30), (1077, 10)]:
        pairs = [learnt(x, y, n, epochs, seed) for seed in range(5)]
        there, new = np.mean(pairs, axis=0)
        print(f"   {n:>4} rows   accuracy on them {there:.2f}   on new rows {new:.2f}")


# %% 2. One batch by heart
# If a network cannot learn 64 rows by heart, something is wrong: the data, the model,
# the loss or the optimizer.
def shuffled_apart(model, x, y, steps):
    """The losses before each step, where x and y are shuffled each on its own."""
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for _ in range(steps):
        x = x[torch.randperm(len(x)).to(x.device)]
        y = y[torch.randperm(len(y)).to(y.device)]  # WRONG: another order than x
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def show_2(device):
    print("\n2. One batch by heart")
    x, y = digits(device)
    batch = split(len(x), seed=0)[0][:64]
    x_batch, y_batch = x[batch], y[batch]
    torch.manual_seed(0)
    model = Network().double().to(device)
    losses = train(model, x_batch, y_batch, epochs=101)
    model = Network().double().to(device)
    apart = shuffled_apart(model, x_batch, y_batch, steps=101)
    print("   step   together   shuffled apart")
    for step in [0, 50, 100]:
        print(f"   {step:>4}   {losses[step]:8.2f}   {apart[step]:14.2f}")


# %% 3. Baselines
def nearest(x, x_known, y_known):
    """The label of the nearest known row, (m, 64), for each row of x, (n, 64)."""
    return y_known[torch.cdist(x, x_known).argmin(dim=1)]


def compared(x, y, seed):
    """Four accuracies on the validation rows of a split, for the names of show_3."""
    train_rows, valid_rows, _ = split(len(x), seed)
    x_train, y_train = x[train_rows], y[train_rows]
    x_valid, y_valid = x[valid_rows], y[valid_rows]
    largest = y_train.bincount().argmax()
    torch.manual_seed(seed)
    linear = nn.Linear(64, 10).double().to(x.device)
    network = Network().double().to(x.device)
    train(linear, x_train, y_train, epochs=20)
    train(network, x_train, y_train, epochs=20)
    neighbour = nearest(x_valid, x_train, y_train)
    return [
        (largest == y_valid).double().mean().item(),
        accuracy(linear, x_valid, y_valid),
        accuracy(network, x_valid, y_valid),
        (neighbour == y_valid).double().mean().item(),
    ]


def show_3(device):
    print("\n3. Baselines")
    x, y = digits(device)
    splits = [compared(x, y, seed) for seed in range(3)]
    print("   accuracy on the validation rows, mean of three splits")
    names = ["largest class", "linear model", "network", "nearest neighbour"]
    for name, mean in zip(names, np.mean(splits, axis=0), strict=True):
        print(f"   {name:<17}   {mean:.3f}")


# %% 4. Choosing on the test rows
# Each model tosses a coin for each row, and is right with probability 1/2.
def best_of_coins(models, rows, seed):
    """(accuracy of the best of so many coins, accuracy of the same on fresh rows)."""
    generator = torch.Generator().manual_seed(seed)
    right = torch.rand(models, rows, generator=generator) < 0.5
    fresh = torch.rand(models, rows, generator=generator) < 0.5
    accuracies = right.double().mean(dim=1)
    best = accuracies.argmax()
    return accuracies[best].item(), fresh[best].double().mean().item()


def best_in_theory(models, rows):
    """The mean of the best: the sum over k < rows of P(it has > k right) / rows."""
    at_most = np.cumsum([math.comb(rows, k) / 2**rows for k in range(rows)])
    return (1 - at_most**models).sum() / rows


def show_4(device):
    print("\n4. Choosing on the test rows")
    print("   the best of so many coins on 100 test rows, mean of 100 choices")
    for models in [1, 20, 200]:
        choices = [best_of_coins(models, 100, seed) for seed in range(100)]
        best, fresh = np.mean(choices, axis=0)
        theory = best_in_theory(models, 100)
        numbers = f"{best:.2f}   theory {theory:.2f}   on fresh rows {fresh:.2f}"
        print(f"   {models:>3} coins   best {numbers}")


# %% 5. Twins on both sides
def accuracy_with_twins(x, copies, seed):
    """The nearest neighbour's accuracy on a fifth of 400 rows with random labels.

    Each row of x, (400, 64), stands so many times in the table before the split.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (400,), generator=generator).to(x.device)
    order = torch.randperm(400 * copies, generator=generator).to(x.device) % 400
    test, known = order[: 80 * copies], order[80 * copies :]
    says = nearest(x[test], x[known], labels[known])
    return (says == labels[test]).double().mean().item()


def twins_in_theory(copies):
    """The share of test rows with a known copy, and a tenth of the others."""
    n, test = 400 * copies, 80 * copies
    alone = math.prod((test - i) / (n - i) for i in range(1, copies))
    return (1 - alone) + alone / 10


def neighbour_accuracy(x, y, order):
    """The nearest neighbour's accuracy where each fifth of the order is asked once."""
    right = 0
    for fifth in order.chunk(5):
        known = torch.ones(len(x), dtype=torch.bool, device=x.device)
        known[fifth] = False
        right += (nearest(x[fifth], x[known], y[known]) == y[fifth]).sum().item()
    return right / len(x)


def show_5(device):
    print("\n5. Twins on both sides")
    x, y = digits(device)
    print("   400 pictures with random labels, mean of 20 draws")
    for copies in [1, 2, 3]:
        draws = [accuracy_with_twins(x[:400], copies, seed) for seed in range(20)]
        mean, theory = np.mean(draws), twins_in_theory(copies)
        print(
            f"   {copies} of each             accuracy {mean:.2f}   theory {theory:.2f}"
        )
    print("   1797 pictures with their own labels, cut into fifths")
    in_order = neighbour_accuracy(x, y, torch.arange(len(x)))
    random = [neighbour_accuracy(x, y, torch.cat(split(len(x), s))) for s in range(5)]
    print(f"   at random             accuracy {np.mean(random):.3f}")
    print(f"   in the file's order   accuracy {in_order:.3f}")


# %% 6. What one number can tell
def interval(right, n):
    """p - 2 s and p + 2 s, where p = right / n and s = sqrt(p (1 - p) / n)."""
    p = right / n
    s = math.sqrt(p * (1 - p) / n)
    return p - 2 * s, p + 2 * s


def caught_in_theory(p, n):
    """The probability that the interval of n rows holds p: a sum of binomial ones."""
    total = 0.0
    for k in range(n + 1):
        low, high = interval(k, n)
        if low <= p <= high:
            total += math.comb(n, k) * p**k * (1 - p) ** (n - k)
    return total


def caught(p, n, tests):
    """The share of so many simulated tests of n rows whose interval holds p."""
    generator = torch.Generator().manual_seed(0)
    count = 0
    for right in (torch.rand(tests, n, generator=generator) < p).sum(dim=1).tolist():
        low, high = interval(right, n)
        if low <= p <= high:
            count += 1
    return count / tests


def show_6(device):
    print("\n6. What one number can tell")
    for right, n in [(349, 360), (20, 20)]:
        low, high = interval(right, n)
        print(f"   {right:>3} of {n:>3} right   from {low:.3f} to {high:.3f}")
    print("   a model of accuracy 0.97: how often does the interval hold 0.97?")
    for n in [20, 100, 360, 1000]:
        measured, theory = caught(0.97, n, tests=2000), caught_in_theory(0.97, n)
        print(f"   {n:>4} rows   measured {measured:.2f}   theory {theory:.2f}")


# %% 7. Every row is tested once
# The labels are random: nothing can be learnt but by heart, and the truth is 0.10.
def fold_accuracies(x, y):
    """The accuracy on each fifth of the rows, of a network that learnt the others."""
    accuracies = []
    for fold in range(5):
        test = torch.arange(len(x), device=x.device) % 5 == fold
        model = Network(64).double().to(x.device)
        train(model, x[~test], y[~test], epochs=100, batch_size=len(x))
        accuracies.append(accuracy(model, x[test], y[test]))
    return accuracies


def with_one_model(x, y):
    """The same, where one network goes on from fold to fold."""
    accuracies = []
    model = Network(64).double().to(x.device)  # WRONG: before the loop
    for fold in range(5):
        test = torch.arange(len(x), device=x.device) % 5 == fold
        train(model, x[~test], y[~test], epochs=100, batch_size=len(x))
        accuracies.append(accuracy(model, x[test], y[test]))
    return accuracies


def show_7(device):
    print("\n7. Every row is tested once")
    x, _ = digits(device)
    torch.manual_seed(0)
    labels = torch.randint(10, (200,)).to(device)
    new = "   ".join(f"{a:.2f}" for a in fold_accuracies(x[:200], labels))
    one = "   ".join(f"{a:.2f}" for a in with_one_model(x[:200], labels))
    print("   200 pictures with random labels, fold by fold")
    print(f"   a new model for each   {new}")
    print(f"   one model for all      {one}")


# %% 8. Wrong labels
def spoilt(y, share):
    """y, (n,), with each label replaced by another digit with this probability."""
    wrong = torch.rand(len(y)) < share
    other = (y.cpu() + torch.randint(1, 10, (len(y),))) % 10
    return torch.where(wrong, other, y.cpu()).to(y.device)


def watch(x, y, share, seed, steps):
    """[(training loss, validation loss, test accuracy) before each step, ...].

    200 training rows; a share of their labels and of the validation rows' is wrong.
    """
    train_rows, valid_rows, test_rows = split(len(x), seed)
    train_rows = train_rows[:200]
    torch.manual_seed(seed)
    labels = spoilt(y, share)
    model = Network(128).double().to(x.device)
    loss_function = nn.CrossEntropyLoss()
    watched = []
    for _ in range(steps):
        right = accuracy(model, x[test_rows], y[test_rows])
        with torch.no_grad():
            valid = loss_function(model(x[valid_rows]), labels[valid_rows]).item()
        losses = train(model, x[train_rows], labels[train_rows], 1, batch_size=200)
        watched.append((losses[0], valid, right))
    return watched


def show_8(device):
    print("\n8. Wrong labels")
    x, y = digits(device)
    watched = watch(x, y, share=0.4, seed=0, steps=401)
    best = np.argmin([valid for _, valid, _ in watched])
    print("   step   training loss   validation loss   test accuracy")
    for step in sorted([0, best, 100, 400]):
        training, valid, right = watched[step]
        print(f"   {step:>4}   {training:13.2f}   {valid:15.2f}   {right:13.2f}")


# %% The picture
def figure(device="cpu"):
    """Section 4: two hundred coins. Section 8: the losses with wrong labels."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(9, 4), layout="constrained")
    left, right = fig.subplots(1, 2)
    generator = torch.Generator().manual_seed(0)
    heads = torch.rand(200, 100, generator=generator) < 0.5
    accuracies = heads.double().mean(dim=1)
    left.hist(accuracies, bins=np.arange(0.345, 0.66, 0.01))
    left.axvline(accuracies.max(), color="black", label="the best of them")
    left.set(xlabel="accuracy on 100 rows", title="200 coins")
    left.legend()
    x, y = digits(device)
    training, valid, accuracies = np.transpose(watch(x, y, 0.4, seed=0, steps=401))
    right.plot(training, label="training loss")
    right.plot(valid, label="validation loss")
    right.plot(accuracies, label="test accuracy")
    right.set(xlabel="step", title="two labels of five are wrong")
    right.legend()
    return fig


# %% Run it
TITLE = "14 Feed forward"
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
