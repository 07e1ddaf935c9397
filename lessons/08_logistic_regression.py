"""08 Logistic regression: a probability for each patient, trained and judged.

569 samples of breast tissue, each with 30 measurements of its cell nuclei; y is 1 where
the tumour was malignant (Wolberg, Mangasarian, Street and Street, 1993).
"""

import argparse
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


def breast_cancer(device="cpu"):
    """The measurements x (569, 30), and y (569,), 1 for malignant; float64."""
    table = torch.from_numpy(read_csv("breast_cancer.csv", 569, 31)).to(device)
    return table[:, 1:], table[:, 0]


# %% 1. From a logit to a probability, and to the loss
# The model is z = x w + b, the logit: any number. The sigmoid makes it a probability,
# and the loss is the negative log likelihood of what happened. logsigmoid takes the log
# without ever rounding a probability to 0: in float32 1 / (1 + exp(-z)) by hand
# overflows at z = -100.
def loss_by_hand(z, y):
    """The mean of -log p where y is 1, -log(1 - p) where it is 0, for logits z (n,)."""
    return -torch.where(y == 1, F.logsigmoid(z), F.logsigmoid(-z)).mean()


def gradient_by_hand(x, y, w, b):
    """dloss/dw = x^T (p - y) / n, shape (d,), for x of shape (n, d)."""
    p = torch.sigmoid(x @ w + b)
    return x.T @ (p - y) / len(y)


def gradient_by_autograd(x, y, w, b):
    """The same from BCEWithLogitsLoss and backward()."""
    w = w.detach().clone().requires_grad_()
    nn.BCEWithLogitsLoss()(x @ w + b, y).backward()
    return w.grad


def show_1(device):
    print("\n1. From a logit to a probability, and to the loss")
    x, _, y, _ = train_and_test(*breast_cancer(device))
    for number in (-2.0, 0.0, 3.0):
        p = torch.sigmoid(torch.tensor(number))
        back = torch.logit(p)
        print(f"   logit {number:4.1f}   probability {p:.4f}   back: {back:4.1f}")
    w = torch.zeros(30, dtype=torch.float64, device=device)
    print(f"   loss of logits 0: {loss_by_hand(x @ w, y):.6f}, log 2")
    by_hand = gradient_by_hand(x, y, w, 0.5)
    difference = (by_hand - gradient_by_autograd(x, y, w, 0.5)).abs().max()
    print(f"   x^T (p - y) / n and autograd agree to 1e-12: {difference < 1e-12}")


# %% 2. Split first, then scale with what the training rows say
def split(n, seed, device="cpu"):
    """Indices 0 ... n - 1, shuffled: the first 80 % to train with, the rest to test."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).to(device)
    return order[: round(0.8 * n)], order[round(0.8 * n) :]


def scaled(x_train, x_test):
    """Both minus the means of the columns of x_train, divided by their std (with n)."""
    mean, std = x_train.mean(dim=0), x_train.std(dim=0, correction=0)
    return (x_train - mean) / std, (x_test - mean) / std


def train_and_test(x, y, seed=0):
    """x_train, x_test, y_train, y_test of one split, x scaled."""
    train_rows, test_rows = split(len(y), seed, x.device)
    return *scaled(x[train_rows], x[test_rows]), y[train_rows], y[test_rows]


def show_2(device):
    print("\n2. Split first, then scale with what the training rows say")
    x_train, x_test, _, _ = train_and_test(*breast_cancer(device))
    for name, part in (("train with", x_train), ("test with", x_test)):
        largest = part.mean(dim=0).abs().max()
        means = f"the scaled columns' means within {largest:.2f} of 0"
        print(f"   {len(part)} rows to {name}: {means}")


# %% 3. Training finds the optimum that Newton's method finds
# Weight decay adds weight_decay * |w|^2 / 2 to the loss, but not for the bias: at the
# optimum the mean probability is then the share of malignant rows.
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


def fit_sgd(x, y, weight_decay, epochs):
    """theta, shape (d + 1,): the weights and then the bias, by SGD with momentum."""
    model = nn.Linear(x.shape[1], 1, device=x.device, dtype=x.dtype)
    decayed = {"params": [model.weight], "weight_decay": weight_decay}
    groups = [decayed, {"params": [model.bias]}]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.85)
    train(model, nn.BCEWithLogitsLoss(), optimizer, x, y[:, None], epochs)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def logits(x, theta):
    """x w + b, shape (n,), for theta = (w, b)."""
    return x @ theta[:-1] + theta[-1]


# Newton's method jumps to the minimum of the bowl that fits the loss where it stands.
# You need not follow its algebra: it is here because it comes from elsewhere and finds
# the same.
def newton(x, y, weight_decay, steps=9):
    """theta after steps of Newton's method, theta - H^-1 gradient, from zeros."""
    a = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    penalty = torch.full_like(a[0], weight_decay)
    penalty[-1] = 0  # the bias
    theta = torch.zeros_like(penalty)
    for _ in range(steps):
        p = torch.sigmoid(a @ theta)
        gradient = a.T @ (p - y) / len(y) + penalty * theta
        hessian = (a.T * (p * (1 - p))) @ a / len(y) + torch.diag(penalty)
        theta = theta - torch.linalg.solve(hessian, gradient)
    return theta


