"""Every chapter: what it shows is what runs, its numbers have witnesses, its links lead
somewhere."""

import ast
import contextlib
import importlib
import io
import itertools
import math
import os
import re
import runpy
import shutil
import socket
import tempfile
import textwrap
import types
import warnings
from decimal import Decimal
from pathlib import Path
from unittest import mock

import matplotlib.pyplot as plt
import pytest
import torch
from helpers import (
    CHAPTERS,
    FENCE,
    LESSONS_WITH_DATA,
    NUMBER,
    PROGRAM_DIFF,
    ROOT,
    blocks,
    differences,
    for_each,
    in_sections,
    marks_for,
    needs_cuda,
    outputs_of_sections,
    program_of,
    read,
    run_block,
    run_lesson,
    shown_in,
    side_of_diff,
)

LATER = CHAPTERS[1:]  # the first has a form of its own
SECTIONED = [path for path in LATER if in_sections(path)]
IN_STEPS = [path for path in LATER if not in_sections(path)]
PAGES = [
    ROOT / "README.md",
    *CHAPTERS,
    ROOT / "lessons" / "symptoms.md",
    ROOT / "lessons" / "ways.md",
    *(ROOT / folder / "README.md" for folder in ("exercises", "tests", "data")),
    ROOT / ".github" / "CONTRIBUTING.md",
]

# Numbers that stand in no block and no test of their chapter, and what they come from.
SOURCES = {
    "20_save_resume": {
        "2025": "CVE-2025-32434, GitHub advisory GHSA-53q9-r3pm-6pq6",
        "32434": "CVE-2025-32434, GitHub advisory GHSA-53q9-r3pm-6pq6",
    },
}


def lesson_of(chapter):
    return chapter.with_suffix(".py")


# All chapters
@for_each(CHAPTERS)
def test_a_chapter_begins_with_its_title_and_its_links_and_leads_on(path):
    title, _, links = read(path).split("\n")[:3]
    docstring = ast.get_docstring(ast.parse(read(lesson_of(path))))
    assert title == f"# {docstring.split(':')[0]}"
    assert f"[Script]({path.stem}.py)" in links and re.search(r"\d+ minutes", links)
    assert path == CHAPTERS[0] or f"](../exercises/{path.stem}.py)" in links
    position = CHAPTERS.index(path) + 1
    if position < len(CHAPTERS):
        last = read(path).rstrip().split("\n\n")[-1]
        following = CHAPTERS[position]
        assert re.match(rf"Next: \[{following.stem[:2]} .+\]\({following.name}\)", last)


@for_each(LATER)
def test_the_pictures_of_a_chapter_are_there(path):
    pictures = re.findall(r"!\[[^\]]+\]\((figures/.+?\.png)\)", read(path))
    assert f"figures/{path.stem}.png" in pictures
    for picture in pictures:
        assert (path.parent / picture).read_bytes()[:4] == b"\x89PNG"


@for_each(LATER)
@pytest.mark.parametrize("on", ["cpu", pytest.param("cuda", marks=needs_cuda)])
def test_a_transcript_is_what_the_script_prints(path, on):
    consoles = "".join(text for language, text in blocks(path) if language == "console")
    commands = re.findall(r"^\$ (.+)$", consoles, re.MULTILINE)
    assert f"python lessons/{path.stem}.py" in commands
    status, printed, err = run_lesson(lesson_of(path), "--device", on)
    assert (status, err) == (0, "")
    assert not differences(shown_in(path), printed)
    assert printed.isascii() and max(map(len, printed.splitlines())) < 80


# Change it
def changes(path):
    """[(diff, the text after it), ...] of a chapter."""
    found, all_blocks = [], blocks(path)
    for (language, diff), (following, text) in itertools.pairwise(all_blocks):
        if language == "diff" and not PROGRAM_DIFF.match(diff):
            assert following == "text"
            found.append((diff, text))
    return found


