"""Plausible wrong answers to the exercises of lesson 16, and the thoughts behind."""

import torch
import torch.nn.functional as F
from torch import nn


def predict_one_1(model, picture):
    """A grey picture is (1, 8, 8), and that is what it takes."""
    return model(picture[None]).argmax(dim=0)[0].item()


def predict_one_2(model, picture):
    """Classes are the last dimension, whatever comes before."""
    return model(picture[None]).argmax(dim=-1)[-1].item()


def predict_one_3(model, picture):
    """The largest logit."""
    return model(picture[None, None]).max().item()


def predict_one_4(model, picture):
    """The class, as argmax returns it."""
    return model(picture[None, None]).argmax(dim=1)


def predict_one_5(model, picture):
    """Width before height."""
    return model(picture.T[None, None]).argmax(dim=1).item()


def predict_one_6(model, picture):
    """There is one sample, so the largest of all that came out is its class."""
    return model(picture[None]).argmax().item()


def predict_one_7(model, picture):
    """The sample comes first: over dimension 0."""
    return model(picture[None, None]).argmax(dim=0)[0].item()


def features():
    """Both convolutions, each with its relu and its pooling."""
    return [
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    ]


def classifier_1(height, width, classes):
    """A quarter of the height times one of the width is a 16th, of 16 channels."""
    return nn.Sequential(*features(), nn.Flatten(), nn.Linear(height * width, classes))


