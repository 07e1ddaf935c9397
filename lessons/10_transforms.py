"""10 Transforms: what happens to a sample between the file and the model.

The samples: matplotlib's photograph (Grace Hopper, by the US Navy), the threes and
eights of lesson 14's digits, and the wines of lesson 09.
"""

import argparse
import io
import os
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn
from torch.utils.data import Dataset

try:
    from torchvision import tv_tensors
    from torchvision.transforms import v2
except (ImportError, RuntimeError, ValueError) as error:
    raise SystemExit(
        f"{error}: needs torchvision >= 0.16 for this torch, see lesson 01"
    ) from None

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
DATA = Path(__file__).resolve().parent.parent / "data"


# Reading the data: no need to read on before section 1.
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

    try:
        with cbook.get_sample_data("grace_hopper.jpg") as file:
            return Image.open(file).convert("RGB")
    except OSError as error:
        cure = "python -m pip install --force-reinstall matplotlib"
        raise SystemExit(f"{error}: {cure}") from None


def threes_and_eights(first, last, device="cpu"):
    """(x, y): threes (y is 0) and eights (1), first to last of each.

    x has the shape (n, 1, 8, 8), paper is 0 and ink 1; y has the shape (n,).
    """
    table = torch.tensor(read_csv("digits.csv", 1797, 65), dtype=torch.float32)
    threes = table[table[:, 0] == 3][first:last]
    eights = table[table[:, 0] == 8][first:last]
    x = torch.cat([threes, eights])[:, 1:].view(-1, 1, 8, 8) / 16
    y = torch.cat([torch.zeros(len(threes)), torch.ones(len(eights))])
    return x.to(device), y.to(device)


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


# %% 1. One pixel, from bytes to numbers
# ToImage moves the axes of PIL images and arrays. ToDtype divides only if told so, by
# the largest number of the dtype that comes in: 255 for uint8, nothing for floats.
def to_tensor(picture, scale=True):
    """A picture (h, w, c), PIL or array, as float32 of shape (c, h, w)."""
    change = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=scale)])
    return change(picture)


def white_becomes(dtype):
    """What to_tensor makes of a white pixel, 255, in a tensor of that dtype."""
    white = torch.tensor([[[255]]], dtype=dtype)
    return to_tensor(white).item()


def show_1(device):
    print("\n1. One pixel, from bytes to numbers")
    photo = photograph()
    array = np.asarray(photo)
    plain = to_tensor(photo, scale=False)
    scaled = to_tensor(photo, scale=True)
    print(f"   the photograph   {array.shape}, largest {array.max()}")
    print(f"   scale=False      {tuple(plain.shape)}, largest {plain.max():.1f}")
    print(f"   scale=True       {tuple(scaled.shape)}, largest {scaled.max():.1f}")
    for dtype in [torch.uint8, torch.float32, torch.int64]:
        white = white_becomes(dtype)
        print(f"   white in {dtype!s:<13} becomes {white:.3g}")


# %% 2. Pictures of all sizes and modes
def red_pixel(mode):
    """A picture of one red pixel in that mode of PIL: RGB, L, RGBA or P."""
    if mode == "P":  # a palette: the pixel is the number of a colour in a list
        picture = Image.new("P", (1, 1), 1)
        picture.putpalette([0, 0, 0, 255, 0, 0])  # 0 is black, 1 is red
        return picture
    return Image.new("RGB", (1, 1), (255, 0, 0)).convert(mode)


def numbers_of(picture):
    """All numbers of a PIL image, as a model would get them."""
    return v2.PILToTensor()(picture).flatten().tolist()


def from_a_phone(photo):
    """The photo as a phone saves it that was held sideways, opened again."""
    exif = Image.Exif()
    exif[274] = 6  # the orientation: turn me by 90 degrees before you show me
    file = io.BytesIO()
    photo.rotate(90, expand=True).save(file, "png", exif=exif)
    return Image.open(file)


def show_2(device):
    print("\n2. Pictures of all sizes and modes")
    photo = photograph()
    short_side = v2.Resize(224)
    both_sides = v2.Resize((224, 224))
    then_crop = v2.Compose([v2.Resize(224), v2.CenterCrop(224)])
    print(f"   the photograph                 {photo.size}")
    print(f"   Resize(224)                    {short_side(photo).size}")
    print(f"   Resize((224, 224))             {both_sides(photo).size}")
    print(f"   Resize(224), CenterCrop(224)   {then_crop(photo).size}")
    for mode in ["RGB", "L", "RGBA", "P"]:
        picture = red_pixel(mode)
        converted = picture.convert("RGB")
        row = f"{numbers_of(picture)!s:<20}"
        print(f"   red in mode {mode:<4}   {row} as RGB {numbers_of(converted)}")
    phone = from_a_phone(photo)
    print(f"   from a phone                   {phone.size}")
    print(f"   exif_transpose                 {ImageOps.exif_transpose(phone).size}")