CHANGES = [
    pytest.param(path, *change, id=f"{path.stem}-{number}", marks=marks_for(path))
    for path in LATER
    for number, change in enumerate(changes(path), 1)
]


@pytest.mark.parametrize(("path", "diff", "text"), CHANGES)
def test_a_change_prints_what_the_chapter_says(path, diff, text, tmp_path):
    script = lesson_of(path)
    source, before = read(script), side_of_diff(diff, "-")
    assert source.count(before) == 1
    end = source.index(before) + len(before)
    section = re.findall(r"^# %% (\d+)\. ", source[:end], re.MULTILINE)[-1]
    changed = tmp_path / "lessons" / script.name
    changed.parent.mkdir()
    changed.write_text(source.replace(before, side_of_diff(diff, "+")), "utf-8")
    if script in LESSONS_WITH_DATA:
        shutil.copytree(ROOT / "data", tmp_path / "data")
    status, out, err = run_lesson(changed, "--device", "cpu", "--section", section)
    assert (status, err) == (0, "")
    printed = out.splitlines(keepends=True)
    size = len(text.splitlines())
    parts = ["".join(printed[i : i + size]) for i in range(len(printed) - size + 1)]
    assert any(not differences(text, part) for part in parts), out


# Chapters in sections
@for_each(SECTIONED)
def test_the_sections_are_those_of_the_script(path):
    titles = re.findall(r"^# %% (\d+\. .+)$", read(lesson_of(path)), re.MULTILINE)
    headings = re.findall(r"^## (.+)$", read(path), re.MULTILINE)
    sections = [heading for heading in headings if heading != "train.py goes on"]
    assert sections == [*titles, "Go wrong", "Solve it"]
    outputs = outputs_of_sections(path)
    assert [text.split("\n")[0] for text in outputs.values()] == titles


