"""What lesson 10 claims."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_curriculum import too_old

if too_old.args[0]:
    pytest.skip(too_old.kwargs["reason"], allow_module_level=True)
torchvision = pytest.importorskip("torchvision")
v2 = pytest.importorskip("torchvision.transforms.v2")

DATA = Path(__file__).resolve().parent.parent / "data"
TABLE = np.loadtxt(DATA / "wine.csv", delimiter=",", skiprows=1)


def pictures(device):
    """A small picture of noise, (20, 30) with 3 channels: as a PIL image, and as a tensor."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (120, 130, 3), dtype=np.uint8)
    yield Image.fromarray(pixels), pixels.transpose(2, 0, 1)
    yield torch.tensor(pixels.transpose(2, 0, 1).copy(), device=device), pixels.transpose(2, 0, 1)


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


def test_the_header_is_the_files(lesson):
    assert (DATA / "wine.csv").read_text().splitlines()[0] == lesson.HEADER


def test_read_csv_takes_tables_and_refuses_the_rest(lesson, tmp_path, monkeypatch):
    monkeypatch.setattr(lesson, "DATA", tmp_path)
    (tmp_path / "one.csv").write_text("a,b,c\n1,2,3\n")
    (tmp_path / "column.csv").write_text("a\n1.5\n-2e3\n")
    np.testing.assert_array_equal(lesson.read_csv("one.csv", "a,b,c", 1), [[1, 2, 3]])
    np.testing.assert_array_equal(lesson.read_csv("column.csv", "a", 2), [[1.5], [-2000]])
    rows = ("1,2", "1,2,x", "1,2,inf", "1,2,3,4", "")
    for spoilt in ("", "a,b,c\n", "a,b\n1,2,3\n", *(f"a,b,c\n{row}\n" for row in rows)):
        (tmp_path / "one.csv").write_text(spoilt)
        with pytest.raises(SystemExit, match=r"one\.csv: expected "):
            lesson.read_csv("one.csv", "a,b,c", 1)


def test_a_wine_is_what_its_transform_makes_of_it(lesson):
    wine = lesson.Wine()
    assert len(wine) == 178
    for i in (0, 177):
        x, y = wine[i]
        np.testing.assert_array_equal(x, TABLE[i, 1:].astype(np.float32))
        assert y == TABLE[i, 0] - 1
    assert lesson.Wine(lambda sample: sample[1] + 10)[60] == 11


def test_to_tensor_keeps_the_numbers_and_shares_the_memory(lesson):
    x = np.array([1.0, 2.0], dtype=np.float32)
    tensor, label = lesson.ToTensor()((x, np.int64(2)))
    assert (tensor.dtype, label.dtype, label.item()) == (torch.float32, torch.int64, 2)
    x += 1
    assert tensor.tolist() == [2, 3]


def test_multiply_makes_a_new_tensor_unless_told_otherwise(lesson):
    for in_place in (False, True):
        x = torch.tensor([1.0, -2.0])
        product, label = lesson.Multiply(3, in_place)((x, 7))
        assert (product.tolist(), label) == ([3, -6], 7)
        assert x.tolist() == ([3, -6] if in_place else [1, -2])
    assert lesson.Multiply(3)((x, 0))[0] is not x


def test_the_order_of_transforms_matters(lesson, device):
    for picture, _ in pictures(device):
        assert lesson.composed_sizes(picture) == [(100, 100), (140, 140)]


def test_a_picture_becomes_channels_first_and_0_to_1_if_asked(lesson, device):
    for picture, pixels in pictures(device):
        for scale, divisor in ((True, np.float32(255)), (False, np.float32(1))):
            tensor = lesson.to_tensor(picture, scale)
            assert tensor.dtype == torch.float32
            np.testing.assert_allclose(tensor.cpu(), pixels / divisor, rtol=1e-6)


