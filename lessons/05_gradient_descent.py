"""05 Gradient descent: step against the gradient, and know beforehand where the steps lead.

The data is y = 2 x at x = 1, 2, 3, 4 and the model f(x) = w x. Its loss is a parabola,
mean((w x - y)^2) = 7.5 (w - 2)^2, so everything that happens can be predicted.
"""

import argparse
import io
import itertools
import math
from pathlib import Path

import numpy as np
import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def raises(action):
    """Whether action() ends in a RuntimeError."""
    try:
        action()
    except RuntimeError:
        return True
    return False


# %% 1. By hand in NumPy, by hand in torch, by autograd: one path
# The training loop to remember is the last one: forward, backward, update, reset.
def data(device="cpu"):
    """x = 1, 2, 3, 4 and y = 2 x, shape (4,), float64."""
    x = torch.arange(1, 5, dtype=torch.float64, device=device)
    return x, 2 * x


def gradient(x, y, w):
    """The derivative of mean((w x - y)^2) by w, for NumPy arrays and for tensors."""
    return (2 * (w * x - y) * x).mean()


def path_in_numpy(gradient, x, y, lr, steps):
    """w = 0 and its values after each step of w - lr * gradient(x, y, w), for NumPy arrays."""
    ws = [0.0]
    for _ in range(steps):
        ws.append(float(ws[-1] - lr * gradient(x, y, ws[-1])))
    return ws


def path_in_torch(x, y, lr, steps):
    """The same path, with w a tensor on the device of x."""
    w = torch.zeros((), dtype=x.dtype, device=x.device)
    ws = [w.item()]
    for _ in range(steps):
        w = w - lr * gradient(x, y, w)
        ws.append(w.item())
    return ws


def path_by_autograd(x, y, lr, steps):
    """The same path, with the gradient from backward()."""
    w = torch.zeros((), dtype=x.dtype, device=x.device, requires_grad=True)
    ws = [w.item()]
    for _ in range(steps):
        loss = ((w * x - y) ** 2).mean()  # forward
        loss.backward()  # backward
        with torch.no_grad():
            w -= lr * w.grad  # update
        w.grad = None  # reset
        ws.append(w.item())
    return ws


# %% 2. On a parabola the path is known: w[k] = 2 (1 - (1 - 15 lr)^k)
# The distance to the minimum shrinks by the same factor at every step.
def curvature(x):
    """The second derivative of mean((w x - y)^2) by w: 2 mean(x^2), here 15."""
    return 2 * (x**2).mean().item()


def closed_form(slope, second_derivative, lr, steps):
    """w after so many steps from 0 towards the minimum at w = slope."""
    return slope * (1 - (1 - lr * second_derivative) ** steps)


# %% 3. The learning rate decides: it converges if and only if 0 < lr < 2/15
# 1/15 arrives in one step, above it every step overshoots, above 2/15 by more each time.
def steps_needed(factor, distance, tolerance):
    """The smallest k with |factor|^k distance <= tolerance; infinite where |factor| >= 1."""
    if abs(factor) >= 1:
        return math.inf
    return next(k for k in itertools.count() if abs(factor) ** k * distance <= tolerance)


def steps_taken(ws, target, tolerance):
    """How many steps the path ws makes until |w - target| <= tolerance; infinite if never."""
    return next((k for k, w in enumerate(ws) if abs(w - target) <= tolerance), math.inf)


# %% 4. Two parameters: the steepest direction sets the limit, the flattest the pace
# With a bias the loss of f(x) = w x + b is a bowl, curved by its eigenvalues along its axes.
def hessian(x):
    """The second derivatives of mean((w x + b - y)^2): 2 mean of [[x^2, x], [x, 1]]."""
    design = torch.stack([x, torch.ones_like(x)], dim=1)
    return 2 * design.T @ design / len(x)


def limit_and_condition(h):
    """(largest stable learning rate 2 / lambda_max, lambda_max / lambda_min) of a Hessian h."""
    smallest, largest = torch.linalg.eigvalsh(h).tolist()
    return 2 / largest, largest / smallest