# %% 3. One mean for each channel
def mean_and_std(images):
    """(mean, std) of each channel over all pictures and pixels of (n, c, h, w)."""
    mean = images.mean(dim=(0, 2, 3))
    std = images.std(dim=(0, 2, 3), correction=0)
    return mean, std


def mean_of_stds(images):
    """The std of each channel in each picture, averaged over the pictures."""
    return images.std(dim=(2, 3), correction=0).mean(dim=0)  # WRONG


def normalised(images, mean, std):
    """(x - mean) / std for each channel."""
    return v2.Normalize(mean.tolist(), std.tolist())(images)


def tiles_of_the_photograph(device="cpu"):
    """The photograph in 120 pieces of 50 x 51 pixels, (120, 3, 50, 51), 0 to 1."""
    photo = to_tensor(photograph()).as_subclass(torch.Tensor).to(device)
    rows = photo[:, :, :510].unfold(1, 50, 50).unfold(2, 51, 51)
    return rows.permute(1, 2, 0, 3, 4).flatten(0, 1)


def three(numbers):
    """Three numbers, for red, green and blue, as they are printed."""
    red, green, blue = numbers.tolist()
    return f"{red:5.2f} {green:5.2f} {blue:5.2f}"


def show_3(device):
    print("\n3. One mean for each channel")
    tiles = tiles_of_the_photograph(device)
    mean, std = mean_and_std(tiles)
    after_mean, after_std = mean_and_std(normalised(tiles, mean, std))
    wrong = normalised(tiles, mean, mean_of_stds(tiles))
    print(f"   {len(tiles)} pictures           red green  blue")
    print(f"   mean                 {three(mean)}")
    print(f"   std                  {three(std)}")
    print(f"   normalised: mean     {three(after_mean.abs())}")
    print(f"   normalised: std      {three(after_std)}")
    print(f"   mean of their stds   {three(mean_of_stds(tiles))}")
    print(f"   by it:      std      {three(mean_and_std(wrong)[1])}")


# %% 4. Chance, for training only
def moved(x):
    """Each picture of x, (n, 1, 8, 8), by at most a pixel each way, with its own throw.

    It is v2.RandomCrop((8, 8), padding=1) for all of them at once, which is faster.
    """
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    windows = padded.unfold(2, 8, 1).unfold(3, 8, 1)  # (n, 1, 3, 3, 8, 8)
    top, left = torch.randint(3, (2, len(x))).to(x.device)
    return windows[torch.arange(len(x), device=x.device), :, top, left]