def test_every_identity_holds_on_pil_images_and_on_tensors(lesson, device):
    for picture, pixels in pictures(device):
        padded = np.pad(pixels, ((0, 0), (30, 30), (30, 30)))
        grey = np.einsum("c,chw->hw", [0.2989, 0.587, 0.114], pixels)[None]
        expected = {
            "CenterCrop": pixels[:, 10:110, 25:105],
            "Grayscale": grey,
            "Pad, CenterCrop": padded[:, 30:-30, 30:-30],
            "RandomAffine by 180": np.rot90(pixels, 2, (1, 2)),
            "RandomCrop to all": pixels,
            "RandomHorizontalFlip": pixels[:, :, ::-1],
            "the same, twice": pixels,
            "RandomRotation by 90": np.rot90(pixels, 1, (1, 2)),
            "Resize, doubled": np.kron(pixels, np.ones((1, 2, 2))),
            "Lambda(vertical_flip)": pixels[:, ::-1],
            "ToPILImage and back": pixels,
        }
        identities = lesson.identities(picture)
        assert list(identities) == list(expected)
        for name, (result, right) in identities.items():
            tolerance = 1 if name == "Grayscale" else 0  # a grey level is a whole number
            assert result.dtype == torch.uint8 and result.shape == expected[name].shape
            np.testing.assert_allclose(result.cpu(), expected[name], atol=tolerance, rtol=0)
            np.testing.assert_allclose(right.cpu(), expected[name], rtol=1e-5)


def test_normalising_by_its_own_statistics_gives_0_and_1(lesson, device):
    image = torch.rand(3, 15, 20, dtype=torch.float64, device=device) * 7 + 3
    result = lesson.normalised(image)
    pixels = image.cpu().numpy()
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    deviation = pixels.std(axis=(1, 2), ddof=1, keepdims=True)
    np.testing.assert_allclose(result.cpu(), (pixels - mean) / deviation, rtol=1e-6, atol=1e-6)


def test_whitening_makes_the_covariance_1(lesson, device):
    mixing = np.random.default_rng(1).normal(size=(12, 12))
    patches = np.random.default_rng(2).normal(size=(500, 12)) @ mixing + 5
    shaped = torch.tensor(patches.reshape(500, 3, 2, 2), device=device)
    white = lesson.whitened(shaped)
    assert white.shape == (500, 3, 2, 2)
    flat = white.cpu().numpy().reshape(500, 12)
    np.testing.assert_allclose(np.cov(flat.T), np.eye(12), atol=1e-8)
    np.testing.assert_allclose(flat.mean(axis=0), 0, atol=1e-8)
    # Of all whitenings, cov^(-1/2) is the one whose matrix is symmetric.
    matrix = np.linalg.lstsq(patches - patches.mean(axis=0), flat, rcond=None)[0]
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-8)


def test_erasing_leaves_a_rectangle_of_zeros(lesson, device):
    shares = []
    for _ in range(40):
        image = torch.ones(2, 60, 80, device=device)
        zeros = lesson.erased(image) == 0
        assert torch.equal(zeros[0], zeros[1])
        rows, columns = zeros[0].any(dim=1), zeros[0].any(dim=0)
        assert torch.equal(zeros[0], rows[:, None] & columns)
        shares.append(zeros[0].double().mean().item())
        assert image.min() == 1
    assert min(shares) > 0.015 and max(shares) < 0.35 and len(set(shares)) > 10


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
    for crop, again in zip((first, second), lesson.random_crops(image, seed=4), strict=True):
        assert torch.equal(crop, again)
    assert not torch.equal(first, lesson.random_crops(image, seed=5)[0])


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


NOISE = torch.rand(3, 64, 48, generator=torch.Generator().manual_seed(0))


def test_every_device_computes_the_same(lesson, device):
    assert lesson.difference_to_cpu(NOISE, device) < 1e-4
    assert device != "cpu" or lesson.difference_to_cpu(NOISE, device) == 0


def test_difference_to_cpu_sees_a_difference(lesson, monkeypatch):
    offsets = itertools.count()
    monkeypatch.setattr(lesson, "normalised", lambda image: image * 0 - 0.5 * next(offsets))
    assert lesson.difference_to_cpu(NOISE, "cpu") == 0.5


