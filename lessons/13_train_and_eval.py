"""13 Train and eval: one model, two modes, and an answer for each of them.

Dropout and batch norm do one thing while a model learns, and another when it is used.
Nothing complains when the mode is the wrong one.
"""

import argparse
import os
import sys

import torch
import torch.nn.functional as F
from torch import nn

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# %% 1. Dropout in both modes
# In training each number becomes 0 with probability p, and the others are multiplied
# by 1 / (1 - p): the mean stays, on average. no_grad() stops recording, and no more.
def dropout_statistics(p, n, training, device="cpu"):
    """(mean, variance, are two passes equal) of nn.Dropout(p) on n ones, unrecorded."""
    dropout = nn.Dropout(p).train(training)
    ones = torch.ones(n, device=device)
    with torch.no_grad():
        first = dropout(ones)
        second = dropout(ones)
    mean = first.mean().item()
    variance = first.var(correction=0).item()
    return mean, variance, torch.equal(first, second)


def variance_in_theory(p):
    """p / (1 - p), the variance of what dropout makes of a 1: 0 or 1 / (1 - p)."""
    return p / (1 - p)


def show_1(device):
    print("\n1. Dropout in both modes")
    p = 0.5
    print(f"   nn.Dropout({p}) on a million ones")
    for training in [True, False]:
        mean, variance, equal = dropout_statistics(p, 1_000_000, training, device)
        print(f"   training={training}: mean {mean:.2f}, variance {variance:.2f}")
        print(f"   training={training}: two passes are equal: {equal}")
    print(f"   theory: variance {variance_in_theory(p):.2f} in training")


# %% 2. A function does not know the mode
# self.training is the mode of a module, and eval() sets it. A function sees no self.
class AlwaysDrops(nn.Module):
    """Dropout that eval() cannot switch off."""

    def forward(self, x):
        return F.dropout(x, 0.5)  # WRONG


class Drops(nn.Module):
    """The same, told of the mode."""

    def forward(self, x):
        return F.dropout(x, 0.5, self.training)


def variance_after_eval(model, n, device="cpu"):
    """The variance of what a model in evaluation mode makes of n ones."""
    model.eval()
    with torch.no_grad():
        return model(torch.ones(n, device=device)).var(correction=0).item()


def show_2(device):
    print("\n2. A function does not know the mode")
    for model in [nn.Dropout(0.5), Drops(), AlwaysDrops()]:
        variance = variance_after_eval(model, 1_000_000, device)
        print(f"   {type(model).__name__:<11}   variance after eval() {variance:.2f}")


# %% 3. Batch norm standardises each column
# In training it takes the batch's own mean and variance. Layer norm does the same to
# each row, in both modes.
def batch_norm(x, eps=1e-5):
    """(x - mean) / sqrt(variance + eps) for each column of x, (n, d), variance by n."""
    return (x - x.mean(dim=0)) / torch.sqrt(x.var(dim=0, correction=0) + eps)


def show_3(device):
    print("\n3. Batch norm standardises each column")
    layer = nn.BatchNorm1d(1, device=device, dtype=torch.float64)
    for column in [[0.0, 4.0], [1.0, 1.0, 4.0]]:
        x = torch.tensor(column, dtype=torch.float64, device=device)[:, None]
        for name, function in [("by hand", batch_norm), ("PyTorch", layer)]:
            numbers = [f"{z:7.4f}" for z in function(x).flatten().tolist()]
            print(f"   {name} makes of {column}:", *numbers)


# %% 4. What batch norm remembers
# In evaluation it takes running values, which start at mean 0 and variance 1. Each
# training batch moves them a tenth of the way to its own, the variance by n - 1.
def running_after(x, batches):
    """(running mean, running variance) of nn.BatchNorm1d after batch x so often."""
    layer = nn.BatchNorm1d(x.shape[1], device=x.device, dtype=x.dtype)
    for _ in range(batches):
        layer(x)
    return layer.running_mean, layer.running_var


def running_in_theory(start, batch, batches):
    """From start to the batch's value: start 0.9^k + batch (1 - 0.9^k)."""
    return start * 0.9**batches + batch * (1 - 0.9**batches)


def show_4(device):
    print("\n4. What batch norm remembers")
    x = torch.tensor([[0.0], [4.0]], dtype=torch.float64, device=device)
    for batches in [1, 10, 100]:
        mean, variance = running_after(x, batches)
        print(f"   after {batches:>3}   mean {mean[0]:.4f}, variance {variance[0]:.4f}")
        mean = running_in_theory(0, 2, batches)
        variance = running_in_theory(1, 8, batches)
        print(f"   theory      mean {mean:.4f}, variance {variance:.4f}")


