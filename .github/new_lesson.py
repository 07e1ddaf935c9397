"""python .github/new_lesson.py 24 name "Title" makes the skeleton of lesson 24.

Every file of it runs as it is: put what you have to say in the place of each TODO. What
only you can write elsewhere is printed; the same command prints what is still missing.
With --check it prints what is missing of all lessons.
"""

import contextlib
import io
import re
import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TAIL = "# %% The command line: the same in every lesson, no need to read on\n"

# What stands in each new file, with NN_name for the stem and NN Title for the title.
LESSON = '''"""NN Title: TODO what it claims, in one sentence."""

import argparse
import os
import sys

import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# %% 1. The first numbers
# TODO: a comment that says why.
def sum_of_first(n, device="cpu"):
    """1 + 2 + ... + n, a Python number."""
    return torch.arange(1, n + 1, device=device).sum().item()


def sum_in_theory(n):
    """The same: n / 2 pairs, first and last, of which each makes n + 1."""
    return n * (n + 1) // 2


def show_1(device):
    print("\\n1. The first numbers")
    for n in (10, 100):
        print(f"   1 to {n:>3}   {sum_of_first(n, device):>4}")
        print(f"   theory     {sum_in_theory(n):>4}")


# %% The picture
def figure(device="cpu"):
    """The sums, over n."""
    from matplotlib.figure import Figure

    numbers = range(1, 101)
    fig = Figure(figsize=(8, 3.5), layout="constrained")
    axes = fig.subplots()
    axes.plot(numbers, [sum_of_first(n, device) for n in numbers])
    axes.set(xlabel="n", ylabel="1 + 2 + ... + n")
    return fig


# %% Run it
TITLE = "NN Title"
SECTIONS = [show_1]


'''
TEST = '''"""What lesson NN claims."""

import pytest


@pytest.mark.parametrize("n", [1, 2, 10, 101])
def test_the_sum_of_the_first_numbers_is_that_of_python(lesson, n, device):
    # TODO: expect what comes from somewhere else than the lesson.
    assert lesson.sum_of_first(n, device) == sum(range(n + 1))
    assert lesson.sum_in_theory(n) == sum(range(n + 1))
'''
EXERCISES = '''"""Exercises for lesson NN, TODO.

The checks: python -m pytest exercises/test_NN_name.py
"""

import torch


# %% 1. Write (easy, 5 minutes)
def mean_by_hand(x):
    """Write: TODO the mean of a row of numbers, without mean().

    Gets x, floats of shape (n,). Returns a Python number.
    Example: [1, 2, 6] gives 3.0.
    """
    raise NotImplementedError


# %% 2. Mend (easy, 5 minutes)
def row_means(x):
    """Mend: TODO the mean of each row.

    Gets x, floats of shape (n, d). Returns a tensor of floats, shape (n,).
    Example: [[1, 3], [5, 9]] gives [2, 7].
    """
    return x.mean(dim=0)
'''
CHECKS = '''"""The checks of exercises/NN_name.py."""

import torch


def test_mean_by_hand(answer, check):
    check.hint = "TODO: a question that leads to it."
    for numbers in ([1.0, 2.0, 6.0], [-0.5]):
        check.given = f"{numbers}"
        check(answer(torch.tensor(numbers)), sum(numbers) / len(numbers))


def test_row_means(answer, check):
    check.hint = "TODO: a question that leads to it."
    for rows in ([[1.0, 3.0], [5.0, 9.0]], [[1.0, 2.0, 6.0]]):
        check.given = f"{rows}"
        expected = [sum(row) / len(row) for row in rows]
        check(answer(torch.tensor(rows)), torch.tensor(expected))
'''
SOLUTIONS = '''"""The exercises of lesson NN, solved."""


def mean_by_hand(x):
    """The mean of the numbers."""
    # TODO: why it is right.
    return x.sum().item() / len(x)


def row_means(x):
    """The mean of each row."""
    # TODO: why it is right.
    return x.mean(dim=1)
'''
WRONG_ANSWERS = '''"""Plausible wrong answers to the exercises of lesson NN."""


def mean_by_hand_1(x):
    """TODO the thought behind it: a mean is a sum."""
    return x.sum().item()


def mean_by_hand_2(x):
    """TODO the thought behind it: the tensor is a number."""
    return x.sum() / len(x)


def row_means_1(x):
    """TODO the thought behind it: a row is a row of the result."""
    return x.mean(dim=1, keepdim=True)


def row_means_2(x):
    """TODO the thought behind it: the columns stand below each other."""
    return x.mean(dim=0)
'''
CHAPTER = """# NN Title

[Script](NN_name.py) · [Exercises](../exercises/NN_name.py) · 15 minutes, exercises 10

TODO: what breaks without this. After this lesson you can

- TODO.

Section 1 is the core. Run one section, or all:

```console
$ python lessons/NN_name.py --section 1
$ python lessons/NN_name.py
```

## 1. The first numbers

TODO: one idea, and an example that can be typed.

```python
import torch

torch.arange(1, 11).sum()  # tensor(55)
```

**Predict.** TODO: a question with something to choose or to compute.

<details><summary>Answer and output</summary>

```text
OUTPUT```

TODO: the answer.

</details>

![The sum of the first n numbers is a parabola in n.](figures/NN_name.png)

Draw one yourself:

```python
import matplotlib.pyplot as plt

plt.plot(torch.arange(1, 11).cumsum(0))
plt.show()
```

![The sums of the first ten numbers.](figures/NN_name_2.png)

## Go wrong

Silent mistakes:

| you notice | cause | cure | what it costs |
| --- | --- | --- | --- |
| TODO | TODO | TODO | TODO |

Loud mistakes:

| the message says | what it means | what to do |
| --- | --- | --- |
| TODO | TODO | TODO |

## Solve it

In [exercises/NN_name.py](../exercises/NN_name.py);
`python -m pytest exercises/test_NN_name.py` checks them.

- Write `mean_by_hand`: TODO the mean of a row of numbers, without mean(). (section 1)
- Mend `row_means`: TODO the mean of each row. (section 1)
"""


