"""04 Backprop: what backward() does, by hand and beside autograd.

Forward computes the loss and keeps the numbers on the way. Backward walks home from the
loss: it multiplies the slopes along each way, and adds where ways meet. It changes no
weight. That is the work of a step.
"""

import argparse
import os
import sys

import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# %% The data: four rides on a bicycle, and a lamp with two switches
def four_rides(device="cpu"):
    """(x, y), both of shape (4,): turns of the pedals, and metres, 6 for each turn."""
    x = torch.tensor([1.0, 2.0, 3.0, 4.0], device=device)
    return x, 6 * x


def lamp(device="cpu"):
    """(x, y): two switches (4, 2), and the lamp (4, 1): on where just one is up."""
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], device=device)
    y = torch.tensor([[0.0], [1.0], [1.0], [0.0]], device=device)
    return x.double(), y.double()


def random_weights(seed, device="cpu"):
    """(w1, b1, w2, b2) of shapes (8, 2), (8,), (1, 8), (1,): normal, float64."""
    generator = torch.Generator().manual_seed(seed)
    w1 = torch.randn(8, 2, generator=generator, dtype=torch.float64)
    b1 = torch.randn(8, generator=generator, dtype=torch.float64)
    w2 = torch.randn(1, 8, generator=generator, dtype=torch.float64)
    b2 = torch.randn(1, generator=generator, dtype=torch.float64)
    return w1.to(device), b1.to(device), w2.to(device), b2.to(device)


# %% 1. One weight, forward and back
# The loss is e^2, with the error e = p - y and the prediction p = w x. In names such as
# dw the d stands for the slope of the loss: dw is dloss/dw.
def forward_by_hand(x, y, w):
    """(p, e, loss): the prediction, its error, and the square of the error."""
    p = w * x
    e = p - y
    loss = e**2
    return p, e, loss


def backward_by_hand(x, e):
    """(de, dp, dw), each the one before it times the slope of one operation."""
    de = 2 * e  # the slope of e^2
    dp = de * 1  # the slope of p - y with respect to p
    dw = dp * x  # the slope of w x with respect to w
    return de, dp, dw


def backward_by_autograd(x, y, w, device="cpu"):
    """(de, dp, dw) by PyTorch, as plain numbers."""
    w = torch.tensor(w, device=device, requires_grad=True)
    p = w * x
    e = p - y
    p.retain_grad()  # or the gradients of p and e are thrown away
    e.retain_grad()
    loss = e**2
    loss.backward()
    return e.grad.item(), p.grad.item(), w.grad.item()


def print_ride(x, y, w, device):
    p, e, loss = forward_by_hand(x, y, w)
    print(f"   x = {x:g}, y = {y:g}, w = {w:g}")
    print(f"   forward    p = {p:g}   e = {e:g}   loss = {loss:g}")
    de, dp, dw = backward_by_hand(x, e)
    print(f"   by hand    de = {de:g}   dp = {dp:g}   dw = {dw:g}")
    de, dp, dw = backward_by_autograd(x, y, w, device)
    print(f"   autograd   de = {de:g}   dp = {dp:g}   dw = {dw:g}")


def show_1(device):
    print("\n1. One weight, forward and back")
    print_ride(x=3.0, y=18.0, w=5.0, device=device)
    print_ride(x=2.0, y=12.0, w=7.0, device=device)


# %% 2. A step against the gradient
# If the slope stayed what it is, a step of -lr dw would change the loss by -lr dw^2.
def one_step(x, y, w, lr, device="cpu"):
    """(w, loss) after one step against the gradient of (w x - y)^2."""
    w = torch.tensor(w, device=device, requires_grad=True)
    loss = (w * x - y) ** 2
    loss.backward()
    with torch.no_grad():
        w -= lr * w.grad
        loss = (w * x - y) ** 2
    return w.item(), loss.item()


def promised_loss(x, y, w, lr):
    """The loss after that step if the slope stayed the same all the way."""
    e = w * x - y
    dw = 2 * e * x
    return e**2 - lr * dw**2


