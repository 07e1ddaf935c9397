"""Exercises for lesson 16, convolution.

The checks: python -m pytest exercises/test_16_convolution.py
"""

import torch
import torch.nn.functional as F
from torch import nn


# %% 1. Mend (easy, 5 minutes)
def predict_one(model, picture):
    """Mend: the class that a model of pictures gives to a single one.

    Gets a trained model in evaluation mode, from grey pictures, shape (n, 1, 8, 8), to
    logits, shape (n, classes), and one grey picture, floats of shape (8, 8). Returns a
    Python int, the class with the largest logit. Example: a picture with the logits
    0.5, 2 and 1 is of class 1.
    """
    return model(picture[None]).argmax(dim=1)[0].item()


# %% 2. Mend (medium, 10 minutes)
def classifier(height, width, classes):
    """Mend: a network for pictures of height x width, not of 8 x 8 alone.

    Gets three whole numbers; height and width are at least 4. Returns a Module from
    grey pictures, shape (n, 1, height, width), to logits, shape (n, classes): Conv2d(1,
    8, 3, padding=1), relu and MaxPool2d(2), Conv2d(8, 16, 3, padding=1), relu and
    MaxPool2d(2), then one Linear layer on all that is left of a picture.
    Example: classifier(8, 8, 10) has 1898 numbers to train, and classifier(10, 14, 5)
    has 1733.
    """

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(1, 8, 3, padding=1)
            self.second = nn.Conv2d(8, 16, 3, padding=1)
            self.last = nn.Linear(16 * 2 * 2, classes)

        def forward(self, x):
            x = F.max_pool2d(torch.relu(self.first(x)), 2)
            x = F.max_pool2d(torch.relu(self.second(x)), 2)
            return self.last(x.view(-1, 16 * 2 * 2))

    return Classifier()


# %% 3. Write (medium, 10 minutes)
def max_pool_by_loops(x, k, stride):
    """Write: max pooling without PyTorch's own, window by window.

    Gets x, floats of shape (n, C, H, W), the size k of a window, k x k pixels, at most
    H and W, and the stride, both whole numbers from 1 on. There is no padding: only
    windows that fit into the picture count. Returns the largest number of each window,
    for each picture and channel, in the dtype of x. Its shape is (n, C, height, width),
    each size as for a convolution with this k and stride. Example: [[1, 5, 2], [3, 4,
    0]], as shape (1, 1, 2, 3), with k = 2 and stride 1 gives [[5, 5]].
    """
    raise NotImplementedError


# %% 4. Write (hard, 15 minutes)
def mean_without_dark_border(x, k):
    """Write: the mean over k x k pixels around each pixel, of those that exist.

    Gets x, floats of shape (n, C, H, W), and k, an odd number. Returns a tensor of the
    same shape and dtype: for each picture, channel and pixel the mean of the k x k
    pixels with this one in the middle. Those outside of the picture count neither in
    the sum nor in the number that it is divided by. Example: [[1, 2, 6]], as shape (1,
    1, 1, 3), with k = 3 gives [[1.5, 3, 4]].
    """
    raise NotImplementedError
