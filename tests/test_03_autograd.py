"""What lesson 03 claims."""

import contextlib
import re
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import (
    ROOT,
    assert_values,
    loud_messages,
    mended,
    printed_if_tripled,
    read,
    tensor64,
)
from reference import sigmoid, swings

EPS32 = 2.0**-23
CHAPTER = ROOT / "lessons" / "03_autograd.md"


def leaf(numbers, device):
    """The numbers in float64, to be recorded."""
    return tensor64(numbers, device).requires_grad_()


def test_numbers_are_shown_rounded(lesson, device):
    assert lesson.as_text(tensor64([1, 2.345, -1 / 3], device)) == "[1.00, 2.35, -0.33]"
    assert lesson.as_text(tensor64([0.5], device), 3) == "[0.500]"
    assert lesson.as_text(tensor64([4, -7], device), 0) == "[4, -7]"


# 1. PyTorch records what you compute
@pytest.mark.parametrize("numbers", [[1.5], [1.0, -2.0, 0.25], [3.0, 0.0, 5.0, -7.0]])
def test_the_gradient_is_that_of_the_expanded_parabola(lesson, device, numbers):
    # mean(2 x^2 + 8 x + 8) has the derivative (4 x + 8) / n
    x = np.array(numbers)
    z = np.mean(2 * x**2 + 8 * x + 8)
    slopes = (4 * x + 8) / len(x)
    start = leaf(numbers, device)
    measured = lesson.mean_of_squares(start)
    assert_values(measured, z, device, rtol=1e-15)
    measured.backward()
    assert_values(start.grad, slopes, device, rtol=1e-15)
    by_hand = lesson.slopes_by_hand(tensor64(numbers, device))
    assert_values(by_hand, slopes, device, rtol=1e-15)


def test_the_record_goes_from_the_result_back_to_the_leaf(lesson, device):
    w = leaf(2.0, device)
    names = lesson.recorded_operations(torch.sin(3 * torch.exp(w)))
    expected = ["SinBackward0", "MulBackward0", "ExpBackward0", "AccumulateGrad"]
    assert names == expected
    assert lesson.recorded_operations(torch.sin(w.detach())) == []
    # mean(2 * (x + 2) ** 2), read from the outside to the inside
    z = lesson.mean_of_squares(leaf([1, 2], device))
    *operations, last = lesson.recorded_operations(z)
    order = ["Mean", "Mul", "Pow", "Add"]
    assert operations == [f"{name}Backward0" for name in order]
    assert last == "AccumulateGrad"


def test_the_slopes_by_hand_do_not_come_from_autograd(lesson):
    printed = printed_if_tripled(lesson, 1, "mean_of_squares")
    assert "z = mean(2 (x + 2)^2) = 100.00\n" in printed  # 3 * 2 (9 + 16 + 25) / 3
    assert "dz/dx by PyTorch   [12.00, 16.00, 20.00]\n" in printed  # 3 * 4 (x + 2) / 3
    assert "dz/dx by hand      [4.00, 5.33, 6.67]\n" in printed
    printed = printed_if_tripled(lesson, 1, "slopes_by_hand")
    assert "dz/dx by PyTorch   [4.00, 5.33, 6.67]\n" in printed
    assert "dz/dx by hand      [12.00, 16.00, 20.00]\n" in printed


# 2. Calling backward() again
@pytest.mark.parametrize("calls", [0, 1, 5])
def test_gradients_add_up_until_they_are_reset(lesson, device, calls):
    each_time = [3.0] * calls
    sums = np.cumsum(each_time).tolist()
    assert lesson.gradients_of_3w(calls, "no reset", device) == sums
    assert lesson.gradients_of_3w(calls, "w.grad = None", device) == each_time
    assert lesson.gradients_of_3w(calls, "w.grad.zero_()", device) == each_time


def test_only_zero_fills_the_gradient_with_zeros(lesson):
    filled, zero = [], torch.Tensor.zero_

    def watched(tensor):
        filled.append(tensor.item())
        return zero(tensor)

    with mock.patch.object(torch.Tensor, "zero_", watched):
        lesson.gradients_of_3w(4, "no reset")
        lesson.gradients_of_3w(4, "w.grad = None")
        assert filled == []
        lesson.gradients_of_3w(4, "w.grad.zero_()")
    assert filled == [3] * 4


