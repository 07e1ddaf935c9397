"""03 Autograd: PyTorch records what is computed and differentiates it, exactly to
rounding.

Every operation on a tensor that requires a gradient leaves a node behind. backward()
walks the nodes from the result back to the leaves and multiplies derivatives on the
way.
"""

import argparse

import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# %% 1. Operations are recorded, and backward() differentiates them
# A leaf was made by you, not by an operation, so nothing stands behind it.
# AccumulateGrad is not an operation: it is where the gradient of a leaf is collected.
def leaf(x):
    """A copy of x that starts a graph of its own."""
    return x.detach().clone().requires_grad_()


def mean_of_squares(x):
    """z = mean(2 (x + 2)^2), a scalar."""
    return (2 * (x + 2) ** 2).mean()


def graph_nodes(z):
    """The names of the nodes behind z, each once, from z.grad_fn back to the leaves."""
    seen, waiting = [], [z.grad_fn]
    while waiting:
        node = waiting.pop(0)
        if node is not None and node not in seen:
            seen.append(node)
            waiting += [parent for parent, _ in node.next_functions]
    return [type(node).__name__ for node in seen]


def gradient(function, x, v=None):
    """d function(x) / dx by autograd, in the shape of x; for a vector function(x), v @
    J."""
    x = leaf(x)
    function(x).backward(v)
    return x.grad


def gradient_by_calculus(x):
    """dz/dx = 4 (x + 2) / n for z = mean(2 (x + 2)^2) and n numbers."""
    return 4 * (x + 2) / x.numel()


def rounded(vector, digits=2):
    """The numbers of a vector as text with so many digits after the point."""
    return f"[{', '.join(f'{number:.{digits}f}' for number in vector)}]"


def show_1(device):
    print("\n1. Operations are recorded, and backward() differentiates them")
    x = torch.tensor([1.0, 2.0, 3.0], device=device)
    start = leaf(x)
    z = mean_of_squares(start)
    print(f"   x = {rounded(x)}, is_leaf {start.is_leaf}, grad_fn {start.grad_fn}")
    print("   behind z = mean(2 (x + 2)^2) stand these nodes:")
    print(f"   {', '.join(graph_nodes(z))}")
    print(f"   dz/dx by autograd   {rounded(gradient(mean_of_squares, x))}")
    print(f"   4 (x + 2) / n       {rounded(gradient_by_calculus(x))}")


# %% 2. A vector has no gradient but a Jacobian: backward(v) gives v @ J
# J[i, j] = dy[i] / dx[j], shape (outputs, inputs). One backward pass never builds it.
def squared_sums(x):
    """y[i] = (x[0] + ... + x[i])^2: an output may depend on several inputs."""
    return x.cumsum(dim=0) ** 2


def raises(action):
    """Whether action() ends in a RuntimeError."""
    try:
        action()
    except RuntimeError:
        return True
    return False


def show_2(device):
    print("\n2. A vector has no gradient but a Jacobian: backward(v) gives v @ J")
    x = torch.tensor([1.0, 2.0, 3.0], device=device)
    v = torch.tensor([1.0, 10.0, 100.0], device=device)
    full = torch.autograd.functional.jacobian(squared_sums, x)
    print(f"   y[i] = (x[0] + ... + x[i])^2, x = {rounded(x, 0)}, v = {rounded(v, 0)}")
    print(f"   J, by rows    {'  '.join(rounded(row) for row in full)}")
    print(f"   v @ J         {rounded(v @ full)}")
    print(f"   backward(v)   {rounded(gradient(squared_sums, x, v))}")
    noticed = raises(lambda: gradient(squared_sums, x))
    print(f"   backward() without v raises RuntimeError: {noticed}")


# %% 3. Gradients add up until you reset them
# That is how a gradient is collected over several losses, and what a training loop
# forgets.
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


def show_3(device):
    print("\n3. Gradients add up until you reset them")
    w = torch.tensor(1.0, device=device)
    calls = 3
    print(f"   w.grad after each of {calls} backward passes of y = 3 w")
    for reset in (None, "grad = None", "zero_()"):
        print(f"   {reset or 'no reset':<11}   {accumulated(w, calls, reset)}")


