"""The benchmark's own machinery; what it measures is nobody's promise."""

import runpy

import pytest
import torch
from course import LESSONS, ROOT, read

BENCHMARK = ROOT / "tests" / "benchmark.py"


@pytest.fixture(scope="module")
def costs():
    return runpy.run_path(str(BENCHMARK))


def test_the_benchmark_refuses_what_it_cannot_do(run):
    for arguments in (["0"], ["-1"], ["many"], [""], ["5", "--figure", "gone/a.png"]):
        status, out, err = run(BENCHMARK, "--runs", *arguments)
        assert (status, out) == (2, "") and "error: " in err.splitlines()[-1]


LESSON = """
import ast
try:
    import json
except ImportError:
    raise
def show(device):
    from fractions import Fraction
    {use}
def figure():
    import turtle
"""


def test_a_floor_imports_what_a_run_imports_and_not_what_the_picture_needs(
    costs, tmp_path
):
    path = tmp_path / "11_new.py"
    path.write_text(LESSON.format(use="pass"))
    own = costs["floor"](path)
    assert own.split("\n") == [
        "import ast",
        "import json",
        "from fractions import Fraction",
        "",
    ]
    for words, code in costs["FIRST_USES"].items():
        path.write_text(LESSON.format(use=f"f({words!r})"))
        assert costs["floor"](path) == own + code
        exec(code, {"torch": torch, "__name__": "floor"})


def test_a_floor_has_what_its_lesson_has(costs):
    calls = {path.stem: {".step()"} for path in LESSONS if "torch.optim" in read(path)}
    calls |= {
        "03_autograd": {".backward(torch.ones(", ".jacobian("},
        "04_backprop": {".gradcheck("},
    }
    for path in LESSONS:
        floor = costs["floor"](path)
        for call in calls.get(path.stem, ()):
            assert call in floor
        for line in read(path).split("DEVICES")[0].splitlines():
            assert (
                not line.startswith(("import ", "from ")) or line.rstrip(" (") in floor
            )


def test_the_picture_draws_what_was_measured(costs):
    rows, batches = {10: 0.001, 1000: 0.002}, {1: 3.0, 8: 0.5, 64: 0.1}
    left, right = (axes.lines[0] for axes in costs["figure"](rows, batches).axes)
    assert list(left.get_xdata()) == [10, 1000] and list(left.get_ydata()) == [1, 2]
    assert list(right.get_xdata()) == [1, 8, 64] and list(right.get_ydata()) == [
        3,
        0.5,
        0.1,
    ]


def test_three_ways_bring_the_same_batches(costs):
    x, y = torch.arange(14.0).view(7, 2), torch.arange(7)
    for epoch in costs["three_ways"](x, y, 3).values():
        for start, (x_batch, y_batch) in zip((0, 3, 6), epoch, strict=True):
            assert torch.equal(x_batch, x[start : start + 3])
            assert torch.equal(y_batch, y[start : start + 3])
