"""The exercises of lesson 18, solved."""

import torch


def heads(x, number):
    """The numbers of each token, cut into heads."""
    # Cut d where it is, then move. A view of another shape only counts on through the
    # memory, token after token, so that a head would get whole tokens.
    return x.unflatten(2, (number, -1)).transpose(1, 2)


def look_back(layer, x):
    """nn.MultiheadAttention of tokens that see themselves and what came before."""
    # This layer blocks where the mask is True: above the diagonal, where the key is the
    # later one.
    length = x.shape[1]
    blocked = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(
        diagonal=1
    )
    out, _ = layer(x, x, x, attn_mask=blocked)
    return out


def attention_with_padding(q, k, v, real):
    """Attention in which no query looks at padding."""
    # Minus infinity before the softmax: the weight is 0, and the others still sum to 1.
    # All queries of a sample share its row of real, hence (n, 1, S) against (n, T, S).
    scores = q @ k.transpose(1, 2) / q.shape[2] ** 0.5
    scores = scores.masked_fill(~real[:, None, :], -torch.inf)
    return torch.softmax(scores, dim=2) @ v


def rows_of_tokens(layer, x, padding):
    """What nn.MultiheadAttention says of the tokens of a padded batch, else 0."""
    # A sequence that is all padding never goes into the layer. What is nan once stays
    # nan in the gradient, even behind nan_to_num or a mask.
    some = ~padding.all(dim=1)
    tokens = x[some]
    rows, _ = layer(tokens, tokens, tokens, key_padding_mask=padding[some])
    out = torch.zeros_like(x)
    out[some] = rows
    return out.masked_fill(padding[:, :, None], 0)
