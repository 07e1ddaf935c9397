"""11 Softmax and cross-entropy: one of many classes, and the loss that teaches it.

1797 digits written by hand, pictures of 8 x 8 grey levels (Alpaydin and Kaynak, 1998).
"""

import argparse
import copy
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


def digits(device="cpu", seed=0):
    """x_train, y_train, x_test, y_test: 1000 and 797 pictures, in random order.

    A row of x is a picture, 64 grey levels from 0 to 1, float32. y is int64, 0 to 9.
    """
    table = torch.from_numpy(read_csv("digits.csv", 1797, 65))
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(seed))
    table = table[order].to(device)
    x = table[:, 1:].float() / 16
    y = table[:, 0].long()
    return x[:1000], y[:1000], x[1000:], y[1000:]


# %% 1. From logits to probabilities
# The model gives each class a number, its logit. The probabilities of a picture are in
# one row, so the sum goes along dim=1.
def softmax(logits):
    """e^z / (the sum of e^z over the row), for logits z of shape (n, C)."""
    powers = torch.exp(logits)
    return powers / powers.sum(dim=1, keepdim=True)


def print_row(name, numbers):
    print(f"   {name:<13}" + "".join(f"{number:8.2f}" for number in numbers))


def show_1(device):
    print("\n1. From logits to probabilities")
    logits = torch.tensor([[1.8, 1.1, 0.0]], device=device)
    print_row("logits", logits[0])
    print_row("powers", torch.exp(logits)[0])
    print_row("softmax", softmax(logits)[0])
    print_row("10 more each", softmax(logits + 10)[0])
    print("   five pictures, ten logits of 0 for each")
    for dim in [1, 0]:
        p = torch.softmax(torch.zeros(5, 10, device=device), dim=dim)
        print(f"   dim={dim}   sum of the first row {p[0].sum():.2f}")


# %% 2. The loss of an answer
# Only the probability of the label counts.
def cross_entropy(logits, y):
    """The mean of -log p of the label, for logits (n, C) and labels y, int64, (n,)."""
    p = softmax(logits)
    p_of_label = p[torch.arange(len(y)), y]
    return -torch.log(p_of_label).mean()


def show_2(device):
    print("\n2. The loss of an answer")
    for p in [0.8, 0.4, 0.2]:
        logits = torch.tensor([[p, 1 - p]], device=device).log()
        loss = cross_entropy(logits, torch.tensor([0], device=device))
        print(f"   p of the label {p:.1f}   loss {loss:.4f}")
    logits = torch.tensor([[1.8, 1.1, 0.0], [1.8, 1.1, 0.0]], device=device)
    y = torch.tensor([0, 1], device=device)
    print("   the pictures of the text")
    print(f"   by hand            {cross_entropy(logits, y):.4f}")
    print(f"   CrossEntropyLoss   {nn.CrossEntropyLoss()(logits, y):.4f}")


# %% 3. Which way each logit is pushed
def gradient_by_hand(logits, y):
    """(p - one_hot) / n, of shape (n, C): the gradient of the mean cross-entropy."""
    one_hot = nn.functional.one_hot(y, num_classes=logits.shape[1])
    return (softmax(logits) - one_hot) / len(y)


def gradient_by_autograd(logits, y):
    """The same, by backward()."""
    leaf = logits.clone().requires_grad_()
    nn.CrossEntropyLoss()(leaf, y).backward()
    return leaf.grad


def show_3(device):
    print("\n3. Which way each logit is pushed")
    logits = torch.tensor([[1.8, 1.1, 0.0]], device=device)
    print_row("softmax", softmax(logits)[0])
    for label in [0, 2]:
        y = torch.tensor([label], device=device)
        print(f"   the label is {label}")
        print_row("by hand", gradient_by_hand(logits, y)[0])
        print_row("by autograd", gradient_by_autograd(logits, y)[0])


# %% 4. What should the first loss be?
# A model that gives all C classes the same logit gives each the probability 1 / C.
def loss_of_equal_logits(classes):
    """The cross-entropy of C equal logits, whatever the label is."""
    logits = torch.zeros(1, classes)
    return nn.CrossEntropyLoss()(logits, torch.tensor([0])).item()


def three_first_losses(x, y, seed):
    """The first losses of a new model: as it should be, and with two mistakes."""
    torch.manual_seed(seed)
    model = nn.Linear(64, 10).to(x.device)
    with torch.no_grad():
        usual = nn.CrossEntropyLoss()(model(x), y)
        unscaled = nn.CrossEntropyLoss()(model(16 * x), y)  # WRONG: from 0 to 16
        added = nn.CrossEntropyLoss(reduction="sum")(model(x), y)  # WRONG: no mean
    return usual.item(), unscaled.item(), added.item()