def show_3(device):
    print("\n3. Training finds the optimum that Newton's method finds")
    weight_decay = 0.01
    x, _, y, _ = train_and_test(*breast_cancer(device))
    theta = fit_sgd(x, y, weight_decay, epochs=250)
    close = (theta - newton(x, y, weight_decay)).abs().max() < 1e-6
    agree = f"{len(theta)} parameters agree to 1e-6: {close}"
    print(f"   weight_decay {weight_decay}: {agree}")
    p = torch.sigmoid(logits(x, theta)).mean()
    print(f"   mean probability {p:.6f}, share of malignant rows {y.mean():.6f}")


# %% 4. Without weight decay there is no optimum
# Some plane separates all 569 rows, and so those of any split. Then larger weights of
# that plane are always better: the loss goes to 0 and the weights grow without end.
def show_4(device):
    print("\n4. Without weight decay there is no optimum")
    x, y = breast_cancer(device)
    x, _ = scaled(x, x)
    for steps in (5, 10, 15):
        theta = newton(x, y, weight_decay=0, steps=steps)
        z = logits(x, theta)
        size = f"|w| {theta[:-1].norm():.1e}, loss {loss_by_hand(z, y):.1e}"
        accuracy, _, _ = scores(z, y)
        print(f"   {steps:>2} Newton steps: {size}, on the right side {accuracy:.1%}")


# %% 5. Judge it on rows that it has not seen
def confusion(z, y):
    """(true negatives, false positives, false negatives, true positives), z > 0."""
    alarm, malignant = z > 0, y == 1
    true_negatives = (~alarm & ~malignant).sum().item()
    false_positives = (alarm & ~malignant).sum().item()
    false_negatives = (~alarm & malignant).sum().item()
    true_positives = (alarm & malignant).sum().item()
    return true_negatives, false_positives, false_negatives, true_positives


def scores(z, y):
    """(accuracy, precision, recall); precision is nan where there is no alarm."""
    tn, fp, fn, tp = confusion(z, y)
    precision = tp / (tp + fp) if tp + fp else float("nan")
    return (tn + tp) / len(y), precision, tp / (tp + fn)


def roc(z, y):
    """(false positive rate, true positive rate) by threshold, from high to low."""
    thresholds = z.unique().flip(0)
    alarm = z >= thresholds[:, None]  # a row for each threshold
    rates = []
    for label in (y == 0, y == 1):
        rate = (alarm & label).sum(dim=1).double() / label.sum()
        rates.append(F.pad(rate, (1, 0)))  # before the first alarm it is 0
    return rates


def roc_auc(z, y):
    """The area under the ROC: the share of pairs, one malignant, ranked right."""
    false_positive_rate, true_positive_rate = roc(z, y)
    return torch.trapezoid(true_positive_rate, false_positive_rate).item()


def accuracies_of_splits(x, y, seeds):
    """The test accuracy for each of these splits, with weight_decay 0.01."""
    accuracies = []
    for seed in seeds:
        x_train, x_test, y_train, y_test = train_and_test(x, y, seed)
        z = logits(x_test, newton(x_train, y_train, 0.01))
        accuracies.append(scores(z, y_test)[0])
    return accuracies


def show_5(device):
    print("\n5. Judge it on rows that it has not seen")
    x, y = breast_cancer(device)
    x_train, x_test, y_train, y_test = train_and_test(x, y)
    z = logits(x_test, newton(x_train, y_train, 0.01))
    tn, fp, fn, tp = confusion(z, y_test)
    print(f"   benign: {tn} right, {fp} wrong; malignant: {tp} right, {fn} wrong")
    accuracy, precision, recall = scores(z, y_test)
    rates = f"precision {precision:.3f}, recall {recall:.3f}"
    area = roc_auc(z, y_test)
    print(f"   accuracy {accuracy:.3f}, {rates}, area under the ROC {area:.4f}")
    accuracies = accuracies_of_splits(x, y, range(20))
    print(f"   accuracy over 20 splits: {min(accuracies):.3f} to {max(accuracies):.3f}")
    print(f"   accuracy of always saying benign, on all rows: {1 - y.mean():.3f}")


