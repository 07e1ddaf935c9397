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
import torch.nn.functional as F
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
    """x, (1797, 64), grey levels from 0 to 1 in float64, and y, (1797,), the digits."""
    table = torch.from_numpy(read_csv("digits.csv", 1797, 65)).to(device)
    return table[:, 1:] / 16, table[:, 0].long()


# %% 1. Split in three
# Rows to train with, rows to choose with (validation), and rows to judge with,
# once (test).
def split(n, seed, device="cpu"):
    """Indices of n rows in random order: 60 % train, 20 % to choose, 20 % to test."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).to(device)
    fifth = math.ceil(n / 5)
    return order.split([n - 2 * fifth, fifth, fifth])


def network(seed, hidden=64, device="cpu"):
    """A 64-hidden-10 network of relu units in float64, a linear one for hidden=0."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layers = [nn.Linear(64, hidden or 10)]
        if hidden:
            layers += [nn.ReLU(), nn.Linear(hidden, 10)]
    return nn.Sequential(*layers).double().to(device)


def show_1(device):
    print("\n1. Split in three")
    sizes = [len(rows) for rows in split(1797, seed=0)]
    print("   rows to train, to choose, to test:", *sizes)
    count = sum(parameter.numel() for parameter in network(seed=0).parameters())
    theory = f"64 * 64 + 64 + 64 * 10 + 10 is {64 * 64 + 64 + 64 * 10 + 10}"
    print(f"   64-64-10: {count} parameters, {theory}")


# %% 2. Before anything else, learn one batch by heart
# If it cannot, something is wrong: the model, the loss, the optimizer, or x and y
# shuffled apart.
def train(model, loss_function, optimizer, x, y, epochs):
    """The losses before each step of optimizer, one an epoch, on all of x and y."""
    model.train()
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [loss.item() for loss in losses]


def fit(model, x, y, epochs):
    """The losses of so many steps of Adam on the cross-entropy of x and y."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    return train(model, nn.CrossEntropyLoss(), optimizer, x, y, epochs)


def losses_on_batch(x, y, apart, seed, epochs=30):
    """The losses of so many steps; apart: in each step y, not x, is shuffled anew."""
    generator = torch.Generator().manual_seed(seed)
    model = network(seed, device=x.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(epochs):
        labels = y
        if apart:
            labels = y[torch.randperm(len(y), generator=generator).to(y.device)]
        losses += train(model, F.cross_entropy, optimizer, x, labels, epochs=1)
    return losses


def show_2(device):
    print("\n2. Before anything else, learn one batch by heart")
    x, y = digits(device)
    for apart in (False, True):
        losses = losses_on_batch(x[:64], y[:64], apart, seed=0)
        end = f"after 30 steps {losses[-1]:.2f}"
        print(f"   apart={apart!s:<5}   loss {losses[0]:.2f}, {end}")


# %% 3. Baselines stand beside the network
def nearest(x, x_known, y_known):
    """The label of the nearest known row, (m, 64), for each row of x, (n, 64)."""
    return y_known[torch.cdist(x, x_known).argmin(dim=1)]


def test_accuracies(x, y, seed):
    """Name -> accuracy on the test rows of a split, of the network and 3 baselines."""
    known, _, test = split(len(x), seed, x.device)
    linear, model = network(seed, 0, x.device), network(seed, 64, x.device)
    fit(linear, x[known], y[known], epochs=40)
    fit(model, x[known], y[known], epochs=40)
    said = {
        "largest class": y[known].bincount().argmax(),
        "linear model": linear(x[test]).argmax(dim=1),
        "network": model(x[test]).argmax(dim=1),
        "nearest neighbour": nearest(x[test], x[known], y[known]),
    }
    right = {name: labels == y[test] for name, labels in said.items()}
    return {name: hits.double().mean().item() for name, hits in right.items()}


def show_3(device):
    print("\n3. Baselines stand beside the network")
    x, y = digits(device)
    splits = [test_accuracies(x, y, seed) for seed in (0, 1)]
    for name in splits[0]:
        accuracies = [f"{accuracies[name]:.3f}" for accuracies in splits]
        print(f"   {name:<17}   on two splits:", *accuracies)


# %% 4. What one number can tell
# 360 test rows are a random draw. Their accuracy p is good to about
# sqrt(p (1 - p) / 360).
def confusion_matrix(said, y, classes=10):
    """Counts, (classes, classes): row y, column what was said."""
    counts = torch.bincount(classes * y + said, minlength=classes**2)
    return counts.reshape(classes, classes)


def binomial_std(p, n):
    """sqrt(p (1 - p) / n): the standard deviation of the share of hits in n tries."""
    return math.sqrt(p * (1 - p) / n)


def show_4(device):
    print("\n4. What one number can tell")
    x, y = digits(device)
    known, _, test = split(len(x), seed=0, device=device)
    model = network(seed=0, hidden=0, device=device)
    fit(model, x[known], y[known], epochs=40)
    matrix = confusion_matrix(model(x[test]).argmax(dim=1), y[test])
    p = (matrix.trace() / matrix.sum()).item()
    std = binomial_std(p, len(test))
    eights = matrix[8].tolist()
    print(f"   linear model {p:.2f}, good to {std:.2f}; of the 8s: {eights}")


# %% 5. It can learn anything, wrong labels too
# 40 % of the labels are wrong. The right ones have something in common and are
# learnt first.
def accuracy(model, x, y):
    """The share of rows for which the largest of the model's logits is the one of y."""
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(dim=1) == y).double().mean().item()


