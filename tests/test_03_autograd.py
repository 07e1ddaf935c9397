"""What lesson 03 claims."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch

EPS = 2.0**-52


def vector(numbers, device, dtype=torch.float64):
    return torch.tensor(numbers, device=device, dtype=dtype)


def check(tensor, expected, device, dtype=torch.float64, rtol=4 * EPS):
    assert (tensor.dtype, tensor.device.type) == (dtype, device)
    assert tensor.shape == np.shape(expected)
    np.testing.assert_allclose(tensor.detach().cpu().numpy(), expected, rtol=rtol)


def kinds(names):
    """The names of nodes without the number behind them."""
    return [name.rstrip("0123456789") for name in names]


def test_a_leaf_has_nothing_behind_it_and_shares_nothing(lesson, device):
    x = vector([1.0, 2.0], device).requires_grad_()
    for source in (x, x * 2, x.detach()):
        start = lesson.leaf(source)
        assert start.is_leaf and start.requires_grad and start.grad_fn is None
        assert torch.equal(start, source)
        assert start.data_ptr() != source.data_ptr()
    assert x.detach().data_ptr() == x.data_ptr()
    # a leaf is not written into in the open
    assert lesson.raises(lambda: lesson.leaf(x).sub_(1))


def test_every_operation_leaves_a_node(lesson, device):
    x = lesson.leaf(vector([1.0, 2.0], device))
    nodes = [
        "MeanBackward",
        "MulBackward",
        "PowBackward",
        "AddBackward",
        "AccumulateGrad",
    ]
    assert kinds(lesson.graph_nodes(lesson.mean_of_squares(x))) == nodes


def test_every_node_is_named_once_however_many_ways_lead_to_it(lesson, device):
    x = lesson.leaf(vector([1.0, 2.0], device))
    names = kinds(lesson.graph_nodes(x.exp() + x.sin()))
    assert names == ["AddBackward", "ExpBackward", "SinBackward", "AccumulateGrad"]
    y = x
    for _ in range(15):  # 2^15 ways lead back to x
        y = y * y
    assert kinds(lesson.graph_nodes(y)) == ["MulBackward"] * 15 + ["AccumulateGrad"]


@pytest.mark.parametrize("numbers", [[1.5], [1, -2, 0.25], [[3, 0], [5, -7]]])
def test_the_gradient_of_the_mean_is_calculus(lesson, device, numbers):
    x = vector(numbers, device)
    z = 2 * (np.array(numbers) + 2) ** 2
    check(lesson.mean_of_squares(x), z.mean(), device)
    expected = 4 * (np.array(numbers) + 2) / np.size(numbers)
    check(lesson.gradient(lesson.mean_of_squares, x), expected, device)
    check(lesson.gradient_by_calculus(x), expected, device)
    assert x.grad is None and not x.requires_grad


def test_numbers_are_shown_rounded(lesson, device):
    assert lesson.rounded(vector([1, 2.345, -1 / 3], device)) == "[1.00, 2.35, -0.33]"
    assert lesson.rounded(vector([0.5], device), 3) == "[0.500]"
    assert lesson.rounded(vector([4.0, -7.0], device), 0) == "[4, -7]"


def test_backward_with_v_is_v_times_the_jacobian(lesson, device):
    numbers, weights = [0.5, -3.0, 1.25, 2.0], [1.0, -2.0, 0.5, 4.0]
    sums = np.cumsum(numbers)
    check(lesson.squared_sums(vector(numbers, device)), sums**2, device)
    # dy[i]/dx[j] = 2 sums[i] for j <= i
    jacobian = np.tril(2 * sums[:, None] * np.ones(4))
    x = vector(numbers, device)
    for v, expected in (
        (weights, weights @ jacobian),
        *zip(np.eye(4), jacobian, strict=True),
    ):
        check(
            lesson.gradient(lesson.squared_sums, x, vector(v, device)), expected, device
        )


def test_a_vector_needs_v_and_a_scalar_does_not(lesson, device):
    x = vector([1.0, 2.0], device)
    assert lesson.raises(lambda: lesson.gradient(lesson.squared_sums, x))
    check(lesson.gradient(torch.sum, x), [1, 1], device)
    check(lesson.gradient(torch.sum, x, vector(-3.0, device)), [-3, -3], device)


def test_raises_answers_for_a_runtime_error_alone(lesson):
    def fail(error):
        raise error

    assert lesson.raises(lambda: fail(RuntimeError())) is True
    # it is a RuntimeError too
    assert lesson.raises(lambda: fail(NotImplementedError())) is True
    assert lesson.raises(lambda: None) is False
    with pytest.raises(KeyError):
        lesson.raises(lambda: fail(KeyError()))


@pytest.mark.parametrize("start", [0.0, -2.5])
def test_gradients_add_up_until_they_are_reset(lesson, device, start):
    w = vector(start, device)
    assert lesson.accumulated(w, 4) == [3, 6, 9, 12]
    assert lesson.accumulated(w, 3, "grad = None") == [3, 3, 3]
    assert lesson.accumulated(w, 2, "zero_()") == [3, 3]
    assert lesson.accumulated(w, 0) == []
    assert w.grad is None


def test_four_ways_do_not_record(lesson, device):
    x = vector([1.0, -4.0], device)
    results = lesson.recorded_or_not(x)
    assert list(results) == [
        "2 * x",
        "2 * x.detach()",
        "2 * x under no_grad()",
        "2 * x under inference_mode()",
        "2 * x after x.requires_grad_(False)",
    ]
    for name, result in results.items():
        check(result, [2, -8], device)
        assert result.requires_grad is (name == "2 * x")
        assert result.is_inference() is ("inference" in name)
    assert not x.requires_grad


def test_what_inference_mode_makes_is_never_recorded_again(lesson, device):
    results = lesson.recorded_or_not(vector([1.0, -4.0], device))
    x = lesson.leaf(vector([1.0, -4.0], device))
    assert lesson.raises(lambda: x * results["2 * x under inference_mode()"])
    assert (x * results["2 * x under no_grad()"]).requires_grad


@pytest.mark.parametrize("x", [-1.75, 0.1, 3.0])
def test_autograd_is_exact_to_rounding(lesson, device, x):
    exact = 3 * Fraction(x) ** 2  # in rational arithmetic
    error = Fraction(lesson.gradient(lesson.cube, vector(x, device)).item()) - exact
    assert abs(error) <= 2 * EPS * exact  # four roundings of half an eps each


def test_the_error_of_autograd_is_that_of_two_roundings(lesson, device):
    # Autograd rounds x * x and its triple, the comparison 3 x and 3 x * x: half an eps
    # each.
    x = torch.linspace(1, 2, 1001, device=device, dtype=torch.float64)
    worst = 2 * EPS * np.mean(3 * x.cpu().numpy() ** 2)
    assert 0 < lesson.autograd_error(x) < worst
    # nothing is rounded
    assert lesson.autograd_error(vector([-1.5, 0.25, 3.0], device)) == 0
    # float32 against the same in rational arithmetic: the distance is a mean, and a
    # distance.
    y = torch.tensor([0.1, 0.7, -1.3], dtype=torch.float32, device=device)
    distances = []
    for number in y:
        slope = lesson.gradient(lesson.cube, number).item()
        distances.append(abs(Fraction(slope) - Fraction((3 * number * number).item())))
    assert lesson.autograd_error(y) == pytest.approx(
        float(sum(distances) / 3), rel=2**-22
    )


def test_the_error_of_the_central_difference_is_h_squared(lesson, device):
    # (x + h)^3 - (x - h)^3 = 6 x^2 h + 2 h^3, so the error is h^2 for every x. With few
    # digits nothing is rounded.
    x = vector([1.0, -1.5, 2.25, 0.0], device)
    for h in (0.5, 2**-5, 2**-9):
        derivative = lesson.central_difference(lesson.cube, x, h)
        check(derivative, 3 * x.cpu().numpy() ** 2 + h**2, device, rtol=0)
        assert lesson.mean_error(derivative, x) == h**2


def test_rounding_makes_the_error_rise_again_like_eps_over_h(lesson, device):
    x = torch.linspace(1, 2, 1001, device=device, dtype=torch.float64)
    for h in (1e-7, 1e-9, 1e-11):
        error = lesson.mean_error(lesson.central_difference(lesson.cube, x, h), x)
        assert 0.3 * EPS / h < error < 15 * EPS / h
        assert error > 1000 * lesson.autograd_error(x)


def test_the_mean_error_is_a_mean_of_distances_from_3_x_squared(lesson, device):
    x = vector([1.0, 2.0, -1.0], device)
    error = lesson.mean_error(vector([4.0, 12.0, 1.0], device), x)
    assert error == (1 + 0 + 2) / 3 and type(error) is float


def test_the_second_derivative_of_the_cube_is_6_x(lesson, device):
    x = [-2.0, 0.5, 3.0]
    check(lesson.cube(vector(x, device)), [-8, 0.125, 27], device)
    check(
        lesson.second_derivative(lesson.cube, vector(x, device)), [-12, 3, 18], device
    )
    check(lesson.second_derivative(torch.sin, vector(x, device)), -np.sin(x), device)


def test_a_write_through_data_ruins_the_gradient_silently_and_one_into_a_clone_does_not(
    lesson, device
):
    numbers = [-1.0, 0.5, 4.0]
    s = 1 / (1 + np.exp(-np.array(numbers)))
    x = vector(numbers, device)
    outcomes = {}
    for name, write in lesson.WRITES.items():
        noticed = lesson.raises(lambda write=write: lesson.sigmoid_gradient(x, write))
        outcomes[name] = "noticed" if noticed else lesson.sigmoid_gradient(x, write)
    # 1 - s of a float64 s near 1 keeps fewer digits: s = 0.98 costs a factor 54.
    for harmless in ("no write", "s.detach().clone().zero_()"):
        check(outcomes.pop(harmless), s * (1 - s), device, rtol=100 * EPS)
    check(outcomes.pop("s.data.zero_()"), [0, 0, 0], device)
    assert outcomes == {"s.detach().zero_()": "noticed"}


def test_every_write_is_the_one_it_is_called_by(lesson, device):
    for name, write in lesson.WRITES.items():
        s = lesson.leaf(vector([1.0, 2.0], device)) * 1
        result = write(s)
        check(s, [1, 2] if name == "no write" or "clone" in name else [0, 0], device)
        assert kinds(lesson.graph_nodes(s)) == ["MulBackward", "AccumulateGrad"]
        if name == "no write":
            assert result is None
        else:
            check(result, [0, 0], device)
            assert not result.requires_grad  # it was taken out of the graph first


@pytest.mark.parametrize(("start", "lr"), [(1.0, 0.25), (-3.0, 0.5)])
def test_rebinding_loses_the_leaf(lesson, device, start, lr):
    w = vector(start, device)
    kept = lesson.step_on_square(w, lr, in_place=True)
    lost = lesson.step_on_square(w, lr, in_place=False)
    assert w.item() == start and w.grad is None
    assert kept.item() == lost.item() == start - lr * 2 * start
    assert kept.is_leaf and kept.requires_grad and kept.grad.item() == 2 * start
    assert not lost.requires_grad and lost.grad is None
    assert lesson.raises(lambda: (lost**2).backward())


def test_a_graph_that_saved_tensors_is_walked_once_unless_it_is_retained(
    lesson, device
):
    x = vector([1.0, -2.5], device)
    z = lesson.mean_of_squares
    assert lesson.raises(lambda: lesson.backward_twice(z, x))
    assert lesson.raises(lambda: lesson.backward_twice(z, x, retain_graph=False))
    check(
        lesson.backward_twice(z, x, retain_graph=True),
        [2 * 4 * 3 / 2, 2 * 4 * -0.5 / 2],
        device,
    )
    assert x.grad is None


def test_a_tensor_that_backward_needs_may_not_be_overwritten():
    w = torch.ones(2, requires_grad=True)
    h = w.exp()
    h += 1
    with pytest.raises(RuntimeError):
        h.sum().backward()


def test_a_graph_that_saved_nothing_gives_twice_the_gradient_without_a_word(
    lesson, device
):
    check(lesson.backward_twice(torch.sum, vector([1.0, -2.5], device)), [2, 2], device)
    x = vector([[1.0], [3.0]], device)
    check(lesson.backward_twice(lambda x: (x + x + 1).sum(), x), [[4], [4]], device)
    check(lesson.backward_twice(lambda w: w + 1, vector(5.0, device)), 2, device)
    check(
        lesson.backward_twice(torch.sum, vector([5.0], device), retain_graph=True),
        [2],
        device,
    )


def test_only_the_double_where_keeps_nan_away(lesson, device):
    numbers = [-1.0, 0.0, 0.25, 4.0]
    unsafe = lesson.root_gradient(vector(numbers, device), safe=False)
    assert unsafe.isnan().tolist() == [True, True, False, False]
    check(unsafe[2:], [1, 0.25], device)
    check(
        lesson.root_gradient(vector(numbers, device), safe=True),
        [0, 0, 1, 0.25],
        device,
    )


def test_anomaly_detection_stops_at_the_first_nan(lesson, device):
    x = vector([0.0, 4.0], device)
    with warnings.catch_warnings(), torch.autograd.set_detect_anomaly(True):
        warnings.simplefilter("ignore")
        assert lesson.raises(lambda: lesson.root_gradient(x, safe=False))
        assert not lesson.raises(lambda: lesson.root_gradient(x, safe=True))


def test_the_picture_is_a_v_above_autograd(lesson, device):
    (axes,) = lesson.figure(device).axes
    lines = {line.get_label(): line for line in axes.lines}
    h, error = lines["central difference"].get_data()
    np.testing.assert_allclose(lines["$h^2$"].get_ydata(), np.asarray(h) ** 2)
    np.testing.assert_allclose(
        lines["eps / h, eps = 2e-16"].get_ydata(), EPS / np.asarray(h)
    )
    assert 1e-13 <= min(h) < 2e-13 and max(h) == 1
    bottom = np.argmin(error)
    assert 1e-6 < h[bottom] < 1e-4  # theory: about eps^(1/3) = 6e-6
    assert error[0] > 1e6 * error[bottom] < 1e6 * error[-1]
    assert 1e-11 < min(error) < 1e-9
    assert lines["autograd"].get_ydata()[0] < 10 * EPS < min(error)
