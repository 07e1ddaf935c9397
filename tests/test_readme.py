"""Every transcript in the README is what its command prints today, on each device."""

import itertools
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from conftest import needs_cuda
from test_curriculum import too_old

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BLOCK = re.compile(r"^```console\n\$ (python [^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(README)
# A number on its own: not the 32 of float32, nor the 2 of x^2.
NUMBER = re.compile(r"(?<![\w.^])-?\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?(?![\w])")


def differences(shown, printed):
    """What two texts differ in: words to the letter, numbers by one unit in the last place.

    Whole numbers are counts, shapes and the like, and are compared to the letter too. The
    name of the device is left aside.
    """
    shown, printed = (re.sub(r"\b(cpu|cuda)\b", "DEVICE", text) for text in (shown, printed))
    if NUMBER.split(shown) != NUMBER.split(printed):
        pairs = zip(shown.splitlines(), printed.splitlines(), strict=False)
        lines = [pair for pair in pairs if NUMBER.split(pair[0]) != NUMBER.split(pair[1])]
        return lines or ["one text is longer than the other"]
    found = []
    for before, after in zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True):
        a, b = (Decimal(number.replace(",", "")) for number in (before, after))
        whole = re.fullmatch(r"-?[\d,]+", before) or re.fullmatch(r"-?[\d,]+", after)
        unit = 0 if whole else Decimal(1).scaleb(max(a.as_tuple().exponent, b.as_tuple().exponent))
        if abs(a - b) > unit:
            found.append((before, after))
    return found


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("w 1.92248", "w 1.92249", True),
        ("w 1.92248", "w 1.92250", False),
        ("w -0.00", "w 0.01", True),
        ("4e-09 on cpu", "5e-09 on cuda", True),
        ("4e-09", "4e-08", False),
        ("2 of 3072", "3 of 3072", False),
        ("731,407", "731,408", False),
        ("float32", "float64", False),
        ("x^2", "x^3", False),
        ("loss 0.25, nan", "loss 0.25, inf", False),
        ("w 1.0", "w  1.0", False),
        ("one\ntwo\n", "one\n", False),
        ("True 1.5", "False 1.5", False),
    ],
)
def test_the_comparison_lets_one_unit_in_the_last_place_pass_and_no_more(shown, printed, same):
    assert (not differences(shown, printed)) is same


def test_no_console_block_escapes():
    assert len(BLOCKS) == README.count("```console\n") > 0


def runs():
    """(what the process runs, the transcript that it should print) for each block and device."""
    for (command, shown), device in itertools.product(BLOCKS, ("cpu", "cuda")):
        _, script, *others = command.split()
        arguments = script, *others, "--device", device
        marks = [needs_cuda] if device == "cuda" else []
        marks += [too_old] if "10_" in script else []
        yield pytest.param(arguments, shown, marks=marks, id=f"{script}-{device}")


@pytest.mark.parametrize(("finished", "shown"), list(runs()), indirect=["finished"])
def test_a_transcript_is_what_its_command_prints(finished, shown):
    assert (finished.returncode, finished.stderr) == (0, "")
    assert not differences(shown, finished.stdout)


def test_links_into_the_repository_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_troubleshooting_quotes_the_messages_as_they_are_today(tmp_path):
    """Those that can be provoked on any machine."""
    text = " ".join(README.split("\n## Troubleshooting\n")[1].split("\n## ")[0].split())
    with pytest.raises(RuntimeError) as two_dtypes:
        torch.nn.Linear(2, 1)(torch.ones(1, 2, dtype=torch.float64))
    assert (quoted := "mat1 and mat2 must have the same dtype") in str(two_dtypes.value)
    assert quoted in text
    script = tmp_path / "no_guard.py"
    script.write_text("import multiprocessing as m\nm.get_context('spawn').Process().start()\n")
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    quoted = re.search(r"An attempt has .* bootstrapping\s+phase", run.stderr, re.DOTALL)[0]
    assert " ".join(quoted.split()) in text


@needs_cuda
def test_troubleshooting_quotes_the_message_about_two_devices():
    with pytest.raises(RuntimeError) as two_devices:
        torch.ones(2) + torch.ones(2, device="cuda")
    assert (quoted := "Expected all tensors to be on the same device") in str(two_devices.value)
    assert quoted in README
