"""Every chapter: its six steps, its transcript, its changes, its numbers and its links."""

import ast
import itertools
import re
from decimal import Decimal

import pytest
import torch
from course import (
    CHAPTERS,
    NUMBER,
    ROOT,
    ahead,
    blocks,
    differences,
    each,
    needs,
    needs_cuda,
    read,
    section_after,
    shown_in,
    transcript,
)

STEPS = ["Idea", "Predict", "Run", "Change it", "Go wrong", "Solve it"]
LATER = CHAPTERS[1:]
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
    "09_dataset_dataloader": {
        "1.9": "release notes of PyTorch 1.9, pytorch/pytorch#56488",
        "3.14": "What's New In Python 3.14, multiprocessing",
    },
    "10_transforms": {"0.17": "release notes of torchvision 0.17"},
    "17_save_resume": {
        "2025": "CVE-2025-32434, GitHub advisory GHSA-53q9-r3pm-6pq6",
        "32434": "CVE-2025-32434, GitHub advisory GHSA-53q9-r3pm-6pq6",
    },
}


def lesson_of(chapter):
    return chapter.with_suffix(".py")


def prose(path):
    """A page without its blocks, the targets of links, and the numbers of lessons and
    lists."""
    text = re.sub(r"^```.*?^```$", "", read(path), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\]\([^)]*\)|^\d\. |\[\d\d ", " ", text, flags=re.MULTILINE)
    return re.sub(r"\b([Ll]essons?|[Ss]ections?)\s\d+(,? (and|to) \d+)?", "", text)


@each(CHAPTERS)
def test_a_chapter_has_its_links_and_the_six_steps(path):
    script, number = lesson_of(path), path.stem[:2]
    title, _, links = read(path).split("\n")[:3]
    docstring = ast.get_docstring(ast.parse(read(script)))
    assert title == f"# {docstring.split(':')[0]}"
    assert f"[Script]({script.name})" in links and re.search(r"\d+ minutes", links)
    assert path == CHAPTERS[0] or f"[Exercises](../exercises/{script.name})" in links
    steps = re.findall(r"^## (.+)$", read(path), re.MULTILINE)
    own = [*STEPS[:-1], "Troubleshooting"] if path == CHAPTERS[0] else STEPS
    assert steps == own, number
    position = CHAPTERS.index(path) + 1
    if position < len(CHAPTERS):
        last = read(path).rstrip().split("\n\n")[-1]
        assert re.match(rf"Next: \[.+\]\({CHAPTERS[position].name}\)", last)
    assert (
        re.search(rf"!\[[^\]]{{20,}}\]\(figures/{path.stem}\.png\)", read(path))
        or number == "01"
    )
    assert "<details><summary>Answers</summary>" in read(path)


def test_the_picture_of_each_chapter_is_there():
    for path in LATER:
        assert (ROOT / "lessons" / "figures" / f"{path.stem}.png").read_bytes()[
            :4
        ] == b"\x89PNG"


# Run
@each(LATER)
@pytest.mark.parametrize("on", ["cpu", pytest.param("cuda", marks=needs_cuda)])
@ahead(transcript)
def test_a_transcript_is_what_the_script_prints(path, on, result):
    consoles = [text for language, text in blocks(path) if language == "console"]
    command, shown = consoles[0].split("\n", 1)[0], shown_in(path)
    assert command == f"$ python lessons/{lesson_of(path).name}"
    # the lesson's own test runs these
    assert all("torchrun" in text for text in consoles[1:])
    status, printed, err = result
    assert (status, err) == (0, "")
    assert not differences(shown, printed)
    assert printed.isascii() and max(map(len, printed.splitlines())) < 80


# Idea: its Python runs, and a comment behind an expression is its value
@each(LATER)
def test_the_python_of_a_chapter_runs_and_says_what_its_comments_say(
    path, monkeypatch, capsys
):
    monkeypatch.chdir(ROOT)
    names = {}
    code = [text for language, text in blocks(path) if language == "python"]
    assert code, "code first"
    torch.manual_seed(0)
    for text in code:
        for statement in ast.parse(text).body:
            source = ast.unparse(statement)
            comment = text.split("\n")[statement.end_lineno - 1].partition("  # ")[2]
            if isinstance(statement, ast.Expr):
                value = eval(source, names)
                assert value is None or not comment or repr(value) == comment
            else:
                exec(source, names)


# Change it
def changes(path):
    """[(diff, the text after it), ...] of a chapter."""
    found, all_blocks = [], blocks(path)
    for (language, diff), (following, text) in itertools.pairwise(all_blocks):
        if language == "diff":
            assert following == "text"
            found.append((diff, text))
    return found


CHANGES = [
    pytest.param(path, *change, id=f"{path.stem}-{number}", marks=needs(path))
    for path in LATER
    if path.exists()
    for number, change in enumerate(changes(path), 1)
]


@pytest.mark.parametrize(("path", "diff", "text"), CHANGES)
@ahead(section_after)
def test_a_change_prints_what_the_chapter_says(path, diff, text, result):
    printed = result.splitlines(keepends=True)
    size = len(text.splitlines())
    parts = ["".join(printed[i : i + size]) for i in range(len(printed) - size + 1)]
    assert any(not differences(text, part) for part in parts), "".join(printed)


@each(LATER)
def test_at_least_two_changes_a_lesson(path):
    assert len(changes(path)) >= 2


# No number without a witness
def numbers(text):
    """The numbers in a text, by their size alone: 1e-5 and -0.00001 are one."""
    return {
        abs(Decimal(found.replace(",", "").rstrip(",")))
        for found in NUMBER.findall(text)
    }


@each(LATER)
def test_no_number_without_a_witness(path):
    tested = "\n".join(text for language, text in blocks(path) if language != "")
    test = read(ROOT / "tests" / f"test_{path.stem}.py")
    sources = {Decimal(number) for number in SOURCES.get(path.stem, {})}
    text = prose(path).split("\n## Idea")[1]
    missing = numbers(text) - numbers(tested) - numbers(test) - sources
    assert not missing


# Links
def anchors(path):
    """The anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", read(path), flags=re.DOTALL), re.M
    )
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
