"""21 Experiment tracking: which of two settings is better, and how sure can you be?

One run says little. Forty runs, logged and compared in pairs, say it with an error.
"""

import argparse
import functools
import json
import math
import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
DATA = Path(__file__).resolve().parent.parent / "data"


# Reading a data file: no need to read on before section 1.
def read_csv(name, rows, columns):
    """The numbers below the header of data/name, float64; a wrong file ends the run."""
    try:
        text = (DATA / name).read_text("ascii")
        table = np.array(
            [line.split(",") for line in text.splitlines()[1:]], dtype=float
        )
        if (
            table.shape != (rows, columns)
            or not np.isfinite(table).all()
            or text[-1] != "\n"
        ):
            raise ValueError("it is cut short, or a number is missing or not finite")
    except (OSError, ValueError) as error:
        cure = "copy the file from the course again"
        raise SystemExit(
            f"{DATA / name}: {rows} rows of {columns}: {error}; {cure}"
        ) from None
    return table


@functools.cache
def digits(device):
    """[(x, y) to train, to choose, to test], 800, 500, 497 rows; x (n, 64), y (n,)."""
    table = torch.from_numpy(read_csv("digits.csv", 1797, 65))
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    parts = table[order].to(device).split([800, 500, 497])
    return [(part[:, 1:] / 16, part[:, 0].long()) for part in parts]


# %% 1. A log is a line of JSON for each step
# A file for each run, its settings in the first line. Any program can read it, after a
# crash too.
def begin(path, **settings):
    """Begin the log of a run; raise FileExistsError where there is an older one."""
    with path.open("x", encoding="utf-8") as file:
        file.write(json.dumps(settings) + "\n")


def log(path, **values):
    """Append one line, such as {"step": 3, "loss": 0.25}, to the log of a run."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def largest_change(losses, decimals=None):
    """The largest |loss read from a log - loss|; with decimals, rounded to so many."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.jsonl"
        begin(path, lr=0.01, seed=0)
        for step, loss in enumerate(losses):
            logged = loss if decimals is None else round(loss, decimals)
            log(path, step=step, loss=logged)
        steps = [json.loads(line) for line in path.read_text("utf-8").splitlines()[1:]]
    return max(abs(values["loss"] - losses[values["step"]]) for values in steps)


def show_1(device):
    print("\n1. A log is a line of JSON for each step")
    losses = torch.rand(100, generator=torch.Generator().manual_seed(0)).tolist()
    change = largest_change(losses)
    print(f"   100 losses with all their digits: largest change {change}")
    print(f"   with 4 decimals: {largest_change(losses, 4):.5f}, theory up to 0.00005")


# %% 2. Many seeds at once
# Networks of one shape are one tensor with a dimension more, (s, ...). Each keeps its
# own start and its own order of rows, and their losses are summed: a gradient is 0 in
# all other networks.
def starts(width, seeds, device="cpu"):
    """w1 (s, width, 64), b1 (s, width), w2 (s, 10, width), b2 (s, 10), a seed each."""
    networks = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            first, second = nn.Linear(64, width), nn.Linear(width, 10)
        networks.append([first.weight, first.bias, second.weight, second.bias])
    stacked = [torch.stack(same).detach() for same in zip(*networks, strict=True)]
    return [tensor.to(device, torch.float64).requires_grad_() for tensor in stacked]


def forward(parameters, x):
    """The logits of all networks, (s, n, 10), for x (n, 64) or one each, (s, n, 64)."""
    w1, b1, w2, b2 = parameters
    hidden = (x @ w1.mT + b1[:, None]).relu()
    return hidden @ w2.mT + b2[:, None]


def accuracies(parameters, x, y):
    """The share of right answers of each network, (s,)."""
    with torch.no_grad():
        return (forward(parameters, x).argmax(dim=2) == y).double().mean(dim=1).cpu()