def classifier_2(height, width, classes):
    """Pictures are square."""
    size = 16 * (height // 4) ** 2
    return nn.Sequential(*features(), nn.Flatten(), nn.Linear(size, classes))


def classifier_3(height, width, classes):
    """Without parentheses: from left to right."""
    size = 16 * (height // 4 * width // 4)
    return nn.Sequential(*features(), nn.Flatten(), nn.Linear(size, classes))


def classifier_4(height, width, classes):
    """Bring every picture to 2 x 2, and the layer fits."""
    pool = nn.AdaptiveAvgPool2d(2)
    return nn.Sequential(
        *features(), pool, nn.Flatten(), nn.Linear(16 * 2 * 2, classes)
    )


def classifier_5(height, width, classes):
    """Convolutions and pooling; the maximum is bent enough."""
    layers = [layer for layer in features() if not isinstance(layer, nn.ReLU)]
    size = 16 * (height // 4) * (width // 4)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, classes))


def classifier_6(height, width, classes):
    """What does not divide is rounded up."""
    size = 16 * -(-height // 4) * -(-width // 4)
    return nn.Sequential(*features(), nn.Flatten(), nn.Linear(size, classes))


def classifier_7(height, width, classes):
    """The mean of each window instead of its largest number."""
    layers = [
        nn.AvgPool2d(2) if isinstance(layer, nn.MaxPool2d) else layer
        for layer in features()
    ]
    size = 16 * (height // 4) * (width // 4)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, classes))


def classifier_8(height, width, classes):
    """A relu behind each layer, the last one too."""
    size = 16 * (height // 4) * (width // 4)
    last = nn.Linear(size, classes)
    return nn.Sequential(*features(), nn.Flatten(), last, nn.ReLU())


def max_pool_by_loops_1(x, k, stride):
    """A window begins wherever the stride leads, and is cut off at the border."""
    tops, lefts = range(0, x.shape[2], stride), range(0, x.shape[3], stride)
    out = x.new_empty(*x.shape[:2], len(tops), len(lefts))
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            out[:, :, i, j] = x[:, :, top : top + k, left : left + k].amax(dim=(2, 3))
    return out


def max_pool_by_loops_2(x, k, stride):
    """Begin with zeros, and keep what is larger."""
    height, width = [(length - k) // stride + 1 for length in x.shape[2:]]
    out = x.new_zeros(*x.shape[:2], height, width)
    for i in range(k):
        for j in range(k):
            rows = slice(i, i + (height - 1) * stride + 1, stride)
            columns = slice(j, j + (width - 1) * stride + 1, stride)
            out = torch.maximum(out, x[:, :, rows, columns])
    return out


def max_pool_by_loops_3(x, k, stride):
    """Windows lie side by side: number i begins at i k."""
    height, width = [(length - k) // stride + 1 for length in x.shape[2:]]
    out = x.new_full((*x.shape[:2], height, width), -torch.inf)
    for i in range(min(height, x.shape[2] // k)):
        for j in range(min(width, x.shape[3] // k)):
            window = x[:, :, i * k : i * k + k, j * k : j * k + k]
            out[:, :, i, j] = window.amax(dim=(2, 3))
    return out


def max_pool_by_loops_4(x, k, stride):
    """The largest number of a window, over everything in it."""
    height, width = [(length - k) // stride + 1 for length in x.shape[2:]]
    out = x.new_empty(*x.shape[:2], height, width)
    for i in range(height):
        for j in range(width):
            top, left = i * stride, j * stride
            out[:, :, i, j] = x[:, :, top : top + k, left : left + k].max()
    return out


def max_pool_by_loops_5(x, k, stride):
    """So often the stride fits into what is left."""
    height, width = [(length - k) // stride for length in x.shape[2:]]
    out = x.new_empty(*x.shape[:2], height, width)
    for i in range(height):
        for j in range(width):
            top, left = i * stride, j * stride
            out[:, :, i, j] = x[:, :, top : top + k, left : left + k].amax(dim=(2, 3))
    return out


def max_pool_by_loops_6(x, k, stride):
    """A tensor of zeros to write into."""
    height, width = [(length - k) // stride + 1 for length in x.shape[2:]]
    out = torch.zeros(*x.shape[:2], height, width)
    for i in range(height):
        for j in range(width):
            top, left = i * stride, j * stride
            out[:, :, i, j] = x[:, :, top : top + k, left : left + k].amax(dim=(2, 3))
    return out


def max_pool_by_loops_7(x, k, stride):
    """Up to the last pixel of the window, top + k - 1."""
    height, width = [(length - k) // stride + 1 for length in x.shape[2:]]
    out = x.new_empty(*x.shape[:2], height, width)
    for i in range(height):
        for j in range(width):
            rows = slice(i * stride, i * stride + max(k - 1, 1))
            columns = slice(j * stride, j * stride + max(k - 1, 1))
            out[:, :, i, j] = x[:, :, rows, columns].amax(dim=(2, 3))
    return out


def max_pool_by_loops_8(x, k, stride):
    """A convolution looks at all channels of a picture, and so does its pooling."""
    height, width = [(length - k) // stride + 1 for length in x.shape[2:]]
    out = x.new_empty(*x.shape[:2], height, width)
    for i in range(height):
        for j in range(width):
            window = x[:, :, i * stride : i * stride + k, j * stride : j * stride + k]
            out[:, :, i, j] = window.amax(dim=(1, 2, 3))[:, None]
    return out


def max_pool_by_loops_9(x, k, stride):
    """PyTorch has it."""
    return F.max_pool2d(x, k, stride)


def mean_without_dark_border_1(x, k):
    """The padding keeps the size."""
    return F.avg_pool2d(x, k, stride=1, padding=k // 2)


def mean_without_dark_border_2(x, k):
    """What is 0 was not there: divide by how many are not 0."""
    total = F.avg_pool2d(x, k, stride=1, padding=k // 2)
    inside = F.avg_pool2d((x != 0).to(x.dtype), k, stride=1, padding=k // 2)
    return total / inside


def mean_without_dark_border_3(x, k):
    """Repeat the border, and no zeros come in."""
    return F.avg_pool2d(F.pad(x, [k // 2] * 4, "replicate"), k, stride=1)


def mean_without_dark_border_4(x, k):
    """A kernel of ones over all channels."""
    kernel = torch.ones(x.shape[1], x.shape[1], k, k, dtype=x.dtype)
    total = F.conv2d(x, kernel, padding=k // 2)
    return total / F.conv2d(torch.ones_like(x), kernel, padding=k // 2)


def mean_without_dark_border_5(x, k):
    """Where no zeros come in the size is smaller."""
    return F.avg_pool2d(x, min(k, *x.shape[2:]), stride=1)


def mean_without_dark_border_6(x, k):
    """Sums over slices that end at the border, each divided by k k."""
    out, far = torch.empty_like(x), k // 2
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            rows, columns = (
                slice(max(i - far, 0), i + far + 1),
                slice(max(j - far, 0), j + far + 1),
            )
            out[:, :, i, j] = x[:, :, rows, columns].sum(dim=(2, 3)) / k**2
    return out


def mean_without_dark_border_7(x, k):
    """From i - k // 2 on; a slice takes care of its ends."""
    out, far = torch.empty_like(x), k // 2
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            window = x[:, :, max(i - far, 0) : i + far, max(j - far, 0) : j + far]
            out[:, :, i, j] = window.mean(dim=(2, 3))
    return out


def mean_without_dark_border_8(x, k):
    """The mean of a row of k pixels: the next rows come in with their own means."""
    kernel = torch.ones(1, 1, 1, k, dtype=x.dtype)
    pictures = x.reshape(-1, 1, *x.shape[2:])
    total = F.conv2d(pictures, kernel, padding=(0, k // 2))
    inside = F.conv2d(torch.ones_like(pictures), kernel, padding=(0, k // 2))
    return (total / inside).reshape(x.shape)
