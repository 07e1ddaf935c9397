"""Bad input ends in one line that names it and says what to do, and leaves nothing behind."""

import importlib
import re
import shutil
from pathlib import Path

import pytest
import torch
from test_command_line import copy_alone, files
from test_curriculum import LESSONS, ROOT, each, every_lesson, later_lessons

READERS = [path for path in LESSONS if "\nDATA = " in path.read_text("utf-8")]
READS = {path: re.search(r'read_csv\("(\w+\.csv)"', path.read_text("utf-8"))[1] for path in READERS}


# Arguments
@every_lesson
@pytest.mark.parametrize(
    "arguments",
    [
        ["--device", "tpu"],
        ["--device", "cuda:0"],
        ["--device", "CPU"],
        ["--device", ""],
        ["--devise", "cpu"],
        ["--dev", "cpu"],
        ["more"],
    ],
)
def test_other_arguments_are_refused_in_one_line(path, run, arguments):
    status, out, err = run(path, *arguments)
    usage, error = err.strip().rsplit("\n", 1)
    assert (status, out) == (2, "")
    assert usage.startswith("usage: ") and (arguments[-1] or "''") in error


@every_lesson
def test_an_option_without_its_value_is_refused_in_one_line(path, run):
    for option in ("--device", "--figure")[: 1 if path == LESSONS[0] else 2]:
        status, out, err = run(path, option)
        assert (status, out) == (2, "")
        assert f"{option}: expected one argument" in err.strip().splitlines()[-1]


@later_lessons
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused_in_one_line(path, run):
    status, out, err = run(path, "--device", "cuda")
    assert (status, out) == (2, "")
    assert "--device: invalid choice: 'cuda'" in err.strip().splitlines()[-1]


# Figure files
@later_lessons
@pytest.mark.parametrize("name", ["gone/a.png", "a.docx", "a", ".png", "a.png.", "a.PNG", "", "."])
def test_a_picture_that_cannot_be_saved_is_refused_before_anything_is_computed(
    path, run, tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(path, "--device", "cpu", "--figure", name)
    assert (status, out) == (2, "")
    error = err.strip().splitlines()[-1]
    assert "error: --figure: " in error and repr(name) in error and "must be .png" in error
    assert not files(tmp_path)


@later_lessons
def test_a_picture_is_saved_whole_or_not_at_all(path, run, tmp_path, monkeypatch):
    copy = copy_alone(path, tmp_path)
    source = copy.read_text("utf-8")
    copy.write_text(source.replace("\n    main(args.device)\n", "\n"), "utf-8")  # just the picture
    (tmp_path / "folder.png").mkdir()
    old = tmp_path / "old.png"
    old.write_bytes(b"a picture that is there")
    before = files(tmp_path)
    for name, reason in (
        ("folder.png", ""),
        ("x" * 300 + ".png", ""),
        ("old.png", "space"),
    ):
        if name == "old.png":
            monkeypatch.setattr(Path, "write_bytes", full_disk)
        status, _, err = run(copy, "--device", "cpu", "--figure", tmp_path / name)
        error = err.strip().splitlines()[-1]
        assert status == 2 and "error: --figure: " in error and reason in error
    assert files(tmp_path) == before and old.read_bytes() == b"a picture that is there"


def full_disk(path, content):
    """Write a part of content, and then find that the disk is full."""
    with open(path, "wb") as file:
        file.write(content[:100])
    raise OSError(28, "No space left on device", str(path))


# Data files
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
    "another header": lambda content: content.replace(b",", b";", 1),
    "a quoted header": lambda content: b'"' + content.replace(b",", b'","', 1),
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
    "a Git LFS pointer": lambda content: b"version https://git-lfs.github.com/spec/v1\n",
}


def refused(path, run, folder):
    """Whether a lesson that reads a spoilt file in folder ends as it should."""
    file, before = folder / "data" / READS[path], files(folder)
    status, out, err = run(folder / "mine" / path.name, "--device", "cpu")
    assert (status, len(err.splitlines())) == (1, 1)
    assert err.startswith(f"{file}: expected the header ") and "git checkout data" in err
    assert len(out.splitlines()) <= 3 and files(folder) == before
    return True


@each(READERS)
@pytest.mark.parametrize("fault", SPOILT)
def test_a_spoilt_data_file_ends_in_one_line_that_names_it(path, run, tmp_path, fault):
    copy_alone(path, tmp_path)
    file = tmp_path / "data" / READS[path]
    whole = file.read_bytes()
    file.write_bytes(SPOILT[fault](whole))
    assert file.read_bytes() != whole and refused(path, run, tmp_path)


@each(READERS)
def test_a_data_file_that_cannot_be_read_ends_in_one_line_that_names_it(path, run, tmp_path):
    copy_alone(path, tmp_path)
    file = tmp_path / "data" / READS[path]
    file.unlink()
    assert refused(path, run, tmp_path)
    file.mkdir()
    assert refused(path, run, tmp_path)
    file.rmdir()
    shutil.rmtree(file.parent)
    assert refused(path, run, tmp_path)
    file.parent.write_text("a file in the place of the folder")
    assert refused(path, run, tmp_path)


@each(READERS)
def test_a_file_cut_or_changed_anywhere_is_refused(path, tmp_path, monkeypatch):
    """Norris at every byte, the larger files at a share of them: no cut is read as a whole."""
    lesson, name = importlib.import_module(path.stem), READS[path]
    whole = (ROOT / "data" / name).read_bytes()
    rows = whole.count(b"\n") - 1
    header = whole.split(b"\n")[0].decode()
    monkeypatch.setattr(lesson, "DATA", tmp_path)
    step = 1 if name == "norris.csv" else len(whole) // 100
    for i in range(0, len(whole), step):
        for content in (
            whole[:i],
            whole[:i] + b"?" + whole[i + 1 :],
            whole[:i] + b"\n" + whole[i:],
        ):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(SystemExit) as end:
                lesson.read_csv(name, header, rows)
            assert str(end.value).startswith(str(tmp_path / name)) and "\n" not in str(end.value)
    (tmp_path / name).write_bytes(whole)
    assert lesson.read_csv(name, header, rows).shape == (rows, header.count(",") + 1)
