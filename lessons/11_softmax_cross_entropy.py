"""11 Softmax and cross-entropy: one of many classes, and the loss that teaches it.

178 Italian wines of three cultivars, 13 measurements each (Forina et al., 1988).
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


def wine(device="cpu"):
    """x, (178, 13), float64, columns of mean 0 and std 1, and y, (178,): 0, 1 or 2."""
    table = torch.from_numpy(read_csv("wine.csv", 178, 14)).to(device)
    x = table[:, 1:]
    return (x - x.mean(dim=0)) / x.std(dim=0, correction=0), table[:, 0].long() - 1


# %% 1. Softmax makes probabilities of logits
# A network gives each class a number, its logit. Only differences of logits count.
def softmax(z, temperature=1.0):
    """e^(z_k / T) / (sum over j of e^(z_j / T)), for logits z of C classes, (C,)."""
    powers = torch.exp(z / temperature)
    return powers / powers.sum()


# The classes are dim=1, of logits (n, C) and of a picture's (n, C, H, W) too.
def row_sums(n, classes, dim):
    """The sums of the rows of softmax(zeros(n, C), dim): 1 for dim=1, else C / n."""
    return torch.softmax(torch.zeros(n, classes), dim=dim).sum(dim=1)


def show_1(device):
    print("\n1. Softmax makes probabilities of logits")
    z = torch.tensor([2.0, 1.0, 0.1], dtype=torch.float64, device=device)
    for temperature in (0.1, 1.0, 10.0):
        p = [f"{number:.3f}" for number in softmax(z, temperature)]
        print(f"   logits 2, 1, 0.1, at T = {temperature:4.1f}:", *p)
    off = (softmax(z + 100) - softmax(z)).abs().max()
    print(f"   100 more for each class, and they agree to 1e-12: {off < 1e-12}")
    for dim in (0, 1):
        sums = row_sums(4, 10, dim)
        print(f"   softmax(zeros(4, 10), dim={dim}): rows sum to {sums[0]:.1f}")


# %% 2. Cross-entropy is the mean of -log p of what happened
# What the other classes got plays no part, except that all of them sum to 1.
def cross_entropy(z, y):
    """The mean of -log softmax(z)[y], for logits z, (n, C), and classes y, (n,)."""
    log_p = z - z.logsumexp(dim=1, keepdim=True)  # log(softmax(z)): section 6
    return -log_p[torch.arange(len(y)), y].mean()


def show_2(device):
    print("\n2. Cross-entropy is the mean of -log p of what happened")
    y = torch.tensor([0], device=device)
    for p in (0.7, 0.1):
        z = torch.tensor([[p, 1 - p]], dtype=torch.float64, device=device).log()
        print(f"   p {p}: loss {F.cross_entropy(z, y):.4f}")
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(6, 2, generator=generator, dtype=torch.float64).to(device)
    y = torch.tensor([0, 1, 1, 0, 1, 0], device=device)
    by_hand = cross_entropy(z, y)
    loss = nn.CrossEntropyLoss()(z, y)
    nll = nn.NLLLoss()(F.log_softmax(z, dim=1), y)
    binary = nn.BCEWithLogitsLoss()(z[:, 1] - z[:, 0], y.double())
    print(f"   CrossEntropyLoss agrees to 1e-12: {abs(loss - by_hand) < 1e-12}")
    print(
        f"   NLLLoss of log_softmax: {abs(nll - by_hand) < 1e-12}, "
        f"BCEWithLogitsLoss of z[1] - z[0]: {abs(binary - by_hand) < 1e-12}"
    )
    one_output = nn.CrossEntropyLoss()(z[:, :1], torch.zeros_like(y))
    print(f"   CrossEntropyLoss of one output: {one_output:.4f}, whatever the output")


# %% 3. Its gradient is what was said minus what happened
def gradient_by_hand(z, y):
    """dloss/dz = (softmax(z) - onehot(y)) / n, shape (n, C)."""
    return (torch.softmax(z, dim=1) - F.one_hot(y, z.shape[1])) / len(y)


def hessian_by_hand(p):
    """diag(p) - p p^T, (C, C): the second derivatives of -log softmax(z)[y], any y."""
    return torch.diag(p) - torch.outer(p, p)


def show_3(device):
    print("\n3. Its gradient is what was said minus what happened")
    z = torch.tensor(
        [[2.0, 1.0, 0.1]], dtype=torch.float64, device=device, requires_grad=True
    )
    y = torch.tensor([1], device=device)
    F.cross_entropy(z, y).backward()
    off = (z.grad - gradient_by_hand(z.detach(), y)).abs().max()
    numbers = [f"{number:.3f}" for number in z.grad[0]]
    print("   logits 2, 1, 0.1, class 1: gradient", *numbers)
    print(f"   (p - onehot) / n and autograd agree to 1e-12: {off < 1e-12}")
    eigenvalues = torch.linalg.eigvalsh(hessian_by_hand(softmax(z.detach()[0])))
    print("   eigenvalues of diag(p) - p p^T:", *(f"{abs(e):.3f}" for e in eigenvalues))


# %% 4. Before training the loss is log C
# A network that knows nothing should say 1 / C for each class. A first loss far above
# log C comes from logits that are large before anything was learned, or from a sum
# instead of a mean.
def first_loss(std, classes, rows=100_000):
    """The mean cross-entropy of random classes, with logits drawn from N(0, std^2)."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(rows, classes, generator=generator, dtype=torch.float64) * std
    return cross_entropy(z, torch.randint(classes, (rows,), generator=generator)).item()