def show_2(device):
    print("\n2. A step against the gradient")
    print("   one step from w = 5, where the loss is 9")
    print("      lr       w   promised    loss")
    for lr in [0.001, 0.01, 0.05, 0.1, 0.2]:
        w, loss = one_step(3.0, 18.0, 5.0, lr, device)
        promised = promised_loss(3.0, 18.0, 5.0, lr)
        print(f"   {lr:5.3f}   {w:5.3f}   {promised:8.2f}   {loss:5.2f}")


# %% 3. Mistake: a sum where the mean is meant
# The gradient of the sum is n times that of the mean. So the best rate hangs on n.
def train_by_sum(x, y, lr, steps):
    """[0, w after the first step, w after the second, ...] on sum((w x - y)^2)."""
    w = torch.tensor(0.0, device=x.device, requires_grad=True)
    weights = [w.item()]
    for _ in range(steps):
        loss = ((w * x - y) ** 2).sum()  # WRONG: n times as steep
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
        weights.append(w.item())
    return weights


def train_by_mean(x, y, lr, steps):
    """[0, w after the first step, w after the second, ...] on mean((w x - y)^2)."""
    w = torch.tensor(0.0, device=x.device, requires_grad=True)
    weights = [w.item()]
    for _ in range(steps):
        loss = ((w * x - y) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
        weights.append(w.item())
    return weights


def show_3(device):
    print("\n3. Mistake: a sum where the mean is meant")
    x, y = four_rides(device)
    sum_4 = train_by_sum(x, y, lr=0.02, steps=10)
    sum_8 = train_by_sum(x.repeat(2), y.repeat(2), lr=0.02, steps=10)
    mean_4 = train_by_mean(x, y, lr=0.02, steps=10)
    mean_8 = train_by_mean(x.repeat(2), y.repeat(2), lr=0.02, steps=10)
    print("   w at lr 0.02, by the sum and by the mean; it should become 6")
    print("   step   sum, 4 rows   sum, 8 rows   mean, 4 rows   mean, 8 rows")
    for step in [0, 1, 2, 3, 10]:
        by_sum = f"{sum_4[step]:11.2f}   {sum_8[step]:11.2f}"
        by_mean = f"{mean_4[step]:12.2f}   {mean_8[step]:12.2f}"
        print(f"   {step:>4}   {by_sum}   {by_mean}")


# %% 4. Two layers by hand
# z = x w1^T + b1, h = tanh(z), p = h w2^T + b2, loss = mean((p - y)^2). A gradient has
# the shape of what it belongs to: dw1 is (hidden, inputs), like w1.
def layers_by_hand(x, y, w1, b1, w2, b2):
    """{name: slope of the loss} for p, w2, b2, h, z, w1 and b1.

    x (n, inputs), y (n, outputs), w1 (hidden, inputs), b1 (hidden,), w2 (outputs,
    hidden), b2 (outputs,).
    """
    z = x @ w1.T + b1
    h = torch.tanh(z)
    p = h @ w2.T + b2
    dp = 2 * (p - y) / p.numel()
    dw2 = dp.T @ h
    db2 = dp.sum(dim=0)
    dh = dp @ w2
    dz = dh * (1 - h**2)
    dw1 = dz.T @ x
    db1 = dz.sum(dim=0)
    return {"p": dp, "w2": dw2, "b2": db2, "h": dh, "z": dz, "w1": dw1, "b1": db1}


def layers_by_autograd(x, y, w1, b1, w2, b2):
    """The same by one call of backward(), for weights that require a gradient."""
    z = x @ w1.T + b1
    h = torch.tanh(z)
    p = h @ w2.T + b2
    for value in [z, h, p]:
        value.retain_grad()
    loss = ((p - y) ** 2).mean()
    loss.backward()
    return {
        "p": p.grad,
        "w2": w2.grad,
        "b2": b2.grad,
        "h": h.grad,
        "z": z.grad,
        "w1": w1.grad,
        "b1": b1.grad,
    }


def show_4(device):
    print("\n4. Two layers by hand")
    x, y = lamp(device)
    weights = random_weights(0, device)
    hand = layers_by_hand(x, y, *weights)
    leaves = [weight.requires_grad_() for weight in weights]
    automatic = layers_by_autograd(x, y, *leaves)
    print("   slope    by hand   by autograd   shape; the first number is shown")
    for name in hand:
        first = hand[name].flatten()[0]
        same = automatic[name].flatten()[0]
        print(f"   d{name:<4} {first:10.4f} {same:13.4f}   {tuple(hand[name].shape)}")
    distance = max((hand[n] - automatic[n]).abs().max().item() for n in hand)
    print(f"   all numbers agree to 1e-12: {distance < 1e-12}")


# %% 5. Mistake: all weights the same
# Units with the same weights in, the same bias and the same weight out compute the
# same, get the same gradients, and stay the same.
def equal_weights(number, device="cpu"):
    """(w1, b1, w2, b2), shaped like those of random_weights, full of one number."""
    weights = random_weights(0, device)
    return [torch.full_like(weight, number) for weight in weights]


def train_lamp(w1, b1, w2, b2, lr, steps):
    """The loss after each step by our own backward; it changes the weights."""
    x, y = lamp(w1.device)
    losses = []
    for _ in range(steps):
        slopes = layers_by_hand(x, y, w1, b1, w2, b2)
        w1 -= lr * slopes["w1"]
        b1 -= lr * slopes["b1"]
        w2 -= lr * slopes["w2"]
        b2 -= lr * slopes["b2"]
        p = torch.tanh(x @ w1.T + b1) @ w2.T + b2
        losses.append(((p - y) ** 2).mean().item())
    return losses


def different_units(w1, b1, w2):
    """How many units differ, to six decimals, in a weight in, the bias or one out."""
    units = torch.cat([w1, b1[:, None], w2.T], dim=1)  # a row for each unit
    return len(torch.unique(units.round(decimals=6), dim=0))


def print_lamp(name, weights):
    w1, b1, w2, b2 = weights
    losses = train_lamp(w1, b1, w2, b2, lr=0.1, steps=300)
    units = different_units(w1, b1, w2)
    print(f"   {name:<8}   loss {losses[-1]:.2f}   different units {units}")


def show_5(device):
    print("\n5. Mistake: all weights the same")
    print("   300 steps at lr 0.1 from three kinds of weights")
    print_lamp("all 0", equal_weights(0.0, device))
    print_lamp("all 1/2", equal_weights(0.5, device))
    for seed in range(5):
        print_lamp(f"random {seed}", random_weights(seed, device))


# %% 6. How good is the slope by two neighbours?
# For x^3 the formula is wrong by h^2. Rounding adds about eps / h.
def cube(x):
    """x^3, whose slope is 3 x^2."""
    return x * x * x


def by_two_neighbours(function, x, h):
    """The central difference (f(x + h) - f(x - h)) / 2h, in the shape of x."""
    return (function(x + h) - function(x - h)) / (2 * h)


def by_autograd(function, x):
    """f'(x) of a function that works number by number, in the shape of x."""
    x = x.clone().requires_grad_()
    function(x).sum().backward()
    return x.grad


def mean_error(slope, x):
    """The mean distance of slope from 3 x^2, which is computed in float64."""
    return (slope - 3 * x.double() * x.double()).abs().mean().item()


def show_6(device):
    print("\n6. How good is the slope by two neighbours?")
    x64 = torch.linspace(1, 2, 1001, dtype=torch.float64, device=device)
    x32 = x64.float()
    eps = torch.finfo(torch.float64).eps
    print("   the slope of x^3, mean error at 1001 points from 1 to 2")
    print("          h   float64     h^2 + eps / h   float32")
    for h in [1e-1, 1e-3, 1e-5, 1e-7, 1e-9, 1e-11]:
        error64 = mean_error(by_two_neighbours(cube, x64, h), x64)
        error32 = mean_error(by_two_neighbours(cube, x32, h), x32)
        theory = f"{h**2:7.0e} + {eps / h:5.0e}"
        print(f"   {h:8.0e} {error64:9.0e} {theory:>17} {error32:9.0e}")
    error64 = mean_error(by_autograd(cube, x64), x64)
    error32 = mean_error(by_autograd(cube, x32), x32)
    print(f"   autograd {error64:9.0e} {'':>17} {error32:9.0e}")


# %% 7. A function of your own
# gradcheck compares backward with two neighbours, in float64, at the points given.
class Tanh(torch.autograd.Function):
    """tanh, whose slope 1 - h^2 needs only the result h."""

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
    """The same with the square forgotten."""

    @staticmethod
    def backward(ctx, gradient):
        (h,) = ctx.saved_tensors
        return gradient * (1 - h)  # WRONG


def passes(function, points):
    """Whether gradcheck finds no mistake at these points, float64."""
    points = points.clone().requires_grad_()
    return torch.autograd.gradcheck(function.apply, points, raise_exception=False)


def show_7(device):
    print("\n7. A function of your own")
    zero = torch.zeros(1, dtype=torch.float64, device=device)
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(15, generator=generator, dtype=torch.float64).to(device)
    seven = zero + 7
    print("   gradcheck passes at   Tanh    WrongTanh")
    for name, x in [("x = 0", zero), ("x = 7", seven), ("15 random points", points)]:
        print(f"   {name:<19}   {passes(Tanh, x)}    {passes(WrongTanh, x)}")


# %% 8. Many layers, one after the other
# The slope of the sigmoid s is s (1 - s), at most 1/4. A weight between two sigmoids is
# a factor, too.
def through_sigmoids(x, count, weight, bias, device="cpu"):
    """The slope at x of so many sigmoids in a row, by autograd and by hand.

    The first is sigmoid(x), each later one sigmoid(weight * s + bias).
    """
    x = torch.tensor(x, dtype=torch.float64, device=device, requires_grad=True)
    s = torch.sigmoid(x)
    slope = (s * (1 - s)).item()
    for _ in range(count - 1):
        s = torch.sigmoid(weight * s + bias)
        slope *= weight * (s * (1 - s)).item()
    s.backward()
    return x.grad.item(), slope


def print_sigmoids(count, weight, bias, device):
    slope, by_hand = through_sigmoids(0.0, count, weight, bias, device)
    setting = f"{count:>8}   {weight:>6}   {bias:>4}"
    print(f"   {setting}    {slope:.1e}   {by_hand:.1e}")


def show_8(device):
    print("\n8. Many layers, one after the other")
    print("   the slope at x = 0")
    print("   sigmoids   weight   bias   autograd   by hand")
    for count in [1, 2, 5, 10, 20]:
        print_sigmoids(count, 1, 0, device)
    print_sigmoids(20, 4, 0, device)
    print_sigmoids(20, 4, -2, device)


# %% The picture
def figure(device="cpu"):
    """Section 1: the values of the first ride forward, its slopes back, in red."""
    from matplotlib.figure import Figure

    p, e, loss = forward_by_hand(3.0, 18.0, 5.0)
    de, dp, dw = backward_by_autograd(3.0, 18.0, 5.0, device)
    fig = Figure(figsize=(9, 2.6), layout="constrained")
    axes = fig.subplots()
    boxes = [f"w = {5}", f"p = w x\n= {p:g}", f"e = p - y\n= {e:g}"]
    boxes.append(f"loss = $e^2$\n= {loss:g}")
    operations = ["times x = 3", "minus y = 18", "square"]
    ways_back = ["times 3", "times 1", "times 2e = -6"]
    slopes = [f"dw = {dw:g}", f"dp = {dp:g}", f"de = {de:g}", "1"]
    style = {"ha": "center", "va": "center", "size": 12}
    for place in range(4):
        frame = {"boxstyle": "round,pad=0.5", "facecolor": "white"}
        axes.text(3 * place, 1.2, boxes[place], bbox=frame, **style)
        axes.text(3 * place, 0.4, slopes[place], color="tab:red", **style)
    for place in range(3):
        left, right = 3 * place + 0.7, 3 * place + 2.2
        axes.annotate("", (right, 1.2), (left, 1.2), arrowprops={"arrowstyle": "->"})
        axes.text(3 * place + 1.45, 1.45, operations[place], **style)
        red = {"arrowstyle": "->", "color": "tab:red"}
        axes.annotate("", (left, 0.4), (right, 0.4), arrowprops=red)
        axes.text(3 * place + 1.45, 0.15, ways_back[place], color="tab:red", **style)
    axes.set(xlim=(-0.8, 10), ylim=(0, 1.7))
    axes.axis("off")
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
