"""06 Pipeline: design the model, construct loss and optimizer, and train in one small loop.

The parts of torch.nn and torch.optim replace what the last lesson wrote by hand, one rung
after the other, and change nothing: every rung takes the same path.
"""

import argparse
import io
import math
from pathlib import Path

import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# %% 1. Four rungs, one path
# By hand; with MSELoss and SGD; with nn.Linear; with an nn.Module of one's own. A Parameter
# is a tensor that a module knows by name, so that an optimizer can be told of it.
def data(device="cpu"):
    """x = 1, 2, 3, 4 and y = 2 x, both of shape (4, 1): a row for each sample."""
    x = torch.arange(1.0, 5.0, device=device)[:, None]
    return x, 2 * x


def path_by_hand(x, y, start, lr, steps):
    """[(w, b), ...] from start, after each step on mean((w x + b - y)^2)."""
    w, b = (torch.tensor(number, device=x.device, requires_grad=True) for number in start)
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
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


class Line(torch.nn.Module):
    """f(x) = w x + b for x of shape (n, 1), from (w, b) = start."""

    def __init__(self, start):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(start[0]))
        self.b = torch.nn.Parameter(torch.tensor(start[1]))

    def forward(self, x):
        return self.w * x + self.b


def linear(start):
    """torch.nn.Linear(1, 1) with weight and bias set to (w, b) = start."""
    model = torch.nn.Linear(1, 1)
    with torch.no_grad():
        for parameter, number in zip(model.parameters(), start, strict=True):
            parameter.fill_(number)
    return model


def path_by_pipeline(model, parameters, x, y, lr, steps):
    """[(w, b), ...] before and after each epoch of train, with MSELoss and SGD."""
    [w, b] = parameters
    optimizer = torch.optim.SGD([w, b], lr=lr)
    path = [(w.item(), b.item())]
    for _ in range(steps):
        train(model, torch.nn.MSELoss(), optimizer, x, y, epochs=1)
        path.append((w.item(), b.item()))
    return path


def rungs(x, y, start, lr, steps):
    """Name -> path, for all four."""
    w, b = (torch.tensor(number, device=x.device, requires_grad=True) for number in start)
    models = {"nn.Linear": linear(start).to(x.device), "nn.Module": Line(start).to(x.device)}
    paths = {
        "by hand": path_by_hand(x, y, start, lr, steps),
        "MSELoss, SGD": path_by_pipeline(lambda x: w * x + b, [w, b], x, y, lr, steps),
    }
    for name, model in models.items():
        paths[name] = path_by_pipeline(model, model.parameters(), x, y, lr, steps)
    return paths


# %% 2. Three optimizers in one valley
# In (u^2 + 100 v^2) / 2 the best lr of plain SGD shrinks the distance by 99/101 a step,
# momentum at its best by 9/11 in the long run. Adam divides by the size of past gradients.
def valley_losses(make_optimizer, steps, device="cpu"):
    """The losses (u^2 + 100 v^2) / 2 at u = v = 1 and after each step, shape (steps + 1,)."""
    point = torch.ones(2, dtype=torch.float64, device=device, requires_grad=True)
    curvature = torch.tensor([1.0, 100.0], dtype=torch.float64, device=device)
    optimizer = make_optimizer([point])
    points = [point.detach().clone()]
    for _ in range(steps):
        optimizer.zero_grad()
        (curvature * point**2).sum().div(2).backward()
        optimizer.step()
        points.append(point.detach().clone())
    return (curvature * torch.stack(points) ** 2).sum(dim=1) / 2


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=2 / 101),
    "SGD, momentum": lambda p: torch.optim.SGD(p, lr=(2 / 11) ** 2, momentum=(9 / 11) ** 2),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1),
}


def steps_to(losses, tolerance):
    """The first step from which the losses stay at or below tolerance."""
    above = (losses > tolerance).nonzero()
    return above[-1].item() + 1 if len(above) else 0


# %% 3. Adam's weight_decay is not AdamW's
# Adam adds decay * w to the gradient and then divides by the gradient's size: where nothing
# else pulls it walks about lr a step, however small the decay. AdamW multiplies the weight by
# 1 - lr decay.
def decayed(optimizer, lr, weight_decay, steps):
    """A weight of 1 after so many steps of gradient 0."""
    w = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimizer = optimizer([w], lr=lr, weight_decay=weight_decay)
    for _ in range(steps):
        w.grad = torch.zeros_like(w)
        optimizer.step()
    return w.item()


# %% 4. A scheduler counts its own steps, not your epochs
def learning_rates(epochs, batches, once_a_batch):
    """The rate at the start of each epoch: 0.1, times 0.1 after every 30 steps of StepLR."""
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


# %% 5. Mistake: evaluating in training mode
# In training dropout zeroes a share p and multiplies the rest by 1 / (1 - p), so the mean
# stays; in evaluation it does nothing. no_grad switches off recording, not dropout.
def dropped(p, n, training, device="cpu"):
    """nn.Dropout(p) on n ones, twice, unrecorded: mean, variance, and whether both agree."""
    dropout, ones = torch.nn.Dropout(p).train(training), torch.ones(n, device=device)
    with torch.no_grad():
        first, second = dropout(ones), dropout(ones)
    return first.mean().item(), first.var(correction=0).item(), torch.equal(first, second)


