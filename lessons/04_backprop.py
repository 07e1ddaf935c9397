"""04 Backprop: the chain rule from the loss to every weight, by hand and by autograd.

Forward computes the loss and keeps the numbers on the way; backward multiplies local
gradients, from the loss towards the weights. Backprop only computes gradients: to
change the weights with them is the optimizer's work.
"""

import argparse
import os
import sys

import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# %% 1. One weight: forward, local gradients, backward
# loss = e^2 with e = p - y and p = w x. Each step knows only its own derivative.
def leaf(x):
    """A copy of x that starts a graph of its own."""
    return x.detach().clone().requires_grad_()


def by_hand(x, y, w):
    """[p, e, loss], [dloss/de, de/dp, dp/dw] and [dloss/de, dloss/dp, dloss/dw]."""
    p = w * x
    e = p - y
    loss = e**2
    dloss_de, de_dp, dp_dw = 2 * e, 1.0, x
    dloss_dp = dloss_de * de_dp
    dloss_dw = dloss_dp * dp_dw
    return [p, e, loss], [dloss_de, de_dp, dp_dw], [dloss_de, dloss_dp, dloss_dw]


def by_autograd(x, y, w):
    """[dloss/de, dloss/dp, dloss/dw] by autograd, for x, y and w of shape ()."""
    w = leaf(w)
    p = w * x
    e = p - y
    e.retain_grad()  # autograd keeps the gradients of leaves alone, unless asked
    p.retain_grad()
    (e**2).backward()
    return [e.grad.item(), p.grad.item(), w.grad.item()]


def scalars(numbers, device):
    """Each number as a float64 tensor of shape () on device."""
    dtype = torch.float64
    return [torch.tensor(number, dtype=dtype, device=device) for number in numbers]


def show_1(device):
    print("\n1. One weight: forward, local gradients, backward")
    for numbers in ((1.0, 2.0, 1.0), (3.0, 2.0, 0.5)):
        (p, e, loss), (loss_e, e_p, p_w), (de, dp, dw) = by_hand(*numbers)
        x, y, w = numbers
        print(f"   x = {x:g}, y = {y:g}, w = {w:g}")
        print(f"   forward    p = {p:g}, e = {e:g}, loss = {loss:g}")
        print(f"   local      dloss/de = {loss_e:g}, de/dp = {e_p:g}, dp/dw = {p_w:g}")
        print(f"   backward   dloss/de = {de:g}, dloss/dp = {dp:g}, dloss/dw = {dw:g}")
        de, dp, dw = by_autograd(*scalars(numbers, device))
        print(f"   autograd   dloss/de = {de:g}, dloss/dp = {dp:g}, dloss/dw = {dw:g}")


# %% 2. A small step against the gradient lowers the loss
# The step is no part of the model, so it is not recorded.
def step(x, y, w, lr):
    """(dloss/dw, w, loss): the gradient, w - lr * dloss/dw, and the loss there."""
    w = leaf(w)
    ((w * x - y) ** 2).backward()
    with torch.no_grad():
        w -= lr * w.grad
        return w.grad.item(), w.item(), ((w * x - y) ** 2).item()


def show_2(device):
    print("\n2. A small step against the gradient lowers the loss")
    x, y, w, lr = 1.0, 2.0, 1.0, 0.01
    gradient, after, loss = step(*scalars((x, y, w), device), lr)
    update = f"{w:g} - {lr:g} * {gradient:g} = {after:g}"
    print(f"   w = {update}, and the loss there is {loss:g}")


