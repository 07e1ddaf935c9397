"""Every lesson keeps the shape of the house; the front page says what there is."""

import ast
import re
import runpy
import sys

from helpers import (
    CHAPTERS,
    LESSONS,
    ROOT,
    blocks,
    definitions,
    for_each,
    read,
    shown_in,
)

TAIL = "# %% The command line: the same in every lesson, no need to read on\n"
DEVICES = 'DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]'
DATA = 'DATA = Path(__file__).resolve().parent.parent / "data"'
BESIDE = ("symptoms.md", "ways.md", "figures", "__pycache__")
# PIL comes with torchvision; lesson 21 asks first whether TensorBoard is there.
OUTSIDE = {"torch", "torchvision", "numpy", "matplotlib", "PIL", "tensorboard"}
every_lesson, later_lessons = for_each(LESSONS), for_each(LESSONS[1:])


def packages(nodes):
    """The packages that the import statements among the nodes name."""
    imports = [n for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom))]
    names = [getattr(n, "module", None) or a.name for n in imports for a in n.names]
    return {name.split(".")[0] for name in names}


def test_beside_the_lessons_stand_their_chapters_and_nothing_else():
    assert LESSONS and LESSONS[0].stem == "01_install_check"
    for path in (ROOT / "lessons").iterdir():
        assert path in (*LESSONS, *CHAPTERS) or path.name in BESIDE


@later_lessons
def test_a_section_prints_its_title_and_they_are_numbered_from_1(path):
    titles = re.findall(r"^# %% (\d+\. .+)$", read(path), re.MULTILINE)
    assert [int(title.split(".")[0]) for title in titles] == [
        *range(1, len(titles) + 1)
    ]
    assert re.findall(r"^\d+\. .+$", shown_in(path.with_suffix(".md")), re.M) == titles


@later_lessons
def test_what_all_lessons_share_is_the_same_to_the_letter(path):
    first = LESSONS[1]
    assert read(path).split(TAIL)[1] == read(first).split(TAIL)[1]
    assert f"\n{DEVICES}\n" in read(path)
    assert ("DATA" in read(path)) == (f"\n{DATA}\n" in read(path))


@later_lessons
def test_a_function_is_defined_and_used(path):
    """What nothing calls is not evidence of anything."""
    for name in definitions(path):
        assert len(re.findall(rf"\b{name}\b", read(path))) > 1, name


@every_lesson
def test_a_lesson_imports_no_other_file_and_matplotlib_only_to_draw(path):
    tree = ast.parse(read(path))
    everywhere, on_top = packages(ast.walk(tree)), packages(tree.body)
    assert everywhere <= OUTSIDE | sys.stdlib_module_names
    assert "matplotlib" not in on_top
    assert path != LESSONS[0] or not on_top & OUTSIDE


@every_lesson
def test_an_import_prints_and_writes_nothing(path, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="lesson")
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
    assert read(path).isascii()


@later_lessons
def test_a_seed_for_the_cpu_is_given_to_its_generator_alone(path):
    # torch.manual_seed seeds each card's too, and fork_rng(devices=[]) does not put
    # these back.
    for node in ast.walk(ast.parse(read(path))):
        if isinstance(node, ast.With) and "fork_rng(devices=[])" in ast.unparse(node):
            assert "torch.manual_seed(" not in ast.unparse(node)


# The front page
FRONT = ROOT / "README.md"


def test_the_front_page_is_short_and_leads_to_every_chapter():
    lines = read(FRONT).splitlines()
    outside_the_table = [line for line in lines if not line.startswith("|")]
    assert len(" ".join(outside_the_table).split()) <= 900
    for path in CHAPTERS:
        assert f"](lessons/{path.name})" in read(FRONT)


def test_what_the_front_page_shows_is_what_a_chapter_shows():
    shown = [text for language, text in blocks(FRONT) if language == "text"]
    printed = "".join(text for path in CHAPTERS for language, text in blocks(path))
    lines = [line for text in shown for line in text.splitlines()]
    indented = [line for line in lines if line.startswith("   ")]
    assert indented and all(f"{line}\n" in printed for line in indented)
    row = re.compile(
        r"^\| \[\d\d .+?\]\(lessons/(.+?)\.md\) \| .+ \| (.+) \|$", re.MULTILINE
    )
    for stem, answer in row.findall(read(FRONT)):
        chapter = read(ROOT / "lessons" / f"{stem}.md")
        for number in re.findall(r"\d+(?:[.,/]\d+)*(?:e-\d+)?", answer):
            padded = re.sub(r"e-(\d)$", r"e-0\1", number)
            assert number in chapter or padded in chapter, number


def test_conda_and_pip_ask_for_the_same_versions():
    wanted = (ROOT / "requirements.txt").read_text()
    pip = re.findall(r"^(\w+)>=([\d.]+)$", wanted, re.MULTILINE)
    text = (ROOT / "environment.yml").read_text()
    conda = dict(re.findall(r"^  - (\w+)>=([\d.]+)$", text, re.MULTILINE))
    oldest = runpy.run_path(str(LESSONS[0]))["OLDEST"]
    assert conda.pop("python") == oldest["Python"]
    conda["torch"] = conda.pop("pytorch")
    assert conda == dict(pip)
    channels = re.findall(
        r"^  - (conda-forge|nodefaults|defaults|pytorch)$", text, re.M
    )
    assert channels == ["conda-forge", "nodefaults"]