# %% 4. Four ways not to record
# no_grad() is for updates; what inference_mode() makes cannot be saved for backward.
def recorded_or_not(x):
    """Expression -> 2 x; the first is recorded, the other four are not."""
    x = leaf(x)
    results = {"2 * x": 2 * x, "2 * x.detach()": 2 * x.detach()}
    with torch.no_grad():
        results["2 * x under no_grad()"] = 2 * x
    with torch.inference_mode():
        results["2 * x under inference_mode()"] = 2 * x
    results["2 * x after x.requires_grad_(False)"] = 2 * x.requires_grad_(False)
    return results


def show_4(device):
    print("\n4. Four ways not to record")
    x = torch.tensor([1.0, 2.0, 3.0], device=device)
    for name, result in recorded_or_not(x).items():
        print(f"   {name:<35}   recorded {result.requires_grad}")


# %% 5. Autograd is exact to rounding; a finite difference is not
# A central difference trades two errors: what the formula neglects falls like h^2, the
# rounding of f is divided by h and rises like eps / h.
def cube(x):
    """x^3, whose derivatives are 3 x^2, 6 x and 6."""
    return x * x * x


def central_difference(function, x, h):
    """(f(x + h) - f(x - h)) / 2h, which differs from f' by h^2 f'''/6 and rounding."""
    return (function(x + h) - function(x - h)) / (2 * h)


def mean_error(derivative, x):
    """The mean distance of derivative from 3 x^2, both of shape (n,)."""
    return (derivative - 3 * x * x).abs().mean().item()


def autograd_error(x):
    """The mean distance of autograd's derivative of x^3 from 3 x^2, for x of shape
    (n,)."""
    return mean_error(gradient(lambda x: cube(x).sum(), x), x)


def show_5(device):
    print("\n5. Autograd is exact to rounding; a finite difference is not")
    x = torch.linspace(1, 2, 1001, dtype=torch.float64, device=device)
    eps = torch.finfo(x.dtype).eps
    print("   the derivative of x^3 at 1001 points from 1 to 2, float64")
    print(f"   {'h':>9} {'mean error':>11} {'h^2':>8} {'eps / h':>8}")
    for h in (1e-1, 1e-3, 1e-5, 1e-7, 1e-9, 1e-11):
        error = mean_error(central_difference(cube, x, h), x)
        print(f"   {h:9.0e} {error:11.0e} {h**2:8.0e} {eps / h:8.0e}")
    print(f"   {'autograd':>9} {autograd_error(x):11.0e}")


