"""03 Autograd: PyTorch records what is computed and differentiates it, exactly to rounding.

Every operation on a tensor that requires a gradient leaves a node behind. backward() walks
the nodes from the result back to the leaves and multiplies derivatives on the way.
"""

import argparse
import io
from pathlib import Path

import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def raises(action):
    """Whether action() ends in a RuntimeError."""
    try:
        action()
    except RuntimeError:
        return True
    return False


def show(vector, digits=2):
    """The numbers of a vector as text, rounded."""
    return f"[{', '.join(f'{number:.{digits}f}' for number in vector)}]"


def leaf(x):
    """A copy of x that starts a graph of its own."""
    return x.detach().clone().requires_grad_()


# %% 1. Operations on a tensor that requires a gradient are recorded
# A leaf was made by you, not by an operation, so nothing stands behind it.
def mean_of_squares(x):
    """z = mean(2 (x + 2)^2), a scalar."""
    return (2 * (x + 2) ** 2).mean()


def recorded(z):
    """The names of the nodes behind z, from z.grad_fn back to the leaves."""
    names, nodes = [], [z.grad_fn]
    for node in nodes:  # the list grows while the loop walks it
        names.append(type(node).__name__)
        nodes.extend(parent for parent, _ in node.next_functions if parent is not None)
    return names


# %% 2. backward() differentiates a scalar
def gradient(function, x):
    """d function(x) / dx by autograd, in the shape of x; function(x) must be a scalar."""
    x = leaf(x)
    function(x).backward()
    return x.grad


def gradient_by_calculus(x):
    """dz/dx = 4 (x + 2) / n for z = mean(2 (x + 2)^2) and n numbers."""
    return 4 * (x + 2) / x.numel()


# %% 3. A vector has no gradient but a Jacobian: backward(v) gives v @ J
# One backward pass never builds J, which would have outputs * inputs elements.
def squared_sums(x):
    """y[i] = (x[0] + ... + x[i])^2: an output may depend on several inputs."""
    return x.cumsum(dim=0) ** 2


def vector_jacobian(function, x, v=None):
    """v @ J, J[i, j] = dy[i] / dx[j], shapes (m,) and (m, n), by one backward pass."""
    x = leaf(x)
    function(x).backward(v)
    return x.grad


def jacobian(function, x):
    """All of J, shape (m, n), by one backward pass for each of its rows."""
    return torch.autograd.functional.jacobian(function, x)


# %% 4. Gradients add up until you reset them
# That is how a gradient is collected over several batches, and what a training loop forgets.
def accumulated(w, calls, reset=None):
    """w.grad after each of so many backward passes of y = 3 w; dy/dw = 3 for every w."""
    w = leaf(w)
    gradients = []
    for _ in range(calls):
        (3 * w).backward()
        gradients.append(w.grad.item())
        if reset == "grad = None":
            w.grad = None
        elif reset == "zero_()":
            w.grad.zero_()
    return gradients


# %% 5. Four ways not to record
def unrecorded(x):
    """Way -> 2 x; only the first is recorded."""
    x = leaf(x)
    results = {"2 * x": 2 * x, "2 * x.detach()": 2 * x.detach()}
    with torch.no_grad():
        results["2 * x under no_grad()"] = 2 * x
    with torch.inference_mode():
        results["2 * x under inference_mode()"] = 2 * x
    results["2 * x after x.requires_grad_(False)"] = 2 * x.requires_grad_(False)
    return results


# %% 6. Autograd is exact to rounding; a finite difference is not
# A central difference trades two errors: what the formula neglects falls like h^2, the
# rounding of f is divided by h and rises like eps / h. No h gets below about 1e-11 here.
def cube(x):
    """x^3, whose derivatives are 3 x^2, 6 x and 6."""
    return x * x * x


def central_difference(function, x, h):
    """(f(x + h) - f(x - h)) / 2h, which differs from f' by h^2 f'''/6 and rounding."""
    return (function(x + h) - function(x - h)) / (2 * h)


def mean_error(derivative, x):
    """The mean distance of derivative from 3 x^2, both of shape (n,)."""
    return (derivative - 3 * x * x).abs().mean().item()