def spoilt(y, share, seed):
    """y, (n,), with each label replaced by another digit with this probability."""
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(y), generator=generator) < share
    shift = wrong * torch.randint(1, 10, (len(y),), generator=generator)
    return (y + shift.to(y.device)) % 10


def watch(x, y, share, seed, epochs):
    """(epochs, 3): training and validation loss, test accuracy; share: wrong labels."""
    known, choose, test = split(len(x), seed, x.device)
    known, labels = known[:400], spoilt(y, share, seed)
    model = network(seed, hidden=128, device=x.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    found = []
    for _ in range(epochs):
        right = accuracy(model, x[test], y[test])
        with torch.no_grad():
            loss = F.cross_entropy(model(x[choose]), labels[choose]).item()
        batch = x[known], labels[known]
        [before] = train(model, F.cross_entropy, optimizer, *batch, epochs=1)
        found.append((before, loss, right))
    return np.array(found)


def show_5(device):
    print("\n5. It can learn anything, wrong labels too")
    x, y = digits(device)
    for share in (0.4, 0.0):
        found = watch(x, y, share, seed=0, epochs=35)
        for step in (found[:, 1].argmin(), len(found) - 1):
            training, validation, test = found[step]
            losses = f"losses {training:.2f} and {validation:.2f}"
            print(f"   {share:.0%} wrong, step {step:>2}: {losses}, test {test:.2f}")


# %% 6. Mistake: choosing on the test rows
# The best of many is partly the luckiest. On rows that had no part in the choice
# the luck is gone.
def best_of_coins(models, rows, seed):
    """(accuracy of the best of so many coins on rows, its accuracy on fresh rows)."""
    generator = torch.Generator().manual_seed(seed)
    right, fresh = torch.rand(2, models, rows, generator=generator) < 0.5
    shares = right.double().mean(dim=1)
    return shares.max().item(), fresh[shares.argmax()].double().mean().item()


def best_in_theory(models, rows):
    """The mean of the best: the sum over k < rows of P(it has > k right) / rows."""
    at_most = np.cumsum([math.comb(rows, k) / 2**rows for k in range(rows)])
    return (1 - at_most**models).sum() / rows


def show_6(device):
    print("\n6. Mistake: choosing on the test rows")
    coins = 200
    choices = [best_of_coins(coins, 100, seed) for seed in range(100)]
    best, fresh = np.mean(choices, axis=0)
    theory = best_in_theory(coins, 100)
    print(f"   best of {coins} coins on 100 rows: {best:.2f}, theory {theory:.2f}")
    print(f"   the same coins on fresh rows: {fresh:.2f}")


# %% 7. Mistake: testing on what training has seen
# With random labels nothing can be learned but by heart, and 0.10 is the truth. Twins:
# 400 pictures came twice, and twins fell on both sides. Folds: one model went from fold
# to fold.
def accuracy_with_twins(x, once, seed):
    """The nearest neighbour's accuracy on a fifth of 400 pictures, once or twice."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (400,), generator=generator).to(x.device)
    n = 400 if once else 800
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n, generator=generator).to(x.device) % 400
    known = order[n // 5 :]
    test = order[: n // 5]
    right = nearest(x[test], x[known], labels[known]) == labels[test]
    return right.double().mean().item()


def by_heart(once):
    """The share of rows whose twin is known, 640 of 799, and 1/10 of the rest."""
    twin_known = 0 if once else 640 / 799
    return twin_known + (1 - twin_known) / 10


def fold_accuracies(x, labels, new_model, epochs=20):
    """The accuracy on each fifth of the rows, of a network trained on the others."""
    model, found = network(seed=0, device=x.device), []
    for fold in range(5):
        if new_model:
            model = network(seed=fold, device=x.device)
        test = torch.arange(len(x), device=x.device) % 5 == fold
        fit(model, x[~test], labels[~test], epochs)
        found.append(accuracy(model, x[test], labels[test]))
    return found


def show_7(device):
    print("\n7. Mistake: testing on what training has seen")
    x, _ = digits(device)
    for once in (True, False):
        mean = np.mean([accuracy_with_twins(x, once, seed) for seed in range(20)])
        print(f"   once={once!s:<5}        {mean:.2f}, theory {by_heart(once):.2f}")
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (200,), generator=generator).to(device)
    for new_model in (True, False):
        accuracies = fold_accuracies(x[:200], labels, new_model)
        rounded = [f"{number:.2f}" for number in accuracies]
        print(f"   new_model={new_model!s:<5}   fold by fold", *rounded)


# %% The picture
def figure(device="cpu"):
    """Losses and test accuracy by step, with 40 % wrong labels and with none."""
    from matplotlib.figure import Figure

    x, y = digits(device)
    fig = Figure(figsize=(9, 4), layout="constrained")
    for axes, share in zip(fig.subplots(1, 2), (0.4, 0.0), strict=True):
        found = watch(x, y, share, seed=0, epochs=35)
        axes.plot(found, label=["training loss", "validation loss", "test accuracy"])
        axes.set(title=f"{share:.0%} of the labels wrong", xlabel="step", ylim=(0, 3))
    axes.legend()
    return fig


# %% Run it
TITLE = "14 Feed forward"
SECTIONS = [show_1, show_2, show_3, show_4, show_5, show_6, show_7]


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
