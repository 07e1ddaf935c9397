"""10 Transforms: what happens to a sample between the dataset and the model.

The samples are a photograph that matplotlib carries (Grace Hopper, by the US Navy) and the
wines of lesson 09.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, random_split

try:
    from torchvision import tv_tensors
    from torchvision.transforms import v2
except (ImportError, RuntimeError) as error:
    raise SystemExit(
        f"lesson 10 needs torchvision 0.16 or newer ({error}): run lessons/01_install_check.py"
    ) from None

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
DATA = Path(__file__).resolve().parent.parent / "data"
HEADER = (
    "cultivar,alcohol,malic_acid,ash,alcalinity_of_ash,magnesium,total_phenols,flavanoids,"
    "nonflavanoid_phenols,proanthocyanins,color_intensity,hue,od280/od315_of_diluted_wines,proline"
)


def read_csv(name, header, rows):
    """data/name as an array, shape (rows, columns), float64; a file that is not so ends the run."""
    path, columns = DATA / name, header.count(",") + 1
    try:
        first, *lines = path.read_text("ascii").split("\n")
        if first != header or len(lines) != rows + 1 or lines[-1]:
            raise ValueError(f"it starts with {first!r:.40} and has {len(lines)} line ends")
        table = np.array([line.split(",") for line in lines[:-1]], dtype=float)
        if table.shape != (rows, columns) or not np.isfinite(table).all():
            raise ValueError("a row has another length or a number is not finite")
    except (OSError, ValueError) as error:
        expected = f"expected the header {header!r:.40} and {rows} rows of {columns} numbers"
        cure = "put the course's own copy back (git checkout data)"
        raise SystemExit(f"{path}: {expected}, but {error}; {cure}") from None
    return table


def photograph():
    """The photograph as a PIL image, 512 wide and 600 high, RGB; a missing one ends the run."""
    from matplotlib import cbook
    from PIL import Image

    try:
        with cbook.get_sample_data("grace_hopper.jpg") as file:
            return Image.open(file).convert("RGB")
    except OSError as error:
        cure = "python -m pip install --force-reinstall matplotlib"
        raise SystemExit(f"matplotlib's grace_hopper.jpg: {error}; {cure}") from None


# %% 1. A transform is a callable that the dataset applies to a sample
class Wine(Dataset):
    """Sample i: transform of (13 measurements, class), as NumPy gives them."""

    def __init__(self, transform=None):
        table = read_csv("wine.csv", HEADER, 178)
        self.x, self.y = table[:, 1:].astype(np.float32), table[:, 0].astype(np.int64) - 1
        self.transform = transform

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        sample = self.x[index], self.y[index]
        return self.transform(sample) if self.transform else sample


class ToTensor:
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


# %% 2. Compose chains transforms, and their order matters
def composed_sizes(picture):
    """(height, width) after Pad(20) and then Resize to 100 x 100, and the other way round."""
    pad, resize = v2.Pad(20), v2.Resize((100, 100), antialias=True)
    chains = v2.Compose([pad, resize]), v2.Compose([resize, pad])
    return [tuple(v2.functional.get_size(chain(picture))) for chain in chains]


# %% 3. A picture (h, w, c) of 0 to 255 becomes a tensor (c, h, w) of 0 to 1
# ToDtype divides by 255 only if it is asked to, and only integers.
def to_tensor(picture, scale):
    """The picture as float32, shape (c, h, w)."""
    return v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=scale)])(picture)


# %% 4. An identity proves each transform, on PIL images and on tensors
def identities(picture):
    """Name -> (what a transform makes of picture, what it must be), as tensors (c, h, w)."""
    image = picture if isinstance(picture, torch.Tensor) else v2.PILToTensor()(picture)
    height, width = image.shape[1:]
    top, left = (height - 100) // 2, (width - 80) // 2
    weights = torch.tensor([0.2989, 0.587, 0.114], device=image.device)
    flip, nearest = v2.RandomHorizontalFlip(p=1), v2.InterpolationMode.NEAREST
    pairs = {
        "CenterCrop": (v2.CenterCrop((100, 80)), image[:, top : top + 100, left : left + 80]),
        "Grayscale": (v2.Grayscale(), torch.tensordot(weights, image.float(), dims=1)[None]),
        "Pad, CenterCrop": (v2.Compose([v2.Pad(30), v2.CenterCrop((height, width))]), image),
        "RandomAffine by 180": (v2.RandomAffine(degrees=(180, 180)), image.flip(1, 2)),
        "RandomCrop to all": (v2.RandomCrop((height, width)), image),
        "RandomHorizontalFlip": (flip, image.flip(2)),
        "the same, twice": (v2.Compose([flip, flip]), image),
        "RandomRotation by 90": (v2.RandomRotation((90, 90), expand=True), image.rot90(1, (1, 2))),
        "Resize, doubled": (
            v2.Resize((2 * height, 2 * width), interpolation=nearest, antialias=True),
            image.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2),
        ),
        "Lambda(vertical_flip)": (v2.Lambda(v2.functional.vertical_flip), image.flip(1)),
        "ToPILImage and back": (lambda p: v2.PILToTensor()(v2.ToPILImage()(image.cpu())), image),
    }
    results = {name: (transform(picture), right) for name, (transform, right) in pairs.items()}
    as_tensor = v2.Lambda(lambda p: p if isinstance(p, torch.Tensor) else v2.PILToTensor()(p))
    return {name: (as_tensor(result), right) for name, (result, right) in results.items()}


# %% 5. On tensors alone: normalise, whiten, erase
def normalised(image):
    """Normalize with the image's own statistics: mean 0 and deviation 1 in each channel."""
    return v2.Normalize(image.mean(dim=(1, 2)).tolist(), image.std(dim=(1, 2)).tolist())(image)