def show_4(device):
    print("\n4. Before training the loss is log C")
    classes = 10
    theory = f"log {classes} {math.log(classes):.2f}"
    for std in (0.0, 0.1, 1.0, 3.0):
        loss = first_loss(std, classes)
        print(f"   {classes} classes, logits of std {std}: loss {loss:.2f}, {theory}")


# %% 5. Mistake: softmax before CrossEntropyLoss
# It applies the softmax itself. What comes in is then between 0 and 1: never sure,
# never wrong.
def softmax_twice(z, y):
    """The cross-entropy of probabilities that are taken for logits."""
    return F.cross_entropy(torch.softmax(z, dim=1), y)


def loss_and_gradient(loss_function, lead):
    """(loss, |dloss/dz|) for two classes; the wrong one, of logit z, leads by lead."""
    z = torch.tensor([[0.0, lead]], dtype=torch.float64, requires_grad=True)
    loss = loss_function(z, torch.tensor([0]))
    loss.backward()
    return loss.item(), z.grad[0, 1].abs().item()


def floor_of_double_softmax(classes):
    """log(e + C - 1) - 1: the loss of probability 1 for the label."""
    return math.log(math.e + classes - 1) - 1


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


def fit(x, y, loss_function, epochs, momentum=0.9, weight_decay=0.01):
    """(model, losses): a linear layer from zeros, by SGD; only weights decay."""
    model = nn.Linear(x.shape[1], 3, device=x.device, dtype=x.dtype)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    decayed = {"params": [model.weight], "weight_decay": weight_decay}
    optimizer = torch.optim.SGD(
        [decayed, {"params": [model.bias]}], lr=0.5, momentum=momentum
    )
    return model, train(model, loss_function, optimizer, x, y, epochs)


def show_5(device):
    print("\n5. Mistake: softmax before CrossEntropyLoss")
    x, y = wine(device)
    functions = {"softmax once": F.cross_entropy, "softmax twice": softmax_twice}
    for name, function in functions.items():
        for lead in (-10.0, 0.0, 10.0):
            loss, gradient = loss_and_gradient(function, lead)
            evidence = f"loss {loss:7.4f}, gradient {gradient:.6f}"
            print(f"   {name:<13}, lead {lead:5.1f}: {evidence}")
        _, losses = fit(x, y, function, epochs=101)
        print(f"   {name:<13}, wine, step 100: loss {losses[-1]:.3f}")
    floors = [f"{floor_of_double_softmax(classes):.4f}" for classes in (2, 3, 10)]
    print("   floors of softmax twice, for 2, 3 and 10 classes:", *floors)


