"""The pages about the whole course: from symptom to cause, and ways through."""

import collections
import re

import pytest
import torch
import torch.nn.functional as F
from helpers import CHAPTERS, ROOT, read
from torch import nn

SYMPTOMS, WAYS = ROOT / "lessons" / "symptoms.md", ROOT / "lessons" / "ways.md"


def rows(text):
    """The cells of each row of the tables in a text, but for the heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines
    ]
    heads = {i for i, row in enumerate(cells) if row[0].strip("-") == ""}
    return [row for i, row in enumerate(cells) if i not in heads and i + 1 not in heads]


def mistakes(chapter):
    """[(symptom, cause, cure), ...] of a chapter's "Go wrong", without witnesses."""
    text = re.sub(r"<!--.*?-->", "", read(chapter).split("\n## Go wrong\n")[1])
    return [tuple(row[:3]) for row in rows(text)]


def tables():
    """Heading -> rows of the page of symptoms."""
    parts = re.split(r"^## (.+)$", read(SYMPTOMS), flags=re.MULTILINE)[1:]
    return {
        title: rows(text) for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


def chapter_of(link):
    """The chapter that a link such as [03](03_autograd.md#go-wrong) leads to."""
    number, name = re.fullmatch(r"\[(\d\d)\]\((.+)#go-wrong\)", link).groups()
    [chapter] = [path for path in CHAPTERS if path.name == name]
    assert name.startswith(number)
    return chapter


@pytest.mark.parametrize("title", tables())
def test_each_row_is_a_row_of_the_lesson_that_proves_it(title):
    for first, second, cure, link in tables()[title]:
        cause = second if title == "A message" else first
        assert (cause, cure) in [row[1:] for row in mistakes(chapter_of(link))]


@pytest.mark.parametrize("chapter", CHAPTERS[1:], ids=lambda path: path.stem)
def test_every_mistake_of_a_lesson_stands_on_the_page(chapter):
    rows_of_page = [row for table in tables().values() for row in table]
    there = [row[:2] for row in rows_of_page if chapter_of(row[3]) == chapter]
    for _, cause, _ in mistakes(chapter):
        assert any(cause in row for row in there), cause


@pytest.mark.parametrize("title", [title for title in tables() if title != "A message"])
def test_rows_of_a_symptom_that_share_a_test_are_one_mistake_in_two_lessons(title):
    causes = collections.defaultdict(set)
    for cause, test, _, link in tables()[title]:
        assert test and cause != test
        causes[test].add((cause, link))
    assert all(
        len({link for _, link in found}) == len(found) for found in causes.values()
    )


def twice():
    """backward, a step, and backward once more through the same graph."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    loss = model(torch.ones(4, 2)).sum()
    loss.backward(retain_graph=True)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    loss.backward()


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (
            lambda: torch.ones(2, requires_grad=True).numpy(),
            "Can't call numpy() on Tensor that",
        ),
        (
            lambda: torch.ones(2, requires_grad=True).argmax().backward(),
            "element 0 of tensors",
        ),
        (
            lambda: F.cross_entropy(torch.zeros(4, 3), torch.ones(4, 1).long()),
            "0D or 1D target",
        ),
        (
            lambda: F.cross_entropy(
                torch.ones(4, 16, 2, 2).view(-1, 32), torch.ones(4).long()
            ),
            "Expected input batch_size (8) to match target batch_size (4)",
        ),
        (
            lambda: nn.Linear(2, 3).load_state_dict(nn.Linear(2, 4).state_dict()),
            "size mismatch for",
        ),
        (twice, "modified by an inplace operation"),
    ],
)
def test_a_message_is_what_torch_says(mistake, message):
    with pytest.raises((RuntimeError, ValueError), match=re.escape(message)):
        mistake()
    assert any(message in row[0] for row in tables()["A message"])


def minutes(chapter):
    """(minutes of a chapter, minutes of its exercises), by its third line."""
    line = read(chapter).split("\n")[2]
    exercises = re.search(r"exercises (\d+)", line)
    return int(re.search(r"(\d+) minutes", line)[1]), int(
        exercises[1]
    ) if exercises else 0


def test_the_minutes_of_the_ways_are_those_of_their_chapters():
    for _, links, reading, exercises in rows(read(WAYS)):
        numbers = re.findall(r"\[(\d\d)\]\(\1_\w+\.md\)", links)
        found = [minutes(path) for path in CHAPTERS if path.stem[:2] in numbers]
        assert numbers == sorted(numbers) and len(found) == len(numbers) == links.count(
            "]("
        )
        assert int(reading) == sum(pair[0] for pair in found)
        assert exercises == "-" or int(exercises) == sum(pair[1] for pair in found)


def test_the_pages_say_how_many_hours_the_course_takes():
    reading, exercises = zip(*map(minutes, CHAPTERS), strict=True)
    hours = f"{sum(reading) / 60:.0f} hours, the exercises {sum(exercises) / 60:.0f}."
    for page in (ROOT / "README.md", WAYS):
        assert f"The lessons take {hours}" in " ".join(read(page).split())


def test_every_lesson_stands_in_the_drawing_of_what_depends_on_what():
    drawing = re.search(r"^```text\n(.*?)^```$", read(WAYS), re.MULTILINE | re.DOTALL)[
        1
    ]
    for chapter in CHAPTERS:
        assert read(chapter).split("\n")[0].removeprefix("# ") in drawing
