"""What lesson 11 claims."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from course import ROOT
from torch import nn

TABLE = np.loadtxt(ROOT / "data" / "wine.csv", delimiter=",", skiprows=1)
X, Y = TABLE[:, 1:], TABLE[:, 0].astype(int) - 1
SURE = 60.0  # a lead so large that every other class has less than 1e-25


def tensor(numbers, device):
    return torch.tensor(numbers, device=device, dtype=torch.float64)


def check(result, expected, device, rtol=1e-12, atol=0.0):
    assert (result.dtype, result.device.type) == (torch.float64, device)
    assert result.shape == np.shape(expected) and not result.requires_grad
    np.testing.assert_allclose(result.cpu(), expected, rtol=rtol, atol=atol)


def probabilities(z):
    """Of one row of logits, or of each row."""
    return np.exp(z - np.logaddexp.reduce(z, axis=-1, keepdims=True))


def loss(z, y):
    """The mean of log(sum of e^z) - z[y]."""
    return (np.logaddexp.reduce(z, axis=1) - z[np.arange(len(y)), y]).mean()


def error(z, y):
    """The gradient of that loss by z; a central difference agrees (section 4)."""
    return (probabilities(z) - np.eye(z.shape[1])[y]) / len(y)


def error_twice(z, y):
    """The gradient by z of the loss of probabilities(z): the chain rule, row by row."""
    p = probabilities(z)
    jacobians = [np.diag(row) - np.outer(row, row) for row in p]
    return np.array([j @ row for j, row in zip(jacobians, error(p, y), strict=True)])


def logits(n, classes, seed=0, std=2.0):
    random = np.random.default_rng(seed)
    return random.normal(scale=std, size=(n, classes)), random.integers(classes, size=n)


def standardised(x):
    return (x - x.mean(axis=0)) / x.std(axis=0)


def slope(x, y, weight, bias, decay, error=error):
    """The gradient of loss + decay |W|^2 / 2 by W, (C, d), and by b, (C,)."""
    by_z = error(x @ weight.T + bias, y)
    return by_z.T @ x + decay * weight, by_z.sum(axis=0)


def optimum(x, y, decay):
    """W and b of softmax regression, by Newton's method."""
    a, c, classes = np.column_stack([x, np.ones(len(x))]), x.shape[1] + 1, 3
    theta = np.zeros((classes, c))
    penalty = decay * np.diag(np.tile(np.append(np.ones(c - 1), 0), classes))
    for _ in range(12):
        gradient = np.column_stack(slope(x, y, theta[:, :-1], theta[:, -1], decay))
        hessian = penalty.copy()
        for row, p in zip(a, probabilities(a @ theta.T), strict=True):
            hessian += np.kron(np.diag(p) - np.outer(p, p), np.outer(row, row)) / len(y)
        # The same for each bias changes nothing: of all solutions, the shortest.
        step = np.linalg.lstsq(hessian, gradient.ravel(), rcond=1e-10)[0]
        theta -= step.reshape(theta.shape)
    assert (
        np.abs(np.column_stack(slope(x, y, theta[:, :-1], theta[:, -1], decay))).max()
        < 1e-14
    )
    return theta[:, :-1], theta[:, -1]


@pytest.fixture(scope="module")
def wine_optimum():
    """(x, y, weight, bias): what training with weight decay 0.01 should find."""
    x = standardised(X)
    return (x, Y, *optimum(x, Y, 0.01))


# Reading a data file: tests/test_faults.py spoils one in every way
def test_read_csv_takes_any_table(lesson, tmp_path, monkeypatch):
    monkeypatch.setattr(lesson, "DATA", tmp_path)
    (tmp_path / "row.csv").write_text("a,b,c\n1,2,3\n")
    (tmp_path / "column.csv").write_text("a\n1.5\n-2e3\n")
    for name, expected in (("row.csv", [[1, 2, 3]]), ("column.csv", [[1.5], [-2000]])):
        table = lesson.read_csv(name, *np.shape(expected))
        assert table.dtype == np.float64
        np.testing.assert_array_equal(table, expected)


def test_a_row_missing_ends_in_one_line_that_names_the_file(
    lesson, tmp_path, monkeypatch
):
    rows = (ROOT / "data" / "wine.csv").read_text("ascii").splitlines(keepends=True)
    (tmp_path / "wine.csv").write_text("".join(rows[:-1]))
    monkeypatch.setattr(lesson, "DATA", tmp_path)
    with pytest.raises(SystemExit) as end:
        lesson.wine()
    assert str(end.value).startswith(f"{tmp_path / 'wine.csv'}: 178 rows of 14: ")
    assert "\n" not in str(end.value)


def test_wine_is_the_file_standardised_and_its_classes_count_from_0(lesson, device):
    x, y = lesson.wine(device)
    check(x, standardised(X), device, atol=1e-12)
    assert (y.dtype, y.device.type) == (torch.int64, device)
    assert y.tolist() == Y.tolist() and y.bincount().tolist() == [59, 71, 48]
    assert {t.device.type for t in lesson.wine()} == {"cpu"}


