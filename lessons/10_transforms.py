"""10 Transforms: what happens to a sample between the dataset and the model.

The samples: matplotlib's photograph (Grace Hopper, by the US Navy) and the wines of
lesson 09.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, Subset, random_split

try:
    from torchvision import tv_tensors
    from torchvision.transforms import v2
except (ImportError, RuntimeError, ValueError) as error:
    raise SystemExit(
        f"{error}: needs torchvision >= 0.16 for this torch, see lesson 01"
    ) from None

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


def photograph():
    """The photograph, a PIL image in RGB, 512 wide; a missing one ends the run."""
    from matplotlib import cbook
    from PIL import Image

    try:
        with cbook.get_sample_data("grace_hopper.jpg") as file:
            return Image.open(file).convert("RGB")
    except OSError as error:
        cure = "python -m pip install --force-reinstall matplotlib"
        raise SystemExit(f"{error}: {cure}") from None


# %% 1. A transform is a callable that the dataset applies to a sample
class WineArrays(Dataset):
    """Sample i: transform of (13 measurements, class), as NumPy gives them."""

    def __init__(self, transform=None):
        table = read_csv("wine.csv", 178, 14)
        self.x = table[:, 1:].astype(np.float32)
        self.y = table[:, 0].astype(np.int64) - 1
        self.transform = transform

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        sample = self.x[index], self.y[index]
        return self.transform(sample) if self.transform else sample


class FromNumpy:
    """(array, number) to (tensor, tensor); the tensor shares the array's memory."""

    def __call__(self, sample):
        x, y = sample
        return torch.from_numpy(x), torch.tensor(y)


class Multiply:
    """The measurements times a factor: in a new tensor, or in place."""

    def __init__(self, factor, in_place=False):
        self.factor, self.in_place = factor, in_place

    def __call__(self, sample):
        x, y = sample
        if self.in_place:
            x *= self.factor
        else:
            x = x * self.factor
        return x, y


def show_1(device):
    print("\n1. A transform is a callable that the dataset applies to a sample")
    for name, transform in {"None": None, "FromNumpy()": FromNumpy()}.items():
        x, y = WineArrays(transform)[0]
        wine = f"a wine is {type(x).__name__} {tuple(x.shape)}, class {y}"
        print(f"   transform={name:<11}   {wine}")


# %% 2. A picture (h, w, c) of 0 to 255 becomes a tensor (c, h, w) of 0 to 1
# ToImage moves the axes of PIL images and arrays; ToDtype scales only if told so.
def to_tensor(picture, scale):
    """The picture as float32, shape (c, h, w)."""
    return v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=scale)])(picture)


# scale=True divides by the largest number of the dtype that comes in: 255 for uint8,
# 2^63 - 1 for int64, which NumPy makes of whole numbers (int32 on Windows before NumPy
# 2), nothing for floats.
def white_becomes(dtype, scale):
    """What to_tensor makes of a white pixel, 255, of that dtype."""
    return to_tensor(torch.tensor([[[255]]], dtype=dtype), scale).item()


def show_2(device):
    print("\n2. A picture (h, w, c) of 0 to 255 becomes a tensor (c, h, w) of 0 to 1")
    photo = photograph()
    array = np.asarray(photo)
    print(f"   as an array   {array.shape}, largest {array.max()}")
    for scale in (False, True):
        x = to_tensor(photo, scale)
        picture = f"{tuple(x.shape)}, {x.dtype}, largest {x.max():.1f}"
        print(f"   scale={scale!s:<5}   {picture}")
    uint8, float32, int64 = torch.uint8, torch.float32, torch.int64
    for dtype, scale in ((uint8, True), (uint8, False), (float32, True), (int64, True)):
        white = white_becomes(dtype, scale)
        print(f"   {dtype!s:<13}   scale={scale!s:<5}   white becomes {white:.3g}")


