"""20 Save and resume: a run that was interrupted ends as if it had not been.

To the last bit: the same weights. And a checkpoint that survives a crash at any byte.
"""

import argparse
import copy
import functools
import io
import multiprocessing
import os
import pickle
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# %% 1. What a state_dict holds
# Parameters, and buffers: numbers that no optimizer moves, and that count all the same.
def names(model):
    """(names of the state_dict, names of the parameters)."""
    return list(model.state_dict()), [name for name, _ in model.named_parameters()]


def show_1(device):
    print("\n1. What a state_dict holds")
    saved, parameters = names(nn.BatchNorm1d(3))
    print("   batch norm saves", *saved)
    print("   of which parameters:", *parameters)


# %% 2. Mistake: the best weights, kept by reference
# state_dict() hands out the tensors themselves, and training goes on writing into them.
def best_loss_later(copied, lr, steps=5):
    """The loss w^2 / 2 of the weights kept as the best, w = 1, after more steps."""
    with torch.random.fork_rng(devices=[]):
        model = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(model.weight)
    best = copy.deepcopy(model.state_dict()) if copied else model.state_dict()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        (model.weight**2 / 2).sum().backward()
        optimizer.step()
    model.load_state_dict(best)
    return (model.weight**2 / 2).item()


def show_2(device):
    print("\n2. Mistake: the best weights, kept by reference")
    lr = 2.2
    print(f"   w = 1, lr {lr}, theory after 5 steps {(1 - lr) ** 10 / 2:.4f}")
    for copied in (True, False):
        found = best_loss_later(copied, lr)
        print(f"   copied={copied!s:<5}   the best loss was 0.5000, is {found:.4f}")


# %% 3. A checkpoint holds all that the next step depends on
# Also: which batch comes next, in which order, and what dropout will draw.
class Training:
    """Ten epochs of ten batches, with dropout, batch norm, Adam and a schedule."""

    def __init__(self, device="cpu"):
        torch.manual_seed(0)
        first, last = nn.Linear(8, 16), nn.Linear(16, 2)
        layers = first, nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), last
        x = torch.randn(200, 8)
        self.x, self.y = x.to(device), (x[:, 0] * x[:, 1] > 0).long().to(device)
        self.model = nn.Sequential(*layers).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.scheduler = torch.optim.lr_scheduler.StepLR(
            self.optimizer, step_size=3, gamma=0.5
        )
        self.order = torch.Generator().manual_seed(0)
        self.position = {"epoch": 0, "batch": 0, "order": self.order.get_state()}

    def run(self, until):
        """Train up to (epoch, batch) = until, and return self."""
        while (self.position["epoch"], self.position["batch"]) < until:
            # as it was when the epoch began
            self.order.set_state(self.position["order"])
            batches = torch.randperm(200, generator=self.order).split(20)
            rows = batches[self.position["batch"]]
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(self.x[rows]), self.y[rows]).backward()
            self.optimizer.step()
            self.position["batch"] += 1
            if self.position["batch"] == 10:
                self.scheduler.step()
                epoch, order = self.position["epoch"] + 1, self.order.get_state()
                self.position = {"epoch": epoch, "batch": 0, "order": order}
        return self

    def checkpoint(self):
        """Everything that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "position": dict(self.position),
            "random": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
        }

    def restore(self, checkpoint, forget=()):
        """Go on from a checkpoint, but for the parts to forget; return self."""
        for name in ("model", "optimizer", "scheduler"):
            if name not in forget:
                getattr(self, name).load_state_dict(checkpoint[name])
        for name, part in checkpoint["position"].items():
            if name not in forget:
                self.position[name] = part
        if "random" not in forget:
            torch.set_rng_state(checkpoint["random"][0])
            torch.cuda.set_rng_state_all(checkpoint["random"][1:])
        return self


def finish(path, device, threads):
    """In a new process: resume from the file, train to the end, return the weights."""
    # another number adds in another order, and rounds otherwise
    torch.set_num_threads(threads)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    model = Training(device).restore(checkpoint).run((10, 0)).model
    return [parameter.tolist() for parameter in model.parameters()]


def resumed_in_new_process(until, device="cpu"):
    """True if a run saved at (epoch, batch) = until ends, resumed, as a whole one."""
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        path = Path(folder) / "run.pt"
        torch.save(Training(device).run(until).checkpoint(), path)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            resumed = pool.apply_async(finish, (path, device, torch.get_num_threads()))
            whole = Training(device).run((10, 0)).model.parameters()
            expected = [parameter.tolist() for parameter in whole]
            return resumed.get(timeout=300) == expected


def show_3(device):
    print("\n3. A checkpoint holds all that the next step depends on")
    same = resumed_in_new_process((5, 3), device)
    result = f"resumed in a new process: equal {same}"
    print(f"   saved after 5 epochs and 3 batches, {result}")


# %% 4. What each forgotten part costs
# The loss hardly shows it. Comparing with the undisturbed run, bit for bit, does.
PARTS = ("optimizer", "scheduler", "epoch", "batch", "order", "random")


@functools.cache  # trained once for all parts
def undisturbed(device, until):
    """(checkpoint after 5 epochs and 3 batches, weights at until) of one run."""
    run = Training(device).run((5, 3))
    checkpoint = copy.deepcopy(run.checkpoint())
    return checkpoint, nn.utils.parameters_to_vector(run.run(until).model.parameters())


def cost_of_forgetting(parts, device="cpu", until=(10, 0)):
    """The largest |weight difference| at until of a run resumed without these parts."""
    with torch.random.fork_rng(devices=[]):
        checkpoint, whole = undisturbed(device, until)
        run = Training(device).restore(copy.deepcopy(checkpoint), forget=parts)
        weights = nn.utils.parameters_to_vector(run.run(until).model.parameters())
    return (weights - whole).abs().max().item()


def show_4(device):
    print("\n4. What each forgotten part costs")
    print(f"   nothing forgotten: {cost_of_forgetting((), device)}")
    for part in PARTS:
        cost = cost_of_forgetting((part,), device)
        print(f"   {part:<9}: above 0.001 {cost > 0.001}")


# %% 5. Write beside the old file, then replace it
# os.replace is one step, within one file system: whoever looks sees the old file or the
# new one.
def save(state, path):
    """torch.save that leaves the old file whole until the new one is."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def left_after_crash(n, beside, folder):
    """The number that is loaded where writing stopped after n bytes, or None."""
    path, new = folder / "run.pt", io.BytesIO()
    save({"w": torch.tensor(1.0)}, path)
    torch.save({"w": torch.tensor(2.0)}, new)
    target = path.with_name(path.name + ".part") if beside else path
    target.write_bytes(new.getvalue()[:n])  # and here the power fails
    try:
        return torch.load(path, weights_only=True)["w"].item()
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError):
        return None