# %% 6. By hand it overflows, and log-sum-exp does not
# float32 holds nothing above 3.4e38: e^z is inf from z = 88.73 on. Only differences of
# logits count, so take the largest away first: then no power is above 1, and one of
# them is 1.
def log_sum_exp(z):
    """log(sum over k of e^z_k) without overflow: from max(z) to max(z) + log(C)."""
    return z.max() + torch.exp(z - z.max()).sum().log()


def log_softmax(z):
    """log(softmax(z)) = z - log_sum_exp(z), which is never the log of a rounded 0."""
    return z - log_sum_exp(z)


def show_6(device):
    print("\n6. By hand it overflows, and log-sum-exp does not")
    for pair in ([1000.0, 0.0], [-1000.0, -1001.0]):
        z = torch.tensor(pair, device=device)
        by_hand = softmax(z).tolist()
        first, second = softmax(z - z.max()).tolist()
        safe = f"[{first:.4f}, {second:.4f}]"
        print(f"   logits {pair}: by hand {by_hand}, safe {safe}")
    z = torch.tensor([1000.0, 1000.0], dtype=torch.float64, device=device)
    print(f"   log_sum_exp of {z.tolist()}: 1000 + {log_sum_exp(z) - 1000:.6f}, log 2")
    z = torch.tensor([0.0, -200.0], device=device)
    by_hand = softmax(z).log().tolist()
    safe = log_softmax(z).tolist()
    print(f"   log(softmax([0, -200])) {by_hand}, log_softmax {safe}")


# %% 7. The optimum, and what moves it
# The gradient by a class's bias is its mean probability minus its share: at the
# optimum it is 0.
def gradient_size(model, loss_function, x, y, weight_decay=0.01):
    """The largest |gradient| of loss + weight_decay * |W|^2 / 2 by any parameter."""
    model.zero_grad()
    penalty = weight_decay * model.weight.square().sum() / 2
    (loss_function(model(x), y) + penalty).backward()
    return max(parameter.grad.abs().max().item() for parameter in model.parameters())


# Smoothing takes e from the label and shares it among all classes: the loss has a
# floor, the entropy of that target. A class weight of 2 counts each row of that
# class twice.
def smoothing_floor(e, classes):
    """-sum q log q of the target q: 1 - e + e / C for the label, else e / C."""
    label, other = 1 - e + e / classes, e / classes
    return -label * math.log(label) - (classes - 1) * other * math.log(other)


def smoothed_loss(gap, e, classes):
    """The loss with label_smoothing=e, with the label's logit gap above the rest."""
    z = torch.zeros(1, classes, dtype=torch.float64)
    z[0, 0] = gap
    return F.cross_entropy(z, torch.tensor([0]), label_smoothing=e).item()


def weighted_and_repeated(z, y, weight):
    """(loss with whole class weights, loss where each row stands weight[y] times)."""
    rows = torch.arange(len(y), device=y.device).repeat_interleave(weight[y].long())
    weighted = F.cross_entropy(z, y, weight=weight)
    repeated = F.cross_entropy(z[rows], y[rows])
    return weighted.item(), repeated.item()