# %% 3. An equation proves each transform, on PIL images and on tensors
def equations(picture):
    """Name -> (what a transform makes of picture, what it must be), (c, h, w)."""
    image = picture if isinstance(picture, torch.Tensor) else v2.PILToTensor()(picture)
    height, width = image.shape[1:]
    top, left = round((height - 100) / 2), round((width - 80) / 2)
    weights = torch.tensor([0.2989, 0.587, 0.114], device=image.device)
    flip, nearest = v2.RandomHorizontalFlip(p=1), v2.InterpolationMode.NEAREST
    twice_as_large = v2.Resize((2 * height, 2 * width), nearest, antialias=True)
    doubled = image.repeat_interleave(2, 1).repeat_interleave(2, 2)
    grey = torch.tensordot(weights, image.float(), dims=1)[None]
    centre = image[:, top : top + 100, left : left + 80]
    pad_and_crop = v2.Compose([v2.Pad(30), v2.CenterCrop((height, width))])
    upside_down = v2.Lambda(v2.functional.vertical_flip)
    turn = v2.RandomRotation((90, 90), expand=True)
    to_pil_and_back = v2.Compose([v2.ToPILImage(), v2.PILToTensor()])
    pairs = {
        "CenterCrop": (v2.CenterCrop((100, 80)), centre),
        "Grayscale": (v2.Grayscale(), grey),
        "Pad, CenterCrop": (pad_and_crop, image),
        "RandomAffine by 180": (v2.RandomAffine(degrees=(180, 180)), image.flip(1, 2)),
        "RandomCrop to all": (v2.RandomCrop((height, width)), image),
        "RandomHorizontalFlip": (flip, image.flip(2)),
        "the same, twice": (v2.Compose([flip, flip]), image),
        "RandomRotation by 90": (turn, image.rot90(1, (1, 2))),
        "Resize, doubled": (twice_as_large, doubled),
        "Lambda(vertical_flip)": (upside_down, image.flip(1)),
    }
    results = {
        name: (v2.ToImage()(change(picture)), right)
        for name, (change, right) in pairs.items()
    }
    back = to_pil_and_back(image.cpu())
    return results | {"ToPILImage, back": (back, image.cpu())}


def show_3(device):
    print("\n3. An equation proves each transform, on PIL images and on tensors")
    photo = photograph()
    on_pil, on_tensor = equations(photo), equations(v2.PILToTensor()(photo).to(device))
    print(f"   {'':<21}   output shape      as it must be: PIL, tensor")
    for name, (result, _) in on_pil.items():
        level = 1 if name == "Grayscale" else 0  # grey is rounded to a whole number
        as_it_must_be = []
        for a, b in (on_pil[name], on_tensor[name]):
            difference = (a.float() - b.float()).abs().max().item()
            as_it_must_be.append(difference <= level)
        by_pil, by_tensor = as_it_must_be
        print(f"   {name:<21}   {tuple(result.shape)!s:<15}   {by_pil}, {by_tensor}")


# %% 4. Normalize and LinearTransformation want tensors
def normalised(image):
    """Normalize with the image's own statistics: mean 0 and std 1 in each channel."""
    mean, std = image.mean(dim=(1, 2)), image.std(dim=(1, 2), correction=0)
    return v2.Normalize(mean.tolist(), std.tolist())(image)


def whitened(samples):
    """LinearTransformation by cov^(-1/2), (n, c, h, w): the covariance becomes I.

    There must be more samples than numbers in each of them.
    """
    flat = samples.flatten(start_dim=1)
    values, vectors = torch.linalg.eigh(flat.T.cov())
    matrix = vectors @ torch.diag(values**-0.5) @ vectors.T
    return v2.LinearTransformation(matrix, flat.mean(dim=0))(samples)


def show_4(device):
    print("\n4. Normalize and LinearTransformation want tensors")
    image = normalised(to_tensor(photograph(), scale=True).to(device))
    std, mean = torch.std_mean(image, dim=(1, 2))
    error = max(mean.abs().max(), (std - 1).abs().max())
    print(f"   Normalize: mean 0 and std 1 to 1e-4: {error.item() < 1e-4}")
    x = torch.from_numpy(WineArrays().x[:, :4]).double().to(device)
    covariance = whitened(x[:, None, None, :]).flatten(start_dim=1).T.cov()
    close = (covariance - torch.eye(4, device=device)).abs().max() < 1e-8
    matrix = "covariance matrix of 4 measurements"
    print(f"   LinearTransformation: {matrix} I to 1e-8: {close}")


# %% 5. Random transforms draw from torch's generator: another picture each epoch
def random_crops(image, seed):
    """What RandomCrop(50) makes of image in two epochs, torch's generator seeded."""
    with torch.random.fork_rng(devices=[]):  # what is drawn here leaves no trace in it
        torch.default_generator.manual_seed(seed)  # torch.manual_seed seeds GPUs, too
        crop = v2.RandomCrop(50)
        return crop(image), crop(image)


def erased(image):
    """The image with a rectangle of 0, 2 to 33 % of it, if one fits in ten tries."""
    return v2.RandomErasing(p=1, scale=(0.02, 0.33), value=0)(image)


