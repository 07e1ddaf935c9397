"""05 Gradient descent: walk downhill, and know beforehand where the steps lead.

Four receipts say what apples cost: 2 euros a kilogram. The model is price = w x. Its
loss mean((w x - y)^2) = 7.5 (w - 2)^2 is a parabola, so each step can be predicted.
"""

import argparse
import math
import os
import sys

import numpy as np
import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# %% 1. By hand, and by autograd
def receipts(device="cpu"):
    """x = 1, 2, 3, 4 kilograms and y = 2 x euros, shape (4,), float64."""
    x = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64, device=device)
    return x, 2 * x


def slope_by_hand(x, y, w):
    """The slope of mean((w x - y)^2) with respect to w, for arrays and for tensors."""
    return (2 * (w * x - y) * x).mean()


def walk_by_hand(x, y, lr, steps):
    """[0, w after one step, w after two, ...], for arrays and for tensors."""
    w = 0.0
    walk = [w]
    for _ in range(steps):
        w = w - lr * slope_by_hand(x, y, w).item()
        walk.append(w)
    return walk


def walk_by_autograd(x, y, lr, steps):
    """The same walk, with the slope from backward()."""
    w = torch.tensor(0.0, dtype=x.dtype, device=x.device, requires_grad=True)
    walk = [w.item()]
    for _ in range(steps):
        loss = ((w * x - y) ** 2).mean()  # forward: compute the loss
        loss.backward()  # backward: compute the slope
        with torch.no_grad():
            w -= lr * w.grad  # update: take the step
        w.grad = None  # reset: forget this slope
        walk.append(w.item())
    return walk


def show_1(device):
    print("\n1. By hand, and by autograd")
    x, y = receipts(device)
    numpy = walk_by_hand(x.cpu().numpy(), y.cpu().numpy(), lr=0.01, steps=20)
    autograd = walk_by_autograd(x, y, lr=0.01, steps=20)
    print(f"   the slope at w = 0 is {slope_by_hand(x, y, 0.0):.0f}; lr 0.01")
    print("   step     NumPy   autograd")
    for k in (0, 1, 2, 5, 10, 20):
        print(f"   {k:>4}   {numpy[k]:.5f}    {autograd[k]:.5f}")
    print(f"   5 kilograms cost {5 * autograd[-1]:.3f} euros, says the model")


# %% 2. Three walkers in the fog
def show_2(device):
    print("\n2. Three walkers in the fog")
    x, y = receipts(device)
    careful = walk_by_autograd(x, y, lr=0.01, steps=20)
    bold = walk_by_autograd(x, y, lr=0.1, steps=20)
    bolder = walk_by_autograd(x, y, lr=0.14, steps=20)
    print("   step   lr 0.01   lr 0.10    lr 0.14")
    for step in (0, 1, 2, 3, 4, 5, 20):
        row = f"{careful[step]:7.4f}   {bold[step]:7.4f}   {bolder[step]:8.4f}"
        print(f"   {step:>4}   {row}")


# %% 3. One factor decides
# Each step multiplies the distance to the minimum by 1 - lr curvature.
def curvature(x):
    """The slope of the slope of mean((w x - y)^2): 2 mean(x^2), here 15."""
    return 2 * (x**2).mean().item()


def closed_form(minimum, curvature, lr, steps):
    """w after so many steps from 0 on a parabola with that minimum and curvature."""
    return minimum * (1 - (1 - lr * curvature) ** steps)


def steps_taken(walk, target, tolerance):
    """How many steps it walks until |w - target| <= tolerance, or infinity."""
    for steps, w in enumerate(walk):
        if abs(w - target) <= tolerance:
            return steps
    return math.inf


def steps_needed(factor, distance, tolerance):
    """The smallest k with |factor|^k distance <= tolerance, or infinity."""
    if abs(factor) >= 1:
        return math.inf
    steps = 0
    while abs(factor) ** steps * distance > tolerance:
        steps += 1
    return steps


def show_3(device):
    print("\n3. One factor decides")
    x, y = receipts(device)
    x, y = x.cpu().numpy(), y.cpu().numpy()
    print("                   w after 20 steps     steps until |w - 2| <= 0.001")
    print("       lr   factor     walked   formula     walked    theory")
    for lr in (0.01, 1 / 15, 0.1, 0.13, 2 / 15, 0.14):
        factor = 1 - lr * curvature(x)
        walk = walk_by_hand(x, y, lr, steps=1000)
        formula = closed_form(2, curvature(x), lr, steps=20)
        taken = steps_taken(walk, 2, 0.001)
        needed = steps_needed(factor, 2, 0.001)
        places = f"{walk[20]:10.4f}{formula:10.4f}"
        print(f"   {lr:.4f}   {factor:6.2f} {places} {taken:>10} {needed:>9}")


