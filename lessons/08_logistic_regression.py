"""08 Logistic regression: a probability for each patient, trained, judged, and mistaken.

569 samples of breast tissue, each with 30 measurements of its cell nuclei; y is 1 where the
tumour was malignant (Wolberg, Mangasarian, Street and Street, 1993).
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy as bce
from torch.nn.functional import binary_cross_entropy_with_logits as bce_with_logits

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
DATA = Path(__file__).resolve().parent.parent / "data"
CELL = "radius texture perimeter area smoothness compactness concavity concave_points symmetry"
CELL = [*CELL.split(), "fractal_dimension"]
KINDS = ("mean_{}", "{}_error", "worst_{}")
COLUMNS = ["malignant", *(kind.format(name) for kind in KINDS for name in CELL)]
ENOUGH = 9  # steps of Newton's method: it doubles the right digits with each of them


def read_csv(name, header, rows):
    """data/name as an array, shape (rows, columns), float64; a file that is not so ends the run."""
    path, columns = DATA / name, header.count(",") + 1
    try:
        first, *lines = path.read_text("ascii").split("\n")
        if first != header or len(lines) != rows + 1 or lines[-1]:
            raise ValueError(f"it starts with {first!r:.40} and has {len(lines)} line ends")
        table = np.array([line.split(",") for line in lines[:-1]], dtype=float)
        if table.shape != (rows, columns) or not np.isfinite(table).all():
            raise ValueError("a row has another length or a number is not finite")
    except (OSError, ValueError) as error:
        expected = f"expected the header {header!r:.40} and {rows} rows of {columns} numbers"
        cure = "put the course's own copy back (git checkout data)"
        raise SystemExit(f"{path}: {expected}, but {error}; {cure}") from None
    return table


def breast_cancer(device="cpu"):
    """x, shape (569, 30), the measurements, and y, shape (569,), 1 for malignant; float64."""
    table = torch.from_numpy(read_csv("breast_cancer.csv", ",".join(COLUMNS), 569)).to(device)
    return table[:, 1:], table[:, 0]


# %% 1. From a logit to a probability, and to the loss
# The model is z = x w + b, the logit: any number. The sigmoid makes it a probability, and
# the loss is the negative log likelihood of what happened.
def sigmoid(z):
    """1 / (1 + e^-z): from a logit to a probability."""
    return 1 / (1 + torch.exp(-z))


def logit(p):
    """log(p / (1 - p)): from a probability back to the logit."""
    return torch.log(p / (1 - p))


def loss_by_hand(z, y):
    """The mean of -log p where y is 1 and -log(1 - p) where it is 0, for logits z."""
    p = sigmoid(z)
    return -torch.where(y == 1, p, 1 - p).log().mean()


def gradients(x, y, w, b):
    """dloss/dw by hand, x^T (p - y) / n for x (n, d), and by autograd from BCEWithLogitsLoss."""
    by_hand = x.T @ (sigmoid(x @ w + b) - y) / len(y)
    w = w.detach().clone().requires_grad_()
    torch.nn.BCEWithLogitsLoss()(x @ w + b, y).backward()
    return by_hand, w.grad


# %% 2. Split first, then scale with what the training rows say
def split(n, seed, device="cpu"):
    """Indices 0 ... n - 1 in a random order: the first 80 % to train with, the rest to test."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).to(device)
    return order[: round(0.8 * n)], order[round(0.8 * n) :]


def scaled(train, test):
    """Both minus the mean of train's columns, divided by their deviation."""
    mean, deviation = train.mean(dim=0), train.std(dim=0, correction=0)
    return (train - mean) / deviation, (test - mean) / deviation