# %% 6. Second derivatives: record the backward pass too
# torch.autograd.grad returns a gradient instead of adding it to .grad;
# create_graph=True records how it was computed, so that it can be differentiated in its
# turn.
def second_derivative(function, x):
    """f''(x), for a function that works element by element."""
    x = leaf(x)
    (first,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    return second


def show_6(device):
    print("\n6. Second derivatives: record the backward pass too")
    x = torch.tensor([1.0, 2.0, 3.0], device=device)
    print(f"   x             {rounded(x)}")
    print(f"   d2(x^3)/dx2   {rounded(second_derivative(cube, x))}")
    print(f"   6 x           {rounded(6 * x)}")


# %% 7. Mistake: writing through .data
# The derivative of the sigmoid s is s (1 - s): backward needs the s of the forward
# pass. Autograd counts the writes to it and refuses, but it cannot see those through
# .data.
WRITES = {
    "no write": lambda s: None,
    "s.data.zero_()": lambda s: s.data.zero_(),
    "s.detach().zero_()": lambda s: s.detach().zero_(),
    "s.detach().clone().zero_()": lambda s: s.detach().clone().zero_(),
}


def sigmoid_gradient(x, write):
    """The gradient of sum(s), s = sigmoid(x), after write(s); a RuntimeError if it is
    noticed."""
    x = leaf(x)
    s = x.sigmoid()
    total = s.sum()
    write(s)
    total.backward()
    return x.grad


def show_7(device):
    print("\n7. Mistake: writing through .data")
    x = torch.tensor([1.0, 2.0, 3.0], device=device)
    print(f"   the gradient of sum(s), s = sigmoid(x), at x = {rounded(x, 0)}, after")
    for name, write in WRITES.items():
        noticed = raises(lambda write=write: sigmoid_gradient(x, write))
        result = "RuntimeError" if noticed else rounded(sigmoid_gradient(x, write), 5)
        print(f"   {name:<26}   {result}")


# %% 8. Mistake: w = w - lr * w.grad loses the leaf
# The name w then means a new tensor, which records nothing and has no gradient.
def step_on_square(w, lr, in_place):
    """w after one step on y = w^2, w - lr * 2 w: the old tensor changed, or a new one."""
    w = leaf(w)
    (w**2).backward()
    with torch.no_grad():
        if in_place:
            w -= lr * w.grad
        else:
            w = w - lr * w.grad
    return w


def show_8(device):
    print("\n8. Mistake: w = w - lr * w.grad loses the leaf")
    print("   one step on y = w^2 from w = 1, lr 0.1")
    for name, in_place in {
        "w -= lr * w.grad": True,
        "w = w - lr * w.grad": False,
    }.items():
        w = step_on_square(torch.tensor(1.0, device=device), 0.1, in_place)
        print(
            f"   {name:<19}   w {w:.2f}, requires_grad {w.requires_grad}, grad {w.grad}"
        )


# %% 9. Mistake: backward twice
# The first pass frees the tensors that the graph saved, and a second one raises. A
# graph that saved none, such as that of a sum, lets the second pass add its gradient
# without a word.
def backward_twice(function, x, retain_graph=False):
    """The gradient of function(x), a scalar, after two passes over one graph."""
    x = leaf(x)
    y = function(x)
    y.backward(retain_graph=retain_graph)
    y.backward()
    return x.grad


def show_9(device):
    print("\n9. Mistake: backward twice")
    x = torch.tensor([1.0, 2.0, 3.0], device=device)
    noticed = raises(lambda: backward_twice(mean_of_squares, x))
    print(f"   z = mean(2 (x + 2)^2): the second pass raises RuntimeError: {noticed}")
    print(f"   gradients at x = {rounded(x, 0)} after two passes")
    print(
        f"   z, retain_graph=True   {rounded(backward_twice(mean_of_squares, x, True))}"
    )
    print(f"   sum(x)                 {rounded(backward_twice(torch.sum, x))}")


# %% 10. Mistake: where() does not stop an infinite derivative
# where(condition, a, b) takes a where the condition holds, else b. The branch not taken
# gets gradient 0, and 0 times the infinite slope of sqrt at 0 is nan.
def root_gradient(x, safe):
    """The gradient of sum(where(x > 0, sqrt(x), 0)); safe: a second where keeps 0 from
    sqrt."""
    x = leaf(x)
    inside = torch.where(x > 0, x, 1) if safe else x
    torch.where(x > 0, inside.sqrt(), 0).sum().backward()
    return x.grad


def show_10(device):
    print("\n10. Mistake: where() does not stop an infinite derivative")
    x = torch.tensor([0.0, 0.25, 4.0], device=device)
    for safe in (False, True):
        gradients = rounded(root_gradient(x, safe), 3)
        print(f"   safe={safe!s:<5}   at x = {rounded(x)} the gradient is {gradients}")


# %% The picture
def figure(device="cpu"):
    """The error of the central difference against its step h, and autograd's."""
    from matplotlib.figure import Figure

    x = torch.linspace(1, 2, 1001, dtype=torch.float64, device=device)
    steps = torch.logspace(-13, 0, 131, dtype=torch.float64)
    errors = [mean_error(central_difference(cube, x, h.item()), x) for h in steps]
    eps = torch.finfo(torch.float64).eps
    fig = Figure(figsize=(7, 4.5), layout="constrained")
    axes = fig.subplots()
    axes.loglog(steps, errors, color="tab:blue", label="central difference")
    axes.loglog(steps, steps**2, "--", color="tab:orange", label="$h^2$")
    axes.loglog(steps, eps / steps, ":", color="tab:red", label="eps / h, eps = 2e-16")
    axes.axhline(autograd_error(x), color="tab:green", label="autograd")
    axes.set(
        title="The derivative of $x^3$ in float64", xlabel="step h", ylabel="mean error"
    )
    axes.set_ylim(1e-17, 10)
    axes.legend()
    return fig


# %% Run it
def main(device):
    print(f"03 Autograd on {device}")
    for show in (
        show_1,
        show_2,
        show_3,
        show_4,
        show_5,
        show_6,
        show_7,
        show_8,
        show_9,
        show_10,
    ):
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
