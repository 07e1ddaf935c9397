"""The checks of exercises/19_language_model.py."""

import math

import torch


def surprise(row, token):
    """-log of the probability of a token, by its row of logits, in plain Python."""
    largest = max(row)
    total = math.fsum(math.exp(logit - largest) for logit in row)
    return math.log(total) + largest - row[token]


def quarters(*shape, start=0):
    """Quarters from -1.5 to 1.5, in no order that matters, as nested lists."""
    if not shape:
        return (7 * start * start + 5 * start) % 13 / 4 - 1.5
    size = math.prod(shape[1:])
    return [quarters(*shape[1:], start=start + i * size) for i in range(shape[0])]


def test_next_token_loss(answer, check):
    check.hint = "Which token do the last logits speak of? And who speaks of the first?"
    for logits, tokens in (
        ([[[0.0, math.log(3)], [7.0, 0.0]]], [[0, 1]]),
        (quarters(1, 4, 3), [[2, 0, 1, 1]]),
        (quarters(3, 2, 3, start=2), [[0, 1], [2, 2], [1, 0]]),
        (quarters(2, 5, 4, start=1), [[3, 0, 0, 2, 1], [1, 1, 3, 2, 0]]),
    ):
        terms = [
            surprise(row, token)
            for rows, text in zip(logits, tokens, strict=True)
            for row, token in zip(rows, text[1:], strict=False)
        ]
        expected = math.fsum(terms) / len(terms)
        for dtype in (torch.float32, torch.float64):
            check.given = f"logits = {logits}, {dtype}, and tokens = {tokens}"
            found = answer(torch.tensor(logits, dtype=dtype), torch.tensor(tokens))
            check(found, torch.tensor(expected, dtype=dtype))


def test_perplexity(answer, check):
    check.hint = "How much does a text of one token count beside one of a hundred?"
    log = math.log
    for texts in (
        [[log(2), log(2)], [log(16)]],
        [[log(5)] * 3],
        [[0.25, 3.0, 0.5], [2.0], [0.125, 0.0, 1.5, 4.0, 0.75]],
        [[0.5] * 99, [8.0]],
    ):
        check.given = f"{[[round(loss, 4) for loss in text] for text in texts]}"
        every = [loss for text in texts for loss in text]
        found = answer([torch.tensor(text) for text in texts])
        check(found, math.exp(math.fsum(every) / len(every)), rtol=1e-5)


def test_with_temperature(answer, check):
    check.hint = "What is done to the logits, what to a sum? What is x / 0?"
    for logits in (
        [[0.0, math.log(3)]],
        [[0.5, -1.0, 2.0], [3.0, 1.0, -2.5]],
        [[-400.0, 300.0, 299.0, 298.5]],
    ):
        for temperature in (1, 0.5, 2.0, 0.01, 0):
            expected = []
            for row in logits:
                largest = max(row)
                if temperature == 0:
                    parts = [float(logit == largest) for logit in row]
                else:
                    parts = [math.exp((z - largest) / temperature) for z in row]
                expected.append([part / math.fsum(parts) for part in parts])
            for dtype in (torch.float32, torch.float64):
                check.given = f"logits = {logits}, {dtype}, temperature = {temperature}"
                found = answer(torch.tensor(logits, dtype=dtype), temperature)
                check(found, torch.tensor(expected, dtype=dtype))


def entropy(p):
    """-sum p log p, in plain Python."""
    return -math.fsum(share * math.log(share) for share in p)


def mean_entropy(table, frequencies):
    """The mean of the entropies of the rows, each as often as its symbol is seen."""
    pairs = zip(frequencies, table, strict=True)
    return math.fsum(often * entropy(row) for often, row in pairs) / math.fsum(
        frequencies
    )


def test_entropy_rate(answer, check):
    check.hint = (
        "Draw two symbols and four arrows. How often is each seen? What is left open?"
    )
    cases = []
    # Two symbols: as many steps lead from 0 to 1 as back, so a p_0 = b p_1.
    for a, b in ((0.5, 0.25), (0.9, 0.3), (0.01, 0.03), (0.7, 0.7)):
        table = [[1 - a, a], [b, 1 - b]]
        cases.append((table, mean_entropy(table, [b, a])))
    # All alike, and rows that do not look at the symbol before.
    cases += [
        ([[1 / 5] * 5] * 5, math.log(5)),
        ([[0.7, 0.1, 0.2]] * 3, entropy([0.7, 0.1, 0.2])),
    ]
    # Columns that sum to 1 too: equal shares stay equal.
    table = [[0.8, 0.1, 0.1], [0.1, 0.4, 0.5], [0.1, 0.5, 0.4]]
    cases.append((table, mean_entropy(table, [1, 1, 1])))
    # Roads, each as wide there as back: a place is seen as often as its roads are wide.
    roads = [
        [4.0, 1.0, 2.0, 1.0],
        [1.0, 1.0, 5.0, 3.0],
        [2.0, 5.0, 2.0, 0.5],
        [1.0, 3.0, 0.5, 0.25],
    ]
    table = [[width / sum(row) for width in row] for row in roads]
    cases.append((table, mean_entropy(table, [sum(row) for row in roads])))
    # Three symbols, rather in a circle: by the trees that lead to each (Markov chain
    # tree theorem).
    table = [[0.1, 0.8, 0.1], [0.05, 0.25, 0.7], [0.5, 0.1, 0.4]]
    trees = []
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        to_j, to_k, from_j, from_k = table[k][j], table[j][k], table[j][i], table[k][i]
        trees.append(from_j * from_k + to_k * from_k + to_j * from_j)
    cases.append((table, mean_entropy(table, trees)))
    for table, expected in cases:
        check.given = (
            f"table = {[[round(number, 4) for number in row] for row in table]}"
        )
        found = answer(torch.tensor(table, dtype=torch.float64))
        check(found, expected, rtol=0, atol=1e-6)