def as_torchrun_with_one_process():
    """The variables that torchrun sets for the only process of a program."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    numbers = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": port}
    return {name: str(number) for name, number in numbers.items()} | {
        "MASTER_ADDR": "127.0.0.1"
    }


class Run:
    """A chapter in sections, read from top to bottom in a temporary folder.

    printed: {number of a block of Python among all blocks: what it printed}
    pictures: how often a block showed one
    problems: a line for each number without a witness
    """

    def __init__(self, path):
        self.printed, self.pictures, self.problems = {}, 0, []
        self.lesson = vars(importlib.import_module(path.stem))
        self.names = {"__name__": "chapter"}
        shown = [text for _, text in blocks(path)]
        shown += [read(lesson_of(path)), program_of(path.stem[:2]) or ""]
        self.shown = "\n".join(shown)
        torch.manual_seed(0)
        before = os.getcwd()
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")
            # matplotlib, given a tensor; Python shows it to nobody
            warnings.filterwarnings("ignore", "__array__ implementation doesn't accept")
            plt.close("all")
            shutil.copytree(ROOT / "data", Path(folder) / "data")
            os.chdir(folder)
            try:
                self.run_programs(path)
                self.read(path)
            finally:
                os.chdir(before)

    def run_programs(self, path):
        """A block that begins with `# train.py` is a program of its own.

        The changes to the train.py of an earlier lesson make one, too; what it prints
        stands below the last of them. The witnesses of the chapter know its variables
        as train_py.x, train_py.y, ...
        """
        programs = {}
        for number, (language, code) in enumerate(blocks(path)):
            file = re.match(r"# (\w+)\.py\b", code)
            if language == "python" and file and file[1] in programs:
                self.printed[number] = ""  # the same once more, after its changes
            elif language == "python" and file:
                programs[file[1]] = number, code
            elif language == "diff" and PROGRAM_DIFF.match(code):
                programs["train"] = number, program_of(path.stem[:2])
        for name, (number, code) in programs.items():
            program = Path(f"{name}.py")
            program.write_text(code, "utf-8")
            out = io.StringIO()
            with (
                contextlib.redirect_stdout(out),
                mock.patch.dict(os.environ, as_torchrun_with_one_process()),
            ):
                names = runpy.run_path(str(program), run_name="__main__")
            self.printed[number] = out.getvalue()
            self.names[f"{name}_py"] = types.SimpleNamespace(**names)

    def read(self, path):
        parts = FENCE.split(read(path).split("\n", 3)[3])  # prose, language, text, ...
        for number, prose in enumerate(parts[::3]):
            for paragraph in re.split(r"\n\s*\n|\n(?=\||- )", plain(prose)):
                self.look_for_witnesses(paragraph)
            language, code = [*parts, "", ""][3 * number + 1 : 3 * number + 3]
            if language == "python" and number not in self.printed:
                self.printed[number] = run_block(code, self.names)
                self.pictures += len(plt.get_fignums())
                plt.close("all")

    def look_for_witnesses(self, paragraph):
        names = {"math": math, **self.lesson, **self.names}
        own = {name for name in names if not name.startswith("__")} - {"torch", "math"}
        try:
            missing = unwitnessed(paragraph, names, own, self.shown)
        except Exception as error:
            missing = [f"{type(error).__name__}: {error}"]
        self.problems += [f"{wrong} in: {paragraph.strip()}" for wrong in missing]


# One test for all of it: a chapter takes seconds to read, and is read once.
@for_each(SECTIONED)
def test_a_chapter_read_from_top_to_bottom_holds_what_it_shows(path):
    run, all_blocks = Run(path), blocks(path)
    problems = [f"no witness: {problem}" for problem in run.problems]
    for number, printed in run.printed.items():
        language, text = all_blocks[number + 1] if printed else ("text", "")
        if re.match(r"\d+\. ", text):  # a section of the script prints the same
            text = textwrap.dedent(text.split("\n", 1)[1])
        if language != "text" or differences(text, printed):
            problems.append(f"block {number} of all blocks prints\n{printed}")
    explained = list(outputs_of_sections(path).values())
    explained += [text for _, text in changes(path)]
    for number, (language, text) in enumerate(all_blocks):
        below = run.printed.get(number - 1)
        if language == "text" and text not in explained and not below:
            problems.append(f"nothing prints this:\n{text}")
    pictures = len(re.findall(r"!\[[^\]]+\]\(figures/", read(path)))
    if run.pictures != pictures - 1:  # one is the script's
        problems.append(f"{run.pictures} blocks show a picture, of {pictures} pictures")
    assert not problems, "\n\n".join(problems)


@for_each(SECTIONED)
def test_an_answer_is_folded_with_its_output(path):
    parts = re.split(r"^## (.+)$", read(path), flags=re.MULTILINE)[1:]
    for title, text in zip(parts[::2], parts[1::2], strict=True):
        if title[0].isdigit():
            folded = re.findall(r"<details>.*?</details>", text, re.DOTALL)
            assert "**Predict" in text and folded, title
            assert f"```text\n{title}\n" in "".join(folded), title


# No number without a witness
def plain(text):
    """Prose without blocks, headings, targets of links, and numbers of lessons."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^#+ .*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)|^\d\. |\[\d\d ", " ", text, flags=re.MULTILINE)
    lessons = r"\b([Ll]essons?|[Ss]ections?)\s\d+((,|,? (and|to)) \d+)*"
    return re.sub(lessons, "", text)


TOKEN = re.compile(
    rf"<!-- (?P<witness>.+?) -->|`(?P<code>[^`]+)`|(?P<number>{NUMBER.pattern})",
    re.DOTALL,
)


def value_shown(number):
    """(value, half a unit of its last digit) of a number as it stands in a text."""
    decimal = Decimal(number.replace(",", "").rstrip("."))
    return float(decimal), 0.5 * 10.0 ** decimal.as_tuple().exponent


def equal_as_shown(number, value):
    """Whether a value rounds to a number as it stands in a text."""
    shown, half = value_shown(number)
    value = value.item() if isinstance(value, torch.Tensor) else value
    return abs(shown - value) <= half * 1.0001


