"""The exercises of lesson 21, solved."""

import json
import math


def log(path, **values):
    """Append one line of JSON to the log of a run."""
    # "a" appends. Python writes a float with all the digits it needs, and null for
    # None.
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            values[name] = None
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def paired_difference(a, b):
    """The mean of the differences and its standard error, in pairs."""
    # What both runs of a pair have in common is in no difference.
    less = a - b
    return less.mean().item(), less.std().item() / len(less) ** 0.5


def choose(choosing, testing):
    """The setting with the highest mean where it is chosen, and its mean where it is
    tested."""
    # Luck on the rows to choose with helps to be chosen; on other rows it is gone.
    best = choosing.mean(dim=1).argmax().item()
    return best, testing[best].mean().item()


def first_bad(model, x):
    """The name of the first leaf, in order of execution, whose output is not finite, or
    None."""
    # Hooks run as the parts do, and look at once: a later part may write into what they
    # saw.
    leaves = {
        part: name for name, part in model.named_modules() if not list(part.children())
    }
    seen, handles = [], []

    def look(part, inputs, output):
        seen.append((leaves[part], output.isfinite().all()))

    try:
        handles += [part.register_forward_hook(look) for part in leaves]
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return next((name for name, finite in seen if not finite), None)