# %% 3. Two layers: every gradient by hand is autograd's
# The weight of a layer has shape (outputs, inputs), as in torch.nn.Linear. A gradient
# has the shape of what it belongs to: d["w1"] is dloss/dw1, shape (hidden, inputs).
def normal(shape, seed, device="cpu"):
    """Normal random numbers of that shape, float64: drawn on the CPU, then moved."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device)


def parameters(inputs, hidden, outputs, seed, device="cpu"):
    """Normal w1 (hidden, inputs), b1 (hidden,), w2 (outputs, hidden), b2 (outputs,)."""
    shapes = [(hidden, inputs), (hidden,), (outputs, hidden), (outputs,)]
    return [normal(shape, 10 * seed + i, device) for i, shape in enumerate(shapes)]


def network(x, y, w1, b1, w2, b2):
    """z = x w1^T + b1, h = tanh(z), p = h w2^T + b2 and loss = mean((p - y)^2)."""
    z = x @ w1.T + b1
    h = torch.tanh(z)
    p = h @ w2.T + b2
    return {"z": z, "h": h, "p": p, "loss": ((p - y) ** 2).mean()}


def backward_by_hand(x, y, w1, b1, w2, b2):
    """Name -> dloss / d name, for p, w2, b2, h, z, w1 and b1, from the loss back."""
    values = network(x, y, w1, b1, w2, b2)
    h, p = values["h"], values["p"]
    d = {"p": 2 * (p - y) / p.numel()}
    d["w2"] = d["p"].T @ h
    d["b2"] = d["p"].sum(dim=0)
    d["h"] = d["p"] @ w2
    d["z"] = d["h"] * (1 - h**2)
    d["w1"] = d["z"].T @ x
    d["b1"] = d["z"].sum(dim=0)
    return d


def backward_by_autograd(x, y, w1, b1, w2, b2):
    """The same as backward_by_hand, from one call of backward()."""
    leaves = {"w1": leaf(w1), "b1": leaf(b1), "w2": leaf(w2), "b2": leaf(b2)}
    values = network(x, y, **leaves)
    for name in ("z", "h", "p"):
        values[name].retain_grad()
    values["loss"].backward()
    nodes = leaves | {"z": values["z"], "h": values["h"], "p": values["p"]}
    return {name: node.grad for name, node in nodes.items()}


def largest_difference(first, second):
    """The largest |first[name] - second[name]| of all elements of all names."""
    names = first | second
    return max((first[name] - second[name]).abs().max().item() for name in names)


def show_3(device):
    print("\n3. Two layers: every gradient by hand is autograd's")
    x, y = normal((5, 3), 0, device), normal((5, 2), 1, device)
    weights = parameters(3, 4, 2, seed=2, device=device)
    hand = backward_by_hand(x, y, *weights)
    automatic = backward_by_autograd(x, y, *weights)
    shapes = ", ".join(f"{name} {tuple(d.shape)}" for name, d in hand.items())
    sizes = "5 samples of 3 inputs, 4 hidden units, 2 outputs"
    print(f"   {sizes}: gradients of the shapes")
    print(f"   {shapes}")
    print(f"   agree to 1e-12: {largest_difference(hand, automatic) < 1e-12}")


# %% 4. Mistake: a sum where the mean is meant
# n times too large: the best learning rate becomes n times smaller, and depends on n.
def sum_and_mean(x, y, w):
    """d/dw of the sum and of the mean of (w x - y)^2 over x and y of shape (n,)."""
    gradients = []
    for reduce in (torch.sum, torch.mean):
        start = leaf(w)
        reduce((start * x - y) ** 2).backward()
        gradients.append(start.grad.item())
    return gradients


def show_4(device):
    print("\n4. Mistake: a sum where the mean is meant")
    x = torch.arange(1, 5, dtype=torch.float64, device=device)
    (w,) = scalars([0.0], device)
    total, mean = sum_and_mean(x, 2 * x, w)
    print(f"   x = {x.tolist()}, y = 2 x, w = {w.item():g}")
    times = total / mean
    print(f"   sum {total:g}, mean {mean:g}: {times:g} times, for {len(x)} samples")


# %% 5. Mistake: all weights the same
# All units of the hidden layer are then the same: the same weights in, the same bias,
# the same weights out. They get equal gradients and stay equal. From zeros only the
# last bias moves: the best constant, 1/2, leaves a loss of 1/4. Otherwise the units are
# one function of x1 + x2 that only rises or only falls: the loss stays above 1/6.
def xor(device="cpu"):
    """The four inputs (4, 2) and targets (4, 1) of exclusive or, float64."""
    inputs = [[0, 0], [0, 1], [1, 0], [1, 1]]
    x = torch.tensor(inputs, dtype=torch.float64, device=device)
    return x, (x[:, :1] != x[:, 1:]).double()


def train_by_hand(x, y, weights, lr, steps):
    """The weights after so many steps of gradient descent, and their loss."""
    weights = [w.clone() for w in weights]
    for _ in range(steps):
        gradients = backward_by_hand(x, y, *weights)
        for name, w in zip(("w1", "b1", "w2", "b2"), weights, strict=True):
            w -= lr * gradients[name]
    return weights, network(x, y, *weights)["loss"].item()


def row_difference_and_rank(w):
    """How far the rows of w are from its first row at most, and the rank of w."""
    return (w - w[0]).abs().max().item(), torch.linalg.matrix_rank(w).item()


def show_5(device):
    print("\n5. Mistake: all weights the same")
    x, y = xor(device)
    random = parameters(2, 8, 1, seed=0, device=device)
    starts = {
        "all 0": [torch.zeros_like(w) for w in random],
        "all 1/2": [torch.full_like(w, 0.5) for w in random],
        "random": random,
    }
    lr, steps = 0.1, 300
    training = f"{steps} steps at lr {lr}"
    print(f"   exclusive or after {training}; the text's bounds are 1/4 and 1/6")
    for name, start in starts.items():
        weights, loss = train_by_hand(x, y, start, lr, steps)
        difference, rank = row_difference_and_rank(weights[0])
        rows = f"rows differ by {difference:.2f}, rank {rank}"
        print(f"   {name:<7}   loss {loss:.2f}   {rows}")


# %% 6. Autograd against a finite difference
# A central difference has two errors. The formula neglects something, which falls like
# h^2; the rounding of f is divided by h, and rises like eps / h. Autograd neglects
# nothing, and rounds each step: where 1 - s cancels, digits are lost there too.
def cube(x):
    """x^3, whose derivative is 3 x^2."""
    return x * x * x


def central_difference(function, x, h):
    """(f(x + h) - f(x - h)) / 2h, which differs from f' by h^2 f'''/6 and rounding."""
    return (function(x + h) - function(x - h)) / (2 * h)


def slope_by_autograd(function, x):
    """f'(x) of a function that works element by element, in the shape of x."""
    x = leaf(x)
    function(x).sum().backward()
    return x.grad