def unwitnessed(paragraph, names, own_names, shown):
    """The numbers of a paragraph that nothing vouches for.

    A comment behind one or several numbers is an expression for them: plain arithmetic,
    or one that calls something of the lesson or of the chapter. Code in backquotes
    stands in a block of the chapter or in its script. Whole numbers up to ten are free.
    """
    waiting = []
    for token in TOKEN.finditer(paragraph):
        if token["witness"] and token["witness"].startswith("source: "):
            waiting = waiting[:-1]
        elif token["witness"]:
            expression = token["witness"].strip()
            used = {n.id for n in ast.walk(ast.parse(expression)) if hasattr(n, "id")}
            assert used & own_names or not used, f"nothing of the lesson: {expression}"
            value = eval(expression, names)
            values = list(value) if isinstance(value, (list, tuple)) else [value]
            told = waiting[len(waiting) - len(values) :]
            assert len(told) == len(values), f"no number before: {expression}"
            for number, value in zip(told, values, strict=True):
                assert equal_as_shown(number, value), (
                    f"{number}: {expression} = {value}"
                )
            waiting = waiting[: len(waiting) - len(values)]
        elif token["code"]:
            if token["code"] not in shown:
                found = NUMBER.findall(token["code"])
                waiting += [number.rstrip(",") for number in found]
        else:
            waiting.append(token["number"].rstrip(","))
    return [n for n in waiting if not re.fullmatch(r"-?(\d|10)", n)]


@for_each(SECTIONED)
def test_a_lesson_that_is_named_is_linked_and_the_minutes_add_up(path):
    text = re.sub(r"^```.*?^```$|^\|[^\n]*$", "", read(path), flags=re.M | re.S)
    assert not re.findall(r"(?<!\[)\b[Ll]esson \d\d", text)
    for number, target in re.findall(r"\[[Ll]esson (\d\d)\]\((\d\d)_", text):
        assert number == target
    exercises = read(ROOT / "exercises" / f"{path.stem}.py")
    minutes = map(
        int, re.findall(r"^# %% .*\((?:.*), (\d+) minutes\)", exercises, re.M)
    )
    assert f"exercises {sum(minutes)}\n" in read(path)


# Chapters in six steps
STEPS = ["Idea", "Predict", "Run", "Change it", "Go wrong", "Solve it"]


@for_each(IN_STEPS)
def test_a_chapter_in_steps_has_six_and_at_least_two_changes(path):
    assert re.findall(r"^## (.+)$", read(path), re.MULTILINE) == STEPS
    assert "<details><summary>Answers</summary>" in read(path)
    assert len(changes(path)) >= 2


@for_each(IN_STEPS)
def test_the_python_of_a_chapter_in_steps_says_what_its_comments_say(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    torch.manual_seed(0)
    names = {}
    for language, code in blocks(path):
        if language == "python":
            run_block(code, names)


def numbers(text):
    """The numbers in a text, by their size alone: 1e-5 and -0.00001 are one."""
    found = NUMBER.findall(text)
    return {abs(Decimal(number.replace(",", "").rstrip(","))) for number in found}


@for_each(IN_STEPS)
def test_no_number_of_a_chapter_in_steps_without_a_witness(path):
    tested = "\n".join(text for language, text in blocks(path) if language != "")
    test = read(ROOT / "tests" / f"test_{path.stem}.py")
    sources = {Decimal(number) for number in SOURCES.get(path.stem, {})}
    text = plain(read(path).split("\n## Idea")[1])
    missing = numbers(text) - numbers(tested) - numbers(test) - sources
    assert not missing


# Links
def anchors(path):
    """The anchors of the headings of a page, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", read(path), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", read(path))
    for link in links:
        target, _, anchor = link.partition("#")
        place = (path.parent / target).resolve() if target else path
        assert place.exists(), link
        assert not anchor or anchor in anchors(place), link
