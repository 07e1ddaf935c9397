"""Textbook formulas in NumPy and float64, which several lessons are compared with."""

import numpy as np


def sigmoid(z):
    """1 / (1 + e^-z) of each number."""
    return 1 / (1 + np.exp(-z))


def log_softmax(z):
    """log(e^z / sum(e^z)), the sum over the last dimension."""
    return z - np.logaddexp.reduce(z, axis=-1, keepdims=True)


def softmax(z):
    """e^z / sum(e^z), the sum over the last dimension."""
    return np.exp(log_softmax(z))


def adam_step(parameter, gradient, mean, square, step, lr, betas=(0.9, 0.999)):
    """(parameter, mean, square) after step number 1, 2, ... of Adam with eps 1e-8.

    Kingma and Ba, Adam: A Method for Stochastic Optimization, 2015, algorithm 1; mean
    and square are 0 before the first step.
    """
    first, second = betas
    mean = first * mean + (1 - first) * gradient
    square = second * square + (1 - second) * gradient**2
    size = np.sqrt(square / (1 - second**step)) + 1e-8
    return parameter - lr * mean / (1 - first**step) / size, mean, square


def swings(rate, steps):
    """d[0] = 1, ..., d[steps] of gradient descent that never resets its gradient.

    The gradient at the distance d is rate d, the learning rate in it; 0 < rate < 4.
    """
    # d[k+1] = d[k] - rate (d[0] + ... + d[k]); so d[k+1] + d[k-1] = (2 - rate) d[k], a
    # pendulum without friction. As cos(u + t) + cos(u - t) = 2 cos(t) cos(u), it is
    # solved by cos((k + 1/2) t), 2 cos(t) = 2 - rate; d[1] = 2 cos(t) - 1 = 1 - rate.
    t = np.arccos(1 - rate / 2)
    return np.cos((np.arange(steps + 1) + 0.5) * t) / np.cos(t / 2)