# %% 4. The same apples in grams
# The curvature is 2 mean(x^2): x a thousand times as large, the limit a millionth.
def limit(x):
    """Gradient descent on mean((w x - y)^2) arrives if 0 < lr < limit(x)."""
    return 2 / curvature(x)


def share_left(x, y, lr, steps):
    """What is left of the distance to the answer after so many steps from w = 0."""
    answer = (x * y).mean() / (x * x).mean()
    w = walk_by_hand(x, y, lr, steps)[-1]
    return abs(w - answer) / abs(answer)


def show_4(device):
    print("\n4. The same apples in grams")
    kilograms, y = receipts(device)
    kilograms, y = kilograms.cpu().numpy(), y.cpu().numpy()
    print("                                       share left after 50 steps")
    print("   apples in   curvature      limit   0.9 of the limit   1.1 of it")
    for unit, size in [("tonnes", 0.001), ("kilograms", 1), ("grams", 1000)]:
        x = size * kilograms
        below = share_left(x, y, 0.9 * limit(x), steps=50)
        above = share_left(x, y, 1.1 * limit(x), steps=50)
        row = f"{curvature(x):9.2g}   {limit(x):8.3g}   {below:16.1e}   {above:9.1e}"
        print(f"   {unit:<9}   {row}")


# %% 5. Mistake: dot() and then mean()
# dot adds up n products, and the mean of one number is that number.
def walk_with_dot(x, y, lr, steps):
    """The walk of section 1, with n times the slope, for arrays of shape (n,)."""
    w = 0.0
    walk = [w]
    for _ in range(steps):
        slope = np.dot(2 * x, w * x - y).mean()  # WRONG: dot has added up already
        w = w - lr * slope.item()
        walk.append(w)
    return walk


def show_5(device):
    print("\n5. Mistake: dot() and then mean()")
    x, y = receipts(device)
    x, y = x.cpu().numpy(), y.cpu().numpy()
    print("   w after 20 steps at lr 0.01")
    print("   receipts       right       wrong")
    for copies in (1, 10):
        many_x, many_y = np.tile(x, copies), np.tile(y, copies)
        right = walk_by_hand(many_x, many_y, lr=0.01, steps=20)
        wrong = walk_with_dot(many_x, many_y, lr=0.01, steps=20)
        print(f"   {len(many_x):>8}   {right[-1]:9.3g}   {wrong[-1]:9.3g}")