# 1. Softmax makes probabilities of logits
@pytest.mark.parametrize("temperature", [0.25, 1.0, 7.0, None])
def test_softmax_is_e_to_the_z_over_their_sum_and_temperature_divides_z(
    lesson, device, temperature
):
    z = [0.3, -2.0, 1.7, 0.3, 4.0]
    powers = [math.exp(number / (temperature or 1)) for number in z]
    settings = () if temperature is None else (temperature,)
    found = lesson.softmax(tensor(z, device), *settings)
    check(found, [power / math.fsum(powers) for power in powers], device, rtol=1e-14)
    assert (found > 0).all() and found.sum().item() == pytest.approx(1, abs=1e-15)


def test_only_differences_of_logits_count(lesson, device):
    z = tensor([-1.0, 0.5, 3.0], device)
    for shift in (-100.0, 17.5, 300.0):
        check(lesson.softmax(z + shift), lesson.softmax(z).tolist(), device, rtol=1e-12)
    assert not torch.allclose(lesson.softmax(2 * z), lesson.softmax(z), atol=0.01)


def test_a_low_temperature_is_sharp_and_a_high_one_flat(lesson, device):
    z = tensor([1.0, 3.0, 2.5, -1.0], device)
    check(lesson.softmax(z, 0.01), [0, 1, 0, 0], device, atol=1e-20)
    check(lesson.softmax(z, 1e6), [0.25] * 4, device, rtol=1e-5)
    entropies = []
    for temperature in (0.1, 0.5, 1.0, 2.0, 10.0):
        p = lesson.softmax(z, temperature)
        entropies.append(-(p * p.log()).sum().item())
    assert (
        entropies == sorted(entropies)
        and math.log(4) > entropies[-1] > entropies[0] > 0
    )


# 2. By hand it overflows, and log-sum-exp does not
def test_e_to_the_z_is_inf_in_float32_from_88_73_on(device):
    assert math.log(torch.finfo(torch.float32).max) == pytest.approx(88.7228, abs=5e-5)
    assert torch.tensor([88.72, 88.73], device=device).exp().isinf().tolist() == [
        False,
        True,
    ]


def test_softmax_by_hand_overflows_above_and_below(lesson, device):
    above = lesson.softmax(torch.tensor([89.0, 1.0, 0.0], device=device))
    assert above.dtype == torch.float32
    assert above.isnan().tolist() == [True, False, False] and above[1:].tolist() == [
        0,
        0,
    ]
    assert lesson.softmax(torch.tensor([-150.0, -151.0], device=device)).isnan().all()
    z = torch.tensor([-150.0, -151.0], device=device)
    safe = lesson.softmax(z - z.max()).tolist()
    assert safe == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e)], rel=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1000.0, -5000.0])
def test_log_sum_exp_is_the_log_of_the_sum_wherever_the_logits_are(
    lesson, device, offset
):
    z = [0.5, -3.0, 2.0, 2.25]
    expected = math.log(math.fsum(map(math.exp, z))) + offset
    found = lesson.log_sum_exp(tensor(z, device) + offset)
    check(found, expected, device, rtol=1e-15, atol=1e-15)
    check(
        lesson.log_softmax(tensor(z, device) + offset),
        [number + offset - expected for number in z],
        device,
        atol=2e-12,
    )


@pytest.mark.parametrize("classes", [1, 2, 7, 1000])
def test_log_sum_exp_is_from_the_largest_to_that_plus_log_c(lesson, device, classes):
    one = torch.full((classes,), -2000.0, dtype=torch.float64, device=device)
    # all equal
    check(lesson.log_sum_exp(one), math.log(classes) - 2000, device, rtol=1e-15)
    one[0] = -100.0
    check(lesson.log_sum_exp(one), -100, device, rtol=0)  # one far ahead
    z, _ = logits(20, classes, seed=classes)
    for row in z:
        found = lesson.log_sum_exp(tensor(row, device)).item()
        assert row.max() <= found <= row.max() + math.log(classes)


def test_the_log_of_a_small_softmax_is_minus_infinity_and_log_softmax_is_not(
    lesson, device
):
    z = torch.tensor([-150.0, 0.0], device=device)
    assert lesson.softmax(z).log().tolist() == [-math.inf, 0]
    found = lesson.log_softmax(z)
    assert found.dtype == torch.float32 and found.tolist() == [-150, 0]
    # A p of e^-200: the loss is inf by the one way, and 200 by the other.
    far = torch.tensor([0.0, -200.0], device=device)
    assert -lesson.softmax(far).log()[1].item() == math.inf
    assert -lesson.log_softmax(far)[1].item() == 200