# 3. The update must not be recorded
@pytest.mark.parametrize(
    ("x", "target", "lr"),
    [
        ([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], 0.05),  # the lesson's own
        ([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], 0.2),
        ([0.5, -1.0, 3.0], [2.0, 1.0, -4.0], 0.1),  # on no line
    ],
)
def test_with_reset_w_comes_nearer_and_without_it_is_a_pendulum(
    lesson, device, x, target, lr
):
    # The gradient is c (w - best), with c = 2 mean(x^2) and c best = 2 mean(x target).
    curvature = 2 * np.mean(np.square(x))
    best = 2 * np.mean(np.multiply(x, target)) / curvature
    tensors = torch.tensor(x, device=device), torch.tensor(target, device=device)
    steps = 30
    # A step rounds numbers below 8 a few times; a pendulum forgets none of it.
    atol = 4 * EPS32 * steps
    ws = best - best * (1 - lr * curvature) ** np.arange(1, steps + 1)
    np.testing.assert_allclose(lesson.train(*tensors, lr, steps), ws, atol=atol)
    ws = best - best * swings(lr * curvature, steps)[1:]
    without = lesson.train(*tensors, lr, steps, reset=False)
    np.testing.assert_allclose(without, ws, atol=atol)


def test_without_reset_it_passes_2_and_comes_back_for_ever(lesson, device):
    x = torch.tensor([1.0, 2.0, 3.0], device=device)
    distances = np.array(lesson.train(x, 2 * x, 0.05, 400, reset=False)) - 2
    # A swing lasts 2 pi / t steps, with 2 cos(t) = 2 - 0.05 * 28 / 3.
    passes = np.count_nonzero(distances[1:] * distances[:-1] < 0)
    assert passes == int(400.5 * np.arccos(1 - 0.05 * 14 / 3) / np.pi + 0.5)
    assert np.abs(distances[-20:]).max() > 1.9
    assert abs(lesson.train(x, 2 * x, 0.05, 400)[-1] - 2) < 4 * EPS32


def recorded_lines(lesson, owner, name, replacement):
    """What section 3 says of each way to compute 2 * x, where one of torch is replaced.

    train needs no_grad itself, and is left out.
    """
    replaced = mock.patch.object(owner, name, replacement)
    left_out = mock.patch.object(lesson, "train", return_value=[0.0] * 8)
    with replaced, left_out:
        printed = printed_if_tripled(lesson, 3)
    return dict(re.findall(r"(2 \* x\S*(?: \S+)*?,?) +recorded (.+)", printed))


def test_each_way_not_to_record_is_the_one_that_its_line_names(lesson):
    requires_grad = torch.Tensor.requires_grad_
    replacements = {
        "2 * x in no_grad()": (torch, "no_grad", contextlib.nullcontext),
        "2 * x.detach()": (torch.Tensor, "detach", lambda tensor: tensor),
        "2 * x in inference_mode()": (
            torch,
            "inference_mode",
            contextlib.nullcontext,
        ),
        "2 * x, x.requires_grad_(False)": (
            torch.Tensor,
            "requires_grad_",
            lambda tensor, _: requires_grad(tensor),
        ),
    }
    for replaced, replacement in replacements.items():
        lines = recorded_lines(lesson, *replacement)
        recorded = [name for name, answer in lines.items() if answer == "True"]
        assert recorded == ["2 * x", replaced] and len(lines) == 5


# 4. Mistake: w = w - lr * w.grad
@pytest.mark.parametrize("lr", [0.125, 0.75])
def test_a_new_tensor_has_the_right_number_and_no_gradient(lesson, device, lr):
    changed = lesson.change_the_tensor(lr, device)
    made = lesson.make_a_new_one(lr, device)
    assert changed.item() == made.item() == 1 - lr * 2  # the slope of w^2 at 1 is 2
    assert changed.is_leaf and changed.requires_grad and changed.grad.item() == 2
    assert not made.requires_grad and made.grad is None
    with pytest.raises(RuntimeError, match="element 0 of tensors does not require"):
        (made**2).backward()


@pytest.mark.parametrize("steps", [1, 10])
def test_a_new_p_for_each_weight_trains_nothing(lesson, device, steps):
    assert lesson.train_nothing(steps, 0.1, device) == [1, 1]
    wrong, right = "p = p - lr * p.grad", "p -= lr * p.grad"
    trained = mended(lesson, "train_nothing", wrong, right)(steps, 0.1, device)
    # a step of 0.1 on w^2 leaves the share 1 - 0.1 * 2
    assert trained == pytest.approx([0.8**steps] * 2, rel=1e-6)


