"""03 Autograd: PyTorch records what you compute, and differentiates it.

What is computed from a tensor that requires a gradient is recorded. backward() walks
through the record from the result back to the start, and multiplies the slopes.
"""

import argparse
import os
import sys

import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def as_text(vector, digits=2):
    """The numbers of a vector, rounded: [1.00, 2.00]."""
    numbers = [f"{number:.{digits}f}" for number in vector.tolist()]
    return f"[{', '.join(numbers)}]"


# %% 1. PyTorch records what you compute
# By hand: the slope of (x + 2)^2 is 2 (x + 2). The 2 in front doubles it, and the mean
# divides it by n.
def mean_of_squares(x):
    """z = mean(2 (x + 2)^2), a single number, for x of shape (n,)."""
    return (2 * (x + 2) ** 2).mean()


def slopes_by_hand(x):
    """dz/dx = 4 (x + 2) / n for z = mean_of_squares(x), of shape (n,) like x."""
    return 4 * (x + 2) / len(x)


def recorded_operations(z):
    """The names of what was recorded, from z back, where each step has one input."""
    names = []
    node = z.grad_fn
    while node is not None:
        names.append(type(node).__name__)
        node = node.next_functions[0][0] if node.next_functions else None
    return names


def show_1(device):
    print("\n1. PyTorch records what you compute")
    x = torch.tensor([1.0, 2.0, 3.0], device=device, requires_grad=True)
    z = mean_of_squares(x)
    z.backward()
    print(f"   x = {as_text(x)}, z = mean(2 (x + 2)^2) = {z.item():.2f}")
    print("   the record, from z back to x")
    for name in recorded_operations(z):
        print(f"      {name}")
    print(f"   dz/dx by PyTorch   {as_text(x.grad)}")
    print(f"   dz/dx by hand      {as_text(slopes_by_hand(x))}")


# %% 2. Calling backward() again
# The slope of y = 3 w is 3 everywhere.
def gradients_of_3w(calls, reset, device="cpu"):
    """w.grad after each of so many backward passes of y = 3 w, from the first on.

    reset, what follows each pass: "no reset", "w.grad = None" or "w.grad.zero_()".
    """
    w = torch.tensor(1.0, device=device, requires_grad=True)
    gradients = []
    for _ in range(calls):
        y = 3 * w
        y.backward()
        gradients.append(w.grad.item())
        if reset == "w.grad = None":
            w.grad = None
        if reset == "w.grad.zero_()":
            w.grad.zero_()
    return gradients


def show_2(device):
    print("\n2. Calling backward() again")
    calls = 3
    print("   w.grad after each call of backward() on y = 3 w")
    for reset in ("no reset", "w.grad = None", "w.grad.zero_()"):
        print(f"   {reset:<14}   {gradients_of_3w(calls, reset, device)}")


# %% 3. The update must not be recorded
# The targets are twice x: w should become 2. Each step goes against the gradient.
def train(x, target, lr, steps, reset=True):
    """w after each step from w = 0 on the loss mean((w x - target)^2)."""
    w = torch.tensor(0.0, device=x.device, requires_grad=True)
    weights = []
    for _ in range(steps):
        loss = ((w * x - target) ** 2).mean()  # compute, recorded
        loss.backward()  # differentiate
        with torch.no_grad():
            w -= lr * w.grad  # update, not recorded
        if reset:
            w.grad = None  # reset
        weights.append(w.item())
    return weights


def show_3(device):
    print("\n3. The update must not be recorded")
    x = torch.tensor([1.0, 2.0, 3.0], device=device)
    with_reset = train(x, 2 * x, lr=0.05, steps=8)
    without = train(x, 2 * x, lr=0.05, steps=8, reset=False)
    print("   step   w with reset   w without reset")
    for step in range(8):
        print(f"   {step + 1:>4}   {with_reset[step]:12.2f}   {without[step]:15.2f}")
    x.requires_grad_(True)
    y = 2 * x
    print(f"   2 * x                             recorded {y.requires_grad}")
    with torch.no_grad():
        y = 2 * x
    print(f"   2 * x in no_grad()                recorded {y.requires_grad}")
    y = 2 * x.detach()
    print(f"   2 * x.detach()                    recorded {y.requires_grad}")
    with torch.inference_mode():
        y = 2 * x
    print(f"   2 * x in inference_mode()         recorded {y.requires_grad}")
    x.requires_grad_(False)
    y = 2 * x
    print(f"   2 * x, x.requires_grad_(False)    recorded {y.requires_grad}")