# 3. Cross-entropy is the mean of -log p of what happened
@pytest.mark.parametrize(("n", "classes"), [(1, 4), (7, 2), (5, 9)])
def test_cross_entropy_is_the_mean_of_minus_log_p_of_the_label(
    lesson, device, n, classes
):
    z, y = logits(n, classes)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    expected = -np.mean([math.log(row[label]) for row, label in zip(p, y, strict=True)])
    ours = tensor(z, device), torch.tensor(y, device=device)
    check(lesson.cross_entropy(*ours), expected, device, rtol=1e-13)
    check(nn.CrossEntropyLoss()(*ours), expected, device, rtol=1e-13)
    check(
        nn.NLLLoss()(F.log_softmax(ours[0], dim=1), ours[1]),
        expected,
        device,
        rtol=1e-13,
    )
    # e^10000
    check(lesson.cross_entropy(ours[0] + 1e4, ours[1]), expected, device, rtol=1e-10)


def test_a_p_of_1_costs_0_and_there_is_no_limit_as_p_goes_to_0(lesson, device):
    y = torch.tensor([1], device=device)
    for lead in (100.0, 1e4, 1e8):
        check(lesson.cross_entropy(tensor([[0.0, lead, 0.0]], device), y), 0, device)
        check(
            lesson.cross_entropy(tensor([[lead, 0.0, 0.0]], device), y),
            lead,
            device,
            rtol=1e-15,
        )


def test_what_the_other_classes_got_plays_no_part(lesson, device):
    y = torch.tensor([0], device=device)
    for others in ([0.1, 0.2, 0.3], [0.2, 0.2, 0.2], [0.58, 0.01, 0.01]):
        z = tensor([[0.4, *others]], device).log()
        check(lesson.cross_entropy(z, y), -math.log(0.4), device, rtol=1e-14)


def test_two_classes_are_the_binary_loss_of_the_difference(lesson, device):
    z, y = logits(40, 2, seed=3)
    binary = np.logaddexp(0, (1 - 2 * y) * (z[:, 1] - z[:, 0])).mean()  # lesson 08
    found = lesson.cross_entropy(tensor(z, device), torch.tensor(y, device=device))
    check(found, binary, device, rtol=1e-13)


def test_one_output_costs_nothing_and_teaches_nothing(lesson, device):
    for loss_function in (lesson.cross_entropy, nn.CrossEntropyLoss()):
        z = tensor([[-30.0], [0.2], [5.0]], device).requires_grad_()
        found = loss_function(z, torch.zeros(3, dtype=torch.long, device=device))
        found.backward()
        assert found.item() == 0 and z.grad.tolist() == [[0], [0], [0]]


def test_wrong_kinds_of_classes_are_loud_but_a_batch_of_minus_100_is_silent(device):
    z, y = logits(6, 3)
    z = tensor(z, device)
    with pytest.raises(RuntimeError):
        F.cross_entropy(z, torch.tensor(y, device=device).float())
    with pytest.raises(IndexError):  # on CUDA it would end the whole process
        F.cross_entropy(z.cpu(), torch.tensor([1, 2, 3, 1, 2, 3]))
    ignored = torch.full((6,), -100, device=device)
    assert F.cross_entropy(z, ignored).isnan()
    ignored[2] = y[2]  # the mean is over the rows that are left
    check(F.cross_entropy(z, ignored), loss(z[2:3].cpu().numpy(), y[2:3]), device)


# 4. Its gradient is what was said minus what happened
@pytest.mark.parametrize(("n", "classes"), [(1, 3), (4, 5), (6, 2)])
def test_the_gradient_is_p_minus_onehot_over_n(lesson, device, n, classes):
    z, y = logits(n, classes, seed=1)
    y[y == classes - 1] = 0  # a class that does not happen is a column all the same
    expected, h = np.empty_like(z), 1e-5
    for index in np.ndindex(z.shape):  # central differences
        step = np.zeros_like(z)
        step[index] = h
        expected[index] = (loss(z + step, y) - loss(z - step, y)) / (2 * h)
    ours = tensor(z, device), torch.tensor(y, device=device)
    check(lesson.gradient_by_hand(*ours), expected, device, rtol=0, atol=1e-9)
    check(lesson.gradient_by_hand(*ours), error(z, y), device, rtol=0, atol=1e-15)
    leaf = ours[0].clone().requires_grad_()
    F.cross_entropy(leaf, ours[1]).backward()
    check(leaf.grad, error(z, y), device, rtol=0, atol=1e-15)
    assert lesson.gradient_by_hand(*ours).sum(dim=1).abs().max() < 1e-15
    # As safe as the loss: where e^z is inf it is right too.
    far = torch.tensor([[2000.0, 0.0]], device=device), torch.tensor([1], device=device)
    assert lesson.gradient_by_hand(*far).tolist() == [[1, -1]]