def test_section_4_prints_what_its_functions_return(lesson):
    printed = printed_if_tripled(lesson, 4, "train_nothing", "make_a_new_one")
    assert "w -= lr * w.grad      w 0.80 " in printed
    assert "w = w - lr * w.grad   w 2.40 " in printed
    assert printed.endswith("p = p - lr * p.grad   [3.0, 3.0]\n")


# 5. Mistake: backward twice
def test_a_record_that_kept_tensors_is_walked_once_unless_it_is_retained(
    lesson, device
):
    numbers = [1.0, -2.5]
    x, twice = tensor64(numbers, device), 2 * (4 * np.array(numbers) + 8) / 2
    with pytest.raises(RuntimeError, match="through the graph a second time"):
        lesson.backward_twice(lesson.mean_of_squares, x)
    gradient = lesson.backward_twice(lesson.mean_of_squares, x, retain_graph=True)
    assert_values(gradient, twice, device, rtol=1e-15)
    assert x.grad is None and not x.requires_grad


def test_a_record_that_kept_nothing_gives_twice_the_gradient_without_a_word(
    lesson, device
):
    x = tensor64([1.0, -2.5], device)
    assert_values(lesson.backward_twice(torch.sum, x), [2, 2], device)
    last = lesson.backward_twice(lambda w: w + 1, tensor64(5.0, device))
    assert_values(last, 2, device)


def test_section_5_prints_what_two_passes_gave(lesson):
    printed = printed_if_tripled(lesson, 5, "backward_twice")
    # three times twice 4 (x + 2) / 3, at 1, 2, 3
    assert "z, retain_graph=True   [24.00, 32.00, 40.00]\n" in printed
    assert "sum(x)                 [6.00, 6.00, 6.00]\n" in printed


# 6. When the result is not a single number
X, V = [0.5, -3.0, 1.25, 2.0], [1.0, -2.0, 0.5, 4.0]
SUMS = np.cumsum(X)
JACOBIAN = np.tril(2 * SUMS[:, None] * np.ones(4))  # dy[i]/dx[j] = 2 sums[i], j <= i


def test_backward_with_v_is_v_times_the_jacobian(lesson, device):
    x = tensor64(X, device)
    assert_values(lesson.squared_sums(x), SUMS**2, device, rtol=1e-15)
    by_backward = lesson.backward_with(tensor64(V, device), x)
    assert_values(by_backward, V @ JACOBIAN, device, rtol=1e-14)
    for unit, row in zip(np.eye(4), JACOBIAN, strict=True):
        by_backward = lesson.backward_with(tensor64(unit, device), x)
        assert_values(by_backward, row, device, rtol=1e-15)


def test_v_times_the_jacobian_does_not_come_from_backward_with(lesson):
    jacobian = np.tril(2 * np.cumsum([1, 2, 3])[:, None] * np.ones(3, int))
    product = [1, 10, 100] @ jacobian
    printed = printed_if_tripled(lesson, 6, "backward_with")
    for row in jacobian.tolist():
        assert f"a row of J    {row}\n" in printed
    assert f"v @ J         {product.tolist()}\n" in printed
    assert f"backward(v)   {(3 * product).tolist()}\n" in printed
    printed = printed_if_tripled(lesson, 6, "squared_sums")
    assert f"v @ J         {(3 * product).tolist()}\n" in printed


# 7. Mistake: writing through .data
WRITES = ["slope_after_data", "slope_after_detach", "slope_after_copy"]


def test_a_write_through_data_ruins_the_gradient_silently(lesson, device):
    numbers = [-3.0, 0.0, 0.5, 4.0]
    s = sigmoid(np.array(numbers))
    x = tensor64(numbers, device)
    rounded = np.round(s)
    wrong = rounded * (1 - rounded)
    assert_values(lesson.slope_after_data(x), wrong, device)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        lesson.slope_after_detach(x)
    # 1 - s has an error of 1e-16, and is 0.018 at the least
    assert_values(lesson.slope_after_copy(x), s * (1 - s), device, rtol=1e-13)