def show_4(device):
    print("\n4. What should the first loss be?")
    for classes in [2, 3, 10, 1000]:
        loss = loss_of_equal_logits(classes)
        print(
            f"   {classes:>4} classes   loss {loss:.4f}   log C {math.log(classes):.4f}"
        )
    x, y, _, _ = digits(device)
    usual, unscaled, added = three_first_losses(x, y, seed=0)
    print("   a new model, before its first step")
    print(f"   as it should be           {usual:7.2f}")
    print(f"   grey levels from 0 to 16  {unscaled:7.2f}")
    print(f"   the sum, and not the mean {added:7.0f}")


# %% 5. A softmax too many
# CrossEntropyLoss applies the softmax itself.
def train(model, x, y, steps):
    """The losses before each step, on all of x, shape (n, 64), and y, shape (n,)."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model.train()
    losses = []
    for _ in range(steps):
        loss = nn.CrossEntropyLoss()(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def accuracy(model, x, y):
    """The share of the rows whose largest output is that of the label."""
    model.eval()
    with torch.no_grad():
        answers = model(x).argmax(dim=1)
    return (answers == y).float().mean().item()


def two_models(seed, device="cpu"):
    """The right model, and one with a softmax too many, from the same weights."""
    torch.manual_seed(seed)
    right = nn.Linear(64, 10)
    wrong = nn.Sequential(copy.deepcopy(right), nn.Softmax(dim=1))  # WRONG
    return right.to(device), wrong.to(device)


def lowest_loss_in_theory(classes):
    """The loss of softmax twice where p of the label is 1: -log(e / (e + C - 1))."""
    return -math.log(math.e / (math.e + classes - 1))


def show_5(device):
    print("\n5. A softmax too many")
    x_train, y_train, x_test, y_test = digits(device)
    right, wrong = two_models(0, device)
    once = train(right, x_train, y_train, steps=301)
    twice = train(wrong, x_train, y_train, steps=301)
    print("   step   once   twice")
    for step in [0, 100, 200, 300]:
        print(f"{step:>7} {once[step]:6.2f} {twice[step]:7.2f}")
    print(f"   lowest loss of twice      {lowest_loss_in_theory(10):.4f}")
    print(f"   accuracy of once, tested  {accuracy(right, x_test, y_test):.2f}")
    print(f"   accuracy of twice, tested {accuracy(wrong, x_test, y_test):.2f}")


# %% 6. Logits that are too large
# In float32 e^z is inf from z = 88.73 on, and 0 below z = -104. Only differences
# of logits count, so subtract the largest one of each row first.
def safe_softmax(logits):
    """Softmax of each row, without overflow: no power is above 1, one of them is 1."""
    largest = logits.max(dim=1, keepdim=True).values
    return softmax(logits - largest)


def safe_log_softmax(logits):
    """log p = z - m - log(the sum of e^(z - m)), with the row's largest z as m."""
    largest = logits.max(dim=1, keepdim=True).values
    rest = logits - largest
    return rest - torch.exp(rest).sum(dim=1, keepdim=True).log()


def show_6(device):
    print("\n6. Logits that are too large")
    for row in [[100.0, 99.0], [-200.0, -201.0]]:
        logits = torch.tensor([row], device=device)
        print(f"   logits {row[0]:.0f} and {row[1]:.0f}")
        print_row("by definition", softmax(logits)[0])
        print_row("safe", safe_softmax(logits)[0])
    logits = torch.tensor([[0.0, -200.0]], device=device)
    print("   the log of the softmax of 0 and -200")
    print_row("log(softmax)", safe_softmax(logits).log()[0])
    print_row("log_softmax", safe_log_softmax(logits)[0])


# %% 7. Losses with another optimum
# Smoothing moves the target away from 1 and 0. Class weights count rows more than once.
def smoothed_loss(lead, smoothing, classes):
    """The smoothed loss, with the label's logit ahead of all the others by lead."""
    logits = torch.zeros(1, classes)
    logits[0, 0] = lead
    loss_function = nn.CrossEntropyLoss(label_smoothing=smoothing)
    return loss_function(logits, torch.tensor([0])).item()


def best_lead_in_theory(smoothing, classes):
    """log(target of the label / target of another class): there p is the target."""
    other = smoothing / classes
    label = 1 - smoothing + other
    return math.log(label / other)


