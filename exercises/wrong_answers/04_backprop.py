"""Plausible wrong answers to the exercises of lesson 04, each with the thought behind
it."""

import torch


def neuron_gradients_1(x, y, w, b):
    """The sum of the samples' gradients: the mean's n is forgotten."""
    p = torch.sigmoid(w * x + b)
    dz = 2 * (p - y) * p * (1 - p)
    return (dz * x).sum(), dz.sum()


def neuron_gradients_2(x, y, w, b):
    """The gradient of a line: the sigmoid's local gradient is left out."""
    p = torch.sigmoid(w * x + b)
    return (2 * (p - y) * x).mean(), (2 * (p - y)).mean()


def neuron_gradients_3(x, y, w, b):
    """The local gradient is s (1 - s): of z."""
    z = w * x + b
    dz = 2 * (torch.sigmoid(z) - y) * z * (1 - z)
    return (dz * x).mean(), dz.mean()


def layer_gradients_1(x, w, dz):
    """The bias gets all of it."""
    return dz @ w, dz.T @ x, dz.sum()


def layer_gradients_2(x, w, dz):
    """Inputs on the left: the weight's gradient transposed."""
    return dz @ w, x.T @ dz, dz.sum(dim=0)


def layer_gradients_3(x, w, dz):
    """Both parameters get the mean over the rows."""
    return dz @ w, dz.T @ x / len(x), dz.sum(dim=0)


def layer_gradients_4(x, w, dz):
    """Keep the dimension: it broadcasts to the same numbers."""
    return dz @ w, dz.T @ x, dz.sum(dim=0, keepdim=True)


def softsign_backward_1(z, gradient):
    """The derivative is asked for."""
    return 1 / (1 + z.abs()) ** 2


def softsign_backward_2(z, gradient):
    """What forward returned is what backward needs."""
    h = z / (1 + z.abs())
    return gradient / (1 + h.abs()) ** 2


def softsign_backward_3(z, gradient):
    """|z| has the sign as its derivative."""
    return gradient * z.sign() / (1 + z.abs()) ** 2


def first_weights_1(units, inputs, seed):
    """One random row, for all units."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(inputs, generator=generator) / inputs**0.5).expand(
        units, inputs
    )


def first_weights_2(units, inputs, seed):
    """rand is random."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(units, inputs, generator=generator) / inputs**0.5


def first_weights_3(units, inputs, seed):
    """A seed is set with torch.manual_seed."""
    torch.manual_seed(seed)
    return torch.randn(units, inputs) / inputs**0.5


def first_weights_4(units, inputs, seed):
    """x w needs inputs first."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(inputs, units, generator=generator) / inputs**0.5


def first_weights_5(units, inputs, seed):
    """The variance is 1 / sqrt(inputs)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(units, inputs, generator=generator) / inputs**0.25


def first_weights_6(units, inputs, seed):
    """A std of 1/20."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(units, inputs, generator=generator) / 20
