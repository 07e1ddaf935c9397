"""Exercises for lesson 21, experiment tracking.

The checks: python -m pytest exercises/test_21_experiment_tracking.py
"""

import json


# %% 1. Mend (easy, 10 minutes)
def log(path, **values):
    """Mend: append one line of JSON to the log of a run.

    Gets a pathlib.Path, where a log may be or none, and values by name: Python numbers,
    strings, True, False and None. Returns None. When it returns, the file holds the
    lines it held before, as they were, and one more with all the values: floats with
    all their digits, and null for what is nan or infinite. The file is UTF-8, and each
    line ends in a newline. Example: step=3, loss=0.1 + 0.2 and norm=float("nan") append
    {"step": 3, "loss": 0.30000000000000004, "norm": null}
    """
    short = {}
    for name, value in values.items():
        short[name] = round(value, 4) if isinstance(value, float) else value
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(short) + "\n")


# %% 2. Write (easy, 5 minutes)
def paired_difference(a, b):
    """Write: by how much one setting is better than another, and how sure that is.

    Gets a and b, float64 of shape (n,), n at least 2, which stay as they are: the
    accuracies of two settings, a[i] and b[i] from the same seed. Returns a tuple of two
    Python floats: the mean of the differences, a less b, and its standard error. The
    std divides by n - 1, as std() does. Example: a = [0.9, 0.8], b = [0.7, 0.7] give
    0.15 and 0.05.
    """
    raise NotImplementedError


# %% 3. Mend (medium, 10 minutes)
def choose(choosing, testing):
    """Mend: the setting that is best on average, and an honest number for it.

    Gets two tensors, float64 of shape (settings, seeds): the accuracy of each run on
    the rows to choose with, and that of the same run on the rows to test with. Returns
    a tuple: the row of the setting whose mean over its seeds is the highest on the rows
    to choose with, of equal ones the first, as an int; and its mean on the rows to test
    with, as a Python float. Example: choosing = [[0.9, 0.5], [0.8, 0.8]], testing =
    [[0.6, 0.8], [0.5, 0.7]] give 1 and 0.6.
    """
    best = choosing.max(dim=1).values.argmax().item()
    return best, choosing[best].mean().item()


# %% 4. Write (hard, 15 minutes)
def first_bad(model, x):
    """Write: the first part of any module, as it is run, whose output is not finite.

    Gets a module and its input, floats. A leaf is a module without .children(); leaves
    return tensors of floats, and may be run in any order, twice, or not at all. Calls
    model(x) once, and returns the name of the leaf whose output is the first to hold a
    nan or an infinity, as model.named_modules() calls it, or None if no output does.
    What model(x) raises is raised. After handle = module.register_forward_hook(hook)
    torch calls hook(module, inputs, output) each time that module has been run, until
    handle.remove(); a hook returns None. In the end there are the hooks that were there
    before, and no others, also where model(x) raises. Example: Sequential(Linear(2, 2),
    Sequential(Linear(2, 2), ReLU())) with a bias of inf in the second Linear gives
    "1.0".
    """
    raise NotImplementedError