def logits_with_losses(losses, y):
    """Logits of two classes, shape (n, 2), whose rows have these losses for y."""
    logits = torch.zeros(len(y), 2, device=y.device)
    for row, loss in enumerate(losses):
        logits[row, 1 - y[row]] = math.log(math.exp(loss) - 1)
    return logits


def show_7(device):
    print("\n7. Losses with another optimum")
    best = best_lead_in_theory(0.1, 10)
    print(f"   smoothing 0.1, ten classes, best lead {best:.2f}")
    for lead in [2.0, best, 8.0, 100.0]:
        print(f"   lead {lead:6.2f}   loss {smoothed_loss(lead, 0.1, 10):.4f}")
    y = torch.tensor([0, 1], device=device)
    logits = logits_with_losses([1.0, 4.0], y)
    weight = torch.tensor([1.0, 3.0], device=device)
    weighted = nn.CrossEntropyLoss(weight=weight)
    print("   losses 1 and 4, class weights 1 and 3")
    print(f"   both rows         {weighted(logits, y):.2f}")
    print(f"   the second alone  {weighted(logits[1:], y[1:]):.2f}")


# %% 8. What the loss must be given
# A label is an index, counted from 0. The label -100 says: leave this row out.
def loss_of_labels(labels):
    """The mean loss of the logits 0, 1, 2 for each label, or the kind of error."""
    logits = torch.tensor([[0.0, 1.0, 2.0]]).expand(len(labels), 3)
    try:
        loss = nn.CrossEntropyLoss()(logits, torch.tensor(labels))
    except IndexError:
        return "IndexError"
    return f"loss {loss:.4f}"


def losses_of_nll(model, x, y, steps):
    """The losses before each step, by NLLLoss, which wants log p and gets logits."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    losses = []
    for _ in range(steps):
        loss = nn.NLLLoss()(model(x), y)  # WRONG: no log_softmax
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def show_8(device):
    print("\n8. What the loss must be given")
    for labels in [[0, 1, 2], [1, 2, 3], [1, 2, -100], [1, 2]]:
        print(f"   labels {labels!s:<12}   {loss_of_labels(labels)}")
    labels = torch.tensor([3, 1, 3, 7, 1], device=device)
    found, y = labels.unique(return_inverse=True)
    print(f"   labels {labels.tolist()} are {found.tolist()}")
    print(f"   as places among them {y.tolist()}")
    x_train, y_train, _, _ = digits(device)
    model, _ = two_models(0, device)
    losses = losses_of_nll(model, x_train, y_train, steps=31)
    print("   NLLLoss of logits, on the digits")
    for step in [10, 20, 30]:
        print(f"   step {step}   loss {losses[step]:7.1f}")


# %% The picture
def softmax_once(logits, y):
    return nn.functional.cross_entropy(logits, y)


def softmax_twice(logits, y):
    p = torch.softmax(logits, dim=1)
    return nn.functional.cross_entropy(p, y)  # WRONG: takes p for logits


def slope_of_the_wrong_logit(loss_function, lead):
    """dloss/dz for two classes, where z, the wrong one's logit, is ahead by lead."""
    logits = torch.tensor([[0.0, lead]], dtype=torch.float64, requires_grad=True)
    loss_function(logits, torch.tensor([0])).backward()
    return logits.grad[0, 1].item()


def figure(device="cpu"):
    """Section 5: the losses of both models, and how a wrong logit is pushed."""
    from matplotlib.figure import Figure

    x, y, _, _ = digits(device)
    right, wrong = two_models(0, device)
    fig = Figure(figsize=(9, 4), layout="constrained")
    left, other = fig.subplots(1, 2)
    left.plot(train(right, x, y, steps=301), label="softmax once")
    left.plot(train(wrong, x, y, steps=301), label="softmax twice")
    lowest = lowest_loss_in_theory(10)
    left.axhline(lowest, color="gray", linestyle="--", label="lowest loss of twice")
    left.set(xlabel="step", ylabel="loss on the training rows", ylim=(0, None))
    left.legend()
    leads = np.linspace(-10, 10, 201).tolist()
    once = [slope_of_the_wrong_logit(softmax_once, lead) for lead in leads]
    twice = [slope_of_the_wrong_logit(softmax_twice, lead) for lead in leads]
    other.plot(leads, once, label="softmax once")
    other.plot(leads, twice, label="softmax twice")
    other.set(xlabel="lead of the wrong logit", ylabel="slope: how hard it is pushed")
    return fig


# %% Run it
TITLE = "11 Softmax and cross-entropy"
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