def train(x, y, transform, seed):
    """A linear model of the pixels, trained for 50 epochs of transform(x)."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1)).to(x.device)
    loss_function = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(50):
        loss = loss_function(model(transform(x))[:, 0], y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def accuracy(model, x, y):
    """The share of pictures x, (n, 1, 8, 8), whose class y the model names."""
    with torch.no_grad():
        is_eight = model(x)[:, 0] > 0
    return (is_eight == (y == 1)).double().mean().item()


def to_the_side(x):
    """All pictures one pixel to the right."""
    return nn.functional.pad(x, (1, 0))[..., :-1]


def show_4(device):
    print("\n4. Chance, for training only")
    x, y = threes_and_eights(0, 100, device)
    x_new, y_new = threes_and_eights(100, None, device)
    for name, transform in [("as they are", v2.Identity()), ("moved", moved)]:
        right, right_aside = 0.0, 0.0
        for seed in range(5):
            model = train(x, y, transform, seed)
            right += accuracy(model, x_new, y_new) / 5
            right_aside += accuracy(model, to_the_side(x_new), y_new) / 5
        print(f"   trained on pictures {name}")
        print(f"      new pictures                    accuracy {right:.2f}")
        print(f"      new pictures, a pixel aside     accuracy {right_aside:.2f}")


# %% 5. A picture, its mask and its box
def moved_together(transform, device="cpu"):
    """[left, top, right, bottom] of a white rectangle, by image, mask and box."""
    pixels = torch.zeros(1, 60, 100, device=device)
    pixels[:, 10:30, 20:70] = 1
    image = tv_tensors.Image(pixels)
    mask = tv_tensors.Mask(pixels.bool())
    box = tv_tensors.BoundingBoxes(
        [[20, 10, 70, 30]], format="XYXY", canvas_size=(60, 100), device=device
    )
    image, mask, box = transform(image, mask, box)
    return edges(image), edges(mask), box[0].tolist()


def edges(pixels):
    """[left, top, right, bottom] of what is not 0 in (1, h, w)."""
    rows, columns = pixels[0].nonzero().T
    corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return [corner.item() for corner in corners]


def enlarged(mask):
    """A row of classes, (1, 1, w), three times as wide: as picture and as mask."""
    size = (1, 3 * mask.shape[-1])
    as_picture = v2.Resize(size, antialias=True)(mask)  # WRONG for classes
    as_mask = v2.Resize(size)(tv_tensors.Mask(mask))
    return as_picture.flatten().tolist(), as_mask.flatten().tolist()


def show_5(device):
    print("\n5. A picture, its mask and its box")
    flip = v2.RandomHorizontalFlip(p=1)
    turn = v2.RandomRotation((90, 90), expand=True)
    for name, transform in [
        ("as it is", v2.Identity()),
        ("flip", flip),
        ("turn", turn),
    ]:
        image, mask, box = moved_together(transform, device)
        print(f"   {name:<8}   picture {image}")
        print(f"   {name:<8}   mask    {mask}")
        print(f"   {name:<8}   box     {box}")
    classes = torch.tensor([[[0, 2]]], dtype=torch.uint8, device=device)
    as_picture, as_mask = enlarged(classes)
    print(f"   classes [0, 2], as a picture   {as_picture}")
    print(f"   classes [0, 2], as a mask      {as_mask}")


# %% 6. A transform of your own
class FromNumpy:
    """(array, number) to (tensor, tensor); the tensor shares the array's memory."""

    def __call__(self, sample):
        x, y = sample
        return torch.from_numpy(x), torch.tensor(y)


class Multiply:
    """The measurements times a factor."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, sample):
        x, y = sample
        return x * self.factor, y


class MultiplyInPlace(Multiply):
    """The same, written into the memory of what came in."""

    def __call__(self, sample):
        x, y = sample
        x *= self.factor  # WRONG
        return x, y


def three_readings(multiply):
    """The first wine's first measurement, 14.23, read three times."""
    wine = WineArrays(v2.Compose([FromNumpy(), multiply]))
    return [wine[0][0][0].item() for _ in range(3)]


def show_6(device):
    print("\n6. A transform of your own")
    x, y = WineArrays()[0]
    print(f"   without a transform   {type(x).__name__} {x.shape}, class {y}")
    x, y = WineArrays(FromNumpy())[0]
    print(f"   FromNumpy             {type(x).__name__} {tuple(x.shape)}, class {y}")
    for multiply in [Multiply(4), MultiplyInPlace(4)]:
        first, second, third = three_readings(multiply)
        name = type(multiply).__name__
        print(f"   {name:<15}       {first:.2f}, {second:.2f}, {third:.2f}")


# %% 7. An equation for each transform
def transforms_of(height, width):
    """{name: a transform whose result is known}, for pictures of that size."""
    flip = v2.RandomHorizontalFlip(p=1)
    twice = v2.Resize((2 * height, 2 * width), v2.InterpolationMode.NEAREST)
    return {
        "CenterCrop": v2.CenterCrop((100, 80)),
        "Grayscale": v2.Grayscale(),
        "Pad, CenterCrop": v2.Compose([v2.Pad(30), v2.CenterCrop((height, width))]),
        "RandomAffine by 180": v2.RandomAffine(degrees=(180, 180)),
        "RandomCrop to all": v2.RandomCrop((height, width)),
        "RandomHorizontalFlip": flip,
        "the same, twice": v2.Compose([flip, flip]),
        "RandomRotation by 90": v2.RandomRotation((90, 90), expand=True),
        "Resize, doubled": twice,
        "Lambda(vertical_flip)": v2.Lambda(v2.functional.vertical_flip),
        "ToPILImage, back": v2.Compose([v2.ToImage(), v2.ToPILImage()]),
    }


