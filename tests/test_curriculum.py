"""Every lesson keeps the shape of the house."""

import ast
import re
import runpy
import sys

import pytest
from course import CHAPTERS, LESSONS, ROOT, blocks, definitions, each, read

# The lines that lessons share, to the letter. Lesson 01 starts without torch: it has
# its own.
DEVICES = 'DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]'
DATA = 'DATA = Path(__file__).resolve().parent.parent / "data"'
ENDING = read(LESSONS[1])[read(LESSONS[1]).index("# %% The command line") :]
SHARED_FUNCTIONS = ("raises", "leaf", "limit_and_condition", "read_csv", "train")
BESIDE = ("symptoms.md", "ways.md", "figures", "__pycache__")
# PIL comes with torchvision; lesson 18 asks first whether TensorBoard is there.
OUTSIDE = {"torch", "torchvision", "numpy", "matplotlib", "PIL", "tensorboard"}
every_lesson, later_lessons = each(LESSONS), each(LESSONS[1:])
SHOW = re.compile(r"show_\d+")


def packages(nodes):
    """The packages that the import statements among the nodes name."""
    imports = [n for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom))]
    names = [
        getattr(n, "module", None) or alias.name for n in imports for alias in n.names
    ]
    return {name.split(".")[0] for name in names}


def test_beside_the_lessons_stand_their_chapters_and_nothing_else():
    assert LESSONS and LESSONS[0].stem == "01_install_check"
    for path in (ROOT / "lessons").iterdir():
        assert path in (*LESSONS, *CHAPTERS) or path.name in BESIDE
        assert path not in LESSONS or re.fullmatch(r"\d\d_[a-z_]+\.py", path.name)


@every_lesson
def test_the_first_line_is_number_title_and_claim(path):
    number, name = path.stem.split("_", 1)
    first = ast.get_docstring(ast.parse(read(path))).splitlines()[0]
    title = name.replace("_", " ").capitalize()
    plain = first.replace(" and ", " ", 1).replace("-", " ", 1)
    assert re.fullmatch(rf"{number} {title}: .*[.?]", plain)
    title = first.split(":")[0]
    assert re.search(rf'^    print\(f?"{title}', read(path), re.MULTILINE)


@later_lessons
def test_each_cell_ends_with_a_section_that_prints_its_title(path):
    cells = re.findall(r"^# %% (.+)\n((?:(?!# %% ).*\n)*)", read(path), re.MULTILINE)
    *sections, picture, run_it, command = cells
    assert [title for title, _ in (picture, run_it)] == ["The picture", "Run it"]
    assert command[0] == "The command line: no need to read on"
    assert 5 <= len(sections) <= 10
    for number, (title, text) in enumerate(sections, 1):
        assert title.startswith(f"{number}. ")
        last = list(ast.parse(text).body)[-1]
        assert isinstance(last, ast.FunctionDef) and last.name == f"show_{number}"
        assert [argument.arg for argument in last.args.args] == ["device"]
        assert ast.unparse(last.body[0]) == f"print({chr(10) + title!r})"


@later_lessons
def test_main_prints_the_title_and_calls_each_section_in_order_and_that_is_all(path):
    """So the sections, called one by one in an editor, print what the chapter shows of
    main."""
    *started, title, loop = definitions(path)["main"].body
    if path.stem == "20_distributed":  # torchrun has started it, as one of several
        assert ast.unparse(started.pop(0)).startswith(
            "if 'TORCHELASTIC_RUN_ID' in os.environ:\n"
        )
    assert not started
    assert re.fullmatch(
        r"print\(f'\d\d [A-Z][a-z -]+ on {device}'\)", ast.unparse(title)
    )
    sections = ", ".join(filter(SHOW.fullmatch, definitions(path)))
    assert ast.unparse(loop) == f"for show in ({sections}):\n    show(device)"


@later_lessons
def test_the_shared_lines_are_the_same_to_the_letter(path):
    assert f"\n{DEVICES}\n" in read(path)
    assert ("DATA" in read(path)) == (f"\n{DATA}\n" in read(path))
    assert read(path).endswith(ENDING)


@pytest.mark.parametrize("name", SHARED_FUNCTIONS)
def test_shared_functions_are_the_same_to_the_letter(name):
    copies = set()
    for path in LESSONS:
        if name in definitions(path):
            copies.add(ast.get_source_segment(read(path), definitions(path)[name]))
    assert len(copies) == 1


