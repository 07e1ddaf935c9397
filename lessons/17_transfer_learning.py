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


# %% The pictures: no need to read on before section 1
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
    canvases = x.new_zeros(len(x), 1, 12, 12)
    places = torch.randint(25, (len(x),), generator=generator).to(x.device)
    for place in range(25):
        rows = places == place
        down = place // 5
        right = place % 5
        canvases[rows, :, down : down + 8, right : right + 8] = x[rows]
    return canvases


def old_digits(x, y):
    """The 901 pictures of 0 to 4: (x, y) of 720 to learn from, (x, y) of 181 others.

    The others are placed already, those to learn from are not.
    """
    old = y < 5
    generator = torch.Generator().manual_seed(1)
    test_x = placed(x[old][720:], generator)
    return x[old][:720], y[old][:720], test_x, y[old][720:]


def new_digits(x, y, each, seed):
    """A draw of so many pictures of each of 5 to 9, and 300 others: x, y, x, y.

    All are placed. The classes 0 to 4 now mean the digits 5 to 9.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = (y >= 5).nonzero().flatten()
    order = torch.randperm(len(rows), generator=generator).to(y.device)
    x = placed(x[rows[order]], generator)
    y = y[rows[order]] - 5
    first = [(y[:-300] == label).nonzero()[:each, 0] for label in range(5)]
    known = torch.cat(first)
    return x[known], y[known], x[-300:], y[-300:]


# %% The network, and how it learnt 0 to 4
class Network(nn.Module):
    """A body, from (n, 1, 12, 12) to 128 features, and a head, from these to logits."""

    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AvgPool2d(3),
            nn.Flatten(),
        )
        self.head = nn.Linear(128, classes)

    def forward(self, x):
        return self.head(self.body(x))


def network(seed, device="cpu"):
    """A Network for five classes in float64; the seed decides its first numbers."""
    torch.manual_seed(seed)
    return Network(5).double().to(device)


def train(model, optimizer, x, y, steps):
    """So many steps on all rows at once, in the mode in which the model is."""
    for _ in range(steps):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def accuracy(model, x, y):
    """The share of rows for which the largest of the model's logits is that of y."""
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(dim=1) == y).double().mean().item()


def other_answers(model, changed, x):
    """For how many rows of x the two say another class."""
    with torch.no_grad():
        before = model(x).argmax(dim=1)
        after = changed(x).argmax(dim=1)
    return (before != after).sum().item()


