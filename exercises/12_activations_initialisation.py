"""Exercises for lesson 12, activations and initialisation.

The checks: python -m pytest exercises/test_12_activations_initialisation.py
"""

import torch
import torch.nn.functional as F


# %% 1. Mend (easy, 5 minutes)
def block(x):
    """Mend: a residual block, relu(x) + x.

    Gets x, floats of any shape, which stay as they are. Returns a tensor of the same
    shape and dtype. Its slope is 2 where x is above 0, and 1 where x is below. Example:
    [-1, 2] gives [-1, 4].
    """
    return F.relu(x, inplace=True) + x


# %% 2. Write (medium, 10 minutes)
def he_normal(fan_out, fan_in, generator):
    """Write: He's first weights for a layer, from a generator.

    Gets the number of the layer's outputs, the number of its inputs, and a
    torch.Generator. Returns float32 numbers of shape (fan_out, fan_in), drawn
    independently from the normal distribution with mean 0 and variance 2 / fan_in. They
    come from the generator alone: two generators with the same seed give the same
    weights, and a second call gives others. Example: for fan_in = 200 the variance is
    0.01, and 68 % lie between -0.1 and 0.1, roughly.
    """
    raise NotImplementedError


# %% 3. Write (medium, 10 minutes)
def mean_square_after(layers, gain):
    """Write: the mean square q that theory foretells after so many layers with relu.

    Gets a whole number, 1 or more, and a float. The inputs come from N(0, 1). Each
    layer has weights of variance gain^2 / n, where n is its fan-in, and no biases; relu
    stands between the layers, and neither before the first nor after the last. Returns
    a Python float, the mean square of the last layer's sums, over all such networks.
    Example: a gain of 3.0 gives 9.0 after one layer, and 40.5 after two.
    """
    raise NotImplementedError
