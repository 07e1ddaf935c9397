"""Exercises for lesson 10, transforms.

Solve them here, and let python -m pytest exercises/10_transforms.py check them.
"""

import numpy as np
import torch
from torchvision import tv_tensors  # noqa: F401 (exercise 4 needs it)
from torchvision.transforms import v2


# %% 1. Write
def stages(*transforms):
    """Write: a chain of transforms that shows every stage.

    Gets one callable or more. Returns a callable of one argument, a sample, that applies them all,
    the first one first, and returns a list: the sample, and what each transform made of what it
    got. Example: stages(str, len)(1000) is [1000, "1000", 4]. Easy, 5 minutes. Hint: a function
    in a function, with a loop.
    """
    raise NotImplementedError


def test_stages():
    def double(x):
        return 2 * x

    def next_number(x):
        return x + 1

    for transforms, expected in (
        ((double, next_number), [3, 6, 7]),
        ((next_number, double), [3, 4, 8]),
        ((double,), [3, 6]),
    ):
        names = [transform.__name__ for transform in transforms]
        chain = stages(*transforms)
        found = [chain(3), chain(3)]
        thought = "Each transform gets what the one before it returned."
        check(f"{names} at 3, twice", found, [expected, expected], thought)


# %% 2. Mend
def between_0_and_1(image):
    """Mend: a picture of floats, scaled from 0 ... 255 to 0 ... 1.

    Gets and returns float32, shape (c, h, w); what was given must stay as it was. Example: 51
    becomes 0.2. Easy, 5 minutes. Hint: what will the next epoch read from the data set?
    """
    image /= 255
    return image


def test_between_0_and_1():
    original = torch.tensor([[[0.0, 51.0], [102.0, 255.0]]])
    image = original.clone()
    expected = torch.tensor([[[0.0, 0.2], [0.4, 1.0]]])
    thought = "Divide by 255 yourself (ToDtype scales integers only), into a new picture."
    for reading in ("the first reading", "the second reading"):
        check(f"{original.tolist()}, {reading}", between_0_and_1(image), expected, thought)
    thought = "/= writes into the data set's own picture; / makes a new one."
    check(f"{original.tolist()}, looked at afterwards", image, original, thought)


# %% 3. Mend
def loaded(picture):
    """Mend: a picture from an array to what a network wants.

    Gets a NumPy array, uint8, shape (h, w, c). Returns a tensor, float32, shape (c, h, w), from
    0 to 1. Example: 255 becomes 1.0. Easy, 5 minutes. Hint: section 3 of the lesson.
    """
    return v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32)])(picture)


def test_loaded():
    picture = np.arange(0, 240, 10, dtype=np.uint8).reshape(2, 4, 3)
    expected = torch.tensor(
        [[[picture[i, j, k] / 255 for j in range(4)] for i in range(2)] for k in range(3)]
    )
    thought = "ToImage puts the channels first; ToDtype scales only when asked to: scale=True."
    found = loaded(picture)
    found = found.as_subclass(torch.Tensor) if isinstance(found, torch.Tensor) else found
    check("0, 10, 20 ... 230 as uint8, shape (2, 4, 3)", found, expected.float(), thought)


# %% 4. Mend
def flipped_together(image, mask):
    """Mend: a picture and its mask, flipped together.

    Gets image, shape (c, h, w), and mask, shape (h, w). Returns both flipped from left to right,
    or both as they are; a coin decides each time. Example: what is white in the left half is
    white in the right half of both, or of neither. Medium, 10 minutes. Hint: how many coins are
    thrown? A v2 transform takes several arguments, and tv_tensors.Mask(mask) marks a mask.
    """
    flip = v2.RandomHorizontalFlip(p=0.5)
    return flip(image), flip(mask)


def test_flipped_together():
    image, mask = torch.arange(12.0).view(1, 3, 4), torch.arange(12).view(3, 4) % 4 == 0
    state, outcomes = torch.get_rng_state(), []
    for _ in range(40):
        new_image, new_mask = flipped_together(image, mask)
        for name, old, new in (("image", image, new_image), ("mask", mask, new_mask)):
            outcomes += [torch.equal(new, old), torch.equal(new, old.flip(-1))]
            thought = "Return both, each in its shape, flipped along the last axis or not at all."
            check(f"the {name} is one of the two", any(outcomes[-2:]), True, thought)
        thought = "One call, one coin: flip(image, tv_tensors.Mask(mask))."
        check("image and mask are alike", outcomes[-4:-2], outcomes[-2:], thought)
    check("is the mask of its dtype", new_mask.dtype == mask.dtype, True, "The mask stays a mask.")
    thought = "A coin has two sides: do not fix the seed."
    given = "40 calls: was any left as it is, was any flipped"
    check(given, [True in outcomes[0::4], True in outcomes[1::4]], [True, True], thought)
    torch.set_rng_state(state)


# %% 5. Write
def normalised_batch(images):
    """Write: pictures with mean 0 and deviation 1 in each channel.

    Gets images, float32, shape (n, c, h, w). Returns the same shape: each channel minus its mean
    over all pictures and pixels, divided by its deviation there (dividing by the count). Medium,
    10 minutes. Hint: dim may be several dimensions, such as dim=(0, 2, 3).
    """
    raise NotImplementedError


def test_normalised_batch():
    numbers = np.random.default_rng(0).integers(0, 100, (2, 3, 2, 4)).astype(np.float64)
    numbers[:, 1] *= 7
    expected = numbers.copy()
    for c in range(3):
        values = sorted(numbers[:, c].flatten())
        expected[:, c] = (expected[:, c] - sum(values) / 16) / np.std(values)
    images = torch.tensor(numbers, dtype=torch.float32)
    found = normalised_batch(images)
    thought = "One mean and one deviation for each channel; keepdim=True; std has correction=0."
    given = "2 pictures of 3 channels, 2 x 4 pixels, whole numbers"
    check(given, found, torch.tensor(expected, dtype=torch.float32), thought, rtol=0, atol=1e-5)
    thought = "Work on new tensors: -= and /= write into what was given."
    check("the pictures afterwards", images, torch.tensor(numbers, dtype=torch.float32), thought)


# %% What the checks share: no need to read on
def check(given, found, expected, thought, **tolerance):
    """Fail, in words that help, unless found is expected: its kind, shape, dtype and values."""
    try:
        torch.testing.assert_close(found, expected, **tolerance)
        return
    except (TypeError, RuntimeError):
        reason = "a tensor, a number, a tuple and None are different; .item() makes numbers"
    except AssertionError as error:
        first, *others = str(error).strip().splitlines()
        reason = " ".join([first, *(line for line in others if "for item" in line)])
    parts = f"given      {given}", f"came back  {found!r}", f"expected   {expected!r}"
    raise AssertionError("\n".join([*parts, f"so         {reason}", thought]))