@pytest.mark.parametrize("y", [0, 1, 3])
def test_the_hessian_is_diag_p_minus_p_p_t_whatever_y_is(lesson, device, y):
    z, h = np.array([0.5, -1.0, 2.0, 0.0]), 1e-5
    steps = h * np.eye(4)
    columns = [error(np.array([z + s, z - s]), np.array([y, y])) * 2 for s in steps]
    expected = np.array([(up - down) / (2 * h) for up, down in columns])
    found = lesson.hessian_by_hand(tensor(probabilities(z), device))
    check(found, expected, device, rtol=0, atol=1e-10)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_loss_is_flat_along_the_shift_and_curves_up_everywhere_else(
    lesson, device, classes
):
    for z in logits(5, classes, seed=2)[0]:
        hessian = lesson.hessian_by_hand(tensor(probabilities(z), device))
        assert hessian.sum(dim=1).abs().max() < 1e-15  # times (1, ..., 1)
        eigenvalues = np.linalg.eigvalsh(hessian.cpu().numpy())
        # It is above min(p) times the projection that takes the mean away, e.g. by
        # Cauchy-Schwarz: v^T H v is the variance of v under p, at least min(p) sum (v -
        # m)^2 >= min(p) |v|^2.
        assert abs(eigenvalues[0]) < 1e-15
        assert eigenvalues[1] > (1 - 1e-9) * probabilities(z).min()


# 5. Before training the loss is log C
def mean_first_loss(std, classes):
    """The expectation of log(sum of e^z) for z from N(0, std^2): that of z[y] is 0.

    Gumbel noise, of mean 0.5772, turns the log of a sum into a maximum: log(sum of e^z)
    is the mean of max(z + noise), minus 0.5772. The distribution function of that
    maximum is the one of z + noise to the power of C.
    """
    u, t = np.linspace(-8, 8, 161), np.linspace(-45, 75, 601)
    density = np.exp(-(u**2) / 2) / math.sqrt(2 * math.pi) * (u[1] - u[0])
    distribution = np.exp(-np.exp(std * u - t[:, None])) @ density
    # The mean of what lies below t[-1] is t[-1] minus the integral of that, from 0 up
    # to 1.
    integral = ((distribution**classes).sum() - 0.5) * (t[1] - t[0])
    return t[-1] - integral - np.euler_gamma


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_logits_that_say_nothing_cost_log_c(lesson, classes):
    found = lesson.first_loss(0.0, classes, rows=300)
    assert type(found) is float and found == pytest.approx(math.log(classes), rel=1e-14)
    assert mean_first_loss(0.0, classes) == pytest.approx(math.log(classes), rel=1e-10)
    # A little more than nothing: std^2 / 2 times the trace of the Hessian, 1 - 1 / C.
    more = mean_first_loss(0.01, classes) - math.log(classes)
    assert more == pytest.approx(0.01**2 / 2 * (1 - 1 / classes), rel=1e-3)


@pytest.mark.parametrize(
    ("std", "classes"), [(0.2, 10), (0.5, 3), (2.0, 10), (4.0, 2), (5.0, 20)]
)
def test_large_logits_cost_more_before_anything_is_learned(lesson, std, classes):
    expected = mean_first_loss(std, classes)
    # A row's loss changes by |p - onehot| <= sqrt(2) for each unit of its logits, so
    # its variance is at most 2 std^2 (Poincare): five standard errors of the mean of
    # 100,000.
    bound = 5 * std * math.sqrt(2 / 100_000)
    assert lesson.first_loss(std, classes) == pytest.approx(expected, abs=bound)
    assert expected > math.log(classes) + bound


def test_the_first_loss_is_of_as_many_rows_as_told_and_100_000_unless_told(lesson):
    state = torch.get_rng_state()
    found = lesson.first_loss(3.0, 4)
    assert found == lesson.first_loss(3.0, 4) == lesson.first_loss(3.0, 4, 100_000)
    assert (
        len({found, lesson.first_loss(3.0, 4, 99_999), lesson.first_loss(3.0, 4, 10)})
        == 3
    )
    # nobody else's numbers are touched
    assert torch.equal(state, torch.get_rng_state())


