"""What lesson 03 claims."""

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


def test_raises_answers_for_a_runtime_error_alone(lesson):
    def fail(error):
        raise error

    assert lesson.raises(lambda: fail(RuntimeError())) is True
    assert lesson.raises(lambda: None) is False
    with pytest.raises(KeyError):
        lesson.raises(lambda: fail(KeyError()))


def test_numbers_are_shown_rounded(lesson, device):
    assert lesson.show(vector([1, 2.345, -1 / 3], device)) == "[1.00, 2.35, -0.33]"
    assert lesson.show(vector([0.5], device), 3) == "[0.500]"


def test_a_leaf_has_nothing_behind_it_and_shares_nothing(lesson, device):
    x = vector([1.0, 2.0], device).requires_grad_()
    for source in (x, x * 2):
        start = lesson.leaf(source)
        assert start.is_leaf and start.requires_grad and start.grad_fn is None
        assert torch.equal(start, source)
        assert start.data_ptr() != source.data_ptr()


def test_every_operation_leaves_a_node(lesson, device):
    x = lesson.leaf(vector([1.0, 2.0], device))
    nodes = ["MeanBackward", "MulBackward", "PowBackward", "AddBackward", "AccumulateGrad"]
    names = lesson.recorded(lesson.mean_of_squares(x))
    assert [name.rstrip("0123456789") for name in names] == nodes
    names = lesson.recorded(x.exp() + x.sin())
    assert [name.rstrip("0123456789") for name in names] == [
        *("AddBackward", "ExpBackward", "SinBackward"),
        *("AccumulateGrad", "AccumulateGrad"),
    ]


@pytest.mark.parametrize("numbers", [[1.5], [1, -2, 0.25], [[3, 0], [5, -7]]])
def test_the_gradient_of_the_mean_is_calculus(lesson, device, numbers):
    x = vector(numbers, device)
    z = 2 * (np.array(numbers) + 2) ** 2
    assert lesson.mean_of_squares(x).item() == pytest.approx(z.mean(), rel=4 * EPS)
    expected = 4 * (np.array(numbers) + 2) / np.size(numbers)
    check(lesson.gradient(lesson.mean_of_squares, x), expected, device)
    check(lesson.gradient_by_calculus(x), expected, device)
    assert x.grad is None and not x.requires_grad


def test_backward_with_v_is_v_times_the_jacobian(lesson, device):
    numbers, weights = [0.5, -3.0, 1.25, 2.0], [1.0, -2.0, 0.5, 4.0]
    sums = np.cumsum(numbers)
    check(lesson.squared_sums(vector(numbers, device)), sums**2, device)
    expected = np.tril(2 * sums[:, None] * np.ones(4))  # dy[i]/dx[j] = 2 sums[i] for j <= i
    x, v = vector(numbers, device), vector(weights, device)
    check(lesson.jacobian(lesson.squared_sums, x), expected, device)
    check(lesson.vector_jacobian(lesson.squared_sums, x, v), weights @ expected, device)


def test_a_vector_needs_v_and_a_scalar_does_not(lesson, device):
    x = vector([1.0, 2.0], device)
    assert lesson.raises(lambda: lesson.vector_jacobian(lesson.squared_sums, x))
    assert lesson.raises(lambda: lesson.gradient(lesson.squared_sums, x))
    check(lesson.vector_jacobian(torch.sum, x), [1, 1], device)


@pytest.mark.parametrize("start", [0.0, -2.5])
def test_gradients_add_up_until_they_are_reset(lesson, device, start):
    w = vector(start, device)
    assert lesson.accumulated(w, 4) == [3, 6, 9, 12]
    assert lesson.accumulated(w, 3, "grad = None") == [3, 3, 3]
    assert lesson.accumulated(w, 2, "zero_()") == [3, 3]


def test_four_ways_do_not_record(lesson, device):
    x = vector([1.0, -4.0], device)
    results = lesson.unrecorded(x)
    assert len(results) == 5
    for name, result in results.items():
        check(result, [2, -8], device)
        assert result.requires_grad is (name == "2 * x")
    assert results["2 * x under inference_mode()"].is_inference()
    assert not results["2 * x under no_grad()"].is_inference()


@pytest.mark.parametrize("x", [-1.75, 0.1, 3.0])
def test_autograd_is_exact_to_rounding(lesson, device, x):
    exact = 3 * Fraction(x) ** 2  # in rational arithmetic
    error = Fraction(lesson.gradient(lesson.cube, vector(x, device)).item()) - exact
    assert abs(error) <= 2 * EPS * exact  # four roundings of half an eps each