def mean_error(derivative, x):
    """The mean distance of derivative from 3 x^2, both of shape (n,)."""
    return (derivative - 3 * x * x).abs().mean().item()


def slope_of_sigmoid(x):
    """s(x) s(-x), the slope s (1 - s) of the sigmoid s without the difference."""
    return torch.sigmoid(x) * torch.sigmoid(-x)


def show_6(device):
    print("\n6. Autograd against a finite difference")
    x = torch.linspace(1, 2, 1001, dtype=torch.float64, device=device)
    eps = torch.finfo(x.dtype).eps
    print("   the derivative of x^3 at 1001 points from 1 to 2, float64")
    print(f"   {'h':>9} {'mean error':>11} {'h^2':>8} {'eps / h':>8}")
    for h in (1e-1, 1e-3, 1e-5, 1e-7, 1e-9, 1e-11):
        error = mean_error(central_difference(cube, x, h), x)
        print(f"   {h:9.0e} {error:11.0e} {h**2:8.0e} {eps / h:8.0e}")
    error = mean_error(slope_by_autograd(cube, x), x)
    print(f"   {'autograd':>9} {error:11.0e}")
    print("   the slope s (1 - s) of the sigmoid s at 17, float32")
    point = torch.tensor(17.0, device=device)
    print(f"   by autograd {slope_by_autograd(torch.sigmoid, point):7.0e}")
    print(f"   s(17) s(-17) {slope_of_sigmoid(point):6.0e}")


# %% 7. A function of your own, checked by gradcheck
# gradcheck compares backward with central differences, so it wants float64.
class Tanh(torch.autograd.Function):
    """tanh, whose derivative 1 - tanh^2 needs only the result of the forward pass."""

    @staticmethod
    def forward(x):
        return x.tanh()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, gradient):
        (h,) = ctx.saved_tensors
        return gradient * (1 - h**2)


class WrongTanh(Tanh):
    """tanh, with a backward that forgot the square."""

    @staticmethod
    def backward(ctx, gradient):
        (h,) = ctx.saved_tensors
        return gradient * (1 - h)


def passes_gradcheck(function, x):
    """Whether the function's backward agrees with central differences at x."""
    return torch.autograd.gradcheck(function.apply, leaf(x), raise_exception=False)


def show_7(device):
    print("\n7. A function of your own, checked by gradcheck")
    x = normal((5, 3), 0, device)
    for function in (Tanh, WrongTanh):
        passes = passes_gradcheck(function, x)
        print(f"   {function.__name__:<9}   passes gradcheck: {passes}")


