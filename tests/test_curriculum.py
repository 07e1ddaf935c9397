"""Every lesson keeps the shape of the house."""

import ast
import importlib.metadata
import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "lessons").glob("*.py"))
README = (ROOT / "README.md").read_text("utf-8")

# The lines that lessons share, to the letter. Lesson 01 starts without torch: it has its own.
DEVICES = 'DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]'
DATA = 'DATA = Path(__file__).resolve().parent.parent / "data"'
ENDING = """
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--device", choices=DEVICES, default=DEVICES[-1])
    parser.add_argument("--figure", metavar="FILE", help="save the picture (.png, .svg, .pdf)")
    args = parser.parse_args()
    if args.figure is not None:
        file = Path(args.figure)
        if file.suffix not in (".png", ".svg", ".pdf") or not file.parent.is_dir():
            parser.error(f"--figure: {args.figure!r} must be .png, .svg or .pdf, in a real folder")
    main(args.device)
    if args.figure is not None:
        drawn, part = io.BytesIO(), file.with_name(f"{file.name}.part")
        figure(args.device).savefig(drawn, format=file.suffix[1:])
        try:
            part.write_bytes(drawn.getvalue())
            part.replace(file)
        except OSError as error:
            if part in file.parent.iterdir():
                part.unlink()
            parser.error(f"--figure: {error}")
"""
SHARED_FUNCTIONS = ("raises", "leaf", "limit_and_condition", "read_csv", "train")
OUTSIDE = {"torch", "torchvision", "numpy", "matplotlib", "PIL"}  # PIL comes with torchvision

# Lesson 10 ends in one line where torchvision is older than 0.16; requirements.txt admits 0.15.
too_old = pytest.mark.skipif(
    importlib.metadata.version("torchvision").startswith("0.15."),
    reason="lesson 10 needs torchvision 0.16 or newer",
)


def each(paths):
    """Parametrise a test by the path of each lesson."""
    marks = {"10_transforms": too_old}
    parameters = [pytest.param(p, id=p.stem, marks=marks.get(p.stem, ())) for p in paths]
    return pytest.mark.parametrize("path", parameters)


every_lesson, later_lessons = each(LESSONS), each(LESSONS[1:])


def functions(path):
    """Name -> node of the functions and classes at the top of a file."""
    tree = ast.parse(path.read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name: node for node in tree.body if isinstance(node, kinds)}


def packages(nodes):
    """The packages that the import statements among the nodes name."""
    imports = [n for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom))]
    names = [getattr(n, "module", None) or alias.name for n in imports for alias in n.names]
    return {name.split(".")[0] for name in names}


def test_there_are_lessons_and_nothing_else_beside_them():
    assert LESSONS and LESSONS[0].stem == "01_install_check"
    for path in (ROOT / "lessons").iterdir():
        assert path in LESSONS or path.name in ("figures", "__pycache__")
        assert path not in LESSONS or re.fullmatch(r"\d\d_[a-z_]+\.py", path.name)


@every_lesson
def test_the_first_line_is_number_title_and_claim(path):
    number, name = path.stem.split("_", 1)
    first = ast.get_docstring(ast.parse(path.read_text("utf-8"))).splitlines()[0]
    title = name.replace("_", " ").capitalize()
    assert re.fullmatch(rf"{number} {title}: .*[.?]", first.replace(" and ", " ", 1))
    title = first.split(":")[0]
    assert re.search(rf'^    print\(f?"{title}', path.read_text("utf-8"), re.MULTILINE)


@every_lesson
def test_the_cells_are_numbered_and_main_prints_their_titles_in_order(path):
    source = path.read_text("utf-8")
    cells = re.findall(r"^# %% (.+)$", source, re.MULTILINE)
    endings = ["Run it"] if path == LESSONS[0] else ["The picture", "Run it"]
    titles, last = cells[: -len(endings)], cells[-len(endings) :]
    assert last == endings and titles
    assert [title.split(".")[0] for title in titles] == [str(n + 1) for n in range(len(titles))]
    texts = [n.value for n in ast.walk(functions(path)["main"]) if isinstance(n, ast.Constant)]
    printed = [text[1:] for text in texts if re.match(r"\n\d+\. ", str(text))]
    assert printed == titles


@later_lessons
def test_the_shared_lines_are_the_same_to_the_letter(path):
    source = path.read_text("utf-8")
    assert f"\n{DEVICES}\n" in source
    assert ("DATA" in source) == (f"\n{DATA}\n" in source)
    assert source.endswith(ENDING)


@pytest.mark.parametrize("name", SHARED_FUNCTIONS)
def test_shared_functions_are_the_same_to_the_letter(name):
    copies = set()
    for path in LESSONS:
        if name in functions(path):
            copies.add(ast.get_source_segment(path.read_text("utf-8"), functions(path)[name]))
    assert len(copies) == 1


@every_lesson
def test_every_function_says_what_it_does_and_its_test_names_it(path):
    test = (ROOT / "tests" / f"test_{path.name}").read_text("utf-8")
    for name, node in functions(path).items():
        assert name == "main" or ast.get_docstring(node), name
        assert name == "main" or re.search(rf'\blesson\.{name}\b|"{name}"', test), name


@every_lesson
def test_only_main_prints(path):
    for name, node in functions(path).items():
        assert name == "main" or "print(" not in ast.unparse(node), name


@every_lesson
def test_a_lesson_imports_no_other_file_and_matplotlib_only_to_draw(path):
    tree = ast.parse(path.read_text("utf-8"))
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


@every_lesson
def test_a_lesson_has_a_section_a_transcript_and_a_picture_in_the_readme(path):
    assert re.search(rf"^## {path.stem[:2]} ", README, re.MULTILINE)
    assert f"$ python lessons/{path.name}\n" in README
    figure = f"lessons/figures/{path.stem}.png"
    if path != LESSONS[0]:
        assert re.search(rf"!\[[^\]]{{20,}}\]\({figure}\)", README)  # with text for who cannot see
        assert (ROOT / figure).read_bytes().startswith(b"\x89PNG")


@every_lesson
def test_the_table_of_lessons_links_to_the_section(path):
    heading = re.search(rf"^## ({path.stem[:2]} .+)$", README, re.MULTILINE)[1]
    anchor = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
    assert f"](#{anchor})" in README


@every_lesson
def test_a_lesson_is_plain_ascii_and_not_too_long(path):
    source = path.read_text("utf-8")
    assert source.isascii()
    assert 60 <= len(source.splitlines()) <= 390


def test_conda_and_pip_ask_for_the_same_versions():
    pip = re.findall(r"^(\w+)>=([\d.]+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    text = (ROOT / "environment.yml").read_text()
    conda = dict(re.findall(r"^  - (\w+)>=([\d.]+)$", text, re.MULTILINE))
    assert conda.pop("python") == runpy.run_path(str(LESSONS[0]))["OLDEST"]["Python"]
    assert {name.replace("pytorch", "torch", 1): v for name, v in conda.items()} == dict(pip)
    channels = re.findall(r"^  - (conda-forge|nodefaults|defaults|pytorch)$", text, re.MULTILINE)
    assert channels == ["conda-forge", "nodefaults"]
