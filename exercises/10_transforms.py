"""Exercises for lesson 10, transforms.

The checks: python -m pytest exercises/test_10_transforms.py
"""

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2


# %% 1. Write (easy, 5 minutes)
def stages(*transforms):
    """Write: a chain of transforms that shows every stage.

    Gets one callable or more; transforms is the tuple of them. Returns a callable of
    one argument, a sample, that applies them all, the first one first, and returns a
    list: the sample, and what each transform made of what it got.
    Example: stages(str, len)(1000) is [1000, "1000", 4].
    """
    raise NotImplementedError


# %% 2. Write (medium, 10 minutes)
def batch_of(pictures, height, width):
    """Write: pictures of all sizes and modes in one batch.

    Gets a list of n PIL images, of any size, in mode RGB, L, RGBA or P. Returns a
    tensor, float32, shape (n, 3, height, width), from 0 to 1: each picture in RGB, all
    of it squeezed into the size by v2.Resize. The pictures that were given stay as they
    are. Example: a red picture of mode P, 1 x 1, is 1 in the first channel, 0 in the
    others, in all height * width places.
    """
    raise NotImplementedError


# %% 3. Write (medium, 10 minutes)
def normalised_batch(images):
    """Write: pictures with mean 0 and std 1 in each channel.

    Gets images, float32, shape (n, c, h, w). Returns the same shape: each channel minus
    its mean over all pictures and pixels, divided by its std there, the one that
    divides by the count, x.std(correction=0). Example: two pictures of one pixel and
    one channel, 1 and 3, become -1 and 1.
    """
    raise NotImplementedError


# %% 4. Mend (medium, 10 minutes)
def flipped_together(image, mask):
    """Mend: a picture and its mask, flipped together.

    Gets image, floats of shape (c, h, w), and mask, bool, shape (h, w). A v2 transform
    takes several arguments, and tv_tensors.Mask(mask) tells it that this is a mask.
    Returns both flipped from left to right, or both as they are; a coin decides each
    time. Example: what is white in the left half is white in the right half of both, or
    of neither.
    """
    flip = v2.RandomHorizontalFlip(p=0.5)
    return flip(image), flip(mask)


# %% 5. Mend (easy, 5 minutes)
def between_0_and_1(image):
    """Mend: a picture of floats, scaled from the size of bytes to 0 ... 1.

    Gets and returns float32, shape (c, h, w); what was given must stay as it was.
    Example: 51 becomes 0.2, in every picture, and 127.5 becomes 0.5.
    """
    image /= 255
    return image
