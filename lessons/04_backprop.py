"""04 Backprop: the chain rule from the loss back to every weight, by hand and by autograd.

Forward computes the loss and keeps the numbers on the way; backward multiplies local
gradients, from the loss towards the weights. Backprop only computes gradients: to change
the weights with them is the optimizer's work.
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


def leaf(x):
    """A copy of x that starts a graph of its own."""
    return x.detach().clone().requires_grad_()


# %% 1. One weight: forward, local gradients, backward
# loss = s^2 with s = p - y and p = w x. Each step knows only its own derivative.
def by_hand(x, y, w):
    """Forward (p, s, loss), local (dloss/ds, ds/dp, dp/dw), backward (dloss/ds, dp and dw)."""
    p = w * x
    s = p - y
    loss = s**2
    dloss_ds, ds_dp, dp_dw = 2 * s, 1.0, x
    dloss_dp = dloss_ds * ds_dp
    dloss_dw = dloss_dp * dp_dw
    return [p, s, loss], [dloss_ds, ds_dp, dp_dw], [dloss_ds, dloss_dp, dloss_dw]


def by_autograd(x, y, w):
    """Backward (dloss/ds, dloss/dp, dloss/dw) as autograd finds it; x, y and w are scalars."""
    w = leaf(w)
    p = w * x
    s = p - y
    s.retain_grad()  # autograd keeps the gradients of leaves alone, unless asked
    p.retain_grad()
    (s**2).backward()
    return [s.grad.item(), p.grad.item(), w.grad.item()]


# %% 2. One step against the gradient lowers the loss
# The step is no part of the model, so it is not recorded.
def step(x, y, w, lr):
    """(w, loss) after one step: w - lr * dloss/dw, and the loss there."""
    w = leaf(w)
    ((w * x - y) ** 2).backward()
    with torch.no_grad():
        w -= lr * w.grad
        return w.item(), ((w * x - y) ** 2).item()


# %% 3. Two layers: every gradient by hand is autograd's
# The weight of a layer has shape (outputs, inputs), as in torch.nn.Linear. A gradient has
# the shape of what it belongs to, which tells where a transpose must stand.
def parameters(inputs, hidden, outputs, seed, device="cpu"):
    """w1 (hidden, inputs), b1 (hidden,), w2 (outputs, hidden), b2 (outputs,), normal float64."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(hidden, inputs), (hidden,), (outputs, hidden), (outputs,)]
    draws = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [draw.to(device) for draw in draws]


def network(x, y, w1, b1, w2, b2):
    """z = x w1^T + b1, h = tanh(z), p = h w2^T + b2, loss = mean((p - y)^2) for x (n, inputs)."""
    z = x @ w1.T + b1
    h = torch.tanh(z)
    p = h @ w2.T + b2
    return {"z": z, "h": h, "p": p, "loss": ((p - y) ** 2).mean()}


def backward_by_hand(x, y, w1, b1, w2, b2):
    """Name -> dloss / d name, for p, w2, b2, h, z, w1 and b1: from the loss backwards."""
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


def backward_by_autograd(x, y, *weights):
    """The same as backward_by_hand, from one call of backward()."""
    nodes = dict(zip(("w1", "b1", "w2", "b2"), map(leaf, weights), strict=True))
    nodes |= network(x, y, *nodes.values())
    for name in ("z", "h", "p"):
        nodes[name].retain_grad()
    nodes.pop("loss").backward()
    return {name: node.grad for name, node in nodes.items()}


def largest_difference(first, second):
    """The largest |first[name] - second[name]| of all elements of all names."""
    return max((first[name] - second[name]).abs().max().item() for name in first | second)


# %% 4. A function of your own, checked by gradcheck
# gradcheck compares backward with central differences, so it wants float64.
class Tanh(torch.autograd.Function):
    """tanh, whose derivative 1 - tanh^2 needs only the result of the forward pass."""

    @staticmethod
    def forward(ctx, x):
        h = x.tanh()
        ctx.save_for_backward(h)
        return h

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
    """Whether the backward of a torch.autograd.Function agrees with central differences at x."""
    return torch.autograd.gradcheck(function.apply, leaf(x), raise_exception=False)