# %% 3. Training finds the optimum that Newton's method finds
# Weight decay adds decay * |w|^2 / 2 to the loss, but not for the bias: at the optimum the
# mean probability is then the share of malignant rows.
def train(model, loss_function, optimizer, x, y, epochs):
    """The losses before each step of optimizer, one step an epoch, on all of x and y."""
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def trained(x, y, decay, epochs):
    """theta, shape (d + 1,): the weights and then the bias, by SGD with momentum."""
    model = torch.nn.Linear(x.shape[1], 1, device=x.device, dtype=x.dtype)
    groups = [{"params": [model.weight], "weight_decay": decay}, {"params": [model.bias]}]
    optimizer = torch.optim.SGD(groups, lr=0.5, momentum=0.9)
    train(model, torch.nn.BCEWithLogitsLoss(), optimizer, x, y[:, None], epochs)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def logits(x, theta):
    """x w + b, shape (n,), for theta = (w, b)."""
    return x @ theta[:-1] + theta[-1]


def newton(x, y, decay, steps):
    """theta after so many steps of Newton's method from zeros: theta - H^-1 gradient."""
    a = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    penalty = a.new_full(a.shape[1:], decay)
    penalty[-1] = 0
    theta = torch.zeros_like(penalty)
    for _ in range(steps):
        p = sigmoid(a @ theta)
        gradient = a.T @ (p - y) / len(y) + penalty * theta
        hessian = (a.T * (p * (1 - p))) @ a / len(y) + torch.diag(penalty)
        theta = theta - torch.linalg.solve(hessian, gradient)
    return theta


# %% 4. Without weight decay there is no optimum
# Some plane separates the training rows. Then larger weights are always better: the loss
# goes to 0 and the weights grow without end.
def separated(x, y, steps):
    """(|w|, loss, share of rows on their side) after Newton's method without decay."""
    theta = newton(x, y, 0, steps)
    z = logits(x, theta)
    right = ((z > 0) == (y == 1)).double().mean().item()
    return theta[:-1].norm().item(), bce_with_logits(z, y).item(), right


# %% 5. Judge it on rows that it has not seen
def confusion(z, y):
    """Counts (true negatives, false positives, false negatives, true positives) for z > 0."""
    said, was = z > 0, y == 1
    return tuple((s & w).sum().item() for w in (~was, was) for s in (~said, said))


def scores(z, y):
    """(accuracy, precision, recall): right of all, of those called malignant, of the malignant."""
    tn, fp, fn, tp = confusion(z, y)
    return (tp + tn) / (tn + fp + fn + tp), tp / (tp + fp), tp / (tp + fn)


def roc(z, y):
    """(false positive rate, true positive rate), as the threshold falls through all logits."""
    order = z.argsort(descending=True)
    last_of_ties = torch.cat([z[order].diff() != 0, torch.ones_like(z[:1]).bool()])
    rates = [(r[order].cumsum(0) / r.sum())[last_of_ties] for r in (1 - y, y)]
    return [torch.cat([torch.zeros_like(z[:1]), rate]) for rate in rates]


def area(z, y):
    """The area under the ROC: the share of pairs, one malignant, that the logits rank right."""
    false_positive_rate, true_positive_rate = roc(z, y)
    return torch.trapezoid(true_positive_rate, false_positive_rate).item()


def accuracies(x, y, seeds):
    """The test accuracy for each of the splits 0 ... seeds - 1, with decay 0.01."""
    found = []
    for seed in range(seeds):
        rows, test = split(len(y), seed, x.device)
        x_train, x_test = scaled(x[rows], x[test])
        found.append(scores(logits(x_test, newton(x_train, y[rows], 0.01, ENOUGH)), y[test])[0])
    return found


# %% 6. Mistake: sigmoid before BCEWithLogitsLoss
# It applies the sigmoid itself. What comes in is then between 0 and 1, never a clear no.
def floor_of_double_sigmoid(y):
    """The loss of perfect answers, infinite logits, that went through a sigmoid before."""
    return bce_with_logits(sigmoid((y - 0.5) * torch.inf), y).item()


