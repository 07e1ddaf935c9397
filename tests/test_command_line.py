"""What a user types: every lesson runs anywhere; what they share is tried on one."""

import subprocess
import sys

import pytest
import torch
from helpers import (
    LESSONS,
    LESSONS_WITH_DATA,
    copy_alone,
    files_below,
    for_each,
    start_python,
)

ONE = LESSONS[1]


@for_each([LESSONS[0], ONE, LESSONS_WITH_DATA[0]])
@pytest.mark.filterwarnings("error::UserWarning")
def test_a_lesson_runs_alone_from_anywhere_and_writes_nothing(
    path, run, tmp_path, monkeypatch
):
    folder = tmp_path / "Übung 1"
    folder.mkdir()
    copy = copy_alone(path, folder)
    before = files_below(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    status, out, err = run(copy)
    assert (status, err) == (0, "")
    assert files_below(tmp_path) == before
    assert out.isascii() and out.startswith(path.stem[:2])


@for_each(LESSONS)
def test_help_says_what_the_lesson_is_about(path, run):
    status, out, err = run(path, "--help")
    assert (status, err) == (0, "")
    assert path.stem[:2] in out and "--device" in out


@for_each(LESSONS[1:])
def test_the_command_line_does_without_docstrings(path):
    """python -OO leaves none: None can be a description, but cannot be split."""
    assert "description=__doc__," in path.read_text("utf-8")


def test_a_section_runs_alone(run):
    _, whole, _ = run(ONE, "--device", "cpu")
    title, *sections = whole.split("\n\n")
    for number, section in enumerate(sections, 1):
        status, alone, err = run(ONE, "--device", "cpu", "--section", number)
        assert (status, err) == (0, "")
        assert alone.strip("\n") == f"{title}\n\n{section}".strip("\n")


def test_a_pipe_that_is_closed_early_ends_a_lesson_without_a_word(tmp_path):
    with start_python("-u", ONE, "--device", "cpu") as process:
        process.stdout.readline()
        process.stdout.close()  # as head does
        assert process.wait(timeout=120) == 0
        assert process.stderr.read() == b""


def test_a_card_that_torch_cannot_use_is_refused_in_one_line(run, monkeypatch):
    def no_kernel(*sizes, **options):
        raise RuntimeError("CUDA error: no kernel image is available\nMore lines.")

    monkeypatch.setattr(torch, "ones", no_kernel)
    status, out, err = run(ONE, "--device", "cpu")
    assert (status, out) == (1, "")
    assert err == (
        "--device cpu: CUDA error: no kernel image is available; "
        "see lessons/01_install_check.py\n"
    )


def test_the_picture_is_saved_where_it_is_asked_for(run, tmp_path):
    for name in ("a picture.svg", "b.PNG", "c.pdf"):
        assert run(ONE, "--device", "cpu", "--figure", tmp_path / name)[0] == 0
    assert [path.name for path in files_below(tmp_path)] == [
        "a picture.svg",
        "b.PNG",
        "c.pdf",
    ]
    assert "<svg" in (tmp_path / "a picture.svg").read_text("utf-8")


@pytest.mark.parametrize("function", ["main", "figure"])
@pytest.mark.parametrize("error", [ValueError, OSError, ZeroDivisionError])
def test_an_error_in_the_code_shows_pythons_own_traceback(
    run, tmp_path, function, error
):
    copy = copy_alone(ONE, tmp_path)
    head = f"def {function}(device"
    before, after = copy.read_text("utf-8").split(head)
    signature, body = after.split("\n", 1)
    copy.write_text(
        f"{before}{head}{signature}\n    raise {error.__name__}\n{body}", "utf-8"
    )
    with pytest.raises(error):
        run(copy, "--device", "cpu", "--figure", tmp_path / "a.png")


def test_a_file_that_hides_a_module_of_python_is_named(tmp_path):
    copy = copy_alone(LESSONS[0], tmp_path)
    for name in ("random", "types", "json"):
        hiding = copy.with_name(f"{name}.py")
        hiding.write_text("x = 1\n")
        process = subprocess.run([sys.executable, copy], capture_output=True, text=True)
        assert process.returncode == 1 and len(process.stderr.splitlines()) == 1
        assert str(hiding) in process.stderr and "rename" in process.stderr
        hiding.unlink()