# %% 5. Why depth hurts: a gradient is a product of local gradients
# The sigmoid's is s (1 - s), at most 1/4, so n layers of it leave at most 4^-n.
def through_sigmoids(x, layers):
    """d sigmoid(... sigmoid(x)) / dx by autograd, and as the product of all s (1 - s)."""
    start = s = leaf(x)
    product = 1.0
    for _ in range(layers):
        s = s.sigmoid()
        product *= (s * (1 - s)).item()
    s.backward()
    return start.grad.item(), product


# %% 6. Mistake: a sum where the mean is meant
# n times too large: the best learning rate becomes n times smaller, and depends on n.
def sum_and_mean(x, y, w):
    """d/dw of the sum and of the mean of (w x - y)^2 over x and y of shape (n,)."""
    gradients = []
    for reduce in (torch.sum, torch.mean):
        start = leaf(w)
        reduce((start * x - y) ** 2).backward()
        gradients.append(start.grad.item())
    return gradients


# %% 7. Mistake: all weights the same
# Equal units get equal gradients and stay equal. From zeros only the last bias moves: the
# best constant, 1/2, leaves a loss of 1/4. Otherwise the units are one function of x1 + x2
# that only rises or only falls, and the loss cannot fall under 1/6.
def xor(device="cpu"):
    """The four inputs (4, 2) and targets (4, 1) of exclusive or, float64."""
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    return x.to(device), (x[:, :1] != x[:, 1:]).double().to(device)


def train_by_hand(x, y, weights, lr, steps):
    """The weights after so many steps of gradient descent, and their loss."""
    weights = [w.clone() for w in weights]
    for _ in range(steps):
        gradients = backward_by_hand(x, y, *weights)
        for name, w in zip(("w1", "b1", "w2", "b2"), weights, strict=True):
            w -= lr * gradients[name]
    return weights, network(x, y, *weights)["loss"].item()


def spread_and_rank(w):
    """How far the rows of w are from its first row at most, and the rank of w."""
    return (w - w[0]).abs().max().item(), torch.linalg.matrix_rank(w).item()


# %% 8. Mistake: retain_graph=True to silence the error
# A second backward through the same graph raises. Retaining the graph only adds the same
# gradient once more: compute the loss again instead.
def backward_again(x, y, w, passes, retain_graph):
    """w.grad after that many backward passes through one graph of (w x - y)^2."""
    w = leaf(w)
    loss = (w * x - y) ** 2
    for _ in range(passes):
        loss.backward(retain_graph=retain_graph)
    return w.grad.item()


# %% The picture
def figure(device="cpu"):
    """The graph of (w x - y)^2 at x = 1, y = 2, w = 1: values in the nodes, gradients below."""
    from matplotlib.figure import Figure

    (p, s, loss), (loss_s, s_p, p_w), (ds, dp, dw) = by_hand(1.0, 2.0, 1.0)
    nodes = {
        (0, 2): "x = 1",
        (0, 0): "w = 1",
        (3, 1): f"p = w x\n{p:g}",
        (3, 3): "y = 2",
        (6, 2): f"s = p - y\n{s:g}",
        (9.6, 2): f"loss = $s^2$\n{loss:g}",
    }
    edges = {  # (from, to): the gradient that flows back, local gradient times what came before
        ((0, 2), (3, 1)): f"dloss/dx = {dp:g} * w = {dp:g}",
        ((0, 0), (3, 1)): f"dloss/dw = {dp:g} * {p_w:g} = {dw:g}",
        ((3, 1), (6, 2)): f"dloss/dp = {ds:g} * {s_p:g} = {dp:g}",
        ((3, 3), (6, 2)): f"dloss/dy = {ds:g} * -1 = {-ds:g}",
        ((6, 2), (9.6, 2)): f"dloss/ds = 2 s = {loss_s:g}",
    }
    picture = Figure(figsize=(10, 4), layout="constrained")
    axes = picture.subplots()
    box = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": "black"}
    for place, text in nodes.items():
        axes.text(*place, text, ha="center", va="center", size=12, bbox=box, zorder=3)
    for (start, end), gradient in edges.items():
        axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "shrinkB": 30}, zorder=1)
        middle = ((start[0] + end[0]) / 2 + 0.1, (start[1] + end[1]) / 2 + 0.05)
        side = "bottom" if start[1] >= end[1] else "top"  # the label keeps clear of the edge
        align = {"ha": "center" if start[1] == end[1] else "left", "va": side}
        axes.text(*middle, gradient, color="tab:red", size=11, **align)
    axes.set(xlim=(-0.7, 10.5), ylim=(-0.6, 3.6), title="values forward, gradients back (in red)")
    axes.axis("off")
    return picture


