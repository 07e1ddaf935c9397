"""The checks of exercises/12_activations_initialisation.py."""

import math

import torch


def test_mean_square_after(answer, check):
    check.hint = (
        "Go through one, two and three layers on paper: what does each do to q?"
    )
    for layers, gain, expected in (
        (1, 3.0, 9.0),
        (2, 3.0, 40.5),
        (3, 1.0, 0.25),
        (4, 0.5, 0.5**11),
        (50, 3.0, 3**100 / 2**49),
        (50, math.sqrt(2), 2.0),
        (50, 1.0, 0.5**49),
    ):
        check.given = f"layers {layers}, gain {gain:.5g}"
        check(answer(layers, gain), expected, rtol=1e-4, atol=0)


def test_he_normal(answer, check):
    check.hint = (
        "Who draws, and by which numbers are the draws multiplied? Measure the mean, "
        "the variance."
    )
    before = torch.get_rng_state()
    for fan_out, fan_in in ((50, 200), (200, 50)):
        n = fan_out * fan_in
        given = f"fan_out {fan_out}, fan_in {fan_in}, a generator with seed 0"
        check.given = f"{given}; the result times 0"
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng(devices=[]):
            w = answer(fan_out, fan_in, generator)
            untouched = torch.equal(torch.get_rng_state(), before)
            more = answer(fan_out, fan_in, generator)
            same = answer(fan_out, fan_in, torch.Generator().manual_seed(0))
            other = answer(fan_out, fan_in, torch.Generator().manual_seed(1))
        check(w * 0, torch.zeros(fan_out, fan_in))
        check.given = f"{given}; how many rows, and how many columns, are distinct"
        distinct = [len(set(map(tuple, part.tolist()))) for part in (w, w.T)]
        check(distinct, [fan_out, fan_in])
        # Of n normal numbers with variance v the mean has a standard deviation of
        # sqrt(v / n), the variance one of v sqrt(2 / n), a share p one of sqrt(p (1 -
        # p) / n): six of these.
        numbers, v = w.detach().double(), 2 / fan_in
        check.given = f"{given}; the mean of all weights"
        check(numbers.mean().item(), 0.0, rtol=0, atol=6 * math.sqrt(v / n))
        check.given = f"{given}; the variance of all weights"
        check(numbers.var().item(), v, rtol=6 * math.sqrt(2 / n), atol=0)
        check.given = f"{given}; the share that is closer to 0 than sqrt(2 / fan_in)"
        p = math.erf(math.sqrt(1 / 2))
        share = (numbers.abs() < math.sqrt(v)).double().mean().item()
        check(share, p, rtol=0, atol=6 * math.sqrt(p * (1 - p) / n))
        check.given = f"{given}; is PyTorch's own, global generator as it was"
        check(untouched, True)
        for words, weights, expected in (
            ("does a second generator with seed 0 give the same", same, True),
            ("does a second call with this generator give the same", more, False),
            ("does a generator with seed 1 give the same", other, False),
        ):
            check.given = f"{given}; {words}"
            check(torch.equal(w, weights), expected)
    # Of 30 draws, each with its own seed, the squares of these distances add up to
    # chi-squared with 30 degrees: between 0.2 and 2.5 times 30 but once in a million.
    fan_out, fan_in = 20, 50
    n, v = fan_out * fan_in, 2 / fan_in
    draws = []
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        draws.append(answer(fan_out, fan_in, generator).detach().double())
    given = f"fan_out {fan_out}, fan_in {fan_in}, generators with the seeds 0 to 29"
    check.given = f"{given}; do the means of the weights differ as means of draws do"
    squares = [draw.mean().item() ** 2 for draw in draws]
    check(0.2 < sum(squares) / 30 / (v / n) < 2.5, True)
    check.given = f"{given}; do their variances differ as variances of draws do"
    squares = [(draw.square().mean().item() - v) ** 2 for draw in draws]
    check(0.2 < sum(squares) / 30 / (2 * v**2 / n) < 2.5, True)


def test_block(answer, check):
    check.hint = "Which tensors does each call write to? Print x before and after."
    cases = [[-1.0, 2.0], [[0.5, -3.0, 4.0], [-0.25, 0.0, -7.0]], [[[-2.0], [1.0]]]]
    for numbers in cases:
        for dtype in (torch.float32, torch.float64):
            x = torch.tensor(numbers, dtype=dtype)
            expected = [v + max(v, 0.0) for v in x.flatten().tolist()]
            given = f"{numbers}, {str(dtype).removeprefix('torch.')}"
            check.given = given
            check(answer(x), torch.tensor(expected, dtype=dtype).view(x.shape))
            check.given = f"{given}; the input itself, afterwards"
            check(x, torch.tensor(numbers, dtype=dtype))
    leaf = torch.tensor([-1.0, 2.0, -0.5], requires_grad=True)
    x = 1 * leaf  # as a layer before the block would return it
    given = "x = [-1.0, 2.0, -0.5], computed from numbers that require a gradient"
    check.given = f"{given}; does the result require one"
    found = answer(x)
    check(found.requires_grad, True)
    check.given = f"{given}; the slope at each"
    check(torch.autograd.grad(found.sum(), leaf)[0], torch.tensor([1.0, 2.0, 1.0]))


def test_dead_units(answer, check):
    check.hint = (
        "relu(layer(x)) has a row for each row of x and a column for each unit. Which "
        "columns are 0 from top to bottom?"
    )
    for weights, biases, rows, expected in (
        ([[1.0], [-1.0]], [0.0, 0.0], [[1.0], [2.0]], 1),
        ([[1.0], [-1.0]], [0.0, 0.0], [[1.0], [-2.0]], 0),
        ([[1.0], [-1.0], [0.0]], [0.0, 0.0, 0.0], [[3.0]], 2),
        ([[1.0, 1.0], [1.0, -1.0]], [-3.0, 0.0], [[1.0, 2.0], [2.0, 0.5]], 1),
        ([[1.0, 2.0], [3.0, 4.0]], [-50.0, -50.0], [[1.0, 1.0], [2.0, 3.0]], 2),
        ([[-1.0], [-2.0], [-3.0]], [1.0, 1.0, 1.0], [[0.4], [2.0], [3.0]], 1),
    ):
        layer = torch.nn.Linear(len(rows[0]), len(weights))
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(weights))
            layer.bias.copy_(torch.tensor(biases))
        layer.weight.grad = torch.full_like(layer.weight, 0.25)
        given = f"weights {weights}, biases {biases}, rows {rows}"
        check.given = given
        check(answer(layer, torch.tensor(rows)), expected)
        check.given = f"{given}; the gradient of the weights, 0.25 before, afterwards"
        check(layer.weight.grad, torch.full_like(layer.weight, 0.25).detach())