def show_5(device):
    print("\n5. Write beside the old file, then replace it")
    with tempfile.TemporaryDirectory() as folder:
        for beside in (False, True):
            found = []
            for n in range(0, 700, 35):
                found.append(left_after_crash(n, beside, Path(folder)))
            left = f"{found.count(1.0)} of {len(found)} crashes leave 1.0"
            print(f"   beside={beside!s:<5}   {left}")


# %% 6. Loading a file runs what is in it
# A pickle can name any function and its arguments. weights_only=True refuses; it is the
# default from torch 2.6 on, so write it always.
class Touch:
    """An object whose pickle, when it is loaded, makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def ran_code(weights_only):
    """(True if loading made the file, True if it was refused)."""
    with tempfile.TemporaryDirectory() as folder:
        path, made = Path(folder) / "weights.pt", Path(folder) / "made"
        torch.save({"w": Touch(made)}, path)
        try:
            torch.load(path, weights_only=weights_only)
            refused = False
        except pickle.UnpicklingError:
            refused = True
        return made.exists(), refused


def show_6(device):
    print("\n6. Loading a file runs what is in it")
    for weights_only in (False, True):
        ran, refused = ran_code(weights_only)
        result = f"code ran: {ran}, refused: {refused}"
        print(f"   weights_only={weights_only!s:<5}   {result}")


# %% 7. Names must match
# strict=False passes over names that do not match and says nothing: look at what it
# returns.
def loaded(prefix, strict):
    """(names missing, names unexpected, weight) after loading ones into zeros."""
    with torch.random.fork_rng(devices=[]):
        layer = nn.Linear(1, 1)
    nn.init.zeros_(layer.weight)
    state = {
        prefix + name: torch.ones_like(tensor)
        for name, tensor in layer.state_dict().items()
    }
    found = layer.load_state_dict(state, strict=strict)
    return len(found.missing_keys), len(found.unexpected_keys), layer.weight.item()


def show_7(device):
    print("\n7. Names must match")
    for prefix in ("", "module."):
        missing, unexpected, weight = loaded(prefix, strict=False)
        names_found = f"{missing} missing, {unexpected} unexpected"
        print(f"   prefix {prefix!r}, strict=False: {names_found}, weight {weight}")


# %% The picture
def figure(device="cpu"):
    """The distance from the undisturbed run by epoch, a line a forgotten part."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(9, 4), layout="constrained")
    axes = fig.subplots()
    epochs = (6, 8, 10)
    for part in PARTS:
        costs = [cost_of_forgetting((part,), device, (epoch, 0)) for epoch in epochs]
        axes.semilogy(
            epochs, costs, marker="o", label=f"without {part}", nonpositive="mask"
        )
    axes.set(xlabel="epochs", ylabel="largest weight difference", xticks=epochs)
    axes.set_ylim(1e-4, 1)
    axes.set_title("resumed after 5 epochs and 3 batches; with everything: 0")
    axes.legend(ncols=3)
    return fig


# %% Run it
TITLE = "20 Save and resume"
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
