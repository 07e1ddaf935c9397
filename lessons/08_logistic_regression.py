"""08 Logistic regression: a probability for each patient, trained and judged.

569 samples of breast tissue, each with 30 measurements of its cell nuclei; y is 1 where
the tumour was malignant (Wolberg, Street and Mangasarian, 1993).
"""

import argparse
import functools
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


def breast_cancer(device="cpu"):
    """x, shape (569, 30), and y, shape (569, 1), 1 for malignant; both float64."""
    table = torch.from_numpy(read_csv("breast_cancer.csv", 569, 31)).to(device)
    return table[:, 1:], table[:, :1]


# %% 1. From a logit to a probability, and to a loss
# The model computes the logit z, any number. The sigmoid makes a probability of it.
def probability_by_hand(z):
    """The sigmoid, 1 / (1 + e^-z)."""
    return 1 / (1 + torch.exp(-z))


def loss_and_slope(z, y):
    """(loss, dloss/dz) of one logit and its label y, by BCEWithLogitsLoss."""
    z = torch.tensor(z, requires_grad=True)
    loss = nn.BCEWithLogitsLoss()(z, torch.tensor(y))
    loss.backward()
    return loss.item(), z.grad.item()


def show_1(device):
    print("\n1. From a logit to a probability, and to a loss")
    print("   logit   probability   loss if malignant   loss if benign")
    for number in [-3.0, -1.0, 0.0, 1.0, 3.0]:
        p = probability_by_hand(torch.tensor(number, device=device))
        malignant = -torch.log(p)
        benign = -torch.log(1 - p)
        print(f"   {number:5.1f} {p:13.3f} {malignant:19.4f} {benign:16.4f}")
    print("   BCEWithLogitsLoss of the logit 1, and its slope")
    for y in [1.0, 0.0]:
        loss, slope = loss_and_slope(1.0, y)
        print(f"   label {y:.0f}   loss {loss:.4f}   slope {slope:6.3f}")