def files_of(stem):
    """{path: text when it is new} of the files of a lesson; the chapter comes last."""
    tail = read(sorted((ROOT / "lessons").glob("02_*.py"))[0]).split(TAIL)[1]
    files = {f"lessons/{stem}.py": LESSON + TAIL + tail, f"tests/test_{stem}.py": TEST}
    if not stem.startswith("01"):
        files[f"exercises/{stem}.py"] = EXERCISES
        files[f"exercises/test_{stem}.py"] = CHECKS
        files[f"exercises/solutions/{stem}.py"] = SOLUTIONS
        files[f"exercises/wrong_answers/{stem}.py"] = WRONG_ANSWERS
    files[f"lessons/{stem}.md"] = CHAPTER
    return {ROOT / name: text for name, text in files.items()}


def read(path):
    """The text of a file; nothing if there is none."""
    return path.read_text("utf-8") if path.is_file() else ""


def make(stem, title):
    """Write the files of a lesson, with what its script prints, and draw it."""
    number, output = stem[:2], ""
    for path, text in files_of(stem).items():
        if path.suffix == ".md":  # the last one: now the lesson is there
            output = printed(f"lessons/{stem}.py").partition("\n\n")[2]
        text = text.replace("NN_name", stem).replace("NN Title", f"{number} {title}")
        text = text.replace("lesson NN", f"lesson {number}").replace("OUTPUT", output)
        path.write_text(text, "utf-8")
        print(f"made {path.relative_to(ROOT)}")
    (ROOT / "lessons" / "figures").mkdir(exist_ok=True)
    subprocess.check_output([sys.executable, ".github/figures.py", number], cwd=ROOT)


def printed(script):
    """What a script prints on the CPU."""
    out = io.StringIO()
    names = runpy.run_path(str(ROOT / script))
    with contextlib.redirect_stdout(out):
        names["main"]("cpu")
    return out.getvalue()


def missing(stem):
    """What a lesson lacks, a line each."""
    number, lessons = stem[:2], ROOT / "lessons"
    lines = []
    for path in files_of(stem):
        name = path.relative_to(ROOT)
        if not path.is_file():
            lines.append(f"{name}: the file")
        if read(path).count("TODO"):
            lines.append(f"{name}: what stands in the place of TODO")
    if f"](lessons/{stem}.md)" not in read(ROOT / "README.md"):
        lines.append("README.md: a row in the table of its part")
    title = read(lessons / f"{stem}.md").partition("\n")[0].removeprefix("# ")
    if title not in read(lessons / "ways.md"):
        lines.append(f"lessons/ways.md: {title} in the drawing")
    earlier = [path for path in sorted(lessons.glob("[0-9]*.md")) if path.stem < stem]
    if earlier and f"\nNext: [{title}]({stem}.md)" not in read(earlier[-1]):
        lines.append(f"lessons/{earlier[-1].name}: Next: [{title}]({stem}.md), ...")
    if number == "01":
        return lines
    if f"]({stem}.md#go-wrong)" not in read(lessons / "symptoms.md"):
        lines.append('lessons/symptoms.md: each row of its "Go wrong"')
    if f"\n| {number} | " not in read(ROOT / "exercises" / "README.md"):
        lines.append("exercises/README.md: what each exercise tests, for teachers")
    if not (lessons / "figures" / f"{stem}.png").is_file():
        lines.append(f"lessons/figures/{stem}.png: the file")
    return lines


def missing_hours():
    """The pages that do not say how many hours all chapters take, a line each."""
    hours = []
    for pattern in (r"(\d+) minutes", r"exercises (\d+)"):
        texts = [read(path)[:200] for path in (ROOT / "lessons").glob("[0-9]*.md")]
        found = [re.search(pattern, text) for text in texts]
        hours.append(f"{sum(int(match[1]) for match in found if match) / 60:.0f}")
    sentence = f"The lessons take {hours[0]} hours, the exercises {hours[1]}."
    pages = ("README.md", "lessons/ways.md")
    wrong = [
        page for page in pages if sentence not in " ".join(read(ROOT / page).split())
    ]
    return [f"{page}: {sentence}" for page in wrong]


def refuse(reason):
    """End with one line and status 2."""
    print(f"new_lesson: {reason}", file=sys.stderr)
    raise SystemExit(2)


def main(arguments):
    there = [path.stem for path in sorted((ROOT / "lessons").glob("[0-9][0-9]_*.py"))]
    if arguments == ["--check"]:
        lines = [f"{stem}: {line}" for stem in there for line in missing(stem)]
        lines += missing_hours()
        print("\n".join(lines or ["nothing is missing"]))
        return 1 if lines else 0
    if len(arguments) != 3:
        refuse('give a number, a name and a title: 24 name "Title"; or --check')
    number, name, title = arguments
    if not re.fullmatch(r"\d\d", number):
        refuse(f"{number!r} must be a number of two digits")
    if not re.fullmatch(r"[a-z_]+", name):
        refuse(f"{name!r} must consist of small letters and _")
    stem = f"{number}_{name}"
    taken = [other for other in there if other.startswith(number) and other != stem]
    if taken:
        refuse(f"{number} is taken by {taken[0]}")
    if stem not in there:
        make(stem, title)
    lines = missing(stem) + missing_hours()
    print("\n".join(["still missing:", *lines] if lines else ["nothing is missing"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