@pytest.mark.parametrize("name", WRITES)
def test_only_a_copy_leaves_the_sigmoids_as_they_were(lesson, device, name):
    made, written = [], []
    original, write = torch.sigmoid, torch.Tensor.round_

    def watched(x):
        made.append(original(x))
        return made[0]

    def watched_write(tensor):
        written.append(write(tensor))
        return tensor

    numbers = [-3.0, 0.5, 4.0]
    with (
        mock.patch.object(torch, "sigmoid", watched),
        mock.patch.object(torch.Tensor, "round_", watched_write),
        contextlib.suppress(RuntimeError),
    ):
        getattr(lesson, name)(tensor64(numbers, device))
    s = sigmoid(np.array(numbers))
    left = s if name == "slope_after_copy" else np.round(s)
    assert_values(made[0], left, device)
    assert_values(written[0], np.round(s), device)


def test_the_slope_of_the_sigmoid_by_hand_is_not_what_autograd_gives(lesson):
    s = sigmoid(np.array([1, 2, 3]))
    slopes = ", ".join(f"{slope:.3f}" for slope in s * (1 - s))
    tripled = ", ".join(f"{slope:.3f}" for slope in 3 * s * (1 - s))
    printed = printed_if_tripled(lesson, 7, "slope_after_data", "slope_after_copy")
    assert f"s (1 - s), by hand           [{slopes}]\n" in printed
    assert f"s.detach().clone().round_()  [{tripled}]\n" in printed
    with mock.patch.object(lesson, "slope_after_data", lambda x: 7 * x):
        printed = printed_if_tripled(lesson, 7)
    assert "s.data.round_()              [7.000, 14.000, 21.000]\n" in printed


def test_in_float32_the_slope_of_the_sigmoid_at_17_is_0(lesson, device):
    x = torch.tensor(17.0, device=device)
    assert lesson.slope_after_copy(x).item() == 0
    # s (1 - s) = e^-17 / (1 + e^-17)^2, and 1 - s has an error of 1e-16
    slope = np.exp(-17) / (1 + np.exp(-17)) ** 2
    assert_values(lesson.slope_after_copy(x.double()), slope, device, rtol=1e-8)


# 8. Mistake: an infinite slope behind where
def test_only_the_second_where_keeps_nan_out_of_the_gradient(lesson, device):
    numbers = np.array([-1.0, 0.0, 0.25, 4.0, 9.0])
    positive = numbers > 0
    roots = np.sqrt(np.abs(numbers)) * positive
    slopes = np.array([0.5 / root if root else 0 for root in roots])
    for function, behind in (
        (lesson.root_or_zero, np.nan),
        (lesson.root_or_zero_mended, 0),
    ):
        x = leaf(numbers, device)
        y = function(x)
        assert_values(y, roots, device)
        y.sum().backward()
        assert_values(x.grad, np.where(positive, slopes, behind), device)


@pytest.mark.filterwarnings("ignore:Error detected in")
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_anomaly_detection_stops_at_the_first_nan(lesson, device):
    x = leaf([0.0, 4.0], device)
    with torch.autograd.set_detect_anomaly(True):
        lesson.root_or_zero_mended(x).sum().backward()
        with pytest.raises(RuntimeError, match=r"SqrtBackward0.*nan values"):
            lesson.root_or_zero(x).sum().backward()


# Go wrong
def one():
    return torch.tensor(1.0, requires_grad=True)


def next_backward_without_a_leaf():
    w = one()
    for _ in range(2):
        loss = w**2
        loss.backward()
        with torch.no_grad():
            w = w - 0.1 * w.grad


def next_update_without_a_leaf():
    w, b = one(), one()
    for _ in range(2):
        loss = w**2 + b**2
        loss.backward()
        with torch.no_grad():
            w = w - 0.1 * w.grad
            b -= 0.1 * b.grad


def loss_of_argmax():
    logits = torch.ones(2, 3, requires_grad=True)
    (logits.argmax(dim=1) - torch.tensor([0, 1])).float().mean().backward()


def loss_of_item():
    torch.tensor((one() ** 2).item()).backward()


def loss_under_no_grad():
    w = one()
    with torch.no_grad():
        loss = w**2
    loss.backward()


def no_weight_at_all():
    (torch.tensor(1.0) ** 2).backward()


def reset_without_a_leaf():
    w = one()
    (w**2).backward()
    with torch.no_grad():
        w = w - 0.1 * w.grad
    w.grad.zero_()


def two_losses_that_share_a_part():
    shared = one().exp()
    shared.sum().backward()
    (shared**2).backward()


def gradient_of_what_is_no_leaf():
    w = torch.ones(2, requires_grad=True).double()
    w.sum().backward()
    assert w.grad is None


