"""The exercises of lesson 16, solved."""

import torch
import torch.nn.functional as F
from torch import nn


def predict_one(model, picture):
    """The class that a model gives to one picture."""
    # Both are missing, the sample and the channel. With one of them a convolution takes
    # (1, 8, 8) for a picture without a batch. A linear layer behind it may complain;
    # if nothing does, what should be the classes becomes the samples.
    return model(picture[None, None]).argmax(dim=1).item()


def classifier(height, width, classes):
    """A network for pictures of height x width."""
    # Each pooling halves and rounds down, so twice is // 4. Flatten keeps the samples
    # apart: a wrong size is an error then, where view(-1, size) makes several rows of
    # one picture.
    layers = []
    for channels, more in ((1, 8), (8, 16)):
        layers += [nn.Conv2d(channels, more, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    size = 16 * (height // 4) * (width // 4)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, classes))


def max_pool_by_loops(x, k, stride):
    """The largest number of each window."""
    # A window is a slice of all pictures and channels at once; amax leaves these two
    # dimensions.
    height, width = [(length - k) // stride + 1 for length in x.shape[2:]]
    out = x.new_empty(*x.shape[:2], height, width)
    for i in range(height):
        for j in range(width):
            top, left = i * stride, j * stride
            out[:, :, i, j] = x[:, :, top : top + k, left : left + k].amax(dim=(2, 3))
    return out


def mean_without_dark_border(x, k):
    """The mean over those of k x k pixels that exist."""
    # The same sum over ones counts the pixels inside. Each channel is a picture of its
    # own, so that the convolution does not add them up.
    kernel = torch.ones(1, 1, k, k, dtype=x.dtype, device=x.device)
    pictures = x.reshape(-1, 1, *x.shape[2:])
    total = F.conv2d(pictures, kernel, padding=k // 2)
    inside = F.conv2d(torch.ones_like(pictures), kernel, padding=k // 2)
    return (total / inside).reshape(x.shape)