# %% 7. Mistake: sigmoid and then BCELoss
# In float32 the sigmoid of 20 is 1: a sample that is wrong and sure cannot be put right.
def loss_and_gradient(z, y, with_logits):
    """(loss, dloss/dz) of one logit, in float32."""
    z, y = torch.tensor(z, requires_grad=True), torch.tensor(y)
    loss = bce_with_logits(z, y) if with_logits else bce(torch.sigmoid(z), y)
    loss.backward()
    return loss.item(), z.grad.item()


# %% 8. Mistake: CrossEntropyLoss on one output
# It compares classes with each other, and one class alone always has probability 1.
def cross_entropy_of_one(z, y):
    """(loss, largest |gradient|) of CrossEntropyLoss for z and y of shape (n, 1)."""
    z = z.detach().clone().requires_grad_()
    loss = torch.nn.CrossEntropyLoss()(z, y)
    loss.backward()
    return loss.item(), z.grad.abs().max().item()


# %% 9. Mistake: (n, 1) against (n,) in the accuracy
def accuracy_by_sum(predicted, y):
    """(predicted == y).sum() / n, which does not look at the shapes."""
    return ((predicted == y).sum() / len(y)).item()


# %% 10. Mistake: choosing features on all rows
# The labels are coin flips, so nothing can be learned. The test rows were seen all the same.
def accuracy_on_coins(choose_on_all, seed, n, features, chosen):
    """Test accuracy on n coin flips, with the features that correlate best with the flips."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 2, (n,), generator=generator).double()
    rows, test = split(n, seed)
    seen = torch.arange(n) if choose_on_all else rows
    z, _ = scaled(x[seen], x[seen])
    best = (z.T @ y[seen]).abs().topk(chosen).indices
    theta = newton(x[rows][:, best], y[rows], 0.1, ENOUGH)
    return scores(logits(x[test][:, best], theta), y[test])[0]


# %% The picture
def figure(device="cpu"):
    """The ROC on the test rows, and a histogram of their probabilities by class."""
    from matplotlib.figure import Figure

    x, y = breast_cancer(device)
    rows, test = split(len(y), 0, device)
    x_train, x_test = scaled(x[rows], x[test])
    z, y = logits(x_test, newton(x_train, y[rows], 0.01, ENOUGH)), y[test]
    p, malignant = sigmoid(z).cpu().numpy(), y.cpu().numpy() == 1
    picture = Figure(figsize=(9, 4), layout="constrained")
    curve, histogram = picture.subplots(1, 2)
    curve.plot(*(rate.cpu() for rate in roc(z, y)))
    curve.set(title=f"ROC on {len(y)} test rows, area {area(z, y):.4f}", aspect="equal")
    curve.set(xlabel="false positive rate", ylabel="true positive rate")
    histogram.hist([p[~malignant], p[malignant]], bins=10, label=["benign", "malignant"])
    histogram.set(title="by class", xlabel="predicted probability", ylabel="test rows")
    histogram.legend()
    return picture


# %% Run it
def main(device):
    print(f"08 Logistic regression on {device}")
    x, y = breast_cancer(device)
    rows, test = split(len(y), 0, device)
    x_train, x_test = scaled(x[rows], x[test])
    y_train, y_test = y[rows], y[test]

    print("\n1. From a logit to a probability, and to the loss")
    for number in (-2.0, 0.0, 3.0):
        p = sigmoid(torch.tensor(number, dtype=torch.float64))
        print(f"   logit {number:4.1f}   probability {p:.4f}   back to logit {logit(p):4.1f}")
    w = torch.zeros(30, dtype=torch.float64, device=device)
    by_hand, by_autograd = gradients(x_train, y_train, w, 0.5)
    print(f"   loss of logits 0: {loss_by_hand(x_train @ w, y_train):.6f} (log 2)", end="; ")
    print(f"gradients differ by {(by_hand - by_autograd).abs().max():.12f}")

    print("\n2. Split first, then scale with what the training rows say")
    off_train, off_test = (part.mean(dim=0).abs().max() for part in (x_train, x_test))
    print(f"   {len(x_train)} rows to train with, column means within {off_train:.2f} of 0")
    print(f"   {len(x_test)} rows to test with, column means within {off_test:.2f} of 0")

    print("\n3. Training finds the optimum that Newton's method finds")
    theta, exact = trained(x_train, y_train, 0.01, 500), newton(x_train, y_train, 0.01, ENOUGH)
    p = sigmoid(logits(x_train, theta)).mean()
    print(f"   largest difference of 31 parameters {(theta - exact).abs().max():.8f}")
    print(f"   mean probability {p:.6f}, share of malignant rows {y_train.mean():.6f}")

    print("\n4. Without weight decay there is no optimum")
    for steps in (5, 10, 15):
        norm, loss, share = separated(x_train, y_train, steps)
        print(f"   {steps:>2} Newton steps: |w| {norm:.0f}, loss {loss:.1e}", end=", ")
        print(f"on the right side {share:.1%}")

    print("\n5. Judge it on rows that it has not seen")
    z = logits(x_test, theta)
    tn, fp, fn, tp = confusion(z, y_test)
    print(f"   benign: {tn} right, {fp} wrong; malignant: {tp} right, {fn} wrong")
    accuracy, precision, recall = scores(z, y_test)
    print(f"   accuracy {accuracy:.3f}, precision {precision:.3f}, recall {recall:.3f}", end=", ")
    print(f"area under the ROC {area(z, y_test):.4f}")
    found = accuracies(x, y, 50)
    print(f"   always saying benign: {1 - y.mean():.3f} on all rows", end="; ")
    print(f"over 50 splits: {min(found):.3f} to {max(found):.3f}")

    print("\n6. Mistake: sigmoid before BCEWithLogitsLoss")
    half = torch.tensor([0.0, 1.0], dtype=torch.float64, device=device)
    print(f"   loss of perfect answers {floor_of_double_sigmoid(half):.6f}", end=", ")
    print(f"theory {(np.log(2) + np.log(1 + np.exp(-1))) / 2:.6f}")

    print("\n7. Mistake: sigmoid and then BCELoss")
    for with_logits in (False, True):
        loss, gradient = loss_and_gradient(20.0, 0.0, with_logits)
        print(f"   with_logits={with_logits!s:<5}   loss {loss:.1f}, gradient {gradient:.1f}")

    print("\n8. Mistake: CrossEntropyLoss on one output")
    loss, gradient = cross_entropy_of_one(z[:, None], y_test[:, None])
    print(f"   loss {loss:z.1f}, gradient {gradient:.1f}, whatever the labels")

    print("\n9. Mistake: (n, 1) against (n,) in the accuracy")
    labels = torch.arange(100, device=device) % 2
    for shape, predicted in (("(n,)", labels), ("(n, 1)", labels[:, None])):
        print(f"   perfect predictions {shape:<6}   accuracy {accuracy_by_sum(predicted, labels)}")

    print("\n10. Mistake: choosing features on all rows")
    for on_all in (True, False):
        mean = sum(accuracy_on_coins(on_all, seed, 80, 500, 20) for seed in range(40)) / 40
        print(f"   choose_on_all={on_all!s:<5}   mean accuracy on coin flips {mean:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--device", choices=DEVICES, default=DEVICES[-1])
    parser.add_argument("--figure", metavar="FILE", help="save the picture (.png, .svg, .pdf)")
    args = parser.parse_args()
    if args.figure is not None:
        file = Path(args.figure)
        if file.suffix not in (".png", ".svg", ".pdf") or not file.parent.is_dir():
            parser.error(f"--figure: {args.figure!r} must be .png, .svg or .pdf, in a real folder")
    main(args.device)
    if args.figure is not None:
        drawn, part = io.BytesIO(), file.with_name(f"{file.name}.part")
        figure(args.device).savefig(drawn, format=file.suffix[1:])
        try:
            part.write_bytes(drawn.getvalue())
            part.replace(file)
        except OSError as error:
            if part in file.parent.iterdir():
                part.unlink()
            parser.error(f"--figure: {error}")