# %% 6. The slope of the slope
# create_graph=True records how a slope was computed, so that it has a slope, too.
def second_derivative(function, x):
    """f''(x), for a function that works element by element, in the shape of x."""
    x = x.detach().clone().requires_grad_()
    (first,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    if not first.requires_grad:  # the slope is a plain number, as in 3 x
        return torch.zeros_like(x)
    (second,) = torch.autograd.grad(first.sum(), x, allow_unused=True)
    return torch.zeros_like(x) if second is None else second  # None: x has no part


def cube(x):
    """x^3, whose slope is 3 x^2, whose slope is 6 x."""
    return x * x * x


def hessian_by_autograd(x, y, weights):
    """The second derivatives of mean((w x + b - y)^2) at weights = (w, b), (2, 2)."""

    def loss(weights):
        w, b = weights
        return ((w * x + b - y) ** 2).mean()

    return torch.autograd.functional.hessian(loss, weights)


def hessian_by_hand(x):
    """[[2 mean(x^2), 2 mean(x)], [2 mean(x), 2]]: w and b and y have no part in it."""
    mixed = 2 * x.mean().item()
    rows = [[curvature(x), mixed], [mixed, 2.0]]
    return torch.tensor(rows, dtype=x.dtype, device=x.device)


def show_6(device):
    print("\n6. The slope of the slope")
    x, y = receipts(device)
    print(f"   x                    {x.tolist()}")
    print(f"   x^3, by autograd     {second_derivative(cube, x).tolist()}")
    print(f"   x^3, 6 x             {(6 * x).tolist()}")
    here = torch.tensor([0.0, 0.0], dtype=x.dtype, device=device)
    print(f"   the loss, autograd   {hessian_by_autograd(x, y, here).tolist()}")
    print(f"   the loss, by hand    {hessian_by_hand(x).tolist()}")


# %% 7. Two weights
# Along its steepest and its flattest direction the bowl is a parabola by itself.
def walk_line(x, y, lr, steps):
    """w and b after each step from 0, of shape (steps + 1, 2)."""
    weights = torch.zeros(2, dtype=x.dtype, device=x.device)
    walk = [weights]
    for _ in range(steps):
        error = weights[0] * x + weights[1] - y
        slopes = torch.stack([2 * (error * x).mean(), 2 * error.mean()])
        weights = weights - lr * slopes
        walk.append(weights)
    return torch.stack(walk)


def distances_in_theory(h, answer, lr, steps):
    """How far (w, b) is from the answer after each step from 0, by the curvatures h.

    Along each eigenvector a step keeps the share 1 - lr eigenvalue of the distance.
    """
    eigenvalues, directions = torch.linalg.eigh(h)
    first = directions.T @ answer
    shares = (1 - lr * eigenvalues) ** torch.arange(steps + 1, device=h.device)[:, None]
    return (shares * first).norm(dim=1)


def standardised(x):
    """x moved to mean 0, and divided so that the mean of its squares is 1."""
    return (x - x.mean()) / x.std(correction=0)


def compare_steps(name, x, y, answer, lr):
    """Print how many steps it takes until (w, b) is within 0.001 of the answer."""
    walked = (walk_line(x, y, lr, steps=400) - answer).norm(dim=1)
    theory = distances_in_theory(hessian_by_hand(x), answer, lr, steps=400)
    taken = steps_taken(walked.tolist(), 0, 0.001)
    needed = steps_taken(theory.tolist(), 0, 0.001)
    print(f"   {name:<12}   {lr:.4f}   {taken:>6}   {needed:>6}")


def show_7(device):
    print("\n7. Two weights")
    x, y = receipts(device)
    flattest, steepest = torch.linalg.eigvalsh(hessian_by_hand(x)).tolist()
    print(f"   eigenvalues {flattest:.4f} and {steepest:.4f}")
    print(f"   limit {2 / steepest:.4f}, condition number {steepest / flattest:.2f}")
    print("   x                rate   walked   theory")
    answer = torch.tensor([2.0, 0.0], dtype=x.dtype, device=device)
    compare_steps("as it is", x, y, answer, lr=1 / steepest)
    compare_steps("as it is", x, y, answer, lr=2 / (steepest + flattest))
    compare_steps("as it is", x, y, answer, lr=1.01 * 2 / steepest)
    answer = torch.stack([2 * x.std(correction=0), y.mean()])
    compare_steps("standardised", standardised(x), y, answer, lr=1 / 2)


# %% 8. Hills
def hills(w):
    """Two valleys and a hill between them, the left one deeper."""
    return (w**2 - 1) ** 2 + 0.3 * w


def descend(loss, start, lr, steps):
    """The walk of section 1 from any start on any loss of one weight, float64."""
    w = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    walk = [w.item()]
    for _ in range(steps):
        loss(w).backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
        walk.append(w.item())
    return walk


def show_8(device):
    print("\n8. Hills")
    print("   from w = 2   w after   1 step   3 steps   200 steps   loss then")
    for lr in (0.01, 0.08, 0.1, 0.16, 0.18):
        walk = descend(hills, 2.0, lr, steps=200)
        row = f"{walk[1]:6.2f}   {walk[3]:7.2f}   {walk[200]:9.2f}"
        print(f"   lr {lr:.2f}                {row}   {hills(walk[200]):9.2f}")


# %% The picture
RATES = {"small": 0.01, "good": 0.06, "large": 0.11, "diverging": 0.138}


def figure(device="cpu"):
    """Eight steps on the parabola at four rates, and the losses on a log axis."""
    from matplotlib.figure import Figure

    x, y = receipts(device)
    fig = Figure(figsize=(10, 4), layout="constrained")
    *parabolas, losses = fig.subplots(1, 5, width_ratios=[1, 1, 1, 1, 2])
    w = np.linspace(-1.5, 5.5, 141)
    for number, (name, lr) in enumerate(RATES.items()):
        walk = np.array(walk_by_autograd(x, y, lr, steps=8))
        loss = 7.5 * (walk - 2) ** 2
        axes, color = parabolas[number], f"C{number}"
        axes.plot(w, 7.5 * (w - 2) ** 2, color="lightgray")
        axes.plot(walk, loss, "o-", markersize=4, color=color)
        axes.set(title=f"{name}\nlr {lr}", xlabel="w", xlim=(-1.5, 5.5), ylim=(-3, 92))
        losses.semilogy(loss, "o-", markersize=4, color=color, label=f"lr {lr}")
    parabolas[0].set_ylabel("loss 7.5 (w - 2)$^2$")
    losses.set(title="the losses", xlabel="step", ylim=(1e-8, 1e3))
    losses.legend()
    return fig


# %% Run it
TITLE = "05 Gradient descent"
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
