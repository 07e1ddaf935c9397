"""06 Pipeline: a model, a loss, an optimizer, and one small loop.

Lesson 05 wrote the loop by hand. Here the parts of PyTorch take its place, one after
the other, and become a whole program.
"""

import argparse
import os
import sys
import tempfile

import torch
from torch import nn

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# %% 1. By hand: five lines make a step
def four_points(device="cpu"):
    """x = 1, 2, 3, 4 and y = 2 x + 1, both of shape (4, 1): a row for each sample."""
    x = torch.tensor([[1.0], [2.0], [3.0], [4.0]], device=device)
    return x, 2 * x + 1


def train_by_hand(x, y, lr, steps):
    """(w, b, losses before each step) from w = b = 0, by mean((w x + b - y)^2)."""
    w = torch.tensor(0.0, device=x.device, requires_grad=True)
    b = torch.tensor(0.0, device=x.device, requires_grad=True)
    losses = []
    for _ in range(steps):
        prediction = w * x + b  # 1. predict
        loss = ((prediction - y) ** 2).mean()  # 2. loss
        loss.backward()  # 3. backward
        with torch.no_grad():  # 4. step
            w -= lr * w.grad
            b -= lr * b.grad
        w.grad = None  # 5. reset
        b.grad = None
        losses.append(loss.item())
    return w.item(), b.item(), losses


def print_losses(losses, every):
    for step in range(0, len(losses), every):
        print(f"   step {step:>4}   loss {losses[step]:8.4f}")


def show_1(device):
    print("\n1. By hand: five lines make a step")
    x, y = four_points(device)
    w, b, losses = train_by_hand(x, y, lr=0.05, steps=500)
    print_losses(losses, every=100)
    print(f"   at the end   w {w:.4f}   b {b:.4f}")


# %% 2. The same step in PyTorch's words
def train(model, optimizer, x, y, steps):
    """The losses, mean squared errors on all of x and y, before each step."""
    loss_function = nn.MSELoss()
    model.train()
    losses = []
    for _ in range(steps):
        prediction = model(x)  # 1. predict
        loss = loss_function(prediction, y)  # 2. loss
        loss.backward()  # 3. backward
        optimizer.step()  # 4. step
        optimizer.zero_grad()  # 5. reset
        losses.append(loss.item())
    return losses


def line_from_zero(device="cpu"):
    """nn.Linear(1, 1), which is w x + b, with w = b = 0, as in section 1."""
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    return model.to(device)