def test_the_ending_and_the_reader_of_files_are_short():
    lines = ENDING.split('__main__":\n')[1].splitlines()
    assert len(lines) <= 11
    reader = ast.get_source_segment(
        read(LESSONS[6]), definitions(LESSONS[6])["read_csv"]
    )
    assert len(reader.splitlines()) <= 12  # 10 and the docstring and the def


def test_a_shared_helper_answers_for_a_runtime_error_alone():
    raises = runpy.run_path(str(LESSONS[2]), run_name="lesson")["raises"]

    def fail(error):
        raise error

    assert raises(lambda: fail(RuntimeError())) is raises(
        lambda: fail(NotImplementedError())
    )
    assert raises(lambda: None) is False
    with pytest.raises(KeyError):
        raises(lambda: fail(KeyError()))


@every_lesson
def test_every_function_says_what_it_does_and_its_test_names_it(path):
    test = read(ROOT / "tests" / f"test_{path.name}")
    for name, node in definitions(path).items():
        if name != "main" and not SHOW.fullmatch(name):
            assert ast.get_docstring(node), name
            assert re.search(rf"\b{name}\b", test), name


@every_lesson
def test_only_the_sections_and_main_print(path):
    for name, node in definitions(path).items():
        if name != "main" and not SHOW.fullmatch(name):
            assert "print(" not in ast.unparse(node), name


@later_lessons
def test_a_function_is_defined_and_used(path):
    """What nothing calls is not evidence of anything."""
    text = read(path)
    for name in definitions(path):
        assert len(re.findall(rf"\b{name}\b", text)) > 1, name


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


@later_lessons
def test_a_seed_for_the_cpu_is_given_to_its_generator_alone(path):
    # torch.manual_seed seeds each card's too, and fork_rng(devices=[]) does not put
    # these back.
    for node in ast.walk(ast.parse(read(path))):
        if isinstance(node, ast.With) and "fork_rng(devices=[])" in ast.unparse(node):
            assert "torch.manual_seed(" not in ast.unparse(node)


@every_lesson
def test_a_lesson_is_plain_ascii_and_not_too_long(path):
    assert read(path).isascii()
    assert 60 <= len(read(path).splitlines()) <= 330


# The front page
FRONT = ROOT / "README.md"


def test_the_front_page_is_short_and_leads_to_every_chapter():
    assert len(read(FRONT).splitlines()) <= 130
    for path in CHAPTERS:
        assert f"](lessons/{path.name})" in read(FRONT)


def test_what_the_front_page_shows_is_what_a_chapter_shows():
    shown = [text for language, text in blocks(FRONT) if language == "text"]
    printed = "".join(text for path in CHAPTERS for language, text in blocks(path))
    lines = [
        line for text in shown for line in text.splitlines() if line.startswith("   ")
    ]
    assert lines and all(f"{line}\n" in printed for line in lines)
    row = re.compile(
        r"^\| \[\d\d .+?\]\(lessons/(.+?)\.md\) \| .+ \| (.+) \|$", re.MULTILINE
    )
    for stem, answer in row.findall(read(FRONT)):
        chapter = read(ROOT / "lessons" / f"{stem}.md")
        for number in re.findall(r"\d+(?:[.,/]\d+)*(?:e-\d+)?", answer):
            short = (
                number.replace("e-", "e-0") if re.search(r"e-\d$", number) else number
            )
            assert number in chapter or short in chapter, number


def test_conda_and_pip_ask_for_the_same_versions():
    pip = re.findall(
        r"^(\w+)>=([\d.]+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE
    )
    text = (ROOT / "environment.yml").read_text()
    conda = dict(re.findall(r"^  - (\w+)>=([\d.]+)$", text, re.MULTILINE))
    assert conda.pop("python") == runpy.run_path(str(LESSONS[0]))["OLDEST"]["Python"]
    assert {
        name.replace("pytorch", "torch", 1): v for name, v in conda.items()
    } == dict(pip)
    channels = re.findall(
        r"^  - (conda-forge|nodefaults|defaults|pytorch)$", text, re.MULTILINE
    )
    assert channels == ["conda-forge", "nodefaults"]
