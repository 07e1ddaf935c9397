"""The data is what data/README.md says, byte for byte."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).resolve().parent.parent / "data"
README = (DATA / "README.md").read_text()
ROW = re.compile(r"^\| `(.+?)` \| (\d+) x (\d+) \| `([0-9a-f]{64})` \|$", re.MULTILINE)
TABLE = {
    name: (int(rows), int(columns), sha)
    for name, rows, columns, sha in ROW.findall(README)
}


def test_every_file_has_a_row_and_every_row_a_file():
    assert set(TABLE) == {path.name for path in DATA.iterdir()} - {"README.md"}


@pytest.mark.parametrize("name", TABLE)
def test_a_file_is_the_one_described(name):
    rows, columns, checksum = TABLE[name]
    content = (DATA / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == checksum
    assert content.endswith(b"\n") and b"\r" not in content
    header, *lines = content.decode("ascii").splitlines()
    assert header.count(",") == columns - 1
    table = np.array([[float(number) for number in line.split(",")] for line in lines])
    assert table.shape == (rows, columns)
    assert np.isfinite(table).all()


@pytest.mark.parametrize("name", TABLE)
def test_a_file_says_where_it_is_from(name):
    section = README.split(f"\n## {name}\n")[1].split("\n## ")[0]
    for word in ("Columns", "Source", "Licence"):
        assert re.search(rf"^- \*\*{word}:\*\* \S.{{10}}", section, re.MULTILINE), word