def fit(width, seeds, device="cpu", epochs=5):
    """(trained parameters, the accuracies (epochs, s) on the rows to choose with)."""
    (x, y), choose, _ = digits(device)
    parameters = starts(width, seeds, device)
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    generators, found = [torch.Generator().manual_seed(seed) for seed in seeds], []
    for _ in range(epochs):
        orders = torch.stack(
            [torch.randperm(len(x), generator=one) for one in generators]
        )
        for rows in orders.to(device).split(25, dim=1):
            optimizer.zero_grad()
            logits = forward(parameters, x[rows])
            logits, labels = logits.flatten(0, 1), y[rows].flatten()
            (F.cross_entropy(logits, labels, reduction="sum") / 25).backward()
            optimizer.step()
        found.append(accuracies(parameters, *choose))
    return parameters, torch.stack(found)


def show_2(device):
    print("\n2. Many seeds at once")
    together, _ = fit(16, seeds=range(20), device=device, epochs=1)
    alone, _ = fit(16, seeds=[3], device=device, epochs=1)
    print("   20 networks:", *(tuple(tensor.shape) for tensor in together))
    pairs = zip(together, alone, strict=True)
    same = all(torch.allclose(a[3], b[0], 0, 1e-12) for a, b in pairs)
    print(f"   seed 3 among 20 and seed 3 alone agree to 1e-12: {same}")


# %% 3. The same settings, another seed, another result
# Start and order of rows are drawn anew, and the accuracy scatters.
@functools.cache
def results(width, device="cpu", seeds=40):
    """(accuracies on the rows to choose with, (s,), on the rows to test with, (s,))."""
    parameters, found = fit(width, range(seeds), device)
    return found[-1], accuracies(parameters, *digits(device)[2])


def misled(worse, better):
    """How often a random run of each shows the worse setting as at least as good."""
    return (worse[:, None] >= better).double().mean().item()


def show_3(device):
    print("\n3. The same settings, another seed, another result")
    narrow, wide = results(24, device)[0], results(32, device)[0]
    for width, found in ((24, narrow), (32, wide)):
        mean, std = found.mean(), found.std()
        print(f"   width {width}, 40 seeds: mean {mean:.3f}, std {std:.3f}")
    print(f"   one run of each misleads: {misled(narrow, wide):.0%}")


# %% 4. Compare in pairs
# The same seed means the same order of rows; what both runs have in common is in no
# difference.
def standard_error(values):
    """std / sqrt(n): by about how much the mean of n independent values is off."""
    return (values.std() / math.sqrt(len(values))).item()


def show_4(device):
    print("\n4. Compare in pairs")
    a, b = results(32, device)[0], results(24, device)[0]
    unpaired = math.hypot(standard_error(a), standard_error(b))
    errors = f"in pairs {standard_error(a - b):.4f}, unpaired {unpaired:.4f}"
    print(f"   32 less 24: {(a - b).mean():.4f}, standard error {errors}")


# %% 5. Mistake: reporting the best seed
# The best of n equal runs is the luckiest. What was luck on these rows is gone on
# others.
def best_of_normal(n):
    """The mean of the largest of n standard normal numbers: integral of z d(F(z)^n)."""
    z = torch.linspace(-10, 10, 20_001, dtype=torch.float64)
    return torch.trapezoid(z, torch.special.ndtr(z) ** n).item()


def lead_of_best(choose, test):
    """(lead over the mean of the run that is best on choose, its lead on test)."""
    best = choose.argmax()
    return (choose[best] - choose.mean()).item(), (test[best] - test.mean()).item()


def show_5(device):
    print("\n5. Mistake: reporting the best seed")
    choose, test = results(32, device)
    lead, left = lead_of_best(choose, test)
    print(f"   lead of the best of 40: {lead:.3f}, and on the test rows {left:.3f}")
    theory = best_of_normal(40)
    print(f"   in std {lead / choose.std():.2f}, theory for normal values {theory:.2f}")


