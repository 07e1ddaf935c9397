"""The checks of exercises/10_transforms.py."""

import numpy as np
import torch
from PIL import Image


def plain(image):
    """A picture of torchvision's as a tensor; anything else as it is."""
    return image.as_subclass(torch.Tensor) if isinstance(image, torch.Tensor) else image


def test_stages(answer, check):
    check.hint = (
        "A function inside a function, with a loop in it. What does each transform get?"
    )

    def double(x):
        return 2 * x

    def next_number(x):
        return x + 1

    for transforms, expected in (
        ((double, next_number), [3, 6, 7]),
        ((next_number, double), [3, 4, 8]),
        ((double,), [3, 6]),
    ):
        names = ", ".join(transform.__name__ for transform in transforms)
        check.given = f"stages({names}) called with 3"
        chain = answer(*transforms)
        check(chain(3), expected)
        check.given = f"stages({names}) called with 3 once more"
        check(chain(3), expected)


RED, BLUE = (255, 0, 0), (0, 51, 204)


def striped(mode, width, height):
    """A PIL image in that mode: red, with a blue stripe in the middle, a third wide."""
    numbers = np.zeros((height, width), dtype=np.uint8)
    numbers[:, width // 3 : width - width // 3] = 1
    picture = Image.fromarray(numbers)
    picture.putpalette([*RED, *BLUE])  # this makes its mode P
    return picture if mode == "P" else picture.convert("RGB").convert(mode)


def test_batch_of(answer, check):
    check.hint = (
        "The mode first: which method of a PIL image changes it? Then three transforms,"
        " and one function of torch that makes a batch of a list."
    )
    red, blue = ([number / 255 for number in colour] for colour in (RED, BLUE))
    grey_of_red = 3 * [round(0.299 * 255) / 255]
    for modes in (["RGB"], ["P"], ["RGBA", "RGB", "P", "L"]):
        sizes = [(30, 4), (60, 8), (30, 30), (36, 5)][: len(modes)]
        pictures = [
            striped(mode, *size) for mode, size in zip(modes, sizes, strict=True)
        ]
        before = [(picture.mode, picture.size) for picture in pictures]
        given = ", ".join(f"{mode} {size}" for mode, size in before)
        given = f"striped pictures: {given}; height 4, width 6"
        check.given = f"{given}; the shape"
        result = plain(answer(pictures, 4, 6))
        check(tuple(result.shape), (len(modes), 3, 4, 6))
        check.given = f"{given}; the corners at the top"
        expected = torch.empty(len(modes), 3, 2)
        for number, mode in enumerate(modes):
            corner = grey_of_red if mode == "L" else red
            expected[number] = torch.tensor(corner)[:, None]
        check(result[:, :, 0, ::5].contiguous(), expected, rtol=0, atol=0.01)
        check.given = f"{given}; the pictures themselves, afterwards"
        check([(picture.mode, picture.size) for picture in pictures], before)
    check.given = "a picture of one pixel in mode P, whose colour is 0, 51, 204"
    pixel = striped("P", 3, 1).crop((1, 0, 2, 1))
    expected = torch.tensor(blue)[None, :, None, None].expand(1, 3, 2, 3).contiguous()
    check(plain(answer([pixel], 2, 3)), expected, rtol=0, atol=1e-6)


def test_normalised_batch(answer, check):
    check.hint = (
        "dim can be several, as in x.mean(dim=(0, 2, 3)). Which shape has that?"
    )
    numbers = np.random.default_rng(0).integers(0, 100, (2, 3, 2, 4)).astype(np.float64)
    numbers[:, 1] *= 7
    expected = numbers.copy()
    for c in range(3):
        expected[:, c] = (expected[:, c] - np.mean(numbers[:, c])) / np.std(
            numbers[:, c]
        )
    images = torch.tensor(numbers, dtype=torch.float32)
    check.given = "2 pictures of 3 channels, 2 x 4 pixels, whole numbers"
    check(
        answer(images), torch.tensor(expected, dtype=torch.float32), rtol=0, atol=1e-5
    )
    check.given = "the same; the input itself, afterwards"
    check(images, torch.tensor(numbers, dtype=torch.float32))


def test_flipped_together(answer, check):
    check.hint = "How many coins are thrown, and who must hear of the mask?"
    image, mask = torch.arange(12.0).view(1, 3, 4), torch.arange(12).view(3, 4) % 4 == 0
    state, flips = torch.get_rng_state(), []
    given = "0 ... 11, shape (1, 3, 4), and a mask of its first column"
    for _ in range(40):
        check.given = f"{given}; is the picture as it was, or flipped; and the mask"
        new_image, new_mask = answer(image, mask)
        same = torch.equal(new_image, image), torch.equal(new_mask, mask)
        flipped = (
            torch.equal(new_image, image.flip(-1)),
            torch.equal(new_mask, mask.flip(-1)),
        )
        check((same[0] or flipped[0], same[1] or flipped[1]), (True, True))
        check.given = f"{given}; is the picture flipped, is the mask"
        check(flipped, (flipped[0], flipped[0]))
        check.given = f"{given}; is the mask still of dtype bool"
        check(new_mask.dtype == torch.bool, True)
        flips.append(flipped[0])
    check.given = f"{given}; 40 times: was it left as it was, was it flipped"
    check((False in flips, True in flips), (True, True))
    torch.set_rng_state(state)


def test_between_0_and_1(answer, check):
    check.hint = (
        "Which number does every picture have in common? What will the next epoch read?"
    )
    for numbers in ([[0.0, 51.0], [102.0, 255.0]], [[0.0, 25.5], [127.5, 204.0]]):
        image = torch.tensor([numbers])
        expected = torch.tensor([[[number / 255 for number in row] for row in numbers]])
        check.given = f"{[numbers]}"
        check(answer(image), expected)
        check.given = f"{[numbers]}; the input itself, afterwards"
        check(image, torch.tensor([numbers]))
