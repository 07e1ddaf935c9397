"""What lesson 10 claims."""

import numpy as np
import pytest
import torch
from helpers import ROOT, assert_values, torchvision_too_old
from torch.utils.data import DataLoader, random_split

if torchvision_too_old.args[0]:
    pytest.skip(torchvision_too_old.kwargs["reason"], allow_module_level=True)
v2 = pytest.importorskip("torchvision.transforms.v2")

TABLE = np.loadtxt(ROOT / "data" / "wine.csv", delimiter=",", skiprows=1)
X, Y = TABLE[:, 1:].astype(np.float32), TABLE[:, 0].astype(int) - 1
GREY = [0.2989, 0.587, 0.114]


def pictures(device, height=120, width=130):
    """A picture of noise: PIL image and tensor, each with its device and its pixels."""
    from PIL import Image

    random = np.random.default_rng(0)
    array = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels = array.transpose(2, 0, 1).copy()
    yield Image.fromarray(array), "cpu", pixels
    yield torch.tensor(pixels, device=device), device, pixels


def test_the_photograph_is_matplotlibs(lesson):
    photo = lesson.photograph()
    assert (photo.mode, photo.size) == ("RGB", (512, 600))
    assert np.asarray(photo).std() > 50  # a photograph, not a blank


def test_a_missing_photograph_ends_in_one_line(lesson, monkeypatch):
    from matplotlib import cbook

    def missing(name):
        raise FileNotFoundError(2, "No such file", name)

    monkeypatch.setattr(cbook, "get_sample_data", missing)
    with pytest.raises(SystemExit) as end:
        lesson.photograph()
    assert "grace_hopper.jpg" in str(end.value) and "pip install" in str(end.value)
    assert "\n" not in str(end.value)


# 1. A transform is a callable that the dataset applies to a sample
def test_a_wine_is_what_its_transform_makes_of_it(lesson):
    wine = lesson.WineArrays()
    x, y = zip(*(wine[i] for i in range(len(wine))), strict=True)
    assert np.stack(x).dtype == np.float32 and np.stack(y).dtype == np.int64
    np.testing.assert_array_equal(np.stack(x), X)
    np.testing.assert_array_equal(np.stack(y), Y)
    changed = lesson.WineArrays(lambda sample: (sample[1] + 10, sample[0]))
    label, row = changed[60]
    assert label == Y[60] + 10 and row.tolist() == X[60].tolist()


def test_from_numpy_keeps_the_numbers_and_shares_the_memory(lesson):
    x = np.array([1, 2], dtype=np.float32)
    tensor, label = lesson.FromNumpy()((x, np.int64(2)))
    assert_values(tensor, [1, 2], dtype=torch.float32, rtol=0)
    assert_values(label, 2, dtype=torch.int64, rtol=0)
    x += 1
    assert tensor.tolist() == [2, 3]


def test_multiply_makes_a_new_tensor_unless_told_otherwise(lesson):
    for multiply in (lesson.Multiply(3), lesson.Multiply(3, in_place=True)):
        x = torch.tensor([1.0, -2.0])
        product, label = multiply((x, 7))
        assert (product.tolist(), label) == ([3, -6], 7)
        assert x.tolist() == ([3, -6] if multiply.in_place else [1, -2])


# 2. A picture (h, w, c) of 0 to 255 becomes a tensor (c, h, w) of 0 to 1
def test_a_picture_becomes_channels_first_and_0_to_1_if_asked(lesson, device):
    float32 = {"dtype": torch.float32, "rtol": 2**-23}
    for picture, where, pixels in pictures(device):
        assert_values(lesson.to_tensor(picture, True), pixels / 255, where, **float32)
        assert_values(lesson.to_tensor(picture, False), pixels, where, **float32)
    array = pixels.transpose(1, 2, 0)
    assert_values(lesson.to_tensor(array, scale=False), pixels, **float32)


def test_only_whole_numbers_are_scaled_by_their_largest_and_only_on_request(lesson):
    cases = {
        torch.uint8: 1,
        torch.int16: 255 / (2**15 - 1),
        torch.int32: 255 / (2**31 - 1),
        torch.int64: 255 / (2**63 - 1),
        torch.float32: 255,
        torch.float64: 255,
    }
    for dtype, white in cases.items():
        assert lesson.white_becomes(dtype, scale=True) == pytest.approx(
            white, rel=2**-22
        )
        assert lesson.white_becomes(dtype, scale=False) == 255


def test_a_picture_from_0_to_1_in_uint8_is_black_but_for_what_is_white():
    assert np.array([0.0, 0.5, 0.999, 1.0]).astype(np.uint8).tolist() == [0, 0, 0, 1]