# %% 6. Mistake: sigmoid before BCEWithLogitsLoss
# It applies the sigmoid itself: what comes in is at best 0 for a no and 1 for a yes.
def floor_of_double_sigmoid(y):
    """The loss of perfect answers, infinite logits, with a sigmoid too many."""
    perfect = (y - 0.5) * torch.inf
    return loss_by_hand(torch.sigmoid(perfect), y).item()


def floor_in_theory(share):
    """log 2 for each 0 and log(1 + 1/e) for each 1, for a share of ones."""
    return (1 - share) * np.log(2) + share * np.log(1 + np.exp(-1))


def show_6(device):
    print("\n6. Mistake: sigmoid before BCEWithLogitsLoss")
    print("   theory: log 2 for each label 0, log(1 + 1/e) for each label 1, averaged")
    _, _, y, _ = train_and_test(*breast_cancer(device))
    half = torch.tensor([0.0, 1.0], dtype=torch.float64, device=device)
    for name, labels in (("balanced labels", half), ("training labels", y)):
        loss = floor_of_double_sigmoid(labels)
        theory = floor_in_theory(labels.mean().item())
        print(f"   {name}: loss of perfect answers {loss:.6f}, theory {theory:.6f}")


# %% 7. Mistake: sigmoid and then BCELoss
# In float32 the sigmoid of 20 is 1, and that of -89 is 0. BCELoss cuts the infinite
# logarithm off at 100: it is flat there, and a sample that is wrong and sure cannot be
# put right.
def loss_and_gradient(z, y, with_logits):
    """(loss, dloss/dz) of one logit, in float32."""
    z, y = torch.tensor(z, requires_grad=True), torch.tensor(y)
    if with_logits:
        loss = nn.BCEWithLogitsLoss()(z, y)
    else:
        loss = nn.BCELoss()(torch.sigmoid(z), y)
    loss.backward()
    return loss.item(), z.grad.item()


def show_7(device):
    print("\n7. Mistake: sigmoid and then BCELoss")
    print("   logit 20, label 0")
    for with_logits in (False, True):
        loss, gradient = loss_and_gradient(20.0, 0.0, with_logits)
        numbers = f"loss {loss:.1f}, gradient {gradient:.1f}"
        print(f"   with_logits={with_logits!s:<5}   {numbers}")


# %% 8. Mistake: choosing features on all rows
# The labels are coin flips, so nothing can be learned: an honest accuracy is 1/2.
def accuracy_on_coins(choose_on_all, seed, n=80, features=500, chosen=20):
    """Test accuracy on n coin flips, by the features that correlate best with them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 2, (n,), generator=generator).double()
    train_rows, test_rows = split(n, seed)
    seen = torch.arange(n) if choose_on_all else train_rows
    z, _ = scaled(x[seen], x[seen])
    best = (z.T @ y[seen]).abs().topk(chosen).indices
    theta = newton(x[train_rows][:, best], y[train_rows], weight_decay=0.1)
    return scores(logits(x[test_rows][:, best], theta), y[test_rows])[0]


def show_8(device):
    print("\n8. Mistake: choosing features on all rows")
    for on_all in (True, False):
        mean = np.mean([accuracy_on_coins(on_all, seed) for seed in range(20)])
        accuracy = f"mean accuracy on 20 times 16 flips {mean:.2f}"
        print(f"   choose_on_all={on_all!s:<5}   {accuracy}")


# %% The picture
def figure(device="cpu"):
    """The ROC on the test rows, and a histogram of their probabilities by class."""
    from matplotlib.figure import Figure

    x_train, x_test, y_train, y = train_and_test(*breast_cancer(device))
    z = logits(x_test, newton(x_train, y_train, 0.01))
    p, malignant = torch.sigmoid(z).cpu().numpy(), y.cpu().numpy() == 1
    fig = Figure(figsize=(9, 4), layout="constrained")
    curve, histogram = fig.subplots(1, 2)
    curve.plot(*(rate.cpu() for rate in roc(z, y)))
    curve.set(title=f"ROC on {len(y)} test rows, area {roc_auc(z, y):.4f}")
    curve.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    by_class = [p[~malignant], p[malignant]]
    histogram.hist(by_class, bins=10, label=["benign", "malignant"])
    histogram.set(title="by class", xlabel="predicted probability", ylabel="test rows")
    histogram.legend()
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