# %% Run it
def main(device):
    print(f"04 Backprop on {device}")
    one, two = (torch.tensor(number, dtype=torch.float64, device=device) for number in (1, 2))

    print("\n1. One weight: forward, local gradients, backward")
    (p, s, loss), (loss_s, s_p, p_w), (ds, dp, dw) = by_hand(1, 2, 1)
    print(f"   forward    p = {p:g}, s = {s:g}, loss = {loss:g}")
    print(f"   local      dloss/ds = {loss_s:g}, ds/dp = {s_p:g}, dp/dw = {p_w:g}")
    print(f"   backward   dloss/ds = {ds:g}, dloss/dp = {dp:g}, dloss/dw = {dw:g}")
    ds, dp, dw = by_autograd(one, two, one)
    print(f"   autograd   dloss/ds = {ds:g}, dloss/dp = {dp:g}, dloss/dw = {dw:g}")

    print("\n2. One step against the gradient lowers the loss")
    w, loss = step(one, two, one, lr=0.01)
    print(f"   w = 1 - 0.01 * -2 = {w:.2f}, and the loss there is {loss:.4f}")

    print("\n3. Two layers: every gradient by hand is autograd's")
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(5, n, generator=generator, dtype=torch.float64) for n in (3, 2))
    arguments = (x.to(device), y.to(device), *parameters(3, 4, 2, seed=1, device=device))
    hand, automatic = backward_by_hand(*arguments), backward_by_autograd(*arguments)
    print(f"   {', '.join(f'{name} {tuple(g.shape)}' for name, g in hand.items())}")
    print(f"   largest difference {largest_difference(hand, automatic):.12f}")

    print("\n4. A function of your own, checked by gradcheck")
    for function in (Tanh, WrongTanh):
        passes = passes_gradcheck(function, x.to(device))
        print(f"   {function.__name__:<9}   passes gradcheck: {passes}")

    print("\n5. Why depth hurts: a gradient is a product of local gradients")
    for layers in (1, 2, 5, 10, 20):
        gradient, product = through_sigmoids(0 * one, layers)
        print(f"   {layers:>2} layers   autograd {gradient:.2e}   by hand {product:.2e}", end="")
        print(f"   at most {4**-layers:.2e}")

    print("\n6. Mistake: a sum where the mean is meant")
    x = torch.arange(1, 5, dtype=torch.float64, device=device)
    total, mean = sum_and_mean(x, 2 * x, 0 * one)
    print(f"   sum {total:g}, mean {mean:g}: {total / mean:g} times, for 4 samples")

    print("\n7. Mistake: all weights the same")
    random = parameters(2, 8, 1, seed=0, device=device)
    starts = {"all 0": [torch.zeros_like(w) for w in random]}
    starts |= {"all 1/2": [torch.full_like(w, 0.5) for w in random], "random": random}
    for (name, start), least in zip(starts.items(), (1 / 4, 1 / 6, 0), strict=True):
        weights, loss = train_by_hand(*xor(device), start, lr=0.1, steps=300)
        spread, rank = spread_and_rank(weights[0])
        print(f"   {name:<7}   loss {loss:.2f} (never under {least:.2f})", end="   ")
        print(f"rows differ by {spread:.2f}, rank {rank}")

    print("\n8. Mistake: retain_graph=True to silence the error")
    print(f"   two passes raise: {raises(lambda: backward_again(one, two, one, 2, False))}")
    for passes in (1, 2, 3):
        gradient = backward_again(one, two, one, passes, retain_graph=True)
        print(f"   {passes} x backward, retained   dloss/dw {gradient:g}")


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