def test_the_error_of_the_central_difference_is_h_squared(lesson, device):
    # (x + h)^3 - (x - h)^3 = 6 x^2 h + 2 h^3, so the error is h^2 for every x.
    x = torch.linspace(1, 2, 11, device=device, dtype=torch.float64)
    for h in (0.5, 2**-5, 2**-10):
        derivative = lesson.central_difference(lesson.cube, x, h)
        check(derivative, 3 * x.cpu().numpy() ** 2 + h**2, device, rtol=8 * EPS / h)
        # The rounding of four numbers up to 15, divided by 2 h.
        assert lesson.mean_error(derivative, x) == pytest.approx(h**2, abs=30 * EPS / h)


def test_rounding_makes_the_error_rise_again_like_eps_over_h(lesson, device):
    x = torch.linspace(1, 2, 1001, device=device, dtype=torch.float64)
    for h in (1e-7, 1e-9, 1e-11):
        error = lesson.mean_error(lesson.central_difference(lesson.cube, x, h), x)
        assert 0.3 * EPS / h < error < 15 * EPS / h
        assert error > 1000 * lesson.mean_error(lesson.gradient(lambda x: (x**3).sum(), x), x)


def test_the_mean_error_is_a_mean_of_distances_from_3_x_squared(lesson, device):
    x = vector([1.0, 2.0, -1.0], device)
    assert lesson.mean_error(vector([4.0, 12.0, 1.0], device), x) == (1 + 0 + 2) / 3


def test_the_second_derivative_of_the_cube_is_6_x(lesson, device):
    x = [-2.0, 0.5, 3.0]
    check(lesson.cube(vector(x, device)), [-8, 0.125, 27], device)
    check(lesson.second_derivative(lesson.cube, vector(x, device)), [-12, 3, 18], device)
    check(lesson.second_derivative(torch.sin, vector(x, device)), -np.sin(x), device)


def test_a_write_through_data_ruins_the_gradient_silently(lesson, device):
    numbers = [-1.0, 0.5, 4.0]
    s = 1 / (1 + np.exp(-np.array(numbers)))
    x = vector(numbers, device)
    outcomes = {}
    for name, write in lesson.WRITES.items():
        noticed = lesson.raises(lambda write=write: lesson.sigmoid_gradient(x, write))
        outcomes[name] = "noticed" if noticed else lesson.sigmoid_gradient(x, write)
    check(outcomes.pop("no write"), s * (1 - s), device, rtol=1e-13)
    check(outcomes.pop("s.data.zero_()"), [0, 0, 0], device)
    assert outcomes == {"s.detach().zero_()": "noticed", "s.zero_()": "noticed"}


def test_every_write_but_the_first_zeroes_the_tensor(lesson):
    for name, write in lesson.WRITES.items():
        s = torch.ones(2)
        write(s)
        assert s.tolist() == ([1, 1] if name == "no write" else [0, 0])


@pytest.mark.parametrize(("start", "lr"), [(1.0, 0.25), (-3.0, 0.5)])
def test_rebinding_loses_the_leaf(lesson, device, start, lr):
    kept = lesson.updated(vector(start, device), lr, in_place=True)
    lost = lesson.updated(vector(start, device), lr, in_place=False)
    assert kept.item() == lost.item() == start - lr * 2 * start
    assert kept.requires_grad and kept.grad.item() == 2 * start
    assert not lost.requires_grad and lost.grad is None
    assert lesson.raises(lambda: (lost**2).backward())


def test_a_graph_is_walked_once_unless_it_is_retained(lesson, device):
    x = vector([1.0, -2.5], device)
    assert lesson.raises(lambda: lesson.backward_again(x, retain_graph=False))
    check(lesson.backward_again(x, retain_graph=True), [4, -10], device)


def test_only_the_double_where_keeps_nan_away(lesson, device):
    numbers = [-1.0, 0.0, 0.25, 4.0]
    unsafe = lesson.root_gradient(vector(numbers, device), safe=False)
    assert unsafe.isnan().tolist() == [True, True, False, False]
    check(unsafe[2:], [1, 0.25], device)
    check(lesson.root_gradient(vector(numbers, device), safe=True), [0, 0, 1, 0.25], device)


def test_the_picture_is_a_v_above_autograd(lesson, device):
    (axes,) = lesson.figure(device).axes
    lines = {line.get_label(): line for line in axes.lines}
    h, error = lines["central difference"].get_data()
    np.testing.assert_allclose(lines["$h^2$"].get_ydata(), np.asarray(h) ** 2)
    np.testing.assert_allclose(lines["eps / h, eps = 2e-16"].get_ydata(), EPS / np.asarray(h))
    assert 1e-13 <= min(h) < 2e-13 and max(h) == 1
    bottom = np.argmin(error)
    assert 1e-6 < h[bottom] < 1e-4  # theory: about eps^(1/3) = 6e-6
    assert error[0] > 1e6 * error[bottom] < 1e6 * error[-1]
    assert 1e-11 < min(error) < 1e-9
    assert lines["autograd"].get_ydata()[0] < 10 * EPS < min(error)