# %% 6. Mistake: a call left out, or in the wrong place
# Without zero_grad gradients add up. With step before backward the gradient is always the
# one that zero_grad has just removed, so nothing ever moves.
def parameters_after(calls, x, y, start, lr, epochs):
    """(w, b) after so many epochs of the calls, in their order."""
    model = linear(start).to(x.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    actions = {
        "zero_grad": optimizer.zero_grad,
        "backward": lambda: torch.nn.functional.mse_loss(model(x), y).backward(),
        "step": optimizer.step,
    }
    for _ in range(epochs):
        for call in calls:
            actions[call]()
    return tuple(parameter.item() for parameter in model.parameters())


# %% 7. Mistake: layers in a Python list
# A module looks for parameters in its attributes, not inside their lists: the optimizer
# never hears of them, and they stay as they were born.
class Deep(torch.nn.Module):
    """Three layers of 10 units and one of 1, in a list or in an nn.ModuleList."""

    def __init__(self, container):
        super().__init__()
        self.hidden = container(torch.nn.Linear(10, 10) for _ in range(3))
        self.last = torch.nn.Linear(10, 1)


def trainable(model):
    """How many numbers model.parameters() hands to an optimizer."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


# %% 8. Mistake: the mean of batch means
# The last batch is smaller, and its samples weigh more.
def accuracies(correct, batch_size):
    """(mean of the batches' means, mean of all) of correct, shape (n,), of zeros and ones."""
    batches = correct.double().split(batch_size)
    return torch.stack([b.mean() for b in batches]).mean().item(), correct.double().mean().item()


# %% 9. Mistake: keeping the loss keeps its graph
# total += loss holds on to every graph since the first step; loss.item() is only a number.
def nodes_kept(steps, as_number):
    """How many nodes are alive behind the sum of so many losses w * w: 2 a step, and w's."""
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


# %% 10. Mistake: a metric that cannot be wrong
# Count the right answers, divide by how many were right: 100 %, for any model.
def percent_right(predicted, labels):
    """(right / all, right / right), in percent; both of shape (n,)."""
    right = (predicted == labels).sum().item()
    return 100 * right / len(labels), 100 * right / right


# %% The picture
def figure(device="cpu"):
    """The losses of the three optimizers in the valley, on a log axis."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(7, 4), layout="constrained")
    axes = picture.subplots()
    for name, make_optimizer in OPTIMIZERS.items():
        axes.semilogy(valley_losses(make_optimizer, 400, device).cpu(), label=name)
    axes.set(title="Three optimizers on $(u^2 + 100 v^2) / 2$", xlabel="step", ylabel="loss")
    axes.set_ylim(1e-12, 1e3)
    axes.legend()
    return picture


# %% Run it
def main(device):
    print(f"06 Pipeline on {device}")
    x, y = data(device)

    print("\n1. Four rungs, one path")
    print("   (w, b) after      1 step            2 steps          100 steps")
    for name, path in rungs(x, y, (0.0, 0.0), 0.05, 100).items():
        shown = "   ".join(f"{w:.4f}, {b:.4f}" for w, b in (path[1], path[2], path[100]))
        print(f"   {name:<12}   {shown}")
    before, after = (5 * w + b for w, b in (path[0], path[-1]))
    print(f"   f(5) before {before:.3f}, after 100 steps {after:.3f}; the data says 10")

    print("\n2. Three optimizers in one valley")
    predicted = math.ceil(math.log(1e-6 / 50.5) / (2 * math.log(99 / 101)))
    for name, make_optimizer in OPTIMIZERS.items():
        steps = steps_to(valley_losses(make_optimizer, 500, device), 1e-6)
        theory = f"   theory {predicted}" if name == "SGD" else ""
        print(f"   {name:<13}   {steps:>3} steps to a loss of 1e-6{theory}")

    print("\n3. Adam's weight_decay is not AdamW's")
    for name, optimizer in (("Adam", torch.optim.Adam), ("AdamW", torch.optim.AdamW)):
        print(f"   {name:<5}   {decayed(optimizer, 0.01, 0.1, 10):.5f}")
    print(f"   (1 - lr weight_decay)^10 = {(1 - 0.01 * 0.1) ** 10:.5f}")

    print("\n4. A scheduler counts its own steps, not your epochs")
    for once_a_batch in (False, True):
        rates = ", ".join(f"{rate:.0e}" for rate in learning_rates(3, 100, once_a_batch))
        print(f"   once_a_batch={once_a_batch!s:<5}   {rates}")

    print("\n5. Mistake: evaluating in training mode")
    for training, theory in ((True, "1, 1"), (False, "1, 0")):
        mean, variance, agree = dropped(0.5, 1_000_000, training, device)
        print(f"   training={training!s:<5}   mean {mean:.2f}, variance {variance:.2f}", end=" ")
        print(f"(theory {theory}), same twice: {agree}")

    print("\n6. Mistake: a call left out, or in the wrong place")
    for calls in ("zero_grad backward step", "backward step", "zero_grad step backward"):
        w, b = parameters_after(calls.split(), x, y, (0.0, 0.0), 0.05, 100)
        print(f"   {calls:<23}   w {w:7.4f}, b {b:7.4f}")

    print("\n7. Mistake: layers in a Python list")
    for container in (list, torch.nn.ModuleList):
        print(f"   {container.__name__:<10}   {trainable(Deep(container))} parameters")

    print("\n8. Mistake: the mean of batch means")
    correct = torch.arange(10_000, device=device) < 10_000 - 16
    of_batches, of_all = accuracies(correct, 64)
    print(f"   mean of batch means {of_batches:.6f}, mean of all {of_all:.6f}")

    print("\n9. Mistake: keeping the loss keeps its graph")
    for as_number in (False, True):
        counts = ", ".join(str(nodes_kept(steps, as_number)) for steps in (1, 10, 100))
        print(f"   as_number={as_number!s:<5}   nodes after 1, 10 and 100 steps: {counts}")

    print("\n10. Mistake: a metric that cannot be wrong")
    labels = torch.arange(100) % 2
    honest, circular = percent_right(torch.ones(100), labels)
    print(f"   always saying 1: {honest:.1f} % right, or {circular:.1f} % of itself")


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