@functools.cache  # all sections start from it
def pretrained(device="cpu", seed=0):
    """A network that has learnt 0 to 4: five epochs, in each at other places."""
    all_x, all_y = digits(device)
    x, y, _, _ = old_digits(all_x, all_y)
    model = network(seed, device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(seed)
    for lr in [0.01, 0.01, 0.01, 0.01, 0.001]:
        optimizer.param_groups[0]["lr"] = lr
        moved = placed(x, generator)
        order = torch.randperm(len(y), generator=generator).to(device)
        for rows in order.split(64):
            train(model, optimizer, moved[rows], y[rows], steps=1)
    return model.eval()


# %% 1. Freeze the body, and put a new head on it
def numbers_that_train(model):
    """How many numbers of the model would get a gradient."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def with_new_head(body, seed=1):
    """A network: a copy of body, frozen, and a new head with random numbers."""
    model = network(seed, next(body.parameters()).device)
    model.body = copy.deepcopy(body)
    model.body.requires_grad_(False)
    return model


def train_head(model, x, y, steps):
    """Train the head; the body stays as it is, and works as it will be used."""
    optimizer = torch.optim.Adam(model.head.parameters(), lr=0.01)
    model.train()
    model.body.eval()
    train(model, optimizer, x, y, steps)


def largest_change(module, before):
    """The most by which a parameter of the module differs from before, a copy."""
    pairs = zip(module.parameters(), before.parameters(), strict=True)
    return max((now - then).abs().max().item() for now, then in pairs)


def show_1(device):
    print("\n1. Freeze the body, and put a new head on it")
    x, y = digits(device)
    _, _, old_x, old_y = old_digits(x, y)
    known_x, known_y, test_x, test_y = new_digits(x, y, each=2, seed=0)
    old = pretrained(device)
    print(f"   the old network on 0 to 4   {accuracy(old, old_x, old_y):.2f} right")
    model = with_new_head(old.body)
    print(f"   numbers in the new network  {numbers_that_train(network(1)):>4}")
    print(f"   numbers that train          {numbers_that_train(model):>4}")
    print(f"   before training, on 5 to 9  {accuracy(model, test_x, test_y):.2f} right")
    train_head(model, known_x, known_y, steps=60)
    print(f"   after 60 steps, on 5 to 9   {accuracy(model, test_x, test_y):.2f} right")
    moved = largest_change(model.body, old.body)
    print(f"   the body has moved by       {moved:.4f}")


# %% 2. Frozen is not in evaluation mode
def running_mean_after(batches, mean, training):
    """The running mean of a frozen batch norm, from 0, after batches of this mean."""
    norm = nn.BatchNorm1d(1).requires_grad_(False)
    norm.train(training)
    for _ in range(batches):
        norm(torch.tensor([[mean - 1], [mean + 1]]))
    return norm.running_mean.item()


def running_mean_in_theory(batches, mean):
    """Each batch goes a tenth of the way that is left: mean (1 - 0.9^batches)."""
    return mean * (1 - 0.9**batches)


def after_ten_batches(model, x, training):
    """A frozen copy of the model, after its body has seen x ten times in that mode."""
    model = copy.deepcopy(model).requires_grad_(False)
    model.body.train(training)
    for _ in range(10):
        model.body(x)
    return model.eval()


def ten_batches_of_ones(model, training):
    """The frozen copy of the model afterwards, and x and y of the test, 0 to 4."""
    x, y, test_x, test_y = old_digits(*digits(model.head.weight.device))
    ones = placed(x[y == 1][:64], torch.Generator().manual_seed(2))
    return after_ten_batches(model, ones, training), test_x, test_y


def show_2(device):
    print("\n2. Frozen is not in evaluation mode")
    for batches in [1, 2, 10]:
        theory = running_mean_in_theory(batches, 5.0)
        moved = running_mean_after(batches, 5.0, training=True)
        print(f"   running mean after {batches:>2}: {moved:.4f}, theory {theory:.4f}")
    model = pretrained(device)
    for training in [True, False]:
        changed, x, y = ten_batches_of_ones(model, training)
        print(f"   ten batches of ones, training={training}")
        print(f"      parameters moved by {largest_change(changed, model):.4f}")
        print(f"      before     {accuracy(model, x, y):.2f} right of {len(y)}")
        print(f"      afterwards {accuracy(changed, x, y):.2f} right")
        print(f"      other answers {other_answers(model, changed, x)}")


# %% 3. Features can be computed once
def features_of(body, x):
    """What the body in evaluation mode makes of x, (n, 128), without a record."""
    body.eval()
    with torch.no_grad():
        return body(x)


def train_on_features(head, features, y, steps):
    """Train a head alone, on features that are computed already."""
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    train(head, optimizer, features, y, steps)


def show_3(device):
    print("\n3. Features can be computed once")
    x, y = digits(device)
    known_x, known_y, _, _ = new_digits(x, y, each=2, seed=0)
    through = with_new_head(pretrained(device).body)
    train_head(through, known_x, known_y, steps=20)
    stored = with_new_head(pretrained(device).body)
    features = features_of(stored.body, known_x)
    train_on_features(stored.head, features, known_y, steps=20)
    print(f"   pictures {tuple(known_x.shape)}, features {tuple(features.shape)}")
    for name, model in [("through the body", through), ("stored features", stored)]:
        weights = model.head.weight[0, :3].tolist()
        shown = " ".join(f"{weight:7.4f}" for weight in weights)
        print(f"   {name:<16}   first weights of the head {shown}")
    apart = largest_change(stored.head, through.head)
    print(f"   the two heads differ by at most {apart:.4f}")


# %% 4. Few labels: what does the old body bring?
def calibrated(body, x):
    """A copy of body whose batch norms know the pictures x; no label is needed."""
    body = copy.deepcopy(body).train()
    for layer in body:
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # takes over mean and variance as they are
    with torch.no_grad():
        body(x)
    return body


def score_frozen(body, draw):
    """How many of the 300 are right, with this body, frozen, and a new head."""
    known_x, known_y, test_x, test_y = draw
    head = with_new_head(body).head
    train_on_features(head, features_of(body, known_x), known_y, steps=60)
    return accuracy(head, features_of(body, test_x), test_y)


def score_from_scratch(model, draw):
    """The same for a network of which everything trains."""
    known_x, known_y, test_x, test_y = draw
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    train(model, optimizer, known_x, known_y, steps=40)
    return accuracy(model, test_x, test_y)


def four_scores(x, y, each, seed):
    """{way: share of right answers} for one draw of pictures and of random numbers."""
    device = x.device.type
    draw = new_digits(x, y, each, seed)
    scratch = network(100 + seed, device)
    return {
        "pretrained, frozen": score_frozen(pretrained(device).body, draw),
        "random, frozen": score_frozen(scratch.body, draw),
        "random, calibrated": score_frozen(calibrated(scratch.body, draw[0]), draw),
        "all from scratch": score_from_scratch(scratch, draw),
    }


def show_4(device):
    print("\n4. Few labels: what does the old body bring?")
    x, y = digits(device)
    for each in [2, 10]:
        draws = [four_scores(x, y, each, seed) for seed in range(5)]
        print(f"   {each} pictures of each digit, five draws")
        for way in draws[0]:
            scores = [draw[way] for draw in draws]
            mean = sum(scores) / len(scores)
            spread = f"from {min(scores):.2f} to {max(scores):.2f}"
            print(f"      {way:<18}   mean {mean:.2f}, {spread}")


# %% 5. Train the body too, and how fast
def fine_tuned(x, y, body_lr, seed):
    """The pretrained network, all of it trained, and the draw that it was trained on.

    Adam, 30 steps on 10 pictures of each new digit, all in training mode.
    """
    draw = new_digits(x, y, each=10, seed=seed)
    model = with_new_head(pretrained(x.device.type).body)
    model.body.requires_grad_(True)
    optimizer = torch.optim.Adam(
        [
            {"params": model.body.parameters(), "lr": body_lr},
            {"params": model.head.parameters(), "lr": 0.01},
        ]
    )
    model.train()
    train(model, optimizer, draw[0], draw[1], steps=30)
    return model, draw


def new_and_old(x, y, body_lr, seed):
    """(share right of the new digits, share right of the old ones with the old head)"""
    model, (_, _, test_x, test_y) = fine_tuned(x, y, body_lr, seed)
    new = accuracy(model, test_x, test_y)
    model.head = pretrained(x.device.type).head
    _, _, old_x, old_y = old_digits(x, y)
    return new, accuracy(model, old_x, old_y)


def show_5(device):
    print("\n5. Train the body too, and how fast")
    x, y = digits(device)
    for body_lr in [0.0, 0.003, 0.1]:
        pairs = [new_and_old(x, y, body_lr, seed) for seed in range(3)]
        new = [pair[0] for pair in pairs]
        old = [pair[1] for pair in pairs]
        for name, scores in [("new", new), ("old", old)]:
            mean = sum(scores) / len(scores)
            low, high = min(scores), max(scores)
            line = f"{name} digits   mean {mean:.2f}, from {low:.2f} to {high:.2f}"
            print(f"   body_lr {body_lr:<5}   {line}")


# %% 6. A real network, and what its pictures must look like
# With the network: models.resnet18(weights=models.ResNet18_Weights.DEFAULT) loads them.
# All below is true without: the shapes, and what the weights want their pictures to be.
def resnet_for_ten_classes():
    """A ResNet-18 (He et al., 2016), frozen, with a new last layer; random here."""
    model = models.resnet18(weights=None)
    model.requires_grad_(False)
    model.fc = nn.Linear(512, 10)
    model.eval()  # the twenty batch norms; the new layer is the same in both modes
    return model


def modes_of_norms(model):
    """How many batch norms are in training mode, and how many in evaluation mode."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    training = [norm for norm in norms if norm.training]
    return len(training), len(norms) - len(training)


def white_picture():
    """White as in a file: 255 in red, green and blue, 300 pixels high, 400 wide."""
    return torch.full((3, 300, 400), 255, dtype=torch.uint8)


def ready_for_resnet(picture):
    """A picture, (3, height, width) from 0 to 255, as the weights want it."""
    prepare = models.ResNet18_Weights.DEFAULT.transforms(antialias=True)
    return prepare(picture)


def show_6(device):
    print("\n6. A real network, and what its pictures must look like")
    model = resnet_for_ten_classes()
    total = sum(p.numel() for p in model.parameters())
    print(f"   resnet18 for ten classes: {total} numbers")
    print(f"   of these train {numbers_that_train(model)}")
    training, evaluation = modes_of_norms(model)
    print(f"   batch norms: {training} in training mode, {evaluation} in evaluation")
    print(f"   after train(): {modes_of_norms(model.train())[0]} in training mode")
    white = white_picture()
    ready = ready_for_resnet(white)
    colours = " ".join(f"{colour:.4f}" for colour in ready[:, 0, 0].tolist())
    print(f"   a white picture {tuple(white.shape)} becomes {tuple(ready.shape)}")
    print(f"   its red, green and blue become {colours}")


# %% 7. A head that the optimizer does not know
def small_model():
    """A body and a head, each one layer."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def step_of(optimizer, model):
    """How far one step moves the bias of the head; the loss is the sum of logits."""
    before = model[1].bias.detach().clone()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return (model[1].bias - before).abs().max().item()


def optimizer_first():
    """How far a new head moves that came after the optimizer."""
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model[1] = nn.Linear(4, 5)  # WRONG: the optimizer holds the old head
    return step_of(optimizer, model)


def head_first():
    """How far it moves if it came before."""
    model = small_model()
    model[1] = nn.Linear(4, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return step_of(optimizer, model)


def show_7(device):
    print("\n7. A head that the optimizer does not know")
    print(f"   the optimizer first   the new head moves by {optimizer_first():.1f}")
    print(f"   the head first        the new head moves by {head_first():.1f}")


# %% The picture
def figure(device="cpu"):
    """Four placed digits, and what section 4 prints, for five counts of pictures."""
    from matplotlib.figure import Figure

    x, y = digits(device)
    pictures = placed(x[:4], torch.Generator().manual_seed(0)).cpu()
    counts = [1, 2, 5, 10]
    fig = Figure(figsize=(9, 4), layout="constrained")
    four, curves = fig.subplots(1, 2)
    four.imshow(torch.cat(list(pictures[:, 0]), dim=1).numpy(), cmap="gray_r")
    four.set(title="four digits, each at a random place", xticks=[], yticks=[])
    draws = [[four_scores(x, y, n, seed) for seed in range(5)] for n in counts]
    for way in draws[0][0]:
        means = [sum(draw[way] for draw in group) / 5 for group in draws]
        curves.plot(counts, means, marker="o", label=way)
    curves.set(xlabel="pictures of each new digit", ylabel="share right", ylim=(0, 1))
    curves.set(title="the mean of five draws", xticks=counts)
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