# %% 2. Split first
# What is learned is learned from the training rows: means and stds are learned, too.
def split(x, y, seed):
    """[(x, y), ...] of 60 % training, 20 % validation and 20 % test rows, at random."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    x = x[order.to(x.device)]
    y = y[order.to(y.device)]
    first = round(0.6 * len(x))
    second = round(0.8 * len(x))
    parts = [slice(0, first), slice(first, second), slice(second, None)]
    return [(x[part], y[part]) for part in parts]


def scaled(x, by):
    """The columns of x minus the means of those of by, divided by their stds."""
    return (x - by.mean(dim=0)) / by.std(dim=0)


def patients(device, seed=0):
    """The three parts of a split, scaled by the training rows, in float32."""
    parts = split(*breast_cancer(device), seed)
    x_train, _ = parts[0]
    return [(scaled(x, by=x_train).float(), y.float()) for x, y in parts]


def show_2(device):
    print("\n2. Split first")
    parts = patients(device)
    names = ["training", "validation", "test"]
    for name, (_, y) in zip(names, parts, strict=True):
        print(f"   {name:<10}   {len(y)} patients, {y.sum():.0f} of them malignant")
    x, y = parts[1]
    malignant = x[y[:, 0] == 1]
    print("   mean radius of the malignant validation rows")
    print(f"   scaled by the training rows   {malignant[:, 0].mean():5.2f}")
    by_themselves = scaled(malignant, by=malignant)
    print(f"   scaled by themselves          {by_themselves[:, 0].mean().abs():5.2f}")


# %% 3. The loop does not change
# weight_decay=0.01 adds 0.01 times each weight to its gradient: section 7 shows why.
def line(seed, device):
    """x @ w + b for 30 measurements, from a random start."""
    torch.manual_seed(seed)
    return nn.Linear(30, 1).to(device)


def train(model, x, y, steps):
    """The losses before each step, on all of x, shape (n, 30), and y, shape (n, 1)."""
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.01)
    model.train()
    losses = []
    for _ in range(steps):
        logits = model(x)
        loss = loss_function(logits, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def show_3(device):
    print("\n3. The loop does not change")
    x, y = patients(device)[0]
    one = line(1, device)
    other = line(2, device)
    losses = train(one, x, y, steps=501)
    others = train(other, x, y, steps=501)
    print("   step   one start   another start")
    for step in range(0, 501, 100):
        print(f"   {step:>4} {losses[step]:11.4f} {others[step]:15.4f}")
    print("   the first three weights at the end")
    for model in [one, other]:
        first, second, third = model.weight[0, :3].tolist()
        print(f"   {first:.2f}   {second:.2f}   {third:.2f}")


# %% 4. Judged on patients that it has not seen
def confusion(logits, y):
    """(found, missed, false alarms, cleared), an alarm being a logit above 0."""
    alarm = logits > 0
    malignant = y == 1
    found = (alarm & malignant).sum().item()
    missed = (~alarm & malignant).sum().item()
    false_alarms = (alarm & ~malignant).sum().item()
    cleared = (~alarm & ~malignant).sum().item()
    return found, missed, false_alarms, cleared


def scores(logits, y):
    """(accuracy, precision, recall); precision is nan where there is no alarm."""
    found, missed, false_alarms, cleared = confusion(logits, y)
    alarms = found + false_alarms
    precision = found / alarms if alarms > 0 else float("nan")
    return (found + cleared) / len(y), precision, found / (found + missed)


@functools.cache  # sections 4 and 6 judge the same model
def logits_of_test_rows(device, seed=0, steps=500):
    """(logits, y) of the test rows of a split, by a model that was trained on it."""
    (x_train, y_train), _, (x_test, y_test) = patients(device, seed)
    model = line(seed, device)
    train(model, x_train, y_train, steps)
    model.eval()
    with torch.no_grad():
        return model(x_test), y_test


def show_4(device):
    print("\n4. Judged on patients that it has not seen")
    logits, y = logits_of_test_rows(device)
    found, missed, false_alarms, cleared = confusion(logits, y)
    print(f"   malignant   {found:>2} found          {missed:>2} missed")
    print(f"   benign      {false_alarms:>2} false alarm    {cleared:>2} cleared")
    accuracy, precision, recall = scores(logits, y)
    print(
        f"   accuracy {accuracy:.3f}   precision {precision:.3f}   recall {recall:.3f}"
    )
    print(f"   accuracy of always saying benign {(y == 0).double().mean():.3f}")
    shares = []
    for seed in range(20):
        share, _, _ = scores(*logits_of_test_rows(device, seed, steps=30))
        shares.append(share)
    print(f"   accuracy in 20 splits   {min(shares):.3f} to {max(shares):.3f}")


# %% 5. Mistake: a sigmoid too many
# BCEWithLogitsLoss applies the sigmoid itself. Behind another sigmoid, it takes the
# probabilities 0 and 1 for logits.
def with_a_sigmoid_too_many(x, y, steps):
    """The losses of the loop of section 3 with a model that ends in a sigmoid."""
    model = nn.Sequential(line(0, x.device), nn.Sigmoid())  # WRONG
    return train(model, x, y, steps)


def floor_in_theory(share):
    """The loss of perfect answers, 0 and 1 as logits: log 2 and log(1 + 1/e)."""
    return (1 - share) * np.log(2) + share * np.log(1 + np.exp(-1))


def loss_and_slope_by_bce(z, y):
    """The same as loss_and_slope, by a sigmoid and then BCELoss, in float32."""
    z = torch.tensor(z, requires_grad=True)
    loss = nn.BCELoss()(torch.sigmoid(z), torch.tensor(y))
    loss.backward()
    return loss.item(), z.grad.item()


def show_5(device):
    print("\n5. Mistake: a sigmoid too many")
    x, y = patients(device)[0]
    losses = train(line(0, device), x, y, steps=501)
    others = with_a_sigmoid_too_many(x, y, steps=501)
    print("   step   logits   a sigmoid too many")
    for step in [0, 100, 500]:
        print(f"   {step:>4} {losses[step]:8.4f} {others[step]:20.4f}")
    floor = floor_in_theory(y.mean().item())
    print(f"   perfect answers and a sigmoid too many, in theory {floor:.4f}")
    print("   one benign patient: loss and slope by")
    print("           BCEWithLogitsLoss   sigmoid and BCELoss")
    for z in [2.0, 10.0, 20.0, 40.0]:
        loss, slope = loss_and_slope(z, 0.0)
        other, other_slope = loss_and_slope_by_bce(z, 0.0)
        numbers = f"{loss:10.2f} {slope:8.2f} {other:12.2f} {other_slope:8.2f}"
        print(f"   logit {z:>2.0f} {numbers}")


# %% 6. Every threshold at once
def roc(logits, y):
    """(false alarm rates, recalls) of logits and y, shape (n, 1): first no alarm.

    Then a point for each threshold, from the largest logit to the smallest.
    """
    rates = [0.0]
    recalls = [0.0]
    for threshold in sorted(set(logits.flatten().tolist()), reverse=True):
        alarm = logits >= threshold
        rates.append(alarm[y == 0].double().mean().item())
        recalls.append(alarm[y == 1].double().mean().item())
    return rates, recalls


def area_under_roc(logits, y):
    """The area, by trapezoids: the share of pairs that are ranked right."""
    rates, recalls = roc(logits, y)
    return torch.trapezoid(torch.tensor(recalls), torch.tensor(rates)).item()


def show_6(device):
    print("\n6. Every threshold at once")
    logits, y = logits_of_test_rows(device)
    p = torch.sigmoid(logits)
    malignant = p[y == 1]
    benign = p[y == 0]
    for threshold in [0.5, 0.2, 0.1, 0.05]:
        found = (malignant >= threshold).sum()
        false_alarms = (benign >= threshold).sum()
        rates = f"found {found} of {len(malignant)}"
        print(
            f"   alarm from {threshold:.2f}   {rates}   false alarms {false_alarms:>2}"
        )
    print(f"   area under the ROC   {area_under_roc(logits, y):.4f}")


# %% 7. Without weight decay
# Newton's method jumps to the minimum of the bowl that fits the loss where it stands.
# You need not follow its algebra. It takes some ten steps where training takes 500.
def newton(x, y, weight_decay, steps):
    """theta (d + 1,), the weights and the bias, after steps from zeros; float64."""
    a = torch.cat([x, torch.ones_like(y)], dim=1).double()
    theta = torch.zeros_like(a[0])
    decay = weight_decay * torch.eye(len(theta), device=x.device).double()
    for _ in range(steps):
        p = torch.sigmoid(a @ theta)
        gradient = a.T @ (p - y[:, 0].double()) / len(y) + decay @ theta
        hessian = (a.T * (p * (1 - p))) @ a / len(y) + decay
        theta = theta - torch.linalg.solve(hessian, gradient)
    return theta


def logits_of(x, theta):
    """x @ w + b, shape (n, 1), for theta = (w, b)."""
    return (x.double() @ theta[:-1] + theta[-1])[:, None]


def show_7(device):
    print("\n7. Without weight decay")
    (x, y), (x_valid, y_valid), _ = patients(device)
    loss_function = nn.BCEWithLogitsLoss()
    print("   decay   steps   length of w   training loss   validation loss")
    for weight_decay in [0.0, 0.01]:
        for steps in [5, 10, 15]:
            theta = newton(x, y, weight_decay, steps)
            length = theta[:-1].norm()
            loss = loss_function(logits_of(x, theta), y.double())
            valid = loss_function(logits_of(x_valid, theta), y_valid.double())
            losses = f"{loss:15.4f} {valid:17.4f}"
            print(f"   {weight_decay:5} {steps:7} {length:13.1f} {losses}")


# %% 8. Mistake: choosing features on all rows
# The labels are coin flips, so nothing can be learned: an honest accuracy is 1/2.
def best_columns(x, y, count):
    """The numbers of the columns of x that correlate most with y, shape (n, 1)."""
    products = (scaled(x, by=x) * (y - y.mean())).sum(dim=0)
    return products.abs().topk(count).indices


def accuracy_on_coins(choose_on_all, seed, n=80, features=500, chosen=20):
    """The accuracy on a fifth of n coin flips, by the best features of noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=generator)
    y = torch.randint(0, 2, (n, 1), generator=generator).float()
    rows = round(0.8 * n)  # to train with
    if choose_on_all:
        best = best_columns(x, y, chosen)  # WRONG: it has seen the test rows
    else:
        best = best_columns(x[:rows], y[:rows], chosen)
    theta = newton(x[:rows, best], y[:rows], weight_decay=0.1, steps=9)
    logits = logits_of(x[rows:, best], theta)
    return scores(logits, y[rows:])[0]