# 6. At the optimum the mean probability of each class is its share
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize(
    "settings",
    [{}, {"momentum": 0.5, "weight_decay": 0.2}, {"momentum": 0, "weight_decay": 0}],
)
def test_fit_descends_from_zeros_by_lr_0_5_and_decays_weights_alone(
    lesson, device, twice, settings
):
    x, y = logits(30, 4, seed=5, std=1.0)
    y = y % 3
    momentum, decay = settings.get("momentum", 0.9), settings.get("weight_decay", 0.01)
    weight, bias, speed, expected = np.zeros((3, 4)), np.zeros(3), (0, 0), []
    for _ in range(6):
        z = x @ weight.T + bias
        expected.append(loss(probabilities(z) if twice else z, y))
        slopes = slope(x, y, weight, bias, decay, error_twice if twice else error)
        speed = [momentum * v + g for v, g in zip(speed, slopes, strict=True)]
        weight, bias = weight - 0.5 * speed[0], bias - 0.5 * speed[1]
    ours = tensor(x, device), torch.tensor(y, device=device)
    function = lesson.softmax_twice if twice else lesson.cross_entropy
    model, losses = lesson.fit(*ours, function, epochs=6, **settings)
    assert losses == pytest.approx(expected, rel=1e-12)
    check(model.weight.detach(), weight, device, rtol=1e-11, atol=1e-13)
    check(model.bias.detach(), bias, device, rtol=1e-11, atol=1e-13)
    # train goes on from there, and answers with the loss before its step.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    [found] = lesson.train(model, nn.CrossEntropyLoss(), optimizer, *ours, epochs=1)
    assert found == pytest.approx(loss(x @ weight.T + bias, y), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_model_is_where_x_is_and_of_its_kind(lesson, device, dtype):
    for place in (device, "meta"):  # the second holds shapes alone
        x = torch.zeros(5, 4, dtype=dtype, device=place)
        model, losses = lesson.fit(x, None, nn.CrossEntropyLoss(), epochs=0)
        assert losses == [] and type(model) is nn.Linear
        for parameter, shape in ((model.weight, (3, 4)), (model.bias, (3,))):
            assert (parameter.dtype, parameter.device.type) == (dtype, place)
            assert parameter.shape == shape
            assert place == "meta" or not parameter.any()


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.3}])
def test_the_gradient_s_size_is_its_largest_number_weight_decay_included(
    lesson, device, settings
):
    decay, seen = settings.get("weight_decay", 0.01), set()
    for seed in range(12):
        x, y = logits(8, 2, seed, std=1.0)
        random = np.random.default_rng(seed)
        weight, bias = random.normal(size=(3, 2)), random.normal(scale=3, size=3)
        model = nn.Linear(2, 3, device=device, dtype=torch.float64)
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(weight))
            model.bias.copy_(torch.from_numpy(bias))
        sizes = [np.abs(part).max() for part in slope(x, y, weight, bias, decay)]
        arguments = (
            model,
            F.cross_entropy,
            tensor(x, device),
            torch.tensor(y, device=device),
        )
        for _ in range(2):  # what is left in grad plays no part
            found = lesson.gradient_size(*arguments, **settings)
            assert type(found) is float and found == pytest.approx(
                max(sizes), rel=1e-12
            )
        seen.add(int(np.argmax(sizes)))
    assert seen == {0, 1}  # the largest is now a weight's and now a bias's


def test_the_gradient_by_a_bias_is_its_mean_probability_minus_its_share():
    z, y = logits(50, 3, seed=6)
    share = np.bincount(y, minlength=3) / 50
    for k in range(3):
        step = 1e-5 * np.eye(3)[k]
        central = (loss(z + step, y) - loss(z - step, y)) / 2e-5
        assert central == pytest.approx(
            probabilities(z)[:, k].mean() - share[k], abs=1e-9
        )


def test_500_epochs_on_the_wines_find_what_newton_finds(lesson, device, wine_optimum):
    x, y, weight, bias = wine_optimum
    ours = lesson.wine(device)
    model, losses = lesson.fit(*ours, nn.CrossEntropyLoss(), epochs=500)
    assert len(losses) == 500 and losses[0] == pytest.approx(math.log(3), rel=1e-14)
    assert losses[-1] == pytest.approx(loss(x @ weight.T + bias, y), abs=1e-6)
    # The gradient is below 1e-6, and the loss curves by 0.01 or more along each weight.
    assert lesson.gradient_size(model, nn.CrossEntropyLoss(), *ours) < 1e-6
    check(model.weight.detach(), weight, device, rtol=0, atol=1e-4)
    check(model.bias.detach(), bias, device, rtol=0, atol=1e-4)


def test_at_the_optimum_the_mean_probabilities_are_the_shares(
    lesson, device, wine_optimum
):
    x, y, weight, bias = wine_optimum
    p = probabilities(x @ weight.T + bias)
    assert p.mean(axis=0) == pytest.approx(np.bincount(y) / 178, abs=1e-13)
    # Other rows, another weight decay, other shares: 4 of 5 rows, the rarest class
    # thinned out.
    rows = np.flatnonzero(
        (np.arange(178) % 5 > 0) & ((Y < 2) | (np.arange(178) % 2 == 0))
    )
    x, y = standardised(X[rows]), Y[rows]
    ours = tensor(x, device), torch.tensor(y, device=device)
    model, _ = lesson.fit(*ours, F.cross_entropy, epochs=300, weight_decay=0.05)
    assert lesson.gradient_size(model, F.cross_entropy, *ours, weight_decay=0.05) < 1e-6
    p = torch.softmax(model(ours[0]), dim=1).mean(dim=0).detach()
    check(p, np.bincount(y) / len(y), device, rtol=0, atol=1e-6)


