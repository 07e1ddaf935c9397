"""05 Gradient descent: step against the gradient, and know where the steps lead.

The data is y = 2 x at x = 1, 2, 3, 4 and the model f(x) = w x. Its loss is a parabola,
mean((w x - y)^2) = 7.5 (w - 2)^2, so everything that happens can be predicted.
"""

import argparse
import math
import os
import sys

import numpy as np
import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# %% 1. By hand in NumPy, by hand in torch, by autograd: one path
# The training loop to remember is the last one: forward, backward, update, reset.
def points(device="cpu"):
    """x = 1, 2, 3, 4 and y = 2 x, shape (4,), float64."""
    x = torch.arange(1, 5, dtype=torch.float64, device=device)
    return x, 2 * x


def loss_gradient(x, y, w):
    """The derivative of mean((w x - y)^2) by w, for NumPy arrays and for tensors."""
    return (2 * (w * x - y) * x).mean()


def path_in_numpy(gradient, x, y, lr, steps):
    """w = 0 and its values after each step of w - lr * gradient(x, y, w), in NumPy."""
    path = [0.0]
    for _ in range(steps):
        w = path[-1]
        path.append(float(w - lr * gradient(x, y, w)))
    return path


def path_in_torch(x, y, lr, steps):
    """The same path, with w a tensor on the device of x."""
    w = torch.zeros((), dtype=x.dtype, device=x.device)
    path = [w.item()]
    for _ in range(steps):
        w = w - lr * loss_gradient(x, y, w)
        path.append(w.item())
    return path


def path_by_autograd(x, y, lr, steps):
    """The same path, with the gradient from backward()."""
    w = torch.zeros((), dtype=x.dtype, device=x.device, requires_grad=True)
    path = [w.item()]
    for _ in range(steps):
        loss = ((w * x - y) ** 2).mean()  # forward
        loss.backward()  # backward
        with torch.no_grad():
            w -= lr * w.grad  # update
        w.grad = None  # reset
        path.append(w.item())
    return path


STEPS = (0, 1, 2, 5, 10, 20)  # those that sections 1 and 2 print


def show_1(device):
    print("\n1. By hand in NumPy, by hand in torch, by autograd: one path")
    lr = 0.01
    x, y = points(device)
    paths = {
        "NumPy": path_in_numpy(loss_gradient, x.cpu().numpy(), y.cpu().numpy(), lr, 20),
        "torch": path_in_torch(x, y, lr, 20),
        "autograd": path_by_autograd(x, y, lr, 20),
    }
    print(f"   lr {lr}; the gradient at w = 0 is {loss_gradient(x, y, 0.0):.0f}")
    print(f"   {'step':<11} {'  '.join(f'{k:>7}' for k in STEPS)}")
    for name, path in paths.items():
        print(f"   {name:<11} {'  '.join(f'{path[k]:.5f}' for k in STEPS)}")


# %% 2. On a parabola the path is known: w[k] = 2 (1 - (1 - 15 lr)^k)
# The distance to the minimum shrinks by the same factor at every step.
def curvature(x):
    """The second derivative of mean((w x - y)^2) by w: 2 mean(x^2), here 15."""
    return 2 * (x**2).mean().item()


def closed_form(minimum, second_derivative, lr, steps):
    """w after so many steps from 0 on a parabola with that minimum and curvature."""
    return minimum * (1 - (1 - lr * second_derivative) ** steps)


def show_2(device):
    print("\n2. On a parabola the path is known: w[k] = 2 (1 - (1 - 15 lr)^k)")
    lr = 0.01
    x, _ = points(device)
    path = [closed_form(2, curvature(x), lr, k) for k in STEPS]
    print(f"   lr {lr}")
    print(f"   closed form {'  '.join(f'{w:.5f}' for w in path)}")
    answers = f"before {5 * path[0]:.3f}, after 20 steps {5 * path[-1]:.3f}"
    print(f"   f(5) {answers}; the data says 10")


# %% 3. The learning rate decides: it converges if and only if 0 < lr < 2/15
# 1/15 arrives in one step, above it each step overshoots, above 2/15 by more and more.
def steps_needed(factor, distance, tolerance):
    """The smallest k with |factor|^k distance <= tolerance, or infinity."""
    if abs(factor) >= 1:
        return math.inf
    steps = 0
    while abs(factor) ** steps * distance > tolerance:
        steps += 1
    return steps