def show_5(device):
    print(
        "\n5. Random transforms draw from torch's generator: another picture each epoch"
    )
    image = v2.PILToTensor()(photograph()).to(device)
    first, second = random_crops(image, seed=0)
    again, other = random_crops(image, seed=0)[0], random_crops(image, seed=1)[0]
    next_epoch = torch.equal(first, second)
    same_seed = torch.equal(first, again)
    other_seed = torch.equal(first, other)
    seeds = f"same seed {same_seed}, other seed {other_seed}"
    print(f"   RandomCrop: next epoch the same {next_epoch}, {seeds}")
    share = (erased(torch.ones(1, 100, 100, device=device)) == 0).double().mean()
    print(f"   RandomErasing: 2 to 33 % erased, to a percent: {0.01 < share < 0.34}")


# %% 6. A picture, its box and its mask move together
def moved_together(transform, device="cpu"):
    """[left, top, right, bottom] of a white rectangle, by image, mask and box."""
    pixels = torch.zeros(1, 60, 100, device=device)
    pixels[:, 10:30, 20:70] = 1
    image, mask = tv_tensors.Image(pixels), tv_tensors.Mask(pixels.bool())
    place = {"format": "XYXY", "canvas_size": (60, 100), "device": device}
    box = tv_tensors.BoundingBoxes([[20, 10, 70, 30]], **place)
    image, mask, box = transform(image, mask, box)
    found = []
    for layer in (image, mask):
        rows, columns = layer[0].nonzero().T
        edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        found.append([edge.item() for edge in edges])
    return [*found, box[0].tolist()]


def show_6(device):
    print("\n6. A picture, its box and its mask move together")
    print("   a picture 100 wide and 60 high; its box as [left, top, right, bottom]")
    for name, transform in (
        ("as it was", v2.Identity()),
        ("RandomHorizontalFlip", v2.RandomHorizontalFlip(p=1)),
        ("RandomRotation by 90", v2.RandomRotation((90, 90), expand=True)),
    ):
        by_image, by_mask, box = moved_together(transform, device)
        same = by_image == by_mask == box
        print(f"   {name:<20}   {by_image}; mask and box the same {same}")


# %% 7. Mistake: a transform that writes into the data set
# from_numpy shares memory with the table: x *= 4 multiplies the wine, not a copy of it.
def three_readings(in_place):
    """The first wine's first measurement, 14.23, read three times by Multiply(4)."""
    wine = WineArrays(v2.Compose([FromNumpy(), Multiply(4, in_place)]))
    return [wine[0][0][0].item() for _ in range(3)]


def show_7(device):
    print("\n7. Mistake: a transform that writes into the data set")
    for in_place in (False, True):
        readings = ", ".join(f"{number:.2f}" for number in three_readings(in_place))
        print(f"   in_place={in_place!s:<5}   three readings: {readings}")


# %% 8. Mistake: one transform for both halves of a split
# The halves of random_split look into one data set; own gives the test half a data set
# of its own.
def other_half(own, seed):
    """A measurement of a test wine, before and after training multiplies by 4."""
    generator = torch.Generator().manual_seed(seed)
    train, test = random_split(WineArrays(FromNumpy()), [142, 36], generator=generator)
    if own:
        test = Subset(WineArrays(FromNumpy()), test.indices)
    before = test[0][0][0].item()
    train.dataset.transform = v2.Compose([FromNumpy(), Multiply(4)])
    return before, test[0][0][0].item()


def show_8(device):
    print("\n8. Mistake: one transform for both halves of a split")
    for own in (False, True):
        before, after = other_half(own, seed=0)
        wine = f"test wine {before:.2f}; training multiplies by 4: {after:.2f}"
        print(f"   own={own!s:<5}   {wine}")


# %% The picture
def figure(device="cpu"):
    """The photograph, and what each transform makes of it."""
    from matplotlib.figure import Figure

    photo = to_tensor(photograph(), scale=True).to(device)
    transforms = {
        "the photograph": v2.Identity(),
        "CenterCrop(300)": v2.CenterCrop(300),
        "Grayscale": v2.Grayscale(3),
        "Pad(80)": v2.Pad(80),
        "RandomAffine": v2.RandomAffine(20, translate=(0.2, 0.2), shear=20),
        "RandomCrop(300)": v2.RandomCrop(300),
        "RandomHorizontalFlip": v2.RandomHorizontalFlip(p=1),
        "RandomRotation": v2.RandomRotation((30, 30)),
        "Resize to 30 x 26": v2.Resize((30, 26), antialias=True),
        "Normalize": normalised,
        "RandomErasing": erased,
        "Lambda: negative": v2.Lambda(lambda image: 1 - image),
    }
    fig = Figure(figsize=(9, 8), layout="constrained")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        for axes, name in zip(fig.subplots(3, 4).flat, transforms, strict=True):
            picture = transforms[name](photo).clamp(0, 1).permute(1, 2, 0)
            axes.imshow(picture.cpu().numpy())
            axes.set(title=name)
            axes.axis("off")
    return fig


# %% Run it
TITLE = "10 Transforms"
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
