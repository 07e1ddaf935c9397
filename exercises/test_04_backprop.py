"""The checks of exercises/04_backprop.py."""

import math

import torch


def test_neuron_gradients(answer, check):
    check.hint = (
        "Go back from the loss to p, z, w and b. The sigmoid's slope is p (1 - p)."
    )

    def loss(xs, ys, w, b):
        errors = [
            1 / (1 + math.exp(-w * x - b)) - y for x, y in zip(xs, ys, strict=True)
        ]
        return math.fsum(error**2 for error in errors) / len(errors)

    for xs, ys, w, b in (
        ([0.0], [0.0], 0.0, 0.0),
        ([1.0, -2.0, 0.5], [1.0, 0.0, 3.0], 0.7, -0.2),
    ):
        h = 1e-5
        dw = (loss(xs, ys, w + h, b) - loss(xs, ys, w - h, b)) / (2 * h)
        db = (loss(xs, ys, w, b + h) - loss(xs, ys, w, b - h)) / (2 * h)
        x, y, weight, bias, dw, db = (
            torch.tensor(number, dtype=torch.float64)
            for number in (xs, ys, w, b, dw, db)
        )
        check.given = f"x = {xs}, y = {ys}, w = {w}, b = {b}; autograd is off"
        with torch.inference_mode():
            check(answer(x, y, weight, bias), (dw, db), rtol=1e-6, atol=1e-9)


def test_layer_gradients(answer, check):
    check.hint = (
        "In how many ways does each element of x, w and b reach the loss? They add up."
    )
    generator = torch.Generator().manual_seed(0)
    for n, inputs, outputs in ((3, 2, 4), (2, 2, 2)):
        shapes = (n, inputs), (outputs, inputs), (outputs,), (n, outputs)
        x, w, b, dz = (
            torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes
        )
        leaves = [t.clone().requires_grad_() for t in (x, w, b)]
        z = leaves[0] @ leaves[1].T + leaves[2]
        expected = torch.autograd.grad((z * dz).sum(), leaves)
        check.given = (
            f"{n} rows, {inputs} inputs, {outputs} outputs, random numbers; dx, dw, db"
        )
        check(answer(x, w, dz), expected)


def test_softsign_backward(answer, check):
    check.hint = (
        "backward gets a gradient and hands one on. At which number is the slope?"
    )
    for z, gradient in (([1.0], [8.0]), ([-3.0, 0.0, 0.5], [1.0, -2.0, 9.0])):
        expected = [
            g / (1 + abs(number)) ** 2 for number, g in zip(z, gradient, strict=True)
        ]
        check.given = f"z = {z}, gradient = {gradient}"
        check(answer(torch.tensor(z), torch.tensor(gradient)), torch.tensor(expected))


def test_first_weights(answer, check):
    check.hint = (
        "torch.randn has std 1, and takes generator=, such as "
        "torch.Generator().manual_seed(seed); what does a factor do?"
    )
    state = torch.get_rng_state()
    check.given = "50, 400, seed 1; the shape"
    w = answer(50, 400, 1)
    check(tuple(w.shape), (50, 400))
    check.given = "50, 400, seed 1; is it float32"
    check(w.dtype == torch.float32, True)
    check.given = "50, 400, seed 1; the rank, which counts units that differ"
    check(torch.linalg.matrix_rank(w).item(), 50)
    for units, inputs in ((50, 400), (500, 36)):
        numbers = f"{units}, {inputs}, seed 3"
        check.given = f"{numbers}; of sqrt(inputs) w the mean, std, share within 1"
        z = answer(units, inputs, 3) * inputs**0.5
        moments = z.mean().item(), z.std().item(), (z.abs() < 1).float().mean().item()
        check(moments, (0.0, 1.0, 0.683), rtol=0, atol=0.03)
    check.given = "50, 400, seed 1; called again"
    check(answer(50, 400, 1), w)
    check.given = "50, 400, seeds 1 and 2; are the weights equal"
    check(torch.equal(answer(50, 400, 2), w), False)
    check.given = "50, 400, seed 1; is torch's own random state as it was"
    check(torch.equal(torch.get_rng_state(), state), True)