def whitened(patches):
    """LinearTransformation by cov^(-1/2), for (n, c, h, w): the covariance becomes 1."""
    flat = patches.flatten(start_dim=1)
    values, vectors = torch.linalg.eigh(flat.T.cov())
    matrix = vectors @ torch.diag(values**-0.5) @ vectors.T
    return v2.LinearTransformation(matrix, flat.mean(dim=0))(patches)


def erased(image):
    """RandomErasing for sure: a rectangle of 2 to 33 % of the image is 0."""
    return v2.RandomErasing(p=1, scale=(0.02, 0.33), value=0)(image)


# %% 6. Random transforms draw from torch's generator: another picture each epoch
def random_crops(image, seed):
    """What RandomCrop(50) makes of image in two epochs, after torch.manual_seed(seed)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        crop = v2.RandomCrop(50)
        return crop(image), crop(image)


# %% 7. A picture, its box and its mask move together
def moved_together(transform, device="cpu"):
    """Where a white rectangle is, (left, top, right, bottom), by image, mask and box."""
    pixels = torch.zeros(60, 100, device=device)[None]
    pixels[:, 10:30, 20:70] = 1
    image, mask = tv_tensors.Image(pixels), tv_tensors.Mask(pixels.bool())
    box = tv_tensors.BoundingBoxes(
        [[20, 10, 70, 30]], format="XYXY", canvas_size=(60, 100), device=device
    )
    image, mask, box = transform(image, mask, box)
    found = []
    for layer in (image, mask):
        rows, columns = layer[0].nonzero().T
        edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        found.append([edge.item() for edge in edges])
    return [*found, box[0].tolist()]


# %% 8. The same on every device, to within rounding
def difference_to_cpu(image, device):
    """The largest difference of image, resized, grey and normalised, between device and CPU."""
    chain = v2.Compose([v2.Resize((40, 40), antialias=True), v2.Grayscale(3), normalised])
    return (chain(image.to(device)).cpu() - chain(image)).abs().max().item()


# %% 9. Mistake: a transform that writes into the data set
# from_numpy shares memory with the table: x *= 4 multiplies the wine, not a copy of it.
def readings(in_place):
    """The first measurement of the first wine, 14.23, read three times through Multiply(4)."""
    wine = Wine(v2.Compose([ToTensor(), Multiply(4, in_place)]))
    return [wine[0][0][0].item() for _ in range(3)]


# %% 10. Mistake: the wrong range
def largest(dtype, scale):
    """The largest value of a white picture of that dtype, 255, after to_tensor."""
    return to_tensor(torch.tensor([[[255]]], dtype=dtype), scale).max().item()


# %% 11. Mistake: somebody else's constants
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def white(mean, std):
    """What Normalize(mean, std) makes of a white pixel, (1, 1, 1): (1 - mean) / std."""
    return v2.Normalize(mean, std)(torch.ones(3, 1, 1)).flatten().tolist()


# %% 12. Mistake: reshape for permute
def share_right(image):
    """The share of values of image, (h, w, c), that reshape to (c, h, w) puts right."""
    height, width, channels = image.shape
    wrong = image.reshape(channels, height, width)
    return (wrong == image.permute(2, 0, 1)).double().mean().item()


# %% 13. Mistake: Resize without antialias
def stripes_after(antialias, width):
    """The median of stripes, one column white in four, shrunk to a quarter: 1/4 is right."""
    stripes = (torch.arange(width) % 4 == 3).float().expand(1, width, width)
    return v2.Resize((width // 4, width // 4), antialias=antialias)(stripes).median().item()


# %% 14. Mistake: one transform for both halves of a split
# The halves of random_split look into one data set. Give each half a data set of its own.
def other_half(own, seed):
    """The first measurement of a test wine, before and after the training half multiplies by 4."""
    generator = torch.Generator().manual_seed(seed)
    train, test = random_split(Wine(ToTensor()), [142, 36], generator=generator)
    if own:
        train.dataset = Wine(ToTensor())
    before = test[0][0][0].item()
    train.dataset.transform = v2.Compose([ToTensor(), Multiply(4)])
    return before, test[0][0][0].item()


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
    picture = Figure(figsize=(9, 8), layout="constrained")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        panels = zip(picture.subplots(3, 4).flat, transforms.items(), strict=True)
        for axes, (name, transform) in panels:
            axes.imshow(transform(photo).clamp(0, 1).permute(1, 2, 0).cpu().numpy())
            axes.set(title=name)
            axes.axis("off")
    return picture


# %% Run it
def main(device):
    print(f"10 Transforms on {device}")
    photo = photograph()
    image = v2.PILToTensor()(photo).to(device)

    print("\n1. A transform is a callable that the dataset applies to a sample")
    for name, transform in (("none", None), ("ToTensor()", ToTensor())):
        x, y = Wine(transform)[0]
        print(f"   {name:<10}   a wine is a {type(x).__name__} {tuple(x.shape)} of class {y}")

    print("\n2. Compose chains transforms, and their order matters")
    first, second = composed_sizes(photo)
    print(f"   Pad, then Resize: {first}; Resize, then Pad: {second}")

    print("\n3. A picture (h, w, c) of 0 to 255 becomes a tensor (c, h, w) of 0 to 1")
    print(f"   as an array {np.asarray(photo).shape}, largest {np.asarray(photo).max()}")
    for scale in (False, True):
        x = to_tensor(photo, scale)
        print(f"   scale={scale!s:<5}   {tuple(x.shape)}, {x.dtype}, largest {x.max():.1f}")

    print("\n4. An identity proves each transform, on PIL images and on tensors")
    print(f"   {'':<21}   output shape     largest difference, PIL and tensor")
    on_pil, on_tensor = identities(photo), identities(image)
    for name, (result, _) in on_pil.items():
        pairs = on_pil[name], on_tensor[name]
        off = ", ".join(f"{(a.float() - b.float()).abs().max():.0f}" for a, b in pairs)
        print(f"   {name:<21}   {tuple(result.shape)!s:<15}  {off}")

    print("\n5. On tensors alone: normalise, whiten, erase")
    scaled = to_tensor(photo, scale=True).to(device)
    off = normalised(scaled).mean(dim=(1, 2)).abs().max()
    print(f"   Normalize: means within {off:.4f} of 0", end=", ")
    print(f"deviations {normalised(scaled).std(dim=(1, 2)).max():.4f}")
    grey = v2.Grayscale()(scaled).double()[0]
    patches = grey.unfold(0, 4, 4).unfold(1, 4, 4).reshape(-1, 1, 4, 4)
    covariance = whitened(patches).flatten(1).T.cov()
    off = (covariance - torch.eye(16, device=device)).abs().max()
    print(f"   LinearTransformation: covariance of 4 x 4 patches within {off:.4f} of 1")
    share = (erased(torch.ones(1, 100, 100, device=device)) == 0).double().mean()
    print(f"   RandomErasing: between 2 and 33 % erased {0.02 < share < 0.33}")

    print("\n6. Random transforms draw from torch's generator: another picture each epoch")
    first, second = random_crops(image, seed=0)
    again, other = random_crops(image, seed=0)[0], random_crops(image, seed=1)[0]
    print(f"   next epoch the same {torch.equal(first, second)}", end=", ")
    print(f"same seed {torch.equal(first, again)}, other seed {torch.equal(first, other)}")

    print("\n7. A picture, its box and its mask move together")
    for name, transform in (
        ("RandomHorizontalFlip", v2.RandomHorizontalFlip(p=1)),
        ("RandomRotation by 90", v2.RandomRotation((90, 90), expand=True)),
    ):
        by_image, by_mask, box = moved_together(transform, device)
        print(f"   {name}: {by_image}; mask and box the same {by_image == by_mask == box}")

    print("\n8. The same on every device, to within rounding")
    off = difference_to_cpu(to_tensor(photo, scale=True), device)
    print(f"   largest difference to the CPU {off:.4f}")

    print("\n9. Mistake: a transform that writes into the data set")
    for in_place in (False, True):
        read = ", ".join(f"{number:.2f}" for number in readings(in_place))
        print(f"   in_place={in_place!s:<5}   three readings: {read}")

    print("\n10. Mistake: the wrong range")
    for dtype, scale in ((torch.uint8, True), (torch.uint8, False), (torch.float32, True)):
        print(f"   {dtype!s:<13}   scale={scale!s:<5}   white becomes {largest(dtype, scale):.0f}")

    print("\n11. Mistake: somebody else's constants")
    print(f"   white becomes {', '.join(f'{number:.3f}' for number in white(**IMAGENET))}")

    print("\n12. Mistake: reshape for permute")
    print(f"   {share_right(torch.from_numpy(np.array(photo))):.1%} of the values are right")

    print("\n13. Mistake: Resize without antialias")
    for antialias in (True, False):
        print(f"   antialias={antialias!s:<5}   stripes become {stripes_after(antialias, 64):.2f}")

    print("\n14. Mistake: one transform for both halves of a split")
    for own in (False, True):
        before, after = other_half(own, seed=0)
        print(f"   own={own!s:<5}   a test wine: {before:.2f} before, {after:.2f} after")


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