def update_outside_no_grad():
    w = one()
    (w**2).backward()
    w -= 0.1 * w.grad


def overwritten():
    h = one().exp()
    h += 1
    h.backward()


def step_between_two_backwards():
    w, v = one(), one()
    optimizer = torch.optim.SGD([w, v], lr=0.1)
    product = w * v
    first, second = product + 1, product * 2
    first.backward(retain_graph=True)
    optimizer.step()
    second.backward()


def state_of_the_step_before():
    w, state = one(), torch.tensor(1.0)
    for _ in range(2):
        state = state * w
        state.backward()


def made_in_inference_mode():
    with torch.inference_mode():
        made = torch.ones(2)
    one() * made


NO_GRAD = "element 0 of tensors does not require grad"
SECOND_TIME = "Trying to backward through the graph a second time"
IN_PLACE = (
    "one of the variables needed for gradient computation has been modified by an "
    "inplace operation"
)
MISTAKES = [
    (NO_GRAD, next_backward_without_a_leaf),
    ("'float' and 'NoneType'", next_update_without_a_leaf),
    (
        "unsupported operand type(s) for *: 'float' and 'NoneType'",
        next_update_without_a_leaf,
    ),
    ("'NoneType' object has no attribute 'zero_'", reset_without_a_leaf),
    (NO_GRAD, no_weight_at_all),
    (NO_GRAD, loss_of_argmax),
    (NO_GRAD, loss_of_item),
    (NO_GRAD, loss_under_no_grad),
    ("Can't call numpy() on Tensor that requires grad", lambda: one().numpy()),
    (
        "a leaf Variable that requires grad is being used in an in-place operation",
        update_outside_no_grad,
    ),
    (IN_PLACE, overwritten),
    (IN_PLACE, step_between_two_backwards),
    (
        "grad can be implicitly created only for scalar outputs",
        lambda: (one() * torch.ones(2)).backward(),
    ),
    (SECOND_TIME, lambda: [loss.backward() for loss in 2 * [one() ** 2]]),
    (SECOND_TIME, state_of_the_step_before),
    (SECOND_TIME, two_losses_that_share_a_part),
    (
        "Only Tensors of floating point and complex dtype can require gradients",
        lambda: torch.tensor(1, requires_grad=True),
    ),
    ("Inference tensors cannot be saved for backward", made_in_inference_mode),
]


ERRORS = (RuntimeError, TypeError, AttributeError)
NO_LEAF = "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed"


@pytest.mark.parametrize(("message", "mistake"), MISTAKES)
def test_a_loud_mistake_says_what_the_chapter_quotes(message, mistake):
    with pytest.raises(ERRORS, match=re.escape(message)):
        mistake()
    assert message in read(CHAPTER).replace("\n", " ")


def test_what_is_no_leaf_has_no_gradient_and_a_warning():
    with pytest.warns(UserWarning, match=re.escape(NO_LEAF)):
        gradient_of_what_is_no_leaf()


def test_every_message_of_the_table_is_made():
    made = {message for message, _ in MISTAKES} | {NO_LEAF}
    assert loud_messages(CHAPTER) <= made


# What is made, is made where x is
def test_tensors_are_made_on_the_device_that_is_given(lesson, device):
    x = torch.tensor([1.0, 2.0, 3.0], device=device)
    with torch.device("meta"):  # whatever is made without a device has no value here
        assert lesson.gradients_of_3w(1, "no reset", device) == [3]
        assert lesson.train(x, 2 * x, 0.05, 1) == pytest.approx([14 / 15], rel=1e-6)
        assert lesson.train_nothing(1, 0.1, device) == [1, 1]
        for step in (lesson.change_the_tensor, lesson.make_a_new_one):
            assert step(0.25, device).device.type == device


# The picture
def test_the_picture_shows_w_with_and_without_the_reset(lesson, device):
    (axes,) = lesson.figure(device).axes
    answer, with_reset, without = axes.lines
    assert set(answer.get_ydata()) == {2}
    rate = 0.05 * 28 / 3
    assert with_reset.get_label() == "with reset"
    assert without.get_label() == "without reset"
    for line, shares in (
        (with_reset, (1 - rate) ** np.arange(31)),
        (without, swings(rate, 30)),
    ):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(31))
        np.testing.assert_allclose(line.get_ydata(), 2 - 2 * shares, atol=1e-5)
    low, high = axes.get_ylim()
    assert low < min(without.get_ydata()) and max(without.get_ydata()) < high