# 7. Smoothing and class weights move the optimum
@pytest.mark.parametrize(("e", "classes"), [(0.1, 10), (0.2, 5), (0.05, 2), (0.6, 3)])
def test_smoothing_has_a_floor_the_entropy_of_its_target(lesson, e, classes):
    target = (1 - e) * np.eye(classes)[0] + e / classes
    floor = -(target * np.log(target)).sum()
    assert lesson.smoothing_floor(e, classes) == pytest.approx(floor, rel=1e-13)
    # There p is the target, and the gap is the log of what the label has over another
    # class.
    best = math.log(target[0] / target[1])
    assert best == pytest.approx(math.log(1 + classes * (1 - e) / e), rel=1e-13)
    assert lesson.smoothed_loss(best, e, classes) == pytest.approx(floor, rel=1e-12)
    for gap in (best - 3, best - 0.1, best + 0.1, best + 3):
        assert lesson.smoothed_loss(gap, e, classes) > floor + 1e-5
    gaps = np.linspace(best, best + 50, 20)
    losses = [lesson.smoothed_loss(gap, e, classes) for gap in gaps]
    assert losses == sorted(losses) and type(losses[0]) is float  # surer is worse


@pytest.mark.parametrize(("e", "classes"), [(0.1, 10), (0.3, 4), (0.0, 6)])
def test_the_smoothed_loss_is_the_cross_entropy_against_the_target(lesson, e, classes):
    target = (1 - e) * np.eye(classes)[0] + e / classes
    for gap in (-2.0, 0.0, 1.5, 12.0):
        z = gap * np.eye(classes)[0]
        expected = np.logaddexp.reduce(z) - target @ z  # -sum q log p
        assert lesson.smoothed_loss(gap, e, classes) == pytest.approx(
            expected, rel=1e-12
        )


def test_smoothing_0_1_of_ten_classes_is_best_at_a_gap_of_4_51_and_costs_9_at_100(
    lesson,
):
    assert f"{math.log(1 + 10 * 0.9 / 0.1):.2f}" == "4.51"  # log 91
    # At 100 the other nine have nothing, and the target gives each of them 0.01.
    assert lesson.smoothed_loss(100.0, 0.1, 10) == pytest.approx(
        9 * 0.01 * 100, rel=1e-12
    )
    # Two classes, as in the picture: the lead of the wrong one is -log(0.95 / 0.05),
    # about -2.9.
    assert f"{-math.log(0.95 / 0.05):.1f}" == "-2.9"


def test_a_class_weight_of_3_is_each_row_three_times(lesson, device):
    z, y = logits(25, 4, seed=7)
    for numbers in ([3.0, 1.0, 2.0, 5.0], [1.0, 1.0, 1.0, 4.0]):
        each = np.array(numbers)[y]
        repeated = np.repeat(np.arange(25), each.astype(int))
        expected = loss(z[repeated], y[repeated])
        ours = tensor(z, device), torch.tensor(y, device=device)
        found = lesson.weighted_and_repeated(*ours, tensor(numbers, device))
        assert found == pytest.approx((expected, expected), rel=1e-13)
        assert {type(number) for number in found} == {float}
        assert expected != pytest.approx(loss(z, y), rel=1e-3)
        # The mean divides by the sum of the weights: a thousand times all of them is
        # the same.
        weights = tensor(numbers, device)
        many = F.cross_entropy(*ours, weight=1000 * weights)
        assert many.item() == pytest.approx(found[0], rel=1e-13)
    # Half a row is none: only the first number takes such weights.
    weighted, repeated = lesson.weighted_and_repeated(
        *ours, tensor([1.5, 1.0, 1.0, 1.0], device)
    )
    each = np.where(y == 0, 1.5, 1.0)
    costs = np.logaddexp.reduce(z, axis=1) - z[np.arange(25), y]
    assert (weighted, repeated) == pytest.approx(
        (each @ costs / each.sum(), loss(z, y)), rel=1e-13
    )


# 8. Mistake: softmax before CrossEntropyLoss
LEADS = [-12.0, -3.0, -0.5, 0.0, 1.0, 4.0, 10.0]


def theory(name, lead):
    """(loss, size of the gradient by the wrong class's logit), for two classes."""
    p = 1 / (1 + math.exp(-lead))  # of the wrong class
    if name == "twice":  # the lead is now p - (1 - p) = tanh(lead / 2)
        again = 1 / (1 + math.exp(1 - 2 * p))
        return math.log1p(math.exp(math.tanh(lead / 2))), again * 2 * p * (1 - p)
    if name == "smoothing 0.1":  # the wrong class should have 0.05
        return math.log1p(math.exp(lead)) - 0.05 * lead, abs(p - 0.05)
    return math.log1p(math.exp(lead)), p


