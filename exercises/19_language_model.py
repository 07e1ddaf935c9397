"""Exercises for lesson 19, a language model.

The checks: python -m pytest exercises/test_19_language_model.py
"""

import torch
import torch.nn.functional as F


# %% 1. Mend (easy, 5 minutes)
def next_token_loss(logits, tokens):
    """Mend: the loss of a model that predicts the next token.

    Gets logits, floats of shape (n, T, C), and tokens, whole numbers from 0 to C - 1 of
    shape (n, T), with T at least 2. The logits at a place are what the model says of
    the token that comes after it. Returns a tensor of shape (), in the dtype of the
    logits: the mean cross-entropy of all tokens that are predicted. Example: the tokens
    [[0, 1]] have one such token, the 1. With the logits [[[0, log 3], [7, 0]]] it has
    the probability 3/4, and the loss is log(4/3), 0.287682.
    """
    return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())


# %% 2. Write (easy, 10 minutes)
def perplexity(losses):
    """Write: the perplexity of a model on several texts.

    Gets losses, a list of tensors of floats, one for each text: the cross-entropies, in
    natural logarithms, of its tokens, shape (T,), where T differs from text to text.
    Returns a Python number: e to the power of the mean loss of all tokens. A model that
    finds five tokens equally likely at each place has the perplexity 5. Example:
    [tensor([log 2, log 2]), tensor([log 16])] gives 4.0.
    """
    raise NotImplementedError


# %% 3. Write (medium, 10 minutes)
def with_temperature(logits, temperature):
    """Write: the probabilities with which the next token is drawn.

    Gets logits, floats of shape (n, C), and temperature, a Python number, 0 or larger.
    Returns a tensor of shape (n, C) in the dtype of the logits. Above 0 a row is the
    softmax of its logits divided by the temperature. At 0 the largest logit of the row
    has the probability 1, and all others 0; no row has two largest. Example: the logits
    [[0, log 3]] give [[1/4, 3/4]] at temperature 1, [[1/10, 9/10]] at 0.5 and [[0, 1]]
    at 0.
    """
    raise NotImplementedError


# %% 4. Write (hard, 15 minutes)
def entropy_rate(table):
    """Write: the entropy of a source, each of whose symbols depends on the one before.

    Gets table, float64 of shape (C, C), where table[i, j] > 0 is the probability that
    symbol j comes after symbol i, so that each row sums to 1. In a long text the
    symbols have shares p, shape (C,), that one more step leaves as they are: p @ table
    is p, and p sums to 1. Step by step any other shares come to them; some tables take
    hundreds of steps. Returns a Python number, right to six decimals: the mean of the
    entropies of the rows, with natural logarithms, where each row counts by the share
    of its symbol. No model that predicts the next symbol has a lower mean loss in the
    long run. Example: [[0.5, 0.5], [0.25, 0.75]] has the shares 1/3 and 2/3, and
    0.605939 comes out.
    """
    raise NotImplementedError
