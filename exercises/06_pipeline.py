"""Exercises for lesson 06, the pipeline.

Solve them here, and let python -m pytest exercises/06_pipeline.py check them.
"""

import math

import torch


# %% 1. Write
def epochs_needed(model, optimizer, x, y, tolerance, most):
    """Write: train until the mean squared error is at most tolerance.

    Before each epoch look at the loss on all of x and y, shape (n, 1); stop if it is at most
    tolerance, or after `most` epochs. Returns how many epochs were made. Example: 0 where the
    loss is small enough from the start. Medium, 10 minutes. Hint: a loop with a return in it.
    """
    raise NotImplementedError


def test_epochs_needed():
    x = torch.tensor([[1.0], [2.0], [3.0], [4.0]], dtype=torch.float64)
    for lr, tolerance, most in ((0.01, 1e-3, 99), (0.06, 1e-6, 99), (0.01, 1e-3, 7), (0.1, 30, 9)):
        model = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
        torch.nn.init.zeros_(model.weight)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        losses = [7.5 * (2 * (1 - 15 * lr) ** k) ** 2 for k in range(most)]  # lesson 05
        expected = next((k for k, loss in enumerate(losses) if loss <= tolerance), most)
        found = epochs_needed(model, optimizer, x, 2 * x, tolerance, most)
        thought = (
            "An epoch is zero_grad, forward, backward, step; look at the loss before stepping."
        )
        given = f"y = 2 x, lr {lr}, tolerance {tolerance}, most {most}"
        check(given, found, expected, thought)
        w = 2 * (1 - (1 - 15 * lr) ** expected)
        thought = "Return before the step that is not needed."
        check(f"{given}: the weight afterwards", model.weight.item(), w, thought, rtol=1e-9, atol=0)


# %% 2. Mend
def deep(width, depth):
    """Mend: a model of so many hidden layers, all of which are trained.

    Returns a Module: depth times Linear(width, width) and tanh, then Linear(width, 1).
    model.parameters() must know them all. Example: deep(10, 3) has 341 numbers to train. Medium,
    10 minutes. Hint: where does a module look for its parameters?
    """

    class Deep(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = [torch.nn.Linear(width, width) for _ in range(depth)]
            self.last = torch.nn.Linear(width, 1)

        def forward(self, x):
            for layer in self.hidden:
                x = torch.tanh(layer(x))
            return self.last(x)

    return Deep()


def test_deep():
    for width, depth in ((10, 3), (4, 6)):
        model = deep(width, depth)
        found = sum(parameter.numel() for parameter in model.parameters())
        expected = depth * (width * width + width) + width + 1
        thought = "A Python list hides its layers; torch.nn.ModuleList shows them."
        check(f"width {width}, depth {depth}: numbers to train", found, expected, thought)
        h = 1.0
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(0.1)
        for _ in range(depth):
            h = math.tanh(0.1 * width * h + 0.1)
        given = f"width {width}, depth {depth}, all parameters 0.1: model(ones(5, width))"
        found, expected = model(torch.ones(5, width)), torch.full((5, 1), 0.1 * width * h + 0.1)
        check(given, found.detach(), expected, "Each hidden layer is followed by tanh.")


# %% 3. Mend
def evaluated(model, loss_function, x, y):
    """Mend: the loss of a model, measured as the model will be used.

    Returns a Python number. Dropout must be off and nothing recorded; afterwards the model is in
    the mode in which it came. Example: Dropout(0.5) alone, MSELoss and y = x give 0.0. Medium,
    10 minutes. Hint: model.training says which mode it is in.
    """
    return loss_function(model(x), y).item()


def test_evaluated():
    recorded = []

    def loss_function(p, y):
        recorded.append(torch.is_grad_enabled())
        return ((p - y) ** 2).mean()

    for training in (True, False):
        model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5)).train(training)
        torch.nn.init.eye_(model[0].weight)
        torch.nn.init.ones_(model[0].bias)
        x = torch.arange(300.0).view(100, 3)
        given = f"Linear (x + 1) and Dropout(0.5), training={training}, y = x"
        thought = "eval() switches dropout off; no_grad() does not."
        check(given, evaluated(model, loss_function, x, x), 1.0, thought)
        check(f"{given}: was it recorded", recorded[-1], False, "Use torch.no_grad().")
        modes = [module.training for module in model.modules()]
        check(f"{given}: the mode afterwards", modes, [training] * 3, "Put back what you found.")


# %% 4. Mend
def percent_of_batches(batches):
    """Mend: the percentage of right predictions in all batches.

    Gets a list of pairs (predicted, labels), integers of shape (n,), where n may differ. Returns
    a Python float. Example: [1, 1] for [1, 0] and [0, 0] for [0, 0] give 75.0. Easy, 5 minutes.
    Hint: what would it say of a model that is always wrong?
    """
    right = total = 0
    for predicted, labels in batches:
        right += (predicted == labels).sum().item()
        total += (predicted == labels).sum().item()
    return 100 * right / total


def test_percent_of_batches():
    cases = [([[1, 1], [0, 0]], [[1, 0], [0, 0]], 75.0), ([[1, 2, 3]], [[1, 2, 3]], 100.0)]
    cases += [([[0, 0, 0, 0], [1]], [[1, 0, 0, 1], [0]], 40.0)]
    for predicted, labels, expected in cases:
        batches = [tuple(map(torch.tensor, pair)) for pair in zip(predicted, labels, strict=True)]
        thought = "In percent, all that are right divided by all that there are."
        given = f"predicted {predicted}, labels {labels}"
        check(given, percent_of_batches(batches), expected, thought)


# %% 5. Mend
def mean_loss(loss_function, batches):
    """Mend: the mean loss of all samples, which come in batches.

    Gets a loss that is a mean over samples, such as MSELoss, and a list of pairs (p, y) of shape
    (n, 1), where the last n is smaller. Returns a Python float. Example: losses of 1 in a batch
    of 4 and 6 in a batch of 1 give 2.0. Easy, 5 minutes. Hint: section 8 of the lesson.
    """
    return sum(loss_function(p, y).item() for p, y in batches) / len(batches)


def test_mean_loss():
    for sizes, errors in (((4, 1), (1.0, 3.0)), ((5, 5, 2), (1.0, 2.0, 4.0))):
        pairs = list(zip(sizes, errors, strict=True))
        batches = [(torch.full((n, 1), error), torch.zeros(n, 1)) for n, error in pairs]
        for power, loss_function in ((1, torch.nn.L1Loss()), (2, torch.nn.MSELoss())):
            expected = sum(n * error**power for n, error in pairs) / sum(sizes)
            given = f"batches of {sizes} samples, each wrong by {errors}, {loss_function}"
            thought = "A batch counts as often as it has samples."
            check(given, mean_loss(loss_function, batches), expected, thought)


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