def show_2(device):
    print("\n2. The same step in PyTorch's words")
    x, y = four_points(device)
    model = line_from_zero(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = train(model, optimizer, x, y, steps=500)
    print_losses(losses, every=100)
    w, b = model.weight.item(), model.bias.item()
    print(f"   at the end   w {w:.4f}   b {b:.4f}")


# %% 3. A model of your own
# Five points of y = x^2. The best line is horizontal, at the mean of y, which is 2.
class Network(nn.Module):
    """Two layers and a bend between them, from the shape (n, 1) to (n, 1)."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(1, 8)
        self.second = nn.Linear(8, 1)

    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        return self.second(hidden)


def show_3(device):
    print("\n3. A model of your own")
    x = torch.tensor([[-2.0], [-1.0], [0.0], [1.0], [2.0]], device=device)
    y = x**2
    torch.manual_seed(0)
    line = nn.Linear(1, 1).to(device)
    network = Network().to(device)
    for name, model in [("line", line), ("network", network)]:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        losses = train(model, optimizer, x, y, steps=1000)
        print(f"   {name:<7}   loss at the end {losses[-1]:.2f}")
    for name, parameter in network.named_parameters():
        print(f"   {name:<13}   shape {tuple(parameter.shape)}")


# %% 4. A whole program
# The price of a flat is 1 + size^2 and noise, in 100,000; size is in 100 square metres.
# The noise cannot be predicted: in the long run no loss on new flats is below 0.01.
def program(device, path):
    """train.py, the program of the chapter; it saves its model at path."""
    # Data: 600 flats to learn from, 200 to choose with, 200 to test with
    torch.manual_seed(0)
    x = 2 * torch.rand(1000, 1).to(device)
    y = 1 + x**2 + 0.1 * torch.randn(1000, 1).to(device)
    x_train, y_train = x[:600], y[:600]
    x_valid, y_valid = x[600:800], y[600:800]
    x_test, y_test = x[800:], y[800:]

    # Model, loss function, optimizer
    model = Network().to(device)
    loss_function = nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    # Train, up to step 1500
    for step in range(1501):
        model.train()
        loss = loss_function(model(x_train), y_train)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 300 == 0:
            model.eval()
            with torch.no_grad():
                valid = loss_function(model(x_valid), y_valid)
            print(f"   step {step:>4}   train {loss:.4f}   validation {valid:.4f}")

    # Test, once
    model.eval()
    with torch.no_grad():
        test = loss_function(model(x_test), y_test)
    print(f"   on flats that it has not seen: loss {test:.4f}")

    # Save
    torch.save(model.state_dict(), path)

    # Load and use
    loaded = Network()
    loaded.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    loaded.eval()
    price = loaded(torch.tensor([[0.5]])).item()
    print(f"   a flat of 50 square metres: {price:.2f} times 100,000")


def show_4(device):
    print("\n4. A whole program")
    with tempfile.TemporaryDirectory() as folder:
        program(device, os.path.join(folder, "flats.pt"))


# %% 5. Mistakes without an error message
def without_reset(x, y, steps):
    """The losses of the loop of section 2 without its reset."""
    model = line_from_zero(x.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(steps):
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()  # adds to the gradients of all the steps before
        optimizer.step()
        # WRONG: no optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def with_the_old_optimizer(x, y, steps):
    """The losses with an optimizer that was made for another model."""
    model = line_from_zero(x.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    model = line_from_zero(x.device)  # WRONG: the optimizer has the old parameters
    return train(model, optimizer, x, y, steps)


def with_a_flat_y(x, y, steps):
    """The losses with a y of shape (n,), the predictions being (n, 1)."""
    model = line_from_zero(x.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(steps):
        # WRONG: (n, 1) - (n,) has the shape (n, n)
        loss = ((model(x) - y.flatten()) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def show_5(device):
    print("\n5. Mistakes without an error message")
    x, y = four_points(device)
    no_reset = without_reset(x, y, steps=501)
    old = with_the_old_optimizer(x, y, steps=501)
    flat = with_a_flat_y(x, y, steps=501)
    print("   step   no reset   old optimizer   flat y")
    for step in range(0, 501, 100):
        print(f"{step:>7} {no_reset[step]:10.2f} {old[step]:15.2f} {flat[step]:8.2f}")


# %% 6. Layers that the model does not know
class InAList(nn.Module):
    """Three hidden layers in a Python list, and a last one."""

    def __init__(self):
        super().__init__()
        self.hidden = [nn.Linear(10, 10) for _ in range(3)]  # WRONG
        self.last = nn.Linear(10, 1)


class InAModuleList(nn.Module):
    """The same in a list that nn.Module can see into."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.ModuleList([nn.Linear(10, 10) for _ in range(3)])
        self.last = nn.Linear(10, 1)

    def forward(self, x):
        for layer in self.hidden:
            x = torch.tanh(layer(x))
        return self.last(x)


class ThreeTimesTheSame(nn.Module):
    """One hidden layer, three times in the list."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.ModuleList(3 * [nn.Linear(10, 10)])  # WRONG
        self.last = nn.Linear(10, 1)


def numbers_to_train(model):
    """How many numbers an optimizer would be given."""
    return sum(parameter.numel() for parameter in model.parameters())


def show_6(device):
    print("\n6. Layers that the model does not know")
    for model in [InAList(), InAModuleList(), ThreeTimesTheSame()]:
        name = type(model).__name__
        print(f"   {name:<17}   {numbers_to_train(model):>3} numbers to train")


# %% 7. The loss keeps its graph
# In each step there are two operations, the product and the addition.
def total_loss(steps, as_number):
    """The sum of so many losses w * w."""
    w = torch.tensor(1.0, requires_grad=True)
    total = torch.tensor(0.0)
    for _ in range(steps):
        loss = w * w
        loss.backward()
        if as_number:
            total += loss.item()
        else:
            total += loss  # WRONG: keeps the record of this step
    return total


def operations_kept(steps, as_number):
    """How many operations are recorded behind the sum of so many losses w * w."""
    total = total_loss(steps, as_number)
    kept = set()
    waiting = [total.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and type(node).__name__ != "AccumulateGrad":
            kept.add(node)
            for parent, _ in node.next_functions:
                waiting.append(parent)
    return len(kept)


def show_7(device):
    print("\n7. The loss keeps its graph")
    print("   operations in memory behind the total")
    for steps in [1, 10, 100]:
        kept = operations_kept(steps, as_number=False)
        kept_by_item = operations_kept(steps, as_number=True)
        print(f"   {steps:>3} steps   total += loss        {kept:>3}")
        print(f"   {steps:>3} steps   total += loss.item() {kept_by_item:>3}")


# %% The picture
def figure(device="cpu"):
    """Section 3: five points, the best line and the network through them."""
    from matplotlib.figure import Figure

    x = torch.tensor([[-2.0], [-1.0], [0.0], [1.0], [2.0]], device=device)
    y = x**2
    places = torch.linspace(-2.5, 2.5, 101)[:, None]
    torch.manual_seed(0)
    line = nn.Linear(1, 1).to(device)
    network = Network().to(device)
    fig = Figure(figsize=(8, 4), layout="constrained")
    axes = fig.subplots()
    for name, model in [("nn.Linear", line), ("Network", network)]:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        train(model, optimizer, x, y, steps=1000)
        with torch.no_grad():
            axes.plot(places, model(places.to(device)).cpu(), label=name)
    axes.plot(x.cpu(), y.cpu(), "ko", label="the five points")
    axes.set(xlabel="x", ylabel="y")
    axes.legend()
    return fig


# %% Run it
TITLE = "06 Pipeline"
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
