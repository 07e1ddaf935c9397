"""17 Transfer learning: a network that knows some digits learns others from few.

1797 pictures of digits written by hand, 8 x 8 grey levels each (Alpaydin and Kaynak,
1998).
"""

import argparse
import copy
import functools
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models

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


def digits(device="cpu"):
    """x, (1797, 1, 8, 8), grey levels 0 to 1 in float64, and y, (1797,), the digits."""
    table = torch.from_numpy(read_csv("digits.csv", 1797, 65)).to(device)
    return table[:, 1:].reshape(-1, 1, 8, 8) / 16, table[:, 0].long()


def placed(x, generator):
    """x, (n, 1, 8, 8), each at one of 25 random places on a canvas of 12 x 12."""
    out = x.new_zeros(len(x), 1, 12, 12)
    places = torch.randint(25, (len(x),), generator=generator).to(x.device)
    for place in range(25):
        rows, down, right = places == place, place // 5, place % 5
        out[rows, :, down : down + 8, right : right + 8] = x[rows]
    return out


# %% 1. Freeze the body, and put a new head on it
# The body makes 128 features of a picture, the head five logits of them.
def network(seed, device="cpu"):
    """A body of three convolutions with batch norm, and a linear head, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layers = []
        for channels, more in ((1, 8), (8, 16), (16, 32)):
            layers.append(nn.Conv2d(channels, more, 3, padding=1, bias=False))
            layers.append(nn.BatchNorm2d(more))
            layers += [nn.ReLU(), nn.MaxPool2d(2)] if channels == 1 else [nn.ReLU()]
        model = nn.Sequential()
        model.body = nn.Sequential(*layers, nn.AvgPool2d(3), nn.Flatten())
        model.head = nn.Linear(128, 5)
    return model.double().to(device)


def fit(model, batches, body_lr, train_norm=True):
    """One step of Adam for each batch (x, y); the head's rate is 0.01."""
    groups = [{"params": model.head.parameters(), "lr": 0.01}]
    groups += [{"params": model.body.parameters(), "lr": body_lr}] if body_lr else []
    optimizer = torch.optim.Adam(groups)
    model.train(train_norm)
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def source_batches(x, y, epochs):
    """Batches of 64 of the pictures x, in a new order and at new places each epoch."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        pictures = placed(x, generator)
        for rows in torch.randperm(len(y), generator=generator).to(y.device).split(64):
            yield pictures[rows], y[rows]


@functools.cache  # several sections start from it
def pretrained(device="cpu", seed=0):
    """A network trained to tell 0 to 4 apart, in evaluation mode."""
    x, y = digits(device)
    model = network(seed, device)
    fit(model, source_batches(x[y < 5][:720], y[y < 5][:720], epochs=6), body_lr=0.01)
    return model.eval()


def accuracy(model, x, y):
    """The share of rows for which the largest of the model's logits is the one of y."""
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(dim=1) == y).double().mean().item()


def few_labels(x, y, each, seed):
    """x, y of so many pictures of each of 5 to 9, now 0 to 4; x, y of 300 others."""
    generator = torch.Generator().manual_seed(seed)
    order = (y >= 5).nonzero().flatten()
    order = order[torch.randperm(len(order), generator=generator).to(y.device)]
    x, y = placed(x[order], generator), y[order] - 5
    known = torch.cat([(y == label).nonzero()[:each, 0] for label in range(5)])
    return x[known], y[known], x[-300:], y[-300:]