# %% 8. Why depth hurts: a gradient is a product of local gradients
# The sigmoid's is s (1 - s), at most 1/4, so n of them in a row, with no weights
# between, leave at most 4^-n.
def through_sigmoids(x, layers):
    """d sigmoid(... sigmoid(x)) / dx by autograd, and as the product of s (1 - s)."""
    start = s = leaf(x)
    product = 1.0
    for _ in range(layers):
        s = s.sigmoid()
        product *= (s * (1 - s)).item()
    s.backward()
    return start.grad.item(), product


def show_8(device):
    print("\n8. Why depth hurts: a gradient is a product of local gradients")
    print("   at x = 0")
    (x,) = scalars([0.0], device)
    for layers in (1, 2, 5, 10, 20):
        gradient, product = through_sigmoids(x, layers)
        ways = f"autograd {gradient:.2e}   by hand {product:.2e}"
        print(f"   {layers:>2} sigmoids   {ways}   at most {4**-layers:.2e}")


# %% The picture
def figure(device="cpu"):
    """The graph of (w x - y)^2 at x = 3, y = 2, w = 1/2, with values and gradients, and
    the error of the central difference of section 6 against its h."""
    from matplotlib.figure import Figure

    (p, e, loss), (loss_e, e_p, p_w), (de, dp, dw) = by_hand(3.0, 2.0, 0.5)
    nodes = {
        (0, 2): "x = 3",
        (0, 0): "w = 0.5",
        (3, 1): f"p = w x\n{p:g}",
        (3, 3): "y = 2",
        (6, 2): f"e = p - y\n{e:g}",
        (9.6, 2): f"loss = $e^2$\n{loss:g}",
    }
    # (from, to): the gradient that flows back, local gradient times what came before
    edges = {
        ((0, 2), (3, 1)): f"dloss/dx = {dp:g} * 0.5 = {dp * 0.5:g}",
        ((0, 0), (3, 1)): f"dloss/dw = {dp:g} * {p_w:g} = {dw:g}",
        ((3, 1), (6, 2)): f"dloss/dp = {de:g} * {e_p:g} = {dp:g}",
        ((3, 3), (6, 2)): f"dloss/dy = {de:g} * -1 = {-de:g}",
        ((6, 2), (9.6, 2)): f"dloss/de = 2 e = {loss_e:g}",
    }
    fig = Figure(figsize=(10, 7.5), layout="constrained")
    axes, errors = fig.subplots(2, 1, height_ratios=[4, 3.5])
    box = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": "black"}
    for place, text in nodes.items():
        axes.text(*place, text, ha="center", va="center", size=12, bbox=box, zorder=3)
    for (start, end), gradient in edges.items():
        arrow = {"arrowstyle": "->", "shrinkB": 30}
        axes.annotate("", end, start, arrowprops=arrow, zorder=1)
        # the label keeps clear of the edge
        side = "bottom" if start[1] >= end[1] else "top"
        away = 0.05 if side == "bottom" else -0.12
        middle = ((start[0] + end[0]) / 2 + 0.1, (start[1] + end[1]) / 2 + away)
        align = {"ha": "center" if start[1] == end[1] else "left", "va": side}
        axes.text(*middle, gradient, color="tab:red", size=11, **align)
    axes.set(
        xlim=(-0.7, 10.5),
        ylim=(-0.6, 3.6),
        title="values forward, gradients back (in red)",
    )
    axes.axis("off")
    points = torch.linspace(1, 2, 1001, dtype=torch.float64, device=device)
    steps = torch.logspace(-13, 0, 131, dtype=torch.float64)
    differences = [central_difference(cube, points, h.item()) for h in steps]
    measured = [mean_error(difference, points) for difference in differences]
    eps = torch.finfo(torch.float64).eps
    errors.loglog(steps, measured, label="central difference")
    errors.loglog(steps, steps**2, "--", label="$h^2$")
    errors.loglog(steps, eps / steps, ":r", label="eps / h, eps = 2e-16")
    autograd = mean_error(slope_by_autograd(cube, points), points)
    errors.axhline(autograd, color="tab:green", label="autograd")
    errors.set(
        title="the derivative of $x^3$, float64", xlabel="h", ylabel="mean error"
    )
    errors.set_ylim(1e-17, 10)
    errors.legend()
    return fig


# %% Run it
TITLE = "04 Backprop"
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
