"""Plausible wrong answers to the exercises of lesson 07, and the thoughts behind."""

import torch


def fitted_parabola_1(x, y):
    """Constant first, as one counts powers."""
    design = torch.stack([torch.ones_like(x), x, x**2], dim=1)
    return torch.linalg.lstsq(design, y[:, None]).solution[:, 0]


def fitted_parabola_2(x, y):
    """lstsq returns the solution: shape (3, 1)."""
    design = torch.stack([x**2, x, torch.ones_like(x)], dim=1)
    return torch.linalg.lstsq(design, y[:, None]).solution


def fitted_parabola_3(x, y):
    """Squares of the line's columns: the x of the middle is lost."""
    design = torch.stack([x**2, torch.ones_like(x)], dim=1)
    a, c = torch.linalg.lstsq(design, y[:, None]).solution[:, 0]
    return torch.stack([a, torch.zeros_like(a), c])


def r_squared_of_batches_1(batches):
    """A larger batch counts more, as for a mean over the rows."""
    total = sum(
        len(y) * (1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum())
        for p, y in batches
    )
    return (total / sum(len(y) for _, y in batches)).item()


def r_squared_of_batches_2(batches):
    """Add up both sums over the batches: the spread is around each batch's own mean."""
    squares = sum(((y - p) ** 2).sum() for p, y in batches)
    spread = sum(((y - y.mean()) ** 2).sum() for _, y in batches)
    return (1 - squares / spread).item()


def r_squared_of_batches_3(batches):
    """R-squared is the square of the correlation."""
    both = torch.cat([torch.stack([p, y]) for p, y in batches], dim=1)
    return torch.corrcoef(both)[0, 1].square().item()


def r_squared_of_batches_4(batches):
    """The explained share: the spread of p over that of y."""
    p = torch.cat([p for p, _ in batches])
    y = torch.cat([y for _, y in batches])
    return (((p - p.mean()) ** 2).sum() / ((y - y.mean()) ** 2).sum()).item()


def r_squared_of_batches_5(batches):
    """The spread of all y, around 0."""
    squares = sum(((y - p) ** 2).sum() for p, y in batches)
    return (1 - squares / sum((y**2).sum() for _, y in batches)).item()


def line_in_units_of_the_data_1(slope, intercept, x, y):
    """As in the lesson, where y was not scaled."""
    by_x = slope / x.std(correction=0)
    return by_x.item(), (intercept - by_x * x.mean()).item()


def line_in_units_of_the_data_2(slope, intercept, x, y):
    """std() is what was divided by."""
    by_x = slope * y.std() / x.std()
    return by_x.item(), (y.mean() + intercept * y.std() - by_x * x.mean()).item()


def line_in_units_of_the_data_3(slope, intercept, x, y):
    """The intercept has y's units already."""
    by_x = slope * y.std(correction=0) / x.std(correction=0)
    return by_x.item(), (y.mean() + intercept - by_x * x.mean()).item()


def line_in_units_of_the_data_4(slope, intercept, x, y):
    """The slope is turned round: x's std over y's."""
    by_x = slope * x.std(correction=0) / y.std(correction=0)
    at_0 = y.mean() + intercept * y.std(correction=0) - by_x * x.mean()
    return by_x.item(), at_0.item()


def model_error_1(model, x, y):
    """Give y the dimension in front."""
    return ((model(x) - y[None]) ** 2).mean()


def model_error_2(model, x, y):
    """The sum over rows, to get rid of the second dimension."""
    return ((model(x)[:, 0] - y) ** 2).sum()


def model_error_3(model, x, y):
    """A loss is a number."""
    return torch.tensor(((model(x)[:, 0] - y) ** 2).mean().item())