def trainable(model):
    """The number of parameters that an optimizer would move."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def with_new_head(body):
    """A copy of body, and a new linear head."""
    model = network(1, next(body.parameters()).device)
    model.body = copy.deepcopy(body)
    return model


def old_task(model, x, y):
    """The accuracy on pictures of 0 to 4 that were not trained on, placed at random."""
    old, generator = y < 5, torch.Generator().manual_seed(1)
    return accuracy(model, placed(x[old][720:], generator), y[old][720:])


def show_1(device):
    print("\n1. Freeze the body, and put a new head on it")
    x, y = digits(device)
    print(f"   digits 0 to 4: accuracy {old_task(pretrained(device), x, y):.2f}")
    model = with_new_head(pretrained(device).body)
    model.body.requires_grad_(False)
    before = nn.utils.parameters_to_vector(model.body.parameters())
    fit(model, [few_labels(x, y, 2, seed=0)[:2]] * 10, body_lr=0, train_norm=False)
    after = nn.utils.parameters_to_vector(model.body.parameters())
    print(
        f"   {trainable(model)} parameters train, 128 * 5 + 5; "
        f"the body's are the same bit for bit: {torch.equal(before, after)}"
    )


# %% 2. Mistake: frozen, and batch norm moves all the same
def running_mean_after(batches, mean, train):
    """The running mean, a buffer, of a frozen batch norm after batches of this mean."""
    norm = nn.BatchNorm1d(1).requires_grad_(False).train(train)
    for _ in range(batches):
        norm(torch.tensor([[mean - 1], [mean + 1]]))
    return norm.running_mean.item()


def features_moved(body, x, batches=10):
    """|features after - before| / |before|, by batches of x in training mode."""
    body = copy.deepcopy(body).requires_grad_(False)
    before = body.eval()(x)
    body.train()
    for _ in range(batches):
        body(x)
    return ((body.eval()(x) - before).norm() / before.norm()).item()


def show_2(device):
    print("\n2. Mistake: frozen, and batch norm moves all the same")
    theory = 5 * (1 - 0.9**10)
    print(f"   running mean after 10 batches of mean 5: theory {theory:.4f}")
    for train in (True, False):
        print(f"   train={train!s:<5}   {running_mean_after(10, 5.0, train):.4f}")
    x, _, _, _ = few_labels(*digits(device), 20, seed=0)
    off = features_moved(pretrained(device).body, x)
    print(f"   frozen features are off by {off:.2f}")


# %% 3. Features can be computed once
def fit_head(model, x, y, steps=60):
    """Train the head on the features of x, computed once in evaluation mode."""
    with torch.no_grad():
        features = model.eval().body(x)
    head_alone = nn.Sequential()
    head_alone.body, head_alone.head = nn.Identity(), model.head
    fit(head_alone, [(features, y)] * steps, body_lr=0)


def show_3(device):
    print("\n3. Features can be computed once")
    x, y, _, _ = few_labels(*digits(device), 2, seed=0)
    once, each_time = (with_new_head(pretrained(device).body) for _ in range(2))
    fit_head(once, x, y, steps=20)
    fit(each_time, [(x, y)] * 20, body_lr=0, train_norm=False)
    agree = (once.head.weight - each_time.head.weight).abs().max() < 1e-12
    print(
        "   a head trained on stored features and through the body "
        f"agree to 1e-12: {agree}"
    )


# %% 4. Few labels: what it brings, and when it does not
def four_ways(x, y, each, seed):
    """Name -> test accuracy with so many labelled pictures of each of 5 to 9."""
    device = y.device.type
    known_x, known_y, test_x, test_y = few_labels(x, y, each, seed)
    found = {}
    scratch = network(100 + seed, device)
    for name, start in (("pretrained", pretrained(device)), ("random", scratch)):
        body = start.body
        model = with_new_head(body)
        fit_head(model, known_x, known_y)
        found[f"{name}, frozen"] = accuracy(model, test_x, test_y)
        model = with_new_head(body)
        fit(model, [(known_x, known_y)] * 40, body_lr=0.003)
        found[f"{name}, tuned"] = accuracy(model, test_x, test_y)
    return found


def show_4(device):
    print("\n4. Few labels: what it brings, and when it does not")
    x, y = digits(device)
    for each in (2, 10):
        for name, found in four_ways(x, y, each, seed=0).items():
            print(f"   {each:>2} pictures of each digit, {name:<18} {found:.2f}")


# %% 5. The body's learning rate decides how much is forgotten
def after_new_task(x, y, body_lr):
    """The pretrained network, its body trained on 5 to 9, with its old head again."""
    model = with_new_head(pretrained(y.device.type).body)
    fit(model, [few_labels(x, y, 5, seed=0)[:2]] * 20, body_lr, train_norm=False)
    model.head = pretrained(y.device.type).head
    return model


def show_5(device):
    print("\n5. The body's learning rate decides how much is forgotten")
    x, y = digits(device)
    for body_lr in (0.001, 0.1):
        found = old_task(after_new_task(x, y, body_lr), x, y)
        print(f"   body_lr {body_lr:<5}   accuracy on the old task {found:.2f}")


# %% 6. Real pretrained weights
# With the network: models.resnet18(weights=models.ResNet18_Weights.DEFAULT) loads them.
# All below is true without: the shapes, and what the weights want their pictures to be.
def ready_for_ten_classes():
    """A frozen ResNet-18 (He et al., 2016), random here, with a new last layer."""
    model = models.resnet18(weights=None).requires_grad_(False)
    model.fc = nn.Linear(512, 10)
    return model


def show_6(device):
    print("\n6. Real pretrained weights")
    model = ready_for_ten_classes()
    count = sum(p.numel() for p in model.parameters())
    new = trainable(model)
    print(f"   resnet18 for ten classes: {count} parameters, of which {new} train")
    white = torch.full((3, 300, 300), 255, dtype=torch.uint8)
    ready = models.ResNet18_Weights.DEFAULT.transforms(antialias=True)(white)
    colours = " ".join(f"{colour:.4f}" for colour in ready[:, 0, 0])
    print(f"   its transforms: {tuple(ready.shape)}, white is {colours}")


# %% 7. Mistake: a head that the optimizer does not know
def head_moved(optimizer_first):
    """How far a step of SGD moves a new head, put on before or after the optimizer."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    early = torch.optim.SGD(model.parameters(), lr=0.1)
    model[1] = nn.Linear(4, 5)
    late = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model[1].bias.detach().clone()
    model(torch.ones(1, 3)).sum().backward()
    (early if optimizer_first else late).step()
    return (model[1].bias - before).abs().max().item()


def show_7(device):
    print("\n7. Mistake: a head that the optimizer does not know")
    for first in (True, False):
        moved = head_moved(first)
        print(f"   optimizer_first={first!s:<5}   the head moves by {moved:.1f}")


# %% The picture
def figure(device="cpu"):
    """Four placed digits, and accuracy against the number of labels."""
    from matplotlib.figure import Figure

    x, y = digits(device)
    pictures = placed(x[:4], torch.Generator().manual_seed(0)).cpu()
    counts = (1, 2, 5, 10, 20)
    found = [four_ways(x, y, each, seed=0) for each in counts]
    fig = Figure(figsize=(9, 4), layout="constrained")
    four, curves = fig.subplots(1, 2)
    four.imshow(torch.cat(list(pictures[:, 0]), dim=1).numpy(), cmap="gray_r")
    four.set(title="four digits, placed at random", xticks=[], yticks=[])
    for name in found[0]:
        curves.plot(counts, [one[name] for one in found], marker="o", label=name)
    curves.set(
        title="accuracy on 5 to 9", xlabel="labelled pictures of each", xticks=counts
    )
    curves.legend()
    return fig


# %% Run it
TITLE = "17 Transfer learning"
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