# %% 5. Predicting without eval()
# Then the mean of the batch is taken away from each row, and a row's neighbours decide
# about it.
def with_neighbour(neighbour, evaluate):
    """What a batch norm trained on the rows 0 to 4 makes of 3 beside that neighbour."""
    layer = nn.BatchNorm1d(1, momentum=None, affine=False)  # the mean over batches
    layer(torch.arange(5.0)[:, None])
    layer.train(not evaluate)
    return layer(torch.tensor([[3.0], [neighbour]]))[0].item()


def show_5(device):
    print("\n5. Predicting without eval()")
    for neighbour in [1.0, 1000.0]:
        z = with_neighbour(neighbour, evaluate=False)
        print(f"   3 beside {neighbour:6.1f}   without eval() {z:7.4f}")
        z = with_neighbour(neighbour, evaluate=True)
        print(f"   3 beside {neighbour:6.1f}   with eval()    {z:7.4f}")


# %% 6. Two losses of one model
# Behind dropout the loss that training prints is that of a model with holes. This model
# is perfect, and the holes are all of its loss.
def perfect_model(p, weights):
    """Dropout, then the sum of weight times input, for x of shape (n, d)."""
    model = nn.Sequential(nn.Dropout(p), nn.Linear(len(weights), 1, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([weights]))
    return model


def loss_in_mode(model, x, y, training):
    """The mean squared error of a model in training or evaluation mode, unrecorded."""
    model.train(training)
    with torch.no_grad():
        return F.mse_loss(model(x), y).item()


def training_loss_in_theory(p, weights):
    """p / (1 - p) sum w^2, for a perfect model whose inputs are 1 or -1."""
    return p / (1 - p) * sum(weight**2 for weight in weights)


def show_6(device):
    print("\n6. Two losses of one model")
    weights = [1.0, 2.0, 3.0]
    x = torch.ones(1_000_000, 3, device=device)
    y = torch.full((1_000_000, 1), 6.0, device=device)
    for p in [0.2, 0.5]:
        model = perfect_model(p, weights).to(device)
        loss = loss_in_mode(model, x, y, training=True)
        theory = training_loss_in_theory(p, weights)
        print(f"   p {p}   training mode   {loss:4.1f}, theory {theory:4.1f}")
        loss = loss_in_mode(model, x, y, training=False)
        print(f"   p {p}   evaluation mode {loss:4.1f}")


# %% 7. Each module back into its own mode
# model.train() sets the mode of all modules, also of a batch norm that was to stay in
# evaluation mode.
def half_frozen():
    """Dropout in training mode, and a batch norm in evaluation mode."""
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3))
    model[1].eval()
    return model


def modes(model):
    """The mode of the model itself and of each module in it: True in training."""
    return [module.training for module in model.modules()]


def put_back(model, before):
    """Give the model and each module in it the mode that modes(model) gave before."""
    for module, training in zip(model.modules(), before, strict=True):
        module.training = training


def show_7(device):
    print("\n7. Each module back into its own mode")
    model = half_frozen()
    before = modes(model)
    print(f"   before             {before}")
    model.eval()
    print(f"   after eval()       {modes(model)}")
    model.train()
    print(f"   after train()      {modes(model)}")
    put_back(model, before)
    print(f"   after put_back()   {modes(model)}")


# %% The picture
def figure(device="cpu"):
    """What becomes of 3 by its neighbour; the running values on their way."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(9, 4), layout="constrained")
    beside, running = fig.subplots(1, 2)
    neighbours = torch.linspace(-4, 10, 141).tolist()
    for evaluate, label in [(False, "without eval()"), (True, "with eval()")]:
        z = [with_neighbour(neighbour, evaluate) for neighbour in neighbours]
        beside.plot(neighbours, z, label=label)
    beside.set(title="what becomes of 3", xlabel="the other row of the batch")
    beside.legend()
    x = torch.tensor([[0.0], [4.0]], dtype=torch.float64, device=device)
    batches = range(0, 51, 2)
    pairs = [running_after(x, k) for k in batches]
    running.plot(batches, [mean.item() for mean, _ in pairs], "o", label="mean")
    running.plot(batches, [var.item() for _, var in pairs], "o", label="variance")
    for start, batch in [(0, 2), (1, 8)]:
        theory = [running_in_theory(start, batch, k) for k in batches]
        running.plot(batches, theory, "k--")
    running.set(title="what batch norm remembers", xlabel="batches")
    running.legend()
    return fig


# %% Run it
TITLE = "13 Train and eval"
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