def steps_taken(path, target, tolerance):
    """How many steps the path makes until |w - target| <= tolerance, or infinity."""
    for steps, w in enumerate(path):
        if abs(w - target) <= tolerance:
            return steps
    return math.inf


def show_3(device):
    print("\n3. The learning rate decides: it converges if and only if 0 < lr < 2/15")
    x, y = (values.cpu().numpy() for values in points(device))
    for lr in (0.01, 1 / 15, 0.1, 0.13, 2 / 15, 0.14):
        factor = 1 - lr * curvature(x)
        path = path_in_numpy(loss_gradient, x, y, lr, 1000)
        taken = steps_taken(path, 2, 1e-3)
        needed = steps_needed(factor, 2, 1e-3)
        settings = f"lr {lr:.4f}  factor {factor:5.2f}"
        arrival = f"|w-2| <= 0.001 at {taken} (theory {needed})"
        print(f"   {settings}  w[20] {path[20]:8.4f}  {arrival}")


# %% 4. Mistake: dot() and then mean()
# dot already sums, and the mean of one number is that number: n times too large. At a
# small lr it looks better than the right gradient, at a larger one it explodes.
def dot_then_mean(x, y, w):
    """n times the gradient, for NumPy arrays of shape (n,)."""
    return np.dot(2 * x, w * x - y).mean()


def show_4(device):
    print("\n4. Mistake: dot() and then mean()")
    x, y = (values.cpu().numpy() for values in points(device))
    right, wrong = loss_gradient(x, y, 0.0), dot_then_mean(x, y, 0.0)
    print(f"   gradient at w = 0: {wrong:.0f} instead of {right:.0f}")
    for lr in (0.01, 0.05):
        right = path_in_numpy(loss_gradient, x, y, lr, 20)[-1]
        wrong = path_in_numpy(dot_then_mean, x, y, lr, 20)[-1]
        print(f"   lr {lr}   w after 20 steps: right {right:.5f}, wrong {wrong:.5f}")