def descend(x, y, lr, steps):
    """(w, b), shape (2,), after so many steps from (0, 0)."""
    w = b = torch.zeros((), dtype=x.dtype, device=x.device)
    for _ in range(steps):
        error = w * x + b - y
        w, b = w - lr * 2 * (error * x).mean(), b - lr * 2 * error.mean()
    return torch.stack([w, b])


def predicted_descent(h, minimum, lr, steps):
    """Where descend arrives, for a Hessian h: minimum - (I - lr h)^steps minimum."""
    step = torch.eye(2, dtype=h.dtype, device=h.device) - lr * h
    return minimum - torch.linalg.matrix_power(step, steps) @ minimum


# %% 5. Mistake: no reset of the gradient
# On w^2 / 2 the sum of all gradients so far makes a pendulum of the descent: the largest
# swing is 2 / sqrt(4 - lr), and it never calms down.
def halved_square(lr, steps, reset, device="cpu"):
    """w = 1 and its values after each step of gradient descent on w^2 / 2."""
    w = torch.ones((), dtype=torch.float64, device=device, requires_grad=True)
    ws = [w.item()]
    for _ in range(steps):
        (w**2 / 2).backward()
        with torch.no_grad():
            w -= lr * w.grad
        if reset:
            w.grad = None
        ws.append(w.item())
    return ws


def pendulum(lr, steps):
    """w[k+1] = (2 - lr) w[k] - w[k-1] from 1 and 1 - lr: what a missing reset amounts to."""
    ws = [1.0, 1 - lr]
    for _ in range(steps - 1):
        ws.append((2 - lr) * ws[-1] - ws[-2])
    return ws


# %% 6. Mistake: dot() and then mean()
# dot already sums, and the mean of one number is that number: n times too large. At a small
# lr it looks better than the right gradient, at a larger one it explodes.
def dot_then_mean(x, y, w):
    """n times the gradient, for NumPy arrays of shape (n,)."""
    return np.dot(2 * x, w * x - y).mean()


# %% 7. Mistake: the update inside the graph
# A leaf that is changed in place while autograd records would lose its own history.
def updated(x, y, lr, recorded):
    """w after one step from 0: a RuntimeError if autograd records the step."""
    w = torch.zeros((), dtype=x.dtype, device=x.device, requires_grad=True)
    ((w * x - y) ** 2).mean().backward()
    with torch.set_grad_enabled(recorded):
        w -= lr * w.grad
    return w.item()


# %% The picture
RATES = {"small": 0.01, "good": 0.06, "large": 0.11, "diverging": 0.138}


def figure(device="cpu"):
    """Eight steps on the parabola at four learning rates, and the losses on a log axis."""
    from matplotlib.figure import Figure

    x, y = data(device)
    picture = Figure(figsize=(10, 4), layout="constrained")
    *parabolas, losses = picture.subplots(1, 5, width_ratios=[1, 1, 1, 1, 2])
    w = np.linspace(-1.5, 5.5, 141)
    for axes, (name, lr) in zip(parabolas, RATES.items(), strict=True):
        ws = np.array(path_by_autograd(x, y, lr, 8))
        loss = 7.5 * (ws - 2) ** 2
        axes.plot(w, 7.5 * (w - 2) ** 2, color="lightgray")
        (line,) = axes.plot(ws, loss, "o-", markersize=4, color=f"C{len(losses.lines)}")
        axes.set(title=f"{name}\nlr {lr}", xlabel="w", xlim=(-1.5, 5.5), ylim=(-3, 92))
        losses.semilogy(loss, "o-", markersize=4, color=line.get_color(), label=f"lr {lr}")
    parabolas[0].set_ylabel("loss 7.5 (w - 2)$^2$")
    losses.set(title="the losses", xlabel="step", ylim=(1e-8, 1e3))
    losses.legend()
    return picture


