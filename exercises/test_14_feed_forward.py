"""The checks of exercises/14_feed_forward.py."""

import itertools
import math

import torch


class Nearest:
    """Knows all rows that it was ever trained on, and says the label of the nearest."""

    def __init__(self):
        self.known = []

    def label(self, number):
        nearest = min(
            self.known, key=lambda row: abs(row[0] - number), default=(0.0, -1)
        )
        return nearest[1]


def rows_of(x, y):
    """The rows of x, (n, 1), and y, (n,), as a list of pairs."""
    return list(zip(x[:, 0].tolist(), y.tolist(), strict=True))


def test_cross_validate(answer, check):
    check.hint = (
        "Fold by fold: which rows does the model know by then, and which is it asked?"
    )
    for numbers, labels, folds in (
        ([0.0, 1.0], [0, 1], 2),
        ([0.0, 0.5, 10.0, 10.75, 2.0], [1, 1, 2, 2, 0], 5),
        ([0.0, 9.0, 0.25, 9.75, 1.5, 11.0, 3.0], [3, 7, 3, 7, 7, 7, 3], 3),
    ):
        asked = []

        def fit(model, x, y):
            model.known += rows_of(x, y)

        def accuracy(model, x, y, asked=asked):
            rows = rows_of(x, y)
            asked.append(
                [sorted(number for number, _ in part) for part in (model.known, rows)]
            )
            return sum(model.label(number) == label for number, label in rows) / len(
                rows
            )

        expected, expected_asked = [], []
        everything = list(zip(numbers, labels, strict=True))
        for fold in range(folds):
            model, rows = Nearest(), everything[fold::folds]
            model.known = [row for row in everything if row not in rows]
            right = [model.label(number) == label for number, label in rows]
            expected.append(sum(right) / len(right))
            expected_asked.append(
                [sorted(row[0] for row in part) for part in (model.known, rows)]
            )
        given = f"a nearest neighbour, x = {numbers} as a column, y = {labels}, "
        given += f"{folds} folds"
        check.given = given
        x = torch.tensor(numbers)[:, None]
        check(answer(Nearest, fit, accuracy, x, torch.tensor(labels), folds), expected)
        check.given = (
            f"{given}; what each model had been trained on, and what it was asked"
        )
        check(asked, expected_asked)


def test_wilson(answer, check):
    check.hint = (
        "What stands under each fraction line, and under the root? "
        "Work out 0 of 1 by hand."
    )
    for right, n in (
        *((349, 360), (360, 360), (0, 1), (1, 1), (1, 2), (0, 40), (3, 7)),
        *((90, 100), (50_000, 100_000)),
    ):
        # Another definition: all q from which p is no further than 1.96 standard
        # deviations of q.
        p, ends = right / n, []
        for end in (0.0, 1.0):
            inside, outside = p, end
            for _ in range(60):
                q = (inside + outside) / 2
                if abs(p - q) <= 1.96 * math.sqrt(q * (1 - q) / n):
                    inside = q
                else:
                    outside = q
            ends.append(inside)
        check.given = f"{right} of {n}"
        check(answer(right, n), tuple(ends), rtol=1e-6, atol=1e-6)


def test_early_stop(answer, check):
    check.hint = (
        "Go through the losses on paper: what must be remembered after each of them?"
    )
    cases = [([3.0, 1.0, 2.0, 2.0, 0.0], patience) for patience in (2, 3)]
    cases += [
        ([5.0, 4.0, 4.5, 4.25, 3.0, 3.5, 2.0, 6.0, 6.0, 1.0], 2),
        ([1.0, 2.0, 0.0], 1),
    ]
    for length in range(1, 6):
        for losses in itertools.product((0.5, 1.0, 2.0), repeat=length):
            cases += [(list(losses), patience) for patience in (1, 2, 3)]
    for losses, patience in cases:
        # Training stops where a window of `patience` losses is nowhere below all before
        # it.
        stops = [
            i
            for i in range(patience, len(losses))
            if min(losses[i - patience + 1 : i + 1]) >= min(losses[: i - patience + 1])
        ]
        seen = losses[: stops[0] + 1] if stops else losses
        check.given = f"losses {losses}, patience {patience}"
        check(answer(losses, patience), seen.index(min(seen)))


def test_split_rows(answer, check):
    check.hint = (
        "Follow two equal rows through each line. "
        "How many of what are shuffled and cut?"
    )
    for rows, share in (
        ([[1], [2], [1], [2]], 0.5),
        ([[1, 2], [2, 1], [1, 2], [0, 3], [1, 5], [4, 4], [1, 2], [0, 3]], 0.35),
        ([[7, 7], [0, 0], [7, 7], [7, 7]], 0.6),
        ([[0.25], [0.5], [0.25], [0.75], [0.5], [-0.25], [-0.5], [0.125], [0.0]], 0.4),
        ([[1], [2], [1], [2], [3]], 0.0),
        ([[1], [2], [1], [2], [3]], 1.0),
    ):
        x, kinds = torch.tensor(rows).float(), sorted(set(map(tuple, rows)))
        count, tested, parts = round(share * len(kinds)), set(), set()
        for seed in range(30):
            # a row is for the test with p >= 2/5: never in one of 10^6 checks
            given = f"x = {rows}, share {share}, seed {seed}"
            check.given = given
            train, test = answer(x, share, seed)
            check.given = f"{given}; all indices, sorted"
            check(torch.cat([train, test]).sort().values, torch.arange(len(rows)))
            sides = [{tuple(rows[i]) for i in part.tolist()} for part in (train, test)]
            check.given = f"{given}; rows that are on both sides"
            check(sorted(sides[0] & sides[1]), [])
            check.given = f"{given}; different rows for training, and for the test"
            check([len(side) for side in sides], [len(kinds) - count, count])
            check.given = f"{given}; does the same seed give the same again"
            again = answer(x, share, seed)[1]
            check(sorted(again.tolist()) == sorted(test.tolist()), True)
            tested |= sides[1]
            parts.add(frozenset(sides[1]))
        if count:
            given = f"x = {rows}, share {share}; rows that one of 30 seeds chose"
            check.given = given
            check(sorted(tested), kinds)
        if len(kinds) == 7:
            # 35 ways to choose 3 of 7: 30 seeds choose about 20 of them, and 8 or
            # fewer never in 10^9 checks; neighbours in a fixed order make 7
            check.given = f"x = {rows}, share {share}; are the rows drawn at random"
            check(len(parts) > 8, True)