# %% 4. Mistake: w = w - lr * w.grad
# The name w then means a new tensor, which records nothing.
def change_the_tensor(lr, device="cpu"):
    """w after one step on y = w^2 from w = 1."""
    w = torch.tensor(1.0, device=device, requires_grad=True)
    (w**2).backward()
    with torch.no_grad():
        w -= lr * w.grad
    return w


def make_a_new_one(lr, device="cpu"):
    """The same number, in a tensor that records nothing."""
    w = torch.tensor(1.0, device=device, requires_grad=True)
    (w**2).backward()
    with torch.no_grad():
        w = w - lr * w.grad  # WRONG
    return w


def train_nothing(steps, lr, device="cpu"):
    """[w, b] after so many steps on w^2 + b^2 from w = b = 1."""
    w = torch.tensor(1.0, device=device, requires_grad=True)
    b = torch.tensor(1.0, device=device, requires_grad=True)
    for _ in range(steps):
        loss = w**2 + b**2
        loss.backward()
        with torch.no_grad():
            for p in [w, b]:
                p = p - lr * p.grad  # WRONG: p is a new tensor, w and b stay
        w.grad = None
        b.grad = None
    return [w.item(), b.item()]


def show_4(device):
    print("\n4. Mistake: w = w - lr * w.grad")
    right = change_the_tensor(lr=0.1, device=device)
    wrong = make_a_new_one(lr=0.1, device=device)
    print("   one step on y = w^2 from w = 1, lr 0.1")
    for name, w in [("w -= lr * w.grad", right), ("w = w - lr * w.grad", wrong)]:
        print(f"   {name:<19}   w {w.item():.2f}   w.grad {w.grad}")
        print(f"   {'':<19}   w.requires_grad {w.requires_grad}")
    unchanged = train_nothing(10, 0.1, device)
    print(f"   for p in [w, b]: p = p - lr * p.grad   {unchanged}")


# %% 5. Mistake: backward twice
# The first pass frees the tensors that the record has kept. That of a sum kept none.
def backward_twice(function, x, retain_graph=False):
    """x.grad after two passes back from one function(x), a single number."""
    x = x.clone().requires_grad_()
    y = function(x)
    y.backward(retain_graph=retain_graph)
    y.backward()
    return x.grad


def show_5(device):
    print("\n5. Mistake: backward twice")
    x = torch.tensor([1.0, 2.0, 3.0], device=device)
    print("   the gradient at x = [1, 2, 3] after two passes")
    try:
        backward_twice(mean_of_squares, x)
    except RuntimeError as error:
        print(f"   z                      {type(error).__name__}")
    twice = backward_twice(mean_of_squares, x, retain_graph=True)
    print(f"   z, retain_graph=True   {as_text(twice)}")
    print(f"   sum(x)                 {as_text(backward_twice(torch.sum, x))}")


# %% 6. When the result is not a single number
# J[i, j] = dy[i] / dx[j]. backward(v) gives v @ J, and never builds J.
def squared_sums(x):
    """y[i] = (x[0] + ... + x[i])^2, of shape (n,) like x."""
    return x.cumsum(dim=0) ** 2


def backward_with(v, x):
    """x.grad after squared_sums(x).backward(v), of shape (n,) like v and x."""
    x = x.clone().requires_grad_()
    squared_sums(x).backward(v)
    return x.grad


