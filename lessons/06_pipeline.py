"""06 Pipeline: design the model, construct loss and optimizer, and train in one small
loop.

The parts of torch.nn and torch.optim replace what the last lesson wrote by hand, one
rung after the other, and change nothing: every rung takes the same path.
"""

import argparse

import torch
import torch.nn.functional as F
from torch import nn

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# %% 1. Three rungs, one path
# By hand; with nn.Linear, MSELoss and SGD; with an nn.Module of one's own. A Parameter
# is a tensor that a module knows by name, so that an optimizer can be told of it.
def samples(device="cpu"):
    """x = 1, 2, 3, 4 and y = 2 x, both of shape (4, 1): a row for each sample."""
    x = torch.arange(1.0, 5.0, device=device)[:, None]
    return x, 2 * x


def path_by_hand(x, y, start, lr, steps):
    """[(w, b), ...] from start, after each step on mean((w x + b - y)^2)."""
    w, b = (
        torch.tensor(number, device=x.device, requires_grad=True) for number in start
    )
    path = [(w.item(), b.item())]
    for _ in range(steps):
        ((w * x + b - y) ** 2).mean().backward()
        with torch.no_grad():
            w -= lr * w.grad
            b -= lr * b.grad
        w.grad = b.grad = None
        path.append((w.item(), b.item()))
    return path


def train(model, loss_function, optimizer, x, y, epochs):
    """The losses before each step of optimizer, one step an epoch, on all of x and y."""
    model.train()
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [loss.item() for loss in losses]


class Line(nn.Module):
    """f(x) = w x + b for x of shape (n, 1), from (w, b) = start."""

    def __init__(self, start):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start[0]))
        self.b = nn.Parameter(torch.tensor(start[1]))

    def forward(self, x):
        return self.w * x + self.b


def linear(start):
    """nn.Linear(1, 1) with weight and bias set to (w, b) = start."""
    model = nn.Linear(1, 1)
    nn.utils.vector_to_parameters(torch.tensor(start), model.parameters())
    return model


def path_by_model(model, x, y, lr, steps):
    """The same path, by train, for a model of two parameters that says where it starts."""
    [w, b] = model.parameters()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    path = [(w.item(), b.item())]
    for _ in range(steps):
        train(model, nn.MSELoss(), optimizer, x, y, epochs=1)
        path.append((w.item(), b.item()))
    return path


def three_paths(x, y, start, lr, steps):
    """Name -> path, for all three."""
    return {
        "by hand": path_by_hand(x, y, start, lr, steps),
        "nn.Linear": path_by_model(linear(start).to(x.device), x, y, lr, steps),
        "nn.Module": path_by_model(Line(start).to(x.device), x, y, lr, steps),
    }


def show_1(device):
    print("\n1. Three rungs, one path")
    x, y = samples(device)
    start, lr = (0.0, 0.0), 0.05
    print(f"   from {start}, lr {lr}: (w, b) after 1, 2 and 100 steps")
    for name, path in three_paths(x, y, start, lr, 100).items():
        shown = "   ".join(
            f"{w:.4f}, {b:.4f}" for w, b in (path[1], path[2], path[100])
        )
        print(f"   {name:<12}   {shown}")
    w, b = path[-1]
    print(f"   f(5) after 100 steps {5 * w + b:.3f}; the data says 10")


# %% 2. Optimizers in one valley: each needs its rate
# (u^2 + 100 v^2) / 2 is 100 times as steep across as along. At lr = 2/101 both
# distances shrink by 99/101 a step: the best factor in the long run, if not the fewest
# steps from here.
def valley_losses(make_optimizer, steps, device="cpu"):
    """The losses (u^2 + 100 v^2) / 2 at u = v = 1 and after each step, shape (steps +
    1,)."""
    point = torch.ones(2, dtype=torch.float64, device=device, requires_grad=True)
    curvature = torch.tensor([1.0, 100.0], dtype=torch.float64, device=device)
    optimizer = make_optimizer([point])
    losses = []
    for _ in range(steps + 1):
        optimizer.zero_grad()
        loss = (curvature * point**2).sum() / 2
        losses.append(loss.detach())
        loss.backward()
        optimizer.step()
    return torch.stack(losses)


