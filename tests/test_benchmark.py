"""The benchmark's own machinery; what it measures is nobody's promise."""

import runpy

from helpers import ROOT

BENCHMARK = ROOT / "tests" / "benchmark.py"
LESSON = """
import ast
try:
    import json
except ImportError:
    raise
def show(device):
    from fractions import Fraction
def figure():
    import turtle
"""


def test_the_benchmark_refuses_what_it_cannot_do(run):
    for arguments in (["0"], ["-1"], ["many"], [""], ["5", "--figure", "gone/a.png"]):
        status, out, err = run(BENCHMARK, "--runs", *arguments)
        assert (status, out) == (2, "") and "error: " in err.splitlines()[-1]


def test_a_floor_imports_what_a_run_imports_and_not_what_the_picture_needs(tmp_path):
    path = tmp_path / "11_new.py"
    path.write_text(LESSON)
    imports = runpy.run_path(str(BENCHMARK))["floor"](path).splitlines()
    assert imports == ["import ast", "import json", "from fractions import Fraction"]