# %% 5. Second derivatives: record the backward pass too
# torch.autograd.grad returns a gradient instead of adding it to .grad;
# create_graph=True records how it was computed, so that it can be differentiated again.
def second_derivative(function, x):
    """f''(x), for a function that works element by element, in the shape of x."""
    x = x.detach().clone().requires_grad_()
    (first,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    if not first.requires_grad:  # f is linear: its slope does not depend on x
        return torch.zeros_like(x)
    (second,) = torch.autograd.grad(first.sum(), x)
    return second


def hessian_by_autograd(x, y, line):
    """H of mean((w x + b - y)^2) at line = (w, b): all second derivatives, (2, 2)."""

    def loss(line):
        w, b = line
        return ((w * x + b - y) ** 2).mean()

    return torch.autograd.functional.hessian(loss, line)


def cube(x):
    """x^3, whose derivatives are 3 x^2, 6 x and 6."""
    return x * x * x


def as_text(vector):
    """The numbers of a vector, rounded: [1.00, 2.00]."""
    numbers = [f"{number:.2f}" for number in vector.tolist()]
    return f"[{', '.join(numbers)}]"


def show_5(device):
    print("\n5. Second derivatives: record the backward pass too")
    x = torch.tensor([1.0, 2.0, 3.0], device=device)
    print(f"   x                           {as_text(x)}")
    print(f"   d2(x^3)/dx2                 {as_text(second_derivative(cube, x))}")
    print(f"   6 x                         {as_text(6 * x)}")
    linear = second_derivative(lambda x: 3 * x, x)
    print(f"   d2(3 x)/dx2                 {as_text(linear)}")
    x, y = points(device)
    w = torch.zeros((), dtype=x.dtype, device=device)
    second = second_derivative(lambda w: ((w * x - y) ** 2).mean(), w)
    print(
        f"   d2 mean((w x - y)^2)/dw2    {second:g}, and 2 mean(x^2) = {curvature(x):g}"
    )
    h = hessian_by_autograd(x, y, torch.zeros(2, dtype=x.dtype, device=device))
    print(f"   H of mean((w x + b - y)^2)  {h.tolist()}")


# %% 6. Two parameters: the steepest direction sets the limit, the flattest the pace
# With a bias the loss of f(x) = w x + b is a bowl. The eigenvalues of its Hessian are
# its curvatures along its own axes.
def hessian_by_hand(x):
    """The second derivatives of mean((w x + b - y)^2): 2 mean of [[x^2, x], [x, 1]]."""
    design = torch.stack([x, torch.ones_like(x)], dim=1)
    return 2 * design.T @ design / len(x)


def eigenvalues_by_hand(h):
    """The roots of lambda^2 - trace lambda + determinant, smallest first, h (2, 2)."""
    trace = (h[0, 0] + h[1, 1]).item()
    determinant = (h[0, 0] * h[1, 1] - h[0, 1] ** 2).item()
    root = math.sqrt(trace**2 - 4 * determinant)
    return (trace - root) / 2, (trace + root) / 2


def limit_and_condition(h):
    """(largest stable learning rate 2 / lambda_max, lambda_max / lambda_min)."""
    smallest, largest = torch.linalg.eigvalsh(h).tolist()
    return 2 / largest, largest / smallest


def descend_line(x, y, lr, steps):
    """(w, b), shape (2,), after so many steps from (0, 0)."""
    w = b = torch.zeros((), dtype=x.dtype, device=x.device)
    for _ in range(steps):
        error = w * x + b - y
        w, b = w - lr * 2 * (error * x).mean(), b - lr * 2 * error.mean()
    return torch.stack([w, b])


def predicted_descent(h, minimum, lr, steps):
    """Where descend_line arrives by theory: minimum - (I - lr h)^steps minimum."""
    step = torch.eye(2, dtype=h.dtype, device=h.device) - lr * h
    return minimum - torch.linalg.matrix_power(step, steps) @ minimum


def show_6(device):
    print(
        "\n6. Two parameters: the steepest direction sets the limit, "
        "the flattest the pace"
    )
    x, y = points(device)
    h = hessian_by_hand(x)
    smallest, largest = eigenvalues_by_hand(h)
    limit, condition = limit_and_condition(h)
    determinant = torch.linalg.det(h)
    print(f"   H = {h.tolist()}, trace {h.trace():g}, determinant {determinant:g}")
    print(f"   eigenvalues {smallest:.5f} and {largest:.5f}")
    print(f"   largest stable lr {limit:.4f}, condition number {condition:.2f}")
    minimum = torch.tensor([2.0, 0.0], dtype=torch.float64, device=device)
    print("   after 50 steps from (0, 0); predicted: m - (I - lr H)^50 m, m = (2, 0)")
    for share in (0.5, 0.9, 1.05):
        w, b = descend_line(x, y, share * limit, 50)
        arrived = f"w {w:8.3f}, b {b:7.3f}"
        w, b = predicted_descent(h, minimum, share * limit, 50)
        predicted = f"{w:8.3f}, {b:7.3f}"
        print(f"   lr {share:.2f} * {limit:.4f}: {arrived}   predicted {predicted}")


# %% The picture
RATES = {"small": 0.01, "good": 0.06, "large": 0.11, "diverging": 0.138}


def figure(device="cpu"):
    """Eight steps on the parabola at four rates, and the losses on a log axis."""
    from matplotlib.figure import Figure

    x, y = points(device)
    fig = Figure(figsize=(10, 4), layout="constrained")
    *parabolas, losses = fig.subplots(1, 5, width_ratios=[1, 1, 1, 1, 2])
    w = np.linspace(-1.5, 5.5, 141)
    for axes, (name, lr) in zip(parabolas, RATES.items(), strict=True):
        path = np.array(path_by_autograd(x, y, lr, 8))
        loss = 7.5 * (path - 2) ** 2
        axes.plot(w, 7.5 * (w - 2) ** 2, color="lightgray")
        color = f"C{len(losses.lines)}"
        axes.plot(path, loss, "o-", markersize=4, color=color)
        axes.set(title=f"{name}\nlr {lr}", xlabel="w", xlim=(-1.5, 5.5), ylim=(-3, 92))
        losses.semilogy(loss, "o-", markersize=4, color=color, label=f"lr {lr}")
    parabolas[0].set_ylabel("loss 7.5 (w - 2)$^2$")
    losses.set(title="the losses", xlabel="step", ylim=(1e-8, 1e3))
    losses.legend()
    return fig


# %% Run it
TITLE = "05 Gradient descent"
SECTIONS = [show_1, show_2, show_3, show_4, show_5, show_6]


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
