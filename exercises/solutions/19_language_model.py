"""The exercises of lesson 19, solved."""

import math

import torch
import torch.nn.functional as F


def next_token_loss(logits, tokens):
    """The mean cross-entropy of what the logits say of the token after theirs."""
    # The last logits speak of a token that is not there, and nobody of the first.
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def perplexity(losses):
    """e to the power of the mean loss of all tokens."""
    # One mean over all tokens: a mean of the texts' means would count a token of a
    # short text more.
    return math.exp(torch.cat(losses).mean().item())


def with_temperature(logits, temperature):
    """softmax(logits / temperature), and its limit at 0."""
    # The softmax subtracts the largest logit itself, so large ones do no harm.
    if temperature == 0:
        return F.one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits.dtype)
    return torch.softmax(logits / temperature, dim=1)


def entropy_rate(table):
    """The entropies of the rows, weighted by the shares of their symbols."""
    # Steps from anywhere lead to the shares; p @ table goes on by one step, table @ p
    # does not.
    p = torch.full_like(table[0], 1 / len(table))
    for _ in range(500):
        p = p @ table
    return (p @ torch.special.entr(table).sum(dim=1)).item()