def must_be(image):
    """{name: what that transform must make of image}, all of shape (c, h, w)."""
    height, width = image.shape[1:]
    top, left = round((height - 100) / 2), round((width - 80) / 2)
    red, green, blue = image.float()
    return {
        "CenterCrop": image[:, top : top + 100, left : left + 80],
        "Grayscale": (0.2989 * red + 0.587 * green + 0.114 * blue)[None],
        "Pad, CenterCrop": image,
        "RandomAffine by 180": image.flip(1, 2),
        "RandomCrop to all": image,
        "RandomHorizontalFlip": image.flip(2),
        "the same, twice": image,
        "RandomRotation by 90": image.rot90(1, (1, 2)),
        "Resize, doubled": image.repeat_interleave(2, 1).repeat_interleave(2, 2),
        "Lambda(vertical_flip)": image.flip(1),
        "ToPILImage, back": image,
    }


def largest_difference(transform, picture, expected):
    """How far a transform's result is from what it must be, in grey levels."""
    result = v2.ToImage()(transform(picture)).to(expected.device)
    assert result.shape == expected.shape
    return (result.float() - expected.float()).abs().max().item()


def show_7(device):
    print("\n7. An equation for each transform")
    photo = photograph()
    image = v2.PILToTensor()(photo).to(device)
    expected = must_be(image)
    print("   largest difference in grey levels   PIL   tensor")
    for name, transform in transforms_of(*image.shape[1:]).items():
        on_pil = largest_difference(transform, photo, expected[name])
        on_tensor = largest_difference(transform, image, expected[name])
        print(f"   {name:<33} {on_pil:5.1f} {on_tensor:8.1f}")


# %% 8. A matrix for all numbers at once
def covariance(samples):
    """The covariance matrix of samples (n, d), shape (d, d)."""
    centred = samples - samples.mean(dim=0)
    return centred.T @ centred / (len(samples) - 1)


def whitened(samples):
    """LinearTransformation by cov^(-1/2), (n, d): the covariance becomes I.

    There must be more samples than numbers in each of them.
    """
    n, d = samples.shape
    if n <= d:
        raise ValueError(f"{n} samples of {d} numbers: no inverse")
    values, vectors = torch.linalg.eigh(covariance(samples))
    matrix = vectors @ torch.diag(values**-0.5) @ vectors.T
    whiten = v2.LinearTransformation(matrix, samples.mean(dim=0))
    return whiten(samples[:, None, None, :])[:, 0, 0]  # it wants (n, c, h, w)


def show_8(device):
    print("\n8. A matrix for all numbers at once")
    wines = torch.from_numpy(WineArrays().x[:, :2]).double().to(device)
    print("   covariance matrix of two measurements of the wines")
    for name, samples in [("before", wines), ("after", whitened(wines))]:
        rounded = covariance(samples).round(decimals=2) + 0  # no -0.00
        first, second = rounded.tolist()
        print(f"   {name:<6}   {first[0]:.2f}  {first[1]:.2f}")
        print(f"            {second[0]:.2f}  {second[1]:.2f}")


# %% The picture
def figure(device="cpu"):
    """The photograph, and what each transform makes of it."""
    from matplotlib.figure import Figure

    photo = to_tensor(photograph()).to(device)
    mean, std = mean_and_std(photo[None])
    transforms = {
        "the photograph": v2.Identity(),
        "CenterCrop": v2.CenterCrop(300),
        "RandomCrop": v2.RandomCrop(300),
        "RandomResizedCrop": v2.RandomResizedCrop(300, antialias=True),
        "Pad": v2.Pad(80),
        "Resize to 30 x 26": v2.Resize((30, 26), antialias=True),
        "RandomHorizontalFlip": v2.RandomHorizontalFlip(p=1),
        "RandomVerticalFlip": v2.RandomVerticalFlip(p=1),
        "RandomRotation": v2.RandomRotation((30, 30)),
        "RandomAffine": v2.RandomAffine(20, translate=(0.2, 0.2), shear=20),
        "RandomPerspective": v2.RandomPerspective(p=1),
        "Grayscale": v2.Grayscale(3),
        "ColorJitter": v2.ColorJitter(brightness=0.5, hue=0.3),
        "Normalize": v2.Normalize(mean.tolist(), std.tolist()),
        "RandomErasing": v2.RandomErasing(p=1),
        "Lambda: negative": v2.Lambda(lambda image: 1 - image),
    }
    fig = Figure(figsize=(9, 10.5), layout="constrained")
    torch.manual_seed(1)
    for axes, name in zip(fig.subplots(4, 4).flat, transforms, strict=True):
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