OPTIMIZERS = {
    "SGD, lr 2/101": lambda p: torch.optim.SGD(p, lr=2 / 101),
    "SGD, lr 0.03, momentum 0.68": lambda p: torch.optim.SGD(p, lr=0.03, momentum=0.68),
    "Adam, lr 0.1": lambda p: torch.optim.Adam(p, lr=0.1),
    "Adam, lr 0.01": lambda p: torch.optim.Adam(p, lr=0.01),
    "Adam, lr 0.003": lambda p: torch.optim.Adam(p, lr=0.003),
}


def steps_to(losses, tolerance):
    """The first step from which the losses stay at or below tolerance; len(losses) if
    none."""
    above = (losses > tolerance).nonzero().flatten().tolist()
    return above[-1] + 1 if above else 0


def sgd_steps_in_theory(lr, tolerance):
    """The first k with ((1 - lr)^2k + 100 (1 - 100 lr)^2k) / 2 <= tolerance, for 0 < lr
    < 0.02."""
    k = 0
    while ((1 - lr) ** (2 * k) + 100 * (1 - 100 * lr) ** (2 * k)) / 2 > tolerance:
        k += 1
    return k


def show_2(device):
    print("\n2. Optimizers in one valley: each needs its rate")
    print("   (u^2 + 100 v^2) / 2 from u = v = 1: steps until it stays under 0.01")
    for name, make_optimizer in OPTIMIZERS.items():
        steps = steps_to(valley_losses(make_optimizer, 250, device), 0.01)
        print(f"   {name:<27}   {steps if steps <= 250 else 'more than 250'}")
    for lr, name in ((2 / 101, "2/101"), (0.0197, "0.0197")):
        print(f"   SGD, lr {name}, in theory   {sgd_steps_in_theory(lr, 0.01)}")


# %% 3. A scheduler counts its own steps, not your epochs
def learning_rates(epochs, batches, once_a_batch):
    """The rate at the start of each epoch: 0.1, times 0.1 after every 30 steps of
    StepLR."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
    rates = []
    for _ in range(epochs):
        rates.append(scheduler.get_last_lr()[0])
        for _ in range(batches):
            optimizer.step()
            if once_a_batch:
                scheduler.step()
        if not once_a_batch:
            scheduler.step()
    return rates


def show_3(device):
    print("\n3. A scheduler counts its own steps, not your epochs")
    print(
        "   the rates of three epochs of 100 batches, StepLR(step_size=30, gamma=0.1)"
    )
    for once_a_batch in (False, True):
        rates = ", ".join(
            f"{rate:.0e}" for rate in learning_rates(3, 100, once_a_batch)
        )
        print(f"   once_a_batch={once_a_batch!s:<5}   {rates}")


# %% 4. Mistake: evaluating in training mode
# In training dropout zeroes each with probability p and multiplies the rest by 1 / (1 -
# p): the mean stays, on average. In evaluation it does nothing. no_grad switches off
# recording, no more.
def dropout_statistics(p, n, training, device="cpu"):
    """nn.Dropout(p) on n ones, twice, unrecorded: mean, variance, and whether both
    agree."""
    dropout, ones = nn.Dropout(p).train(training), torch.ones(n, device=device)
    with torch.no_grad():
        first, second = dropout(ones), dropout(ones)
    return (
        first.mean().item(),
        first.var(correction=0).item(),
        torch.equal(first, second),
    )


def show_4(device):
    print("\n4. Mistake: evaluating in training mode")
    p = 0.5
    print(
        f"   nn.Dropout({p}) on a million ones; theory: variance p / (1 - p) in training"
    )
    for training in (True, False):
        mean, variance, agree = dropout_statistics(p, 1_000_000, training, device)
        print(
            f"   training={training!s:<5}   mean {mean:.2f}, variance {variance:.2f}",
            end=", ",
        )
        print(f"same twice: {agree}")


# %% 5. Mistake: a call left out, or in the wrong place
# Without zero_grad it swings, as in lesson 05. With step before backward nothing ever
# moves: zero_grad has just removed the gradient.
def path_of_calls(calls, x, y, start, lr, epochs):
    """[(w, b), ...] from start, after each epoch of the calls, in their order."""
    model = linear(start).to(x.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    actions = {
        "zero_grad": optimizer.zero_grad,
        "backward": lambda: F.mse_loss(model(x), y).backward(),
        "step": optimizer.step,
    }
    path = [start]
    for _ in range(epochs):
        for call in calls:
            actions[call]()
        path.append(tuple(parameter.item() for parameter in model.parameters()))
    return path


def show_5(device):
    print("\n5. Mistake: a call left out, or in the wrong place")
    print("   the samples, start and rate of section 1")
    x, y = samples(device)
    for calls in (
        "zero_grad backward step",
        "backward step",
        "zero_grad step backward",
    ):
        path = path_of_calls(calls.split(), x, y, (0.0, 0.0), 0.05, epochs=100)
        before, after = path[99][0], path[100][0]
        print(
            f"   {calls:<23}   w {before:6.3f} after 99 epochs, {after:6.3f} after 100"
        )


# %% 6. Mistake: layers in a Python list
# A module looks for parameters in its attributes, not inside their lists: the optimizer
# never hears of them, and they stay as they were born.
class Stack(nn.Module):
    """Three layers of 10 units and one of 1, in a list or in an nn.ModuleList."""

    def __init__(self, container):
        super().__init__()
        self.hidden = container(nn.Linear(10, 10) for _ in range(3))
        self.last = nn.Linear(10, 1)


def trainable(model):
    """How many numbers of a model an optimizer would train."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def show_6(device):
    print("\n6. Mistake: layers in a Python list")
    for container in (list, nn.ModuleList):
        print(f"   {container.__name__:<10}   {trainable(Stack(container))} parameters")