# %% 7. Second derivatives: record the backward pass too
def second_derivative(function, x):
    """f''(x), for a function that works element by element."""
    x = leaf(x)
    (first,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    return second


# %% 8. Mistake: writing through .data
# The derivative of the sigmoid s is s (1 - s): backward needs the s of the forward pass.
# Autograd counts the writes to it and refuses, but it cannot see those through .data.
WRITES = {
    "no write": lambda s: None,
    "s.data.zero_()": lambda s: s.data.zero_(),
    "s.detach().zero_()": lambda s: s.detach().zero_(),
    "s.zero_()": lambda s: s.zero_(),
}


def sigmoid_gradient(x, write):
    """The gradient of sum(s), s = sigmoid(x), after write(s); a RuntimeError if it is noticed."""
    x = leaf(x)
    s = x.sigmoid()
    write(s)
    s.sum().backward()
    return x.grad


# %% 9. Mistake: w = w - lr * w.grad loses the leaf
# The name w then means a new tensor, which records nothing and has no gradient.
def updated(w, lr, in_place):
    """w after one step on y = w^2, w - lr * 2 w: the old tensor changed, or a new one."""
    w = leaf(w)
    (w**2).backward()
    with torch.no_grad():
        if in_place:
            w -= lr * w.grad
        else:
            w = w - lr * w.grad
    return w


# %% 10. Mistake: backward twice
# The first pass frees what it needed. Compute the loss again, as a training loop does.
def backward_again(x, retain_graph):
    """The gradient of sum(x^2) after two passes over one graph: 2 * 2 x, if it was retained."""
    x = leaf(x)
    loss = (x**2).sum()
    loss.backward(retain_graph=retain_graph)
    loss.backward()
    return x.grad


# %% 11. Mistake: where() does not stop an infinite derivative
# The branch that is not taken gets gradient 0, and 0 times the infinite slope of sqrt at 0
# is nan. A second where keeps the 0 away from sqrt.
def root_gradient(x, safe):
    """The gradient of sum(sqrt(x) where x > 0, else 0): 1 / (2 sqrt(x)); else 0 if safe, or nan."""
    x = leaf(x)
    positive = x > 0
    inside = torch.where(positive, x, 1) if safe else x
    torch.where(positive, inside.sqrt(), 0).sum().backward()
    return x.grad


# %% The picture
def figure(device="cpu"):
    """The error of the central difference against its step h, and autograd's."""
    from matplotlib.figure import Figure

    x = torch.linspace(1, 2, 1001, dtype=torch.float64, device=device)
    steps = torch.logspace(-13, 0, 131, dtype=torch.float64)
    errors = [mean_error(central_difference(cube, x, h.item()), x) for h in steps]
    exact = mean_error(gradient(lambda x: cube(x).sum(), x), x)
    eps = torch.finfo(torch.float64).eps

    picture = Figure(figsize=(7, 4.5), layout="constrained")
    axes = picture.subplots()
    axes.loglog(steps, errors, color="tab:blue", label="central difference")
    axes.loglog(steps, steps**2, "--", color="tab:orange", label="$h^2$")
    axes.loglog(steps, eps / steps, ":", color="tab:red", label="eps / h, eps = 2e-16")
    axes.axhline(exact, color="tab:green", label="autograd")
    axes.set(title="The derivative of $x^3$ in float64", xlabel="step h", ylabel="mean error")
    axes.set_ylim(1e-17, 10)
    axes.legend()
    return picture


# %% Run it
def main(device):
    print(f"03 Autograd on {device}")
    float64 = {"dtype": torch.float64, "device": device}
    x = torch.tensor([1.0, 2.0, 3.0], device=device)

    print("\n1. Operations on a tensor that requires a gradient are recorded")
    start = leaf(x)
    z = mean_of_squares(start)
    print(f"   z: {', '.join(recorded(z))}")
    print(f"   x: is_leaf {start.is_leaf}, grad_fn {start.grad_fn}")

    print("\n2. backward() differentiates a scalar")
    print(f"   dz/dx by autograd   {show(gradient(mean_of_squares, x))}")
    print(f"   4 (x + 2) / n       {show(gradient_by_calculus(x))}")

    print("\n3. A vector has no gradient but a Jacobian: backward(v) gives v @ J")
    v = torch.tensor([1.0, 10.0, 100.0], device=device)
    full = jacobian(squared_sums, x)
    print(f"   y[i] = (x[0] + ... + x[i])^2, x = {show(x, 0)}, v = {show(v, 0)}")
    print(f"   J, by rows    {'  '.join(show(row) for row in full)}")
    print(f"   v @ J         {show(v @ full)}")
    print(f"   backward(v)   {show(vector_jacobian(squared_sums, x, v))}")
    print(f"   backward() raises: {raises(lambda: vector_jacobian(squared_sums, x))}")

    print("\n4. Gradients add up until you reset them")
    for reset in (None, "grad = None", "zero_()"):
        print(f"   {reset or 'no reset':<11}   {accumulated(x[0], 3, reset)}")

    print("\n5. Four ways not to record")
    for name, result in unrecorded(x).items():
        print(f"   {name:<35}   recorded {result.requires_grad}")

    print("\n6. Autograd is exact to rounding; a finite difference is not")
    many = torch.linspace(1, 2, 1001, **float64)
    print(f"   {'h':>9} {'mean error':>11} {'h^2':>8} {'eps / h':>8}")
    for h in (1e-1, 1e-3, 1e-5, 1e-7, 1e-9, 1e-11):
        error = mean_error(central_difference(cube, many, h), many)
        eps = torch.finfo(torch.float64).eps
        print(f"   {h:9.0e} {error:11.0e} {h**2:8.0e} {eps / h:8.0e}")
    error = mean_error(gradient(lambda x: cube(x).sum(), many), many)
    print(f"   {'autograd':>9} {error:11.0e}")

    print("\n7. Second derivatives: record the backward pass too")
    print(f"   d2(x^3)/dx2   {show(second_derivative(cube, x))}   6 x   {show(6 * x)}")

    print("\n8. Mistake: writing through .data")
    for name, write in WRITES.items():
        noticed = raises(lambda write=write: sigmoid_gradient(x, write))
        shown = "raises" if noticed else show(sigmoid_gradient(x, write), 5)
        print(f"   {name:<18}   {shown}")

    print("\n9. Mistake: w = w - lr * w.grad loses the leaf")
    for name, in_place in {"w -= lr * w.grad": True, "w = w - lr * w.grad": False}.items():
        w = updated(x[0], 0.1, in_place)
        print(f"   {name:<19}   w {w.item():.2f}, requires_grad {w.requires_grad}", end=", ")
        print(f"grad {w.grad}")

    print("\n10. Mistake: backward twice")
    print(f"   the second pass raises: {raises(lambda: backward_again(x, retain_graph=False))}")
    print(f"   with retain_graph=True it adds up: {show(backward_again(x, retain_graph=True))}")

    print("\n11. Mistake: where() does not stop an infinite derivative")
    numbers = torch.tensor([0.0, 0.25, 4.0], device=device)
    for safe in (False, True):
        gradients = show(root_gradient(numbers, safe), 3)
        print(f"   safe={safe!s:<5}   at x = {show(numbers)} the gradient is {gradients}")


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
