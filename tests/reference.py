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