# %% 7. Mistake: the mean of batch means
# The last batch is smaller, and its samples weigh more.
def mean_of_means_and_mean(correct, batch_size):
    """(mean of the batches' means, mean of all) of correct, shape (n,), of zeros and
    ones."""
    correct = correct.double()
    means = [batch.mean() for batch in correct.split(batch_size)]
    return torch.stack(means).mean().item(), correct.mean().item()


def show_7(device):
    print("\n7. Mistake: the mean of batch means")
    correct = torch.arange(10_000, device=device) < 10_000 - 16
    of_batches, of_all = mean_of_means_and_mean(correct, 64)
    print("   10,000 answers, the last 16 wrong, in batches of 64 and a last one of 16")
    print(f"   mean of batch means {of_batches:.6f}, mean of all {of_all:.6f}")


# %% 8. Mistake: keeping the loss keeps its graph
# total += loss holds on to every graph since the first step; loss.item() is only a
# number.
def nodes_kept(steps, as_number):
    """How many nodes are alive behind the sum of so many losses w * w: 2 a step, and
    w's."""
    w, total = torch.ones((), requires_grad=True), torch.zeros(())
    for _ in range(steps):
        loss = w * w
        total = total + (loss.item() if as_number else loss)
    seen, waiting = set(), [total.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [parent for parent, _ in node.next_functions]
    return len(seen)


def show_8(device):
    print("\n8. Mistake: keeping the loss keeps its graph")
    print("   nodes of the graphs behind the sum of 1, 10 and 100 losses w * w")
    for as_number in (False, True):
        counts = ", ".join(str(nodes_kept(steps, as_number)) for steps in (1, 10, 100))
        print(f"   as_number={as_number!s:<5}   {counts}")


# %% The picture
def figure(device="cpu"):
    """The losses of the optimizers in the valley, on a log axis."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(10, 4), layout="constrained")
    axes = fig.subplots()
    for name, make_optimizer in OPTIMIZERS.items():
        axes.semilogy(valley_losses(make_optimizer, 400, device).cpu(), label=name)
    axes.set(title="Optimizers on $(u^2 + 100 v^2) / 2$", xlabel="step", ylabel="loss")
    axes.set_ylim(1e-12, 1e3)
    # beside the curves, not on them
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


# %% Run it
def main(device):
    print(f"06 Pipeline on {device}")
    for show in (show_1, show_2, show_3, show_4, show_5, show_6, show_7, show_8):
        show(device)


# %% The command line: no need to read on
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--device", choices=DEVICES, default=DEVICES[-1])
    parser.add_argument(
        "--figure", metavar="FILE", help="save the picture (.png, .svg, .pdf)"
    )
    args = parser.parse_args()
    main(args.device)
    if args.figure is not None:
        fig = figure(args.device)
        try:
            fig.savefig(args.figure, format=args.figure.rpartition(".")[2])
        except (OSError, ValueError) as error:
            parser.error(f"--figure {args.figure!r}: {error}")