def show_7(device):
    print("\n7. The optimum, and what moves it")
    x, y = wine(device)
    model, losses = fit(x, y, nn.CrossEntropyLoss(), epochs=500)
    size = gradient_size(model, nn.CrossEntropyLoss(), x, y)
    print(
        f"   first loss {losses[0]:.4f}, log 3; last {losses[-1]:.4f}, "
        f"gradient below 1e-6: {size < 1e-6}"
    )
    p = torch.softmax(model(x), dim=1).mean(dim=0)
    for k in range(3):
        share = (y == k).double().mean()
        print(f"   class {k}: mean probability {p[k]:.6f}, share {share:.6f}")
    print(f"   smoothing 0.1, 10 classes: floor {smoothing_floor(0.1, 10):.4f}")
    for gap in (2.0, math.log(91), 100.0):
        print(f"   a gap of {gap:6.2f}: loss {smoothed_loss(gap, 0.1, 10):.4f}")
    weight = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, device=device)
    # any logits would do
    weighted, repeated = weighted_and_repeated(x[:, :3], y, weight)
    print(
        f"   class weights 1, 2, 3: {weighted:.4f}, rows 1, 2, 3 times: {repeated:.4f}"
    )


# %% 8. What the loss must be given
# The class is an index, counted from 0. Too large a label raises, but -100 means
# "ignore".
def loss_of_labels(labels):
    """The mean loss of the logits 0, 1, 2 for each label; None if it raises."""
    logits = torch.tensor([[0.0, 1.0, 2.0]]).expand(len(labels), 3)
    try:
        return nn.CrossEntropyLoss()(logits, torch.tensor(labels)).item()
    except IndexError:
        return None


def classes_from_0(labels):
    """(the labels that occur, in order, and each label as its place among them)."""
    return labels.unique(return_inverse=True)


# NLLLoss does not take the log: it returns minus the mean of what it got for the label.
def fall_in_theory(x, y, lr=0.5):
    """How much NLLLoss of logits x W^T + b falls in a step of SGD: lr |gradient|^2."""
    onehot = F.one_hot(y, 3).double()
    weight, bias = onehot.T @ x / len(y), onehot.mean(dim=0)
    return lr * (weight.square().sum() + bias.square().sum()).item()


def show_8(device):
    print("\n8. What the loss must be given")
    print("   the logits are 0, 1, 2 for each label")
    for labels in ([0, 1, 2], [1, 2, 3], [1, 2, -100], [1, 2]):
        loss = loss_of_labels(labels)
        result = "IndexError" if loss is None else f"loss {loss:.4f}"
        print(f"   labels {labels!s:<12}   {result}")
    labels = torch.tensor([3, 1, 3, 7, 1], device=device)
    found, places = classes_from_0(labels)
    print(f"   labels {labels.tolist()}: unique() {found.tolist()}")
    print(f"   each as its place among them: {places.tolist()}")
    p = torch.full((1, 4), 0.25, device=device)
    loss = F.nll_loss(p, torch.tensor([0], device=device))
    print(f"   NLLLoss of four probabilities 1/4: {loss:.2f}")
    x, y = wine(device)
    losses = fit(x, y, nn.NLLLoss(), epochs=101, momentum=0, weight_decay=0)[1]
    fall = fall_in_theory(x, y)
    for k in (1, 10, 100):
        evidence = f"{losses[k]:9.4f}, theory {-k * fall:9.4f}"
        print(f"   NLLLoss of logits, step {k:>3}: {evidence}")


# %% The picture
def figure(device="cpu"):
    """Loss and gradient against the lead of the wrong class, for three losses."""
    from matplotlib.figure import Figure

    leads = np.linspace(-8, 8, 161)
    fig = Figure(figsize=(9, 4), layout="constrained")
    left, right = fig.subplots(1, 2)
    smoothed = nn.CrossEntropyLoss(label_smoothing=0.1)
    losses = {
        "once": F.cross_entropy,
        "once, smoothing 0.1": smoothed,
        "twice": softmax_twice,
    }
    for name, function in losses.items():
        points = np.array([loss_and_gradient(function, lead) for lead in leads])
        left.plot(leads, points[:, 0], label=name)
        right.plot(leads, points[:, 1], label=name)
    for axes, title in ((left, "loss"), (right, "size of the gradient")):
        axes.set(title=title, xlabel="lead of the wrong class, in logits")
    left.legend(title="softmax")
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