def show_6(device):
    print("\n6. When the result is not a single number")
    x = torch.tensor([1.0, 2.0, 3.0], device=device)
    v = torch.tensor([1.0, 10.0, 100.0], device=device)
    table = torch.autograd.functional.jacobian(squared_sums, x)
    print("   y[i] = (x[0] + ... + x[i])^2 at x = [1, 2, 3]")
    for row in table:
        print(f"   a row of J    {as_text(row, 0)}")
    print(f"   v @ J         {as_text(v @ table, 0)}")
    print(f"   backward(v)   {as_text(backward_with(v, x), 0)}")


# %% 7. Mistake: writing through .data
# The slope of the sigmoid s is s (1 - s): backward() needs the s that was computed.
def slope_after_data(x):
    """The gradient of sum(sigmoid(x)) after the sigmoids were rounded through .data."""
    x = x.clone().requires_grad_()
    s = torch.sigmoid(x)
    total = s.sum()
    s.data.round_()  # WRONG
    total.backward()
    return x.grad


def slope_after_detach(x):
    """The same with .detach(): PyTorch sees the write, and raises RuntimeError."""
    x = x.clone().requires_grad_()
    s = torch.sigmoid(x)
    total = s.sum()
    s.detach().round_()
    total.backward()
    return x.grad


def slope_after_copy(x):
    """The same with a rounded copy: nothing that backward() needs is changed."""
    x = x.clone().requires_grad_()
    s = torch.sigmoid(x)
    total = s.sum()
    rounded = s.detach().clone()
    rounded.round_()
    total.backward()
    return x.grad


def show_7(device):
    print("\n7. Mistake: writing through .data")
    x = torch.tensor([1.0, 2.0, 3.0], device=device)
    s = torch.sigmoid(x)
    print("   the gradient of sum(sigmoid(x)) at x = [1, 2, 3]")
    print(f"   s (1 - s), by hand           {as_text(s * (1 - s), 3)}")
    print(f"   s.data.round_()              {as_text(slope_after_data(x), 3)}")
    try:
        slope_after_detach(x)
    except RuntimeError as error:
        print(f"   s.detach().round_()          {type(error).__name__}")
    print(f"   s.detach().clone().round_()  {as_text(slope_after_copy(x), 3)}")


# %% 8. Mistake: an infinite slope behind where
# where(x > 0, a, b) takes a where x > 0, else b. The slope of sqrt at 0 is infinite.
def root_or_zero(x):
    """sqrt(x) where x > 0, else 0: the values are right, the gradient at 0 is not."""
    return torch.where(x > 0, torch.sqrt(x), 0)  # WRONG


def root_or_zero_mended(x):
    """The same values: 0 never reaches the root."""
    safe = torch.where(x > 0, x, 1)
    return torch.where(x > 0, torch.sqrt(safe), 0)


def show_8(device):
    print("\n8. Mistake: an infinite slope behind where")
    print("   sqrt(x) where x > 0, else 0, at x = [0.00, 0.25, 4.00]")
    for function in (root_or_zero, root_or_zero_mended):
        x = torch.tensor([0.0, 0.25, 4.0], device=device, requires_grad=True)
        y = function(x)
        y.sum().backward()
        print(f"   {function.__name__:<20} {as_text(y)}, gradient {as_text(x.grad)}")


# %% The picture
def figure(device="cpu"):
    """The weight of section 3 after each step, with and without the reset."""
    from matplotlib.figure import Figure

    x = torch.tensor([1.0, 2.0, 3.0], device=device)
    fig = Figure(figsize=(8, 3.5), layout="constrained")
    axes = fig.subplots()
    axes.axhline(2, color="gray", linestyle=":", label="the answer, 2")
    axes.plot([0, *train(x, 2 * x, 0.05, 30)], "o-", label="with reset")
    axes.plot([0, *train(x, 2 * x, 0.05, 30, reset=False)], "o-", label="without reset")
    axes.set(xlabel="step", ylabel="w", ylim=(-0.5, 5.5))
    axes.legend(loc="upper center", ncols=3)
    return fig


# %% Run it
TITLE = "03 Autograd"
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