# %% Run it
def main(device):
    print(f"05 Gradient descent on {device}")
    x, y = data(device)
    x_numpy, y_numpy = x.cpu().numpy(), y.cpu().numpy()
    start = torch.zeros((), dtype=torch.float64, device=device)

    print("\n1. By hand in NumPy, by hand in torch, by autograd: one path")
    print(f"   gradient at w = 0: {gradient(x, y, start):.0f}")
    lr = 0.01
    paths = {
        "NumPy": path_in_numpy(gradient, x_numpy, y_numpy, lr, 20),
        "torch": path_in_torch(x, y, lr, 20),
        "autograd": path_by_autograd(x, y, lr, 20),
    }
    steps = (0, 1, 2, 5, 10, 20)
    print(f"   {'step':<11} {'  '.join(f'{k:>7}' for k in steps)}")
    for name, ws in paths.items():
        print(f"   {name:<11} {'  '.join(f'{ws[k]:.5f}' for k in steps)}")

    print("\n2. On a parabola the path is known: w[k] = 2 (1 - (1 - 15 lr)^k)")
    ws = [closed_form(2, curvature(x), lr, k) for k in steps]
    print(f"   {'closed form':<11} {'  '.join(f'{w:.5f}' for w in ws)}")
    print(f"   f(5) before {5 * ws[0]:.3f}, after 20 steps {5 * ws[-1]:.3f}; the data says 10")

    print("\n3. The learning rate decides: it converges if and only if 0 < lr < 2/15")
    for lr in (0.01, 1 / 15, 0.1, 0.13, 2 / 15, 0.14):
        factor = 1 - lr * curvature(x)
        ws = path_in_numpy(gradient, x_numpy, y_numpy, lr, 300)
        needed, taken = steps_needed(factor, 2, 1e-3), steps_taken(ws, 2, 1e-3)
        print(f"   lr {lr:.4f}  factor {factor:5.2f}  w[20] {ws[20]:8.4f}", end="  ")
        print(f"|w-2| <= 0.001 at {taken} (theory {needed})")

    print("\n4. Two parameters: the steepest direction sets the limit, the flattest the pace")
    h = hessian(x)
    limit, condition = limit_and_condition(h)
    print(f"   largest stable lr {limit:.4f}, condition number {condition:.2f}", end=", ")
    print("minimum at w = 2, b = 0")
    minimum = torch.tensor([2.0, 0.0], dtype=torch.float64, device=device)
    for share in (0.5, 0.9, 1.05):
        w, b = descend(x, y, share * limit, 50)
        print(f"   lr {share * limit:.4f}, 50 steps: w {w:8.3f}, b {b:7.3f}", end="   ")
        w, b = predicted_descent(h, minimum, share * limit, 50)
        print(f"predicted {w:8.3f}, {b:7.3f}")

    print("\n5. Mistake: no reset of the gradient")
    lr = 0.1
    print(f"   reset     w[200] = {halved_square(lr, 200, True, device)[-1]:.3e}", end="   ")
    print(f"predicted (1 - lr)^200 = {(1 - lr) ** 200:.3e}")
    ws, theory = halved_square(lr, 200, False, device), pendulum(lr, 200)
    swing, predicted = (max(map(abs, path[150:])) for path in (ws, theory))
    print(f"   no reset  max |w[150...200]| = {swing:.4f}", end="   ")
    print(f"predicted {predicted:.4f}, never above {2 / math.sqrt(4 - lr):.4f}")

    print("\n6. Mistake: dot() and then mean()")
    wrong = dot_then_mean(x_numpy, y_numpy, 0.0)
    print(f"   gradient at w = 0: {wrong:.0f} instead of {gradient(x, y, start):.0f}")
    for lr in (0.01, 0.05):
        right = path_in_numpy(gradient, x_numpy, y_numpy, lr, 20)[-1]
        wrong = path_in_numpy(dot_then_mean, x_numpy, y_numpy, lr, 20)[-1]
        print(f"   lr {lr}   w after 20 steps: right {right:.5f}, wrong {wrong:.5f}")

    print("\n7. Mistake: the update inside the graph")
    print(f"   under no_grad: w = {updated(x, y, 0.01, recorded=False):.2f}", end="; ")
    print(f"recorded, it raises: {raises(lambda: updated(x, y, 0.01, recorded=True))}")


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
