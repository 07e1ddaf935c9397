"""Plausible wrong answers to the exercises of lesson 12, each with its thought."""

import math

import torch
import torch.nn.functional as F


def block_1(x):
    """x comes first now, before anything can happen to it."""
    return x + F.relu(x, inplace=True)


def block_2(x):
    """A copy of x for the sum, made after relu has written."""
    return F.relu(x, inplace=True) + x.clone()


def block_3(x):
    """A second name is a copy."""
    y = x
    return F.relu(y, inplace=True) + x


def block_4(x):
    """Keep x for the sum; what the caller's x becomes is the caller's affair."""
    before = x.clone()
    return F.relu(x, inplace=True) + before


def block_5(x):
    """detach() copies, so that relu may write."""
    return F.relu(x.detach(), inplace=True) + x


def block_6(x):
    """A copy is cut off from the graph, as copies are."""
    return F.relu(x.detach().clone()) + x


def block_7(x):
    """relu(x) + x is relu of twice x."""
    return F.relu(2 * x)


def he_normal_1(fan_out, fan_in, generator):
    """The variance as the factor."""
    return torch.randn(fan_out, fan_in, generator=generator) * (2 / fan_in)


def he_normal_2(fan_out, fan_in, generator):
    """The number of outputs decides."""
    return torch.randn(fan_out, fan_in, generator=generator) * math.sqrt(2 / fan_out)


def he_normal_3(fan_out, fan_in, generator):
    """Inputs first, as in x @ w."""
    return torch.randn(fan_in, fan_out, generator=generator) * math.sqrt(2 / fan_in)


def he_normal_4(fan_out, fan_in, generator):
    """PyTorch knows it, and has a generator already."""
    w = torch.empty(fan_out, fan_in)
    return torch.nn.init.kaiming_normal_(w, nonlinearity="relu")


def he_normal_5(fan_out, fan_in, generator):
    """The generator's seed is what makes it reproducible."""
    torch.manual_seed(generator.initial_seed())
    return torch.randn(fan_out, fan_in) * math.sqrt(2 / fan_in)


def he_normal_6(fan_out, fan_in, generator):
    """Even numbers of the right variance are as good."""
    bound = math.sqrt(6 / fan_in)
    return (2 * torch.rand(fan_out, fan_in, generator=generator) - 1) * bound


def he_normal_7(fan_out, fan_in, generator):
    """The mean of inputs and outputs."""
    std = math.sqrt(2 / (fan_in + fan_out))
    return torch.randn(fan_out, fan_in, generator=generator) * std


def he_normal_8(fan_out, fan_in, generator):
    """Reproducible: begin with the same seed in each call."""
    generator.manual_seed(0)
    return torch.randn(fan_out, fan_in, generator=generator) * math.sqrt(2 / fan_in)


def he_normal_0(fan_out, fan_in, generator):
    """Kaiming wants this mean and this variance: so make them exact."""
    w = torch.randn(fan_out, fan_in, generator=generator)
    return (w - w.mean()) / w.std() * math.sqrt(2 / fan_in)


def he_normal_9(fan_out, fan_in, generator):
    """Good weights for one unit are good for all."""
    w = torch.randn(fan_in, generator=generator) * math.sqrt(2 / fan_in)
    return w.repeat(fan_out, 1)


def mean_square_after_1(layers, gain):
    """Every layer halves, the first too."""
    return (gain**2 / 2) ** layers


def mean_square_after_2(layers, gain):
    """The gain multiplies the mean square."""
    q = gain
    for _ in range(layers - 1):
        q = gain * q / 2
    return q


def mean_square_after_3(layers, gain):
    """Without what relu takes away."""
    return gain ** (2 * layers)


def mean_square_after_4(layers, gain):
    """So many layers, so many rounds of the loop."""
    q = gain**2
    for _ in range(layers):
        q = gain**2 * q / 2
    return q


def mean_square_after_5(layers, gain):
    """The first layer leaves the 1 of the inputs as it is."""
    return (gain**2 / 2) ** (layers - 1)


def mean_square_after_6(layers, gain):
    """The variance of relu's outputs instead of their mean square."""
    return gain**2 * (gain**2 * (1 / 2 - 1 / (2 * math.pi))) ** (layers - 1)


def mean_square_after_7(layers, gain):
    """Layers add up."""
    return gain**2 + (layers - 1) * gain**2 / 2


def mean_square_after_8(layers, gain):
    """A number of PyTorch is a number."""
    return gain**2 * torch.tensor(gain**2 / 2) ** (layers - 1)


def dead_units_1(layer, x):
    """A unit that is 0 for a row is dead."""
    return (layer(x) <= 0).any(dim=0).sum().item()


def dead_units_2(layer, x):
    """The units are the rows of the result."""
    return (layer(x) <= 0).all(dim=1).sum().item()


def dead_units_3(layer, x):
    """All zeros behind the relu are dead units."""
    return (torch.relu(layer(x)) == 0).sum().item()


def dead_units_4(layer, x):
    """A unit without a negative sum is alive, and 0 is not negative."""
    return (layer(x) < 0).all(dim=0).sum().item()


def dead_units_5(layer, x):
    """A dead unit is one without a gradient, so look at the gradient."""
    layer.zero_grad()
    torch.relu(layer(x)).sum().backward()
    return (layer.bias.grad == 0).sum().item()


def dead_units_6(layer, x):
    """A mean of 0 or below before the relu: no signal comes through."""
    return (layer(x).mean(dim=0) <= 0).sum().item()


def dead_units_7(layer, x):
    """The sum as PyTorch gives it."""
    return (layer(x) <= 0).all(dim=0).sum()
