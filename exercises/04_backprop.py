"""Exercises for lesson 04, backprop.

Solve them here, and let python -m pytest exercises/04_backprop.py check them.
"""

import math

import torch


# %% 1. Write
def neuron_gradients(x, y, w, b):
    """Write: backpropagation through one neuron, by hand.

    Gets x and y, shape (n,), and w and b, shape (). The loss is mean((p - y)^2) with
    p = sigmoid(z) and z = w x + b. Returns dloss/dw and dloss/db, both of shape (), without
    autograd. Example: x = [0], y = [0], w = 0, b = 0 gives 0 and 0.25. Medium, 15 minutes. Hint:
    dloss/dz first; the sigmoid's local gradient is p (1 - p).
    """
    raise NotImplementedError


def test_neuron_gradients():
    def loss(xs, ys, w, b):
        errors = [1 / (1 + math.exp(-w * x - b)) - y for x, y in zip(xs, ys, strict=True)]
        return math.fsum(error**2 for error in errors) / len(errors)

    for xs, ys, w, b in (([0.0], [0.0], 0.0, 0.0), ([1.0, -2.0, 0.5], [1.0, 0.0, 3.0], 0.7, -0.2)):
        h = 1e-5
        dw = (loss(xs, ys, w + h, b) - loss(xs, ys, w - h, b)) / (2 * h)
        db = (loss(xs, ys, w, b + h) - loss(xs, ys, w, b - h)) / (2 * h)
        tensors = [torch.tensor(number, dtype=torch.float64) for number in (xs, ys, w, b)]
        expected = torch.tensor(dw, dtype=torch.float64), torch.tensor(db, dtype=torch.float64)
        thought = "From the loss to p, to z, to w and b; divide by n once. (Autograd is off here.)"
        given = f"x = {xs}, y = {ys}, w = {w}, b = {b}"
        with torch.inference_mode():
            check(given, neuron_gradients(*tensors), expected, thought, rtol=1e-6, atol=1e-9)


# %% 2. Mend
def layer_gradients(x, w, dz):
    """Mend: the gradients of a linear layer z = x w^T + b.

    Gets x, shape (n, inputs), w, shape (outputs, inputs), and dz = dloss/dz, shape (n, outputs).
    Returns dx, dw and db in the shapes of x, w and b, which is (outputs,). Example: dz = [[1,
    2], [3, 4]] gives db = [4, 6]. Medium, 10 minutes. Hint: b reaches the loss through every
    row.
    """
    return dz @ w, dz.T @ x, dz.mean(dim=0)


def test_layer_gradients():
    generator = torch.Generator().manual_seed(0)
    for n, inputs, outputs in ((3, 2, 4), (2, 2, 2)):
        shapes = (n, inputs), (outputs, inputs), (outputs,), (n, outputs)
        x, w, b, dz = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
        leaves = [t.clone().requires_grad_() for t in (x, w, b)]
        z = leaves[0] @ leaves[1].T + leaves[2]
        expected = torch.autograd.grad((z * dz).sum(), leaves)
        thought = "Each gradient has the shape of what it belongs to, and rows add up."
        given = f"{n} rows, {inputs} inputs, {outputs} outputs, normal numbers"
        check(given, tuple(layer_gradients(x, w, dz)), expected, thought)


# %% 3. Write
def softsign_backward(z, gradient):
    """Write: the backward of softsign, h = z / (1 + |z|).

    Gets z, the input of the forward pass, and gradient = dloss/dh, both of shape (n,). The slope
    of softsign is 1 / (1 + |z|)^2. Returns dloss/dz, shape (n,). Example: z = [1] and
    gradient = [8] give [2]. Easy, 5 minutes. Hint: backward receives a gradient and hands a
    gradient on.
    """
    raise NotImplementedError


def test_softsign_backward():
    for z, gradient in (([1.0], [8.0]), ([-3.0, 0.0, 0.5], [1.0, -2.0, 9.0])):
        expected = [g / (1 + abs(number)) ** 2 for number, g in zip(z, gradient, strict=True)]
        thought = "What comes in, times 1 / (1 + |z|)^2 at the input z."
        found = softsign_backward(torch.tensor(z), torch.tensor(gradient))
        check(f"z = {z}, gradient = {gradient}", found, torch.tensor(expected), thought)


# %% 4. Mend
def first_weights(units, inputs, seed):
    """Mend: weights to start a layer with.

    Returns float32, shape (units, inputs): normal numbers with deviation 1 / sqrt(inputs), drawn
    with a generator of their own from the seed. The same seed gives the same weights, another
    seed others. Example: first_weights(50, 400, 0) has deviation 1/20 and rank 50. (A constant
    of that size trains, but all units stay the same.) Medium, 10 minutes. Hint: a generator that
    is yours leaves torch.rand elsewhere as it was.
    """
    return torch.ones(units, inputs) / inputs**0.5


def test_first_weights():
    state = torch.get_rng_state()
    w, again, other = (
        first_weights(50, 400, 1),
        first_weights(50, 400, 1),
        first_weights(50, 400, 2),
    )
    thought = "One row for each unit, one column for each input."
    check("50, 400: the shape", w.shape, (50, 400), thought)
    check("50, 400: the dtype", w.dtype == torch.float32, True, "torch.randn makes float32.")
    thought = "Equal units get equal gradients for ever: each needs weights of its own."
    check("50, 400: the rank", torch.linalg.matrix_rank(w).item(), 50, thought)
    thought = "Normal numbers have mean 0 and deviation 1; divide them by sqrt(inputs)."
    for units, inputs in ((50, 400), (500, 36)):
        z = first_weights(units, inputs, 3) * inputs**0.5
        moments = z.mean().item(), z.std().item(), (z.abs() < 1).float().mean().item()
        given = f"{units}, {inputs}: of sqrt(inputs) w the mean, deviation and share within 1"
        check(given, moments, (0.0, 1.0, 0.683), thought, rtol=0, atol=0.03)
    check("the same seed again", again, w, "Make the generator from the seed in every call.")
    thought = "Hand the seed to the generator, and the generator to torch.randn."
    check("another seed: are they equal", torch.equal(other, w), False, thought)
    thought = "torch.manual_seed moves the generator that everybody shares."
    check("torch's own random state afterwards", torch.get_rng_state(), state, thought)


# %% What the checks share: no need to read on
def check(given, found, expected, thought, **tolerance):
    """Fail, in words that help, unless found is expected: its kind, shape, dtype and values."""
    try:
        torch.testing.assert_close(found, expected, **tolerance)
        return
    except (TypeError, RuntimeError):
        reason = "a tensor, a number, a tuple and None are different; .item() makes numbers"
    except AssertionError as error:
        first, *others = str(error).strip().splitlines()
        reason = " ".join([first, *(line for line in others if "for item" in line)])
    parts = f"given      {given}", f"came back  {found!r}", f"expected   {expected!r}"
    raise AssertionError("\n".join([*parts, f"so         {reason}", thought]))