# %% 6. Watch the gradients, the units and the first nan
def network(activation, depth, device="cpu"):
    """A network with so many hidden layers of 64, float64, from seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        layers = []
        for _ in range(depth):
            layers += [nn.Linear(64, 64), activation()]
        return nn.Sequential(*layers, nn.Linear(64, 10)).double().to(device)


def gradient_ratio(model, x, y):
    """|gradient of the cross-entropy by the first weight| / |that by the last|."""
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    return (model[0].weight.grad.norm() / model[-1].weight.grad.norm()).item()


def dead_share(outputs):
    """The share of units, outputs (n, units), that are 0 on all rows: they are dead."""
    return (outputs == 0).all(dim=0).double().mean().item()


def first_bad(model, x):
    """The name of a Sequential's first part whose output is not finite, or None."""
    for name, part in model.named_children():
        x = part(x)
        if not x.isfinite().all():
            return name
    return None


def show_6(device):
    print("\n6. Watch the gradients, the units and the first nan")
    x, y = digits(device)[0]
    for activation in (nn.Sigmoid, nn.Tanh):
        ratio = gradient_ratio(network(activation, 8, device), x, y)
        name = activation.__name__
        print(f"   8 layers of {name:<7}: first gradient / last {ratio:.0e}")
    model = network(nn.ReLU, 1, device)
    dead, bad = dead_share(model[:2](x)), first_bad(model, x)
    print(f"   relu: dead {dead:.0%}, first bad {bad}")
    # as one step at too large a rate can leave it
    nn.init.constant_(model[0].bias[:16], -10)
    nn.init.constant_(model[2].weight[0], torch.nan)
    dead, bad = dead_share(model[:2](x)), first_bad(model, x)
    print(f"   spoilt: dead {dead:.0%}, first bad {bad!r}")


# %% 7. TensorBoard, for those who have it
# A writer adds to what is in its folder, and so a second run in one folder draws a
# zigzag.
def steps_read(folders):
    """The steps that TensorBoard finds in the first folder, after 3 into each."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    for folder in folders:
        with SummaryWriter(folder) as writer:
            for step in range(3):
                writer.add_scalar("loss", 1 / (3 + step), step)
    reader = EventAccumulator(str(folders[0])).Reload()
    return [event.step for event in reader.Scalars("loss")]


def show_7(device):
    print("\n7. TensorBoard, for those who have it")
    if find_spec("tensorboard") is None:
        print("   not installed here: python -m pip install tensorboard")
        return
    with tempfile.TemporaryDirectory() as folder:
        a, b, both = (Path(folder) / name for name in ("a", "b", "both"))
        print("   a folder for each run: steps", *steps_read([a, b]))
        print("   one folder for both: steps", *steps_read([both, both]))


# %% The picture
def figure(device="cpu"):
    """Left the runs of both widths by epoch; right 40 differences and their mean."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(9, 4), layout="constrained")
    left, right = fig.subplots(1, 2)
    found = {width: fit(width, range(40), device)[1] for width in (24, 32)}
    for width, color in ((24, "tab:orange"), (32, "tab:blue")):
        left.plot(range(1, 6), found[width].numpy(), color=color, alpha=0.2)
        mean = found[width].mean(1).numpy()
        left.plot(range(1, 6), mean, color, lw=3, label=f"width {width}")
    left.set(xlabel="epoch", ylabel="accuracy", xticks=range(1, 6))
    left.set_title("40 seeds of each width")
    left.legend()
    less = (found[32][-1] - found[24][-1]).sort().values
    right.bar(range(40), less.tolist(), color="tab:gray")
    mean, error = less.mean().item(), standard_error(less)
    right.axhspan(mean - 2 * error, mean + 2 * error, color="tab:blue", alpha=0.4)
    right.set(xlabel="pair", ylabel="32 less 24")
    right.set_title("differences; mean +- 2 standard errors")
    return fig


# %% Run it
TITLE = "21 Experiment tracking"
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