@pytest.mark.parametrize("lead", LEADS)
def test_the_right_loss_goes_on_teaching_where_softmax_twice_gives_up(lesson, lead):
    smoothed = nn.CrossEntropyLoss(label_smoothing=0.1)
    functions = {
        "right": F.cross_entropy,
        "twice": lesson.softmax_twice,
        "smoothing 0.1": smoothed,
    }
    for name, function in functions.items():
        found = lesson.loss_and_gradient(function, lead)
        assert found == pytest.approx(theory(name, lead), rel=1e-10)
        assert {type(number) for number in found} == {float}
    # Both numbers are those of the wrong class's logit, of whatever loss.
    found = lesson.loss_and_gradient(
        lambda z, y: z[0, 1 - y.item()] ** 2 + 5 * z[0, y.item()], lead
    )
    assert found == pytest.approx((lead**2, abs(2 * lead)), rel=1e-14)
    # Nothing wrong in log_softmax: e to the power of its numbers sums to 1 already.
    found = lesson.loss_and_gradient(
        lambda z, y: F.cross_entropy(z.log_softmax(dim=1), y), lead
    )
    assert found == pytest.approx(theory("right", lead), rel=1e-10)


def test_where_two_classes_are_wrong_by_10_softmax_twice_teaches_15_000_times_less(
    lesson,
):
    # p (1 - p) is near e^-10, and softmax(0, 1) gives the wrong class 1 / (1 + 1 / e).
    _, right = lesson.loss_and_gradient(F.cross_entropy, 10.0)
    _, twice = lesson.loss_and_gradient(lesson.softmax_twice, 10.0)
    assert twice == pytest.approx(2 * math.exp(-10) / (1 + math.exp(-1)), rel=1e-3)
    assert (f"{right:.6f}", f"{twice:.6f}") == ("0.999955", "0.000066")
    assert right / twice == pytest.approx(15_000, rel=0.01)


@pytest.mark.parametrize(("n", "classes"), [(5, 3), (9, 10)])
def test_softmax_twice_takes_probabilities_for_logits(lesson, device, n, classes):
    z, y = logits(n, classes, seed=8)
    ours = tensor(z, device), torch.tensor(y, device=device)
    check(lesson.softmax_twice(*ours), loss(probabilities(z), y), device)
    leaf = ours[0].clone().requires_grad_()
    lesson.softmax_twice(leaf, ours[1]).backward()
    check(leaf.grad, error_twice(z, y), device, rtol=0, atol=1e-14)
    # Where all logits are equal the gradient is C times too small.
    leaf = torch.zeros_like(ours[0]).requires_grad_()
    lesson.softmax_twice(leaf, ours[1]).backward()
    check(leaf.grad, error(0 * z, y) / classes, device, atol=1e-16)


@pytest.mark.parametrize("classes", [2, 4, 10, 100])
def test_softmax_twice_costs_from_its_floor_to_one_more(lesson, device, classes):
    # of e for the label and 1 for the others
    floor = math.log((math.e + classes - 1) / math.e)
    assert lesson.floor_of_double_softmax(classes) == pytest.approx(floor, rel=1e-13)
    z, y = logits(50, classes, seed=9, std=30.0)
    found = lesson.softmax_twice(
        tensor(z, device), torch.tensor(y, device=device)
    ).item()
    assert floor < found < floor + 1
    sure = torch.eye(classes, dtype=torch.float64, device=device) * SURE
    labels = torch.arange(classes, device=device)
    check(lesson.softmax_twice(sure, labels), floor, device)
    check(lesson.softmax_twice(sure, labels.roll(1)), floor + 1, device)


def test_softmax_twice_is_above_its_floor_when_the_right_loss_has_arrived(
    lesson, device, wine_optimum
):
    x, y, weight, bias = wine_optimum
    ours = lesson.wine(device)
    right = lesson.fit(*ours, F.cross_entropy, epochs=101)[1][-1]
    assert right == pytest.approx(loss(x @ weight.T + bias, y), rel=0.05)
    losses = lesson.fit(*ours, lesson.softmax_twice, epochs=101)[1]
    assert losses[0] == pytest.approx(math.log(3), rel=1e-14)
    floor = math.log(math.e + 2) - 1
    assert min(losses) > floor and losses[-1] - floor > 0.02


