"""Exercises for lesson 12, activations and initialisation.

The checks: python -m pytest exercises/test_12_activations_initialisation.py
"""

import torch
import torch.nn.functional as F


# %% 1. Write (medium, 10 minutes)
def mean_square_after(layers, gain):
    """Write: the mean square that theory foretells after so many layers with relu.

    Gets a whole number, 1 or more, and a float. The inputs have the mean square 1. Each
    layer has independent normal weights with mean 0 and variance gain^2 / n, where n is
    the number of its inputs, and no biases. A relu stands between the layers, and none
    behind the last one. Returns a Python float, the mean square of the last layer's
    sums, on average over all such networks. Example: a gain of 3.0 gives 9.0 after one
    layer, and 40.5 after two.
    """
    raise NotImplementedError


# %% 2. Write (medium, 10 minutes)
def he_normal(fan_out, fan_in, generator):
    """Write: Kaiming's first weights for a layer, from a generator.

    Gets the number of the layer's outputs, the number of its inputs, and a
    torch.Generator. Returns float32 numbers of shape (fan_out, fan_in), drawn
    independently from the normal distribution with mean 0 and variance 2 / fan_in. They
    come from the generator alone: two generators with the same seed give the same
    weights, and a second call gives others. Do not standardise what was drawn: its mean
    and variance differ a little from call to call. Example: for fan_in = 200 the
    variance is 0.01, and 68 % lie between -0.1 and 0.1, roughly.
    """
    raise NotImplementedError


# %% 3. Mend (easy, 5 minutes)
def block(x):
    """Mend: a skip around a relu, relu(x) + x.

    Gets x, floats of any shape, which stay as they are. Returns a tensor of the same
    shape and dtype. Its slope is 2 where x is above 0, and 1 where x is below. Example:
    [-1, 2] gives [-1, 4].
    """
    return F.relu(x, inplace=True) + x


# %% 4. Write (medium, 10 minutes)
def dead_units(layer, x):
    """Write: how many units of a layer are dead.

    Gets an nn.Linear and all training rows, shape (n, layer.in_features). Behind the
    layer stands a relu. A unit is dead if its relu gives 0 for each row. Returns how
    many units are, a Python int. The gradients of the layer stay as they are. Example:
    a layer with the weights [[1.0], [-1.0]] and biases of 0 has one dead unit for the
    rows [[1.0], [2.0]], and none for the rows [[1.0], [-2.0]].
    """
    raise NotImplementedError