# 3. An equation proves each transform, on PIL images and on tensors
@pytest.mark.parametrize(("height", "width", "left"), [(120, 130, 25), (121, 129, 24)])
def test_every_equation_holds_on_pil_images_and_on_tensors(
    lesson, device, height, width, left
):
    for picture, _, pixels in pictures(device, height, width):
        expected = {
            "CenterCrop": pixels[:, 10:110, left : left + 80],
            "Grayscale": np.einsum("c,chw->hw", GREY, pixels)[None],
            "Pad, CenterCrop": pixels,
            "RandomAffine by 180": np.rot90(pixels, 2, (1, 2)),
            "RandomCrop to all": pixels,
            "RandomHorizontalFlip": pixels[:, :, ::-1],
            "the same, twice": pixels,
            "RandomRotation by 90": np.rot90(pixels, 1, (1, 2)),
            "Resize, doubled": np.kron(pixels, np.ones((1, 2, 2))),
            "Lambda(vertical_flip)": pixels[:, ::-1],
            "ToPILImage, back": pixels,
        }
        equations = lesson.equations(picture)
        assert list(equations) == list(expected)
        for name, (result, right) in equations.items():
            level = 1 if name == "Grayscale" else 0  # it is a whole number
            right = right.cpu().double()
            assert_values(right, expected[name], rtol=4 * 2**-24)
            result = result.cpu().double()
            assert_values(result, expected[name], rtol=0, atol=level)


def test_the_order_of_pad_and_resize_matters(device):
    for picture, _, _ in pictures(device):
        pad, resize = v2.Pad(20), v2.Resize((100, 100), antialias=True)
        for order, size in (([pad, resize], 100), ([resize, pad], 140)):
            assert v2.ToImage()(v2.Compose(order)(picture)).shape == (3, size, size)


@pytest.mark.parametrize(("white", "aliased"), [(0, 0), (1, 0.5), (2, 0.5), (3, 0)])
def test_stripes_vanish_or_double_where_a_picture_shrinks_without_antialias(
    device, white, aliased
):
    # One column in four is white. Without antialias a pixel of the smaller picture is
    # made of the middle two of its four columns; with it, of all four and of their
    # neighbours.
    stripes = (torch.arange(96, device=device) % 4 == white).float().expand(1, 96, 96)
    for antialias, grey in ((True, 0.25), (False, aliased)):
        small = v2.Resize((24, 24), antialias=antialias)(stripes)[:, :, 2:-2]
        np.testing.assert_allclose(small.cpu(), grey, rtol=0, atol=2**-22)
    small = torch.nn.functional.interpolate(stripes[None], (24, 24), mode="bilinear")
    np.testing.assert_allclose(small.cpu(), aliased, rtol=0, atol=2**-22)


# 4. Normalize and LinearTransformation want tensors
def test_an_image_normalised_by_its_own_statistics_has_mean_0_and_std_1(lesson, device):
    image = torch.rand(3, 15, 20, dtype=torch.float64, device=device) * 7 + 3
    pixels = image.cpu().numpy()
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    expected = (pixels - mean) / pixels.std(axis=(1, 2), keepdims=True)
    assert_values(lesson.normalised(image), expected, device, rtol=0, atol=1e-13)


def test_whitening_multiplies_by_the_symmetric_root_of_the_inverse_covariance(
    lesson, device
):
    mixing = np.random.default_rng(1).normal(size=(12, 12)) + 4 * np.eye(12)
    patches = np.random.default_rng(2).normal(size=(500, 12)) @ mixing + 5
    shaped = torch.tensor(patches.reshape(500, 3, 2, 2), device=device)
    # If the centred rows are U S V^T, cov^(-1/2) is V (S / sqrt(n - 1))^-1 V^T.
    u, _, vt = np.linalg.svd(patches - patches.mean(axis=0), full_matrices=False)
    expected = np.sqrt(499) * u @ vt
    np.testing.assert_allclose(np.cov(expected.T), np.eye(12), rtol=0, atol=1e-12)
    expected = expected.reshape(shaped.shape)
    assert_values(lesson.whitened(shaped), expected, device, rtol=0, atol=1e-12)


