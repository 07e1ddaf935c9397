"""The exercises of lesson 12, solved."""

import math

import torch
import torch.nn.functional as F


def mean_square_after(layers, gain):
    """The mean square after so many layers with relu."""
    # The first layer gets the inputs as they are; each further one gets q / 2, since
    # relu makes half of the sums 0, whose squares were half of the whole.
    q = gain**2
    for _ in range(layers - 1):
        q = gain**2 * (q / 2)
    return q


def he_normal(fan_out, fan_in, generator):
    """Kaiming's first weights: normal, with mean 0 and variance 2 / fan_in."""
    # randn has the variance 1, and a factor c makes c^2 of it.
    return torch.randn(fan_out, fan_in, generator=generator) * math.sqrt(2 / fan_in)


def block(x):
    """A skip around a relu, relu(x) + x."""
    # With inplace=True relu writes into x, and there is no x left to add: relu(x) twice
    # comes out.
    return F.relu(x) + x


def dead_units(layer, x):
    """The number of units whose relu gives 0 for each row."""
    with torch.no_grad():
        sums = layer(x)
    # A relu gives 0 where its sum is 0 or below; the rows are dim 0.
    return (sums <= 0).all(dim=0).sum().item()