def test_the_image_is_resized_and_turned_grey_before_it_is_compared(lesson, monkeypatch):
    seen = []
    monkeypatch.setattr(lesson, "normalised", lambda image: seen.append(image) or image)
    lesson.difference_to_cpu(NOISE, "cpu")
    resized = torch.nn.functional.interpolate(
        NOISE[None], (40, 40), mode="bilinear", antialias=True, align_corners=False
    )[0]
    grey = np.einsum("c,chw->hw", [0.2989, 0.587, 0.114], resized.numpy())
    for image in seen:
        assert image.shape == (3, 40, 40) and image.dtype == torch.float32
        np.testing.assert_allclose(image, np.stack([grey] * 3), atol=1e-6)


def test_a_write_into_the_data_set_multiplies_at_every_reading(lesson):
    first = np.float32(14.23)
    assert lesson.readings(in_place=False) == pytest.approx([4 * first] * 3, rel=1e-6)
    assert lesson.readings(in_place=True) == pytest.approx([4**k * first for k in (1, 2, 3)])


def test_only_integers_are_scaled_and_only_on_request(lesson):
    assert lesson.largest(torch.uint8, scale=True) == 1
    assert lesson.largest(torch.uint8, scale=False) == 255
    assert lesson.largest(torch.float32, scale=True) == 255


def test_white_by_imagenets_constants_is_2_249_2_429_2_640(lesson):
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert lesson.white(**lesson.IMAGENET) == pytest.approx(expected, rel=1e-6)
    assert [f"{number:.3f}" for number in expected] == ["2.249", "2.429", "2.640"]
    assert lesson.white([0.5] * 3, [0.25] * 3) == [2, 2, 2]


@pytest.mark.parametrize(("height", "width", "channels"), [(32, 32, 3), (2, 5, 4)])
def test_reshape_puts_few_values_right(lesson, height, width, channels):
    image = torch.arange(height * width * channels).view(height, width, channels)
    matches = sum(
        (h * width + w) * channels + c == (c * height + h) * width + w
        for h, w, c in itertools.product(range(height), range(width), range(channels))
    )
    assert lesson.share_right(image) == pytest.approx(matches / image.numel(), rel=1e-12)


@pytest.mark.parametrize("width", [64, 80])
def test_stripes_vanish_without_antialias(lesson, width):
    assert lesson.stripes_after(True, width) == pytest.approx(1 / 4, rel=1e-6)
    assert lesson.stripes_after(False, width) == 0


def test_the_halves_of_a_split_share_their_transform(lesson):
    measured = set()
    for seed in range(3):
        before, after = lesson.other_half(False, seed)
        assert after == pytest.approx(4 * before) and before in TABLE[:, 1].astype(np.float32)
        assert lesson.other_half(True, seed) == (before, before)
        generator = torch.Generator().manual_seed(seed)
        train, _ = torch.utils.data.random_split(range(178), [142, 36], generator=generator)
        tested = set(range(178)) - set(train.indices)
        assert any(math.isclose(before, np.float32(TABLE[i, 1])) for i in tested)
        measured.add(before)
    assert len(measured) > 1


def test_the_picture_shows_what_each_transform_makes(lesson, device):
    panels = {axes.get_title(): axes.images[0].get_array() for axes in lesson.figure(device).axes}
    assert len(panels) == 12
    photo = np.asarray(lesson.photograph()) / 255
    close = {"rtol": 0, "atol": 1e-5}
    np.testing.assert_allclose(panels["the photograph"], photo, **close)
    np.testing.assert_allclose(panels["CenterCrop(300)"], photo[150:450, 106:406], **close)
    np.testing.assert_allclose(panels["RandomHorizontalFlip"], photo[:, ::-1], **close)
    np.testing.assert_allclose(panels["Lambda: negative"], 1 - photo, **close)
    np.testing.assert_allclose(panels["Pad(80)"][80:-80, 80:-80], photo, **close)
    np.testing.assert_allclose(panels["Grayscale"][..., 0], panels["Grayscale"][..., 2])
    assert panels["RandomCrop(300)"].shape == (300, 300, 3)
    assert panels["Resize to 30 x 26"].shape == (30, 26, 3)
    erased = (np.abs(panels["RandomErasing"] - photo) > 1e-5).any(axis=2).mean()
    assert 0.01 < erased < 0.34
    for name in ("RandomAffine", "RandomRotation", "Normalize"):
        assert panels[name].shape == (600, 512, 3)
        assert np.abs(panels[name] - photo).mean() > 0.05