def show_8(device):
    print("\n8. Mistake: choosing features on all rows")
    print("   mean accuracy on 40 times 16 coins")
    on_all = [accuracy_on_coins(True, seed) for seed in range(40)]
    on_training_rows = [accuracy_on_coins(False, seed) for seed in range(40)]
    print(f"   features chosen on all rows        {np.mean(on_all):.2f}")
    print(f"   features chosen on training rows   {np.mean(on_training_rows):.2f}")


# %% The picture
def figure(device="cpu"):
    """The ROC on the test rows, and a histogram of their probabilities by class."""
    from matplotlib.figure import Figure

    logits, y = logits_of_test_rows(device)
    p = torch.sigmoid(logits).cpu()
    y = y.cpu()
    fig = Figure(figsize=(9, 4), layout="constrained")
    histogram, curve = fig.subplots(1, 2)
    by_class = [p[y == 0].numpy(), p[y == 1].numpy()]
    histogram.hist(by_class, bins=10, range=(0, 1), label=["benign", "malignant"])
    histogram.set(xlabel="probability by the model", ylabel="test patients")
    histogram.legend()
    curve.plot(*roc(logits, y.to(device)))
    curve.set(xlabel="false alarm rate", ylabel="recall", aspect="equal")
    curve.set(title=f"area {area_under_roc(logits, y.to(device)):.4f}")
    return fig


# %% Run it
TITLE = "08 Logistic regression"
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