# 9. Mistake: NLLLoss of what is not a log of probabilities
@pytest.mark.parametrize("lr", [None, 0.1])
def test_nll_of_logits_falls_by_the_same_in_each_step_for_ever(lesson, device, lr):
    x, y = logits(20, 5, seed=10, std=1.5)
    y = y % 3
    # The loss is linear, -mean of z[y]: class k's weights and bias gain lr times the
    # sum of its rows (x, 1) over n, in each step.
    gains = [np.append(x[y == k].sum(axis=0), np.sum(y == k)) / 20 for k in range(3)]
    fall = (lr or 0.5) * sum(gain @ gain for gain in gains)
    ours = tensor(x, device), torch.tensor(y, device=device)
    found = lesson.fall_in_theory(*ours, **({} if lr is None else {"lr": lr}))
    assert type(found) is float and found == pytest.approx(fall, rel=1e-12)
    if lr is None:
        settings = {"momentum": 0, "weight_decay": 0}
        model, losses = lesson.fit(*ours, nn.NLLLoss(), epochs=31, **settings)
        assert losses == pytest.approx(
            [-k * fall for k in range(31)], rel=1e-11, abs=1e-14
        )
        expected = 31 * 0.5 * np.array(gains)
        check(model.weight.detach(), expected[:, :-1], device, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("classes", [2, 4, 7])
def test_nll_of_probabilities_is_minus_the_labels_and_never_above_0(device, classes):
    p = torch.full((3, classes), 1 / classes, dtype=torch.float64, device=device)
    check(F.nll_loss(p, torch.tensor([0, 1, 1], device=device)), -1 / classes, device)
    z, y = logits(10, classes, seed=11)
    p = probabilities(z)
    found = F.nll_loss(tensor(p, device), torch.tensor(y, device=device))
    check(found, -p[np.arange(10), y].mean(), device)
    assert -1 < found < 0


def test_nll_of_four_equal_probabilities_is_minus_0_25(device):
    p = torch.full((1, 4), 1 / 4, device=device)
    assert F.nll_loss(p, torch.tensor([2], device=device)).item() == -0.25


def test_kl_divergence_is_of_logs_and_below_0_of_probabilities_or_of_these_logits(
    device,
):
    z, target = logits(6, 4, seed=12)[0] + 5, probabilities(logits(6, 4, seed=13)[0])
    p = probabilities(z)
    for given, sign in ((np.log(p), 1), (p, -1), (z, -1)):
        expected = (target * (np.log(target) - given)).sum() / 6
        ours = tensor(given, device), tensor(target, device)
        check(F.kl_div(*ours, reduction="batchmean"), expected, device)
        assert sign * expected > 0


# 10. Mistake: the wrong dimension
@pytest.mark.parametrize(("n", "classes"), [(4, 10), (8, 2), (5, 5), (3, 12)])
def test_over_the_batch_the_columns_sum_to_1_and_the_rows_to_c_over_n(
    lesson, n, classes
):
    for dim, expected in ((0, classes / n), (1, 1)):
        sums = lesson.row_sums(n, classes, dim)
        assert (sums.dtype, sums.shape) == (torch.float32, (n,))
        assert sums.tolist() == pytest.approx([expected] * n, rel=1e-6)


def test_logits_by_place_raise_unless_there_are_as_many_places_as_classes():
    y = torch.tensor([[0, 1, 0, 2]])  # one row of four places
    z = 100 * F.one_hot(y, 3).float()  # (n, T, C)
    with pytest.raises(RuntimeError, match="Expected target size"):
        F.cross_entropy(z, y)
    assert F.cross_entropy(z.movedim(2, 1), y) == 0
    y = torch.tensor([[0, 0, 1]])
    # as many places as classes: it runs, and means other places
    z = 100 * F.one_hot(y, 3).float()
    assert F.cross_entropy(z, y) > 10 > F.cross_entropy(z.movedim(2, 1), y) == 0


@pytest.mark.parametrize(
    ("y", "cost"),
    [
        ([[0, 1], [1, 0]], 0),  # the mistake goes unnoticed
        ([[0, 0], [0, 1]], math.log(2) / 2),  # 0.3466
        ([[0, 0], [0, 0]], math.log(2)),
        ([[0, 0], [1, 1]], SURE / 2),  # as dear as the model is sure
    ],
)
def test_right_answers_with_the_classes_last_cost_what_they_like(device, y, cost):
    y = torch.tensor([y], device=device)
    # (n, H, W, C), H = W = C = 2: as right as can be
    z = SURE * F.one_hot(y, 2).double()
    assert F.cross_entropy(z.movedim(3, 1), y).item() == pytest.approx(0, abs=1e-20)
    assert F.cross_entropy(z, y).item() == pytest.approx(cost, abs=1e-12)
    with pytest.raises(RuntimeError):  # another size than C would be loud
        F.cross_entropy(z.new_zeros(1, 4, 4, 2), y.new_zeros(1, 4, 4))


# The picture
def test_the_picture_shows_three_losses_and_their_gradients(lesson, device):
    left, right = lesson.figure(device).axes
    names = ["cross-entropy", "smoothing 0.1", "twice"]
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels == ["once", "once, smoothing 0.1", "twice"]
    for number, axes in enumerate((left, right)):
        assert len(axes.lines) == 3 and "lead of the wrong class" in axes.get_xlabel()
        for name, line in zip(names, axes.lines, strict=True):
            leads, points = map(np.asarray, line.get_data())
            assert (leads[0], leads[-1]) == (-8, 8) and len(leads) > 100
            expected = [theory(name, lead)[number] for lead in leads]
            np.testing.assert_allclose(points, expected, rtol=1e-10, atol=1e-15)
    assert (left.get_title(), right.get_title()) == ("loss", "size of the gradient")
