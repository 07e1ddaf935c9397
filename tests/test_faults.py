"""Bad input ends in one line that names it and says what to do, and leaves nothing
behind."""

import ast
import importlib
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import (
    LESSONS,
    LESSONS_WITH_DATA,
    ROOT,
    copy_alone,
    definitions,
    files_below,
    for_each,
    read,
    shown_in,
)

ONE = LESSONS[1]
READS = {
    path: re.findall(r'read_csv\("(\w+\.csv)"', path.read_text("utf-8"))[-1]
    for path in LESSONS_WITH_DATA
}
READS_NORRIS = next(path for path in READS if READS[path] == "norris.csv")


# Arguments: the command line is the same in all lessons but the first
@for_each(LESSONS[:2])
@pytest.mark.parametrize(
    "arguments",
    [
        ["--device", "tpu"],
        ["--device", "cuda:0"],
        ["--device", "CPU"],
        ["--device", ""],
        ["--devise", "cpu"],
        ["--dev", "cpu"],
        ["--device"],
        ["more"],
    ],
)
def test_other_arguments_are_refused_in_one_line(path, run, arguments):
    status, out, err = run(path, *arguments)
    usage, error = err.strip().rsplit("\n", 1)
    assert (status, out) == (2, "")
    assert usage.startswith("usage: ") and (arguments[-1] or "''") in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused_in_one_line(run):
    status, out, err = run(ONE, "--device", "cuda")
    assert (status, out) == (2, "")
    assert "--device: invalid choice: 'cuda'" in err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A copy of a lesson whose picture is empty, and saved in no time."""
    copy = copy_alone(ONE, tmp_path_factory.mktemp("quick"))
    head = 'def figure(device="cpu"):\n'
    empty = "    from matplotlib.figure import Figure\n\n    return Figure()\n\n"
    before, after = copy.read_text("utf-8").split(head)
    copy.write_text(before + head + empty + after, "utf-8")
    return copy


@pytest.mark.parametrize(
    "name", ["gone/a.png", "a.docx", "a", "a.png.", "", ".", "x" * 300 + ".png"]
)
def test_a_picture_that_cannot_be_saved_is_refused_in_one_line(
    run, tmp_path, monkeypatch, quick, name
):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(quick, "--device", "cpu", "--figure", name)
    assert status == 2 and not files_below(tmp_path)
    error = err.strip().splitlines()[-1]
    assert f"error: --figure {name!r}: " in error


def test_a_picture_that_cannot_be_written_whole_leaves_the_old_one(
    run, tmp_path, monkeypatch, quick
):
    old = tmp_path / "a.png"
    old.write_bytes(b"the old picture")

    def disk_full(figure, file, **options):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", disk_full)
    status, _, err = run(quick, "--device", "cpu", "--figure", old)
    assert status == 2 and "No space left" in err.strip().splitlines()[-1]
    assert old.read_bytes() == b"the old picture" and files_below(tmp_path) == [old]


@pytest.mark.parametrize("number", ["0", "99", "-1", "1.5", "two", ""])
def test_a_section_that_is_not_there_is_refused_in_one_line(run, number):
    status, out, err = run(ONE, "--section", number)
    assert (status, out) == (2, "")
    assert "error: argument --section: " in err.strip().splitlines()[-1]


def test_a_folder_in_the_place_of_the_picture_is_refused_in_one_line(
    run, tmp_path, quick
):
    (tmp_path / "folder.png").mkdir()
    status, _, err = run(quick, "--device", "cpu", "--figure", tmp_path / "folder.png")
    assert status == 2 and "error: --figure " in err.strip().splitlines()[-1]


# Data files: the reader is the same in all lessons that read any
def other_row(change):
    """A change of a file that changes its third row."""

    def changed(content):
        lines = content.splitlines(keepends=True)
        return b"".join([*lines[:3], change(lines[3]), *lines[4:]])

    return changed


SPOILT = {
    "empty": lambda content: b"",
    "a header alone": lambda content: content.splitlines(keepends=True)[0],
    "no header": lambda content: content.split(b"\n", 1)[1],
    "cut in a row": lambda content: content[: len(content) // 2],
    "the last row cut": lambda content: content[:-3],
    "the last line end cut": lambda content: content[:-1],
    "the last row missing": lambda content: content[: content[:-1].rindex(b"\n") + 1],
    "a row missing": other_row(lambda row: b""),
    "a row twice": other_row(lambda row: row + row),
    "an empty row": other_row(lambda row: b"\n" + row),
    "a blank row": other_row(lambda row: b"  \n"),
    "an extra number": other_row(lambda row: b"1," + row),
    "an extra column": lambda content: content.replace(b"\n", b",1\n"),
    "a number missing": other_row(lambda row: row.split(b",", 1)[1]),
    "an empty number": other_row(lambda row: b"," + row.split(b",", 1)[1]),
    "a word": other_row(lambda row: b"word," + row.split(b",", 1)[1]),
    "a nan": other_row(lambda row: b"nan," + row.split(b",", 1)[1]),
    "an inf": other_row(lambda row: b"-inf," + row.split(b",", 1)[1]),
    "too large a number": other_row(lambda row: b"1e999," + row.split(b",", 1)[1]),
    "semicolons": other_row(lambda row: row.replace(b",", b";")),
    "a decimal comma": other_row(lambda row: row.replace(b".", b",")),
    "a byte order mark": lambda content: b"\xef\xbb\xbf" + content,
    "UTF-16": lambda content: content.decode().encode("utf-16"),
    "binary rubbish": lambda content: bytes(range(256)) * 40,
    "zero bytes": lambda content: bytes(len(content)),
    "a web page": lambda content: b"<!DOCTYPE html><html>404</html>\n" + content,
    "a Git LFS pointer": lambda content: (
        b"version https://git-lfs.github.com/spec/v1\n"
    ),
}


def section_that_reads(path):
    """The number of the last section of a lesson that reads its file."""
    reads = [
        name
        for name, node in definitions(path).items()
        if READS[path] in ast.unparse(node)
    ]
    found = [
        number
        for number, text in re.findall(
            r"^# %% (\d+)\. .+\n((?:(?!# %% ).*\n)*)", read(path), re.MULTILINE
        )
        if any(f"{name}(" in text for name in reads)
    ]
    return found[-1]


def refused(path, run, folder):
    """Whether a lesson that reads a spoilt file in folder ends as it should."""
    file, before = folder / "data" / READS[path], files_below(folder)
    table = np.loadtxt(ROOT / "data" / file.name, delimiter=",", skiprows=1)
    rows, columns = table.shape
    command = ["--device", "cpu", "--section", section_that_reads(path)]
    status, out, err = run(folder / "mine" / path.name, *command)
    assert (status, len(err.splitlines())) == (1, 1)
    assert err.startswith(f"{file}: {rows} rows of {columns}: ")
    assert "copy the file from the course again" in err
    shown = shown_in(path.with_suffix(".md")).splitlines()
    assert set(out.splitlines()) <= {*shown, ""} and files_below(folder) == before
    return True


@pytest.mark.parametrize("fault", SPOILT)
def test_a_spoilt_data_file_ends_in_one_line_that_names_it(run, tmp_path, fault):
    copy_alone(READS_NORRIS, tmp_path)
    file = tmp_path / "data" / READS[READS_NORRIS]
    whole = file.read_bytes()
    file.write_bytes(SPOILT[fault](whole))
    assert file.read_bytes() != whole and refused(READS_NORRIS, run, tmp_path)


@for_each(LESSONS_WITH_DATA)
def test_a_data_file_that_is_missing_or_cut_ends_in_one_line(path, run, tmp_path):
    copy_alone(path, tmp_path)
    file = tmp_path / "data" / READS[path]
    whole = file.read_bytes()
    for short in (whole[:-2], SPOILT["the last row missing"](whole)):
        file.write_bytes(short)
        assert refused(path, run, tmp_path)
    file.unlink()
    assert refused(path, run, tmp_path)


def test_a_folder_in_the_place_of_a_file_or_none_at_all_ends_in_one_line(run, tmp_path):
    copy_alone(READS_NORRIS, tmp_path)
    file = tmp_path / "data" / READS[READS_NORRIS]
    file.unlink()
    file.mkdir()
    assert refused(READS_NORRIS, run, tmp_path)
    shutil.rmtree(file.parent)
    assert refused(READS_NORRIS, run, tmp_path)
    file.parent.write_text("a file in the place of the folder")
    assert refused(READS_NORRIS, run, tmp_path)


class Memory:
    """A folder whose one file is in memory: to write a thousand would take seconds."""

    def __init__(self, content):
        self.content = content

    def __truediv__(self, name):
        return self

    def __str__(self):
        return "a file"

    def read_text(self, encoding):
        return io.TextIOWrapper(io.BytesIO(self.content), encoding).read()


def test_a_file_cut_anywhere_or_with_rubbish_below_the_header_is_refused(monkeypatch):
    lesson = importlib.import_module(READS_NORRIS.stem)
    whole = (ROOT / "data" / "norris.csv").read_bytes()
    header = whole.index(b"\n") + 1
    contents = [whole[:i] for i in range(len(whole))]
    for i in range(header, len(whole)):
        contents += [whole[:i] + b"?" + whole[i + 1 :], whole[:i] + b"\n" + whole[i:]]
    for content in contents:
        monkeypatch.setattr(lesson, "DATA", Memory(content))
        with pytest.raises(SystemExit) as end:
            lesson.read_csv("norris.csv", 36, 2)
        assert str(end.value).startswith("a file: ") and "\n" not in str(end.value)
    monkeypatch.setattr(lesson, "DATA", Memory(whole))
    expected = np.loadtxt(io.BytesIO(whole), delimiter=",", skiprows=1)
    np.testing.assert_array_equal(lesson.read_csv("norris.csv", 36, 2), expected)


def test_read_csv_takes_any_table(tmp_path, monkeypatch):
    lesson = importlib.import_module(READS_NORRIS.stem)
    monkeypatch.setattr(lesson, "DATA", tmp_path)
    (tmp_path / "row.csv").write_text("a,b,c\n1,2,3\n")
    (tmp_path / "column.csv").write_text("a\n1.5\n-2e3\n")
    for name, expected in (("row.csv", [[1, 2, 3]]), ("column.csv", [[1.5], [-2000]])):
        table = lesson.read_csv(name, *np.shape(expected))
        assert table.dtype == np.float64
        np.testing.assert_array_equal(table, expected)