# 5. Random transforms draw from torch's generator: another picture each epoch
def test_random_crops_repeat_with_their_seed_and_differ_between_epochs(lesson, device):
    image = torch.arange(3 * 90 * 80, device=device).reshape(3, 90, 80)
    before = torch.get_rng_state()
    first, second = lesson.random_crops(image, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    for crop in (first, second):
        assert crop.shape == (3, 50, 50)
        top, left = divmod(crop[0, 0, 0].item(), 80)
        assert torch.equal(crop, image[:, top : top + 50, left : left + 50])
    assert not torch.equal(first, second)
    assert torch.equal(first, lesson.random_crops(image, seed=4)[0])
    assert not torch.equal(first, lesson.random_crops(image, seed=5)[0])


def test_erasing_leaves_a_rectangle_of_zeros(lesson, device):
    image = torch.ones(2, 60, 80, device=device)
    for _ in range(40):
        zeros = lesson.erased(image) == 0
        _, rows, columns = zeros.nonzero().T
        rectangle = torch.zeros_like(zeros)
        top, left, bottom, right = rows.min(), columns.min(), rows.max(), columns.max()
        rectangle[:, top : bottom + 1, left : right + 1] = True
        assert torch.equal(zeros, rectangle)
    assert image.min() == 1


def test_what_is_erased_is_between_2_and_33_percent(lesson):
    # The share is uniform, but for rounding and rectangles that do not fit: of 1000
    # draws, one is above 0.32 and one below 0.03, but for a chance of 1e-13.
    image = torch.ones(1, 150, 150)
    shares = [(lesson.erased(image) == 0).double().mean().item() for _ in range(1000)]
    assert 0.019 < min(shares) < 0.03 and 0.32 < max(shares) < 0.335
    assert np.mean(shares) == pytest.approx(0.175, abs=6 * 0.31 / 12**0.5 / 1000**0.5)


# 6. A picture, its box and its mask move together
def test_picture_mask_and_box_move_together(lesson, device):
    cases = {
        v2.Identity(): [20, 10, 70, 30],
        v2.RandomHorizontalFlip(p=1): [100 - 70, 10, 100 - 20, 30],
        v2.RandomVerticalFlip(p=1): [20, 60 - 30, 70, 60 - 10],
        v2.RandomRotation((90, 90), expand=True): [10, 100 - 70, 30, 100 - 20],
        v2.Pad(5): [25, 15, 75, 35],
    }
    for transform, place in cases.items():
        assert lesson.moved_together(transform, device) == [place] * 3


def test_of_two_plain_tensors_only_the_first_is_transformed(device):
    first, second = torch.rand(2, 3, 8, 9, device=device)
    flipped, left = v2.RandomHorizontalFlip(p=1)(first, second)
    assert torch.equal(flipped, first.flip(2)) and torch.equal(left, second)


def test_two_calls_are_two_throws_of_the_dice(device):
    image = torch.arange(1.0, 10.0, device=device).view(1, 3, 3)
    flip = v2.RandomHorizontalFlip()
    agree = [torch.equal(flip(image), flip(image)) for _ in range(100)]
    assert 10 < sum(agree) < 90  # 50 on average, with a standard deviation of 5


# 7. Mistake: a transform that writes into the data set
def test_a_write_into_the_data_set_multiplies_at_every_reading(lesson):
    first = float(np.float32(14.23))
    assert lesson.three_readings(in_place=False) == [4 * first] * 3
    assert lesson.three_readings(in_place=True) == [4 * first, 16 * first, 64 * first]


@pytest.mark.parametrize("persistent", [False, True])
def test_a_worker_hides_such_a_write_unless_it_stays_for_the_next_epoch(
    lesson, persistent
):
    wine = lesson.WineArrays(lesson.Multiply(4, in_place=True))
    options = {"num_workers": 1, "persistent_workers": persistent}
    loader = DataLoader(wine, batch_size=None, sampler=[0], **options)
    readings = [x[0].item() for _ in range(3) for x, _ in loader]
    first = float(np.float32(14.23))
    assert readings == [
        4 * first,
        *([16 * first, 64 * first] if persistent else 2 * [4 * first]),
    ]
    assert wine.x[0, 0] == np.float32(14.23)


# 8. Mistake: one transform for both halves of a split
def test_the_halves_of_a_split_share_their_transform_unless_each_has_its_own(lesson):
    first = []
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        _, test = random_split(range(178), [142, 36], generator=generator)
        first.append(float(X[test.indices[0], 0]))
        assert lesson.other_half(False, seed) == (first[-1], 4 * first[-1])
        assert lesson.other_half(True, seed) == (first[-1], first[-1])
    assert len(set(first)) > 1


# The picture
def test_the_picture_shows_what_each_transform_makes(lesson):
    panels = {
        axes.get_title(): np.asarray(axes.images[0].get_array())
        for axes in lesson.figure().axes
    }
    photo = np.asarray(lesson.photograph()) / 255
    expected = {
        "the photograph": photo,
        "CenterCrop(300)": photo[150:450, 106:406],
        "RandomHorizontalFlip": photo[:, ::-1],
        "Lambda: negative": 1 - photo,
    }
    for title, pixels in expected.items():
        np.testing.assert_allclose(panels[title], pixels, rtol=0, atol=1e-5)
