# The course as a web site: Sphinx reads the Markdown and the scripts where they stand,
# and bash .ci/site builds and checks it. Here is only what those files do not say
# themselves: the address of each page, the menu, and how a script becomes a page.
import os
import re
from pathlib import Path

from sphinx.project import Project
from sphinx.util.matching import Matcher

project = html_title = "PyTorch from the ground up"
extensions = ["myst_parser", "sphinx_copybutton"]
# Formulas between dollars, drawn by MathJax from the site's own folder.
extensions += ["sphinx.ext.mathjax", "sphinx-mathjax-offline"]
myst_enable_extensions = ["dollarmath"]
include_patterns = [
    "README.md",
    "LICENSE",
    "lessons/*.md",
    "lessons/*.py",
    "exercises/README.md",
    "exercises/[0-9]*.py",
    "exercises/solutions/*.py",
    "tests/README.md",
    "data/README.md",
    ".github/CONTRIBUTING.md",
]
is_page = Matcher(include_patterns)
exclude_patterns = [".git", ".venv"]  # large, and without pages
source_suffix = {".md": "markdown", ".py": "markdown", "LICENSE": "markdown"}

myst_heading_anchors = 3
highlight_language = "text"  # of a drawing
smartquotes = False  # --help begins with two hyphens

html_theme = "furo"
pygments_dark_style = "github-dark"  # furo's own underlines a module like a link
html_static_path = html_css_files = ["site.css"]
html_copy_source = html_show_copyright = html_use_index = False
# In a folder no page may read another, which the search does to quote from what it
# finds.
quiet = """
if (location.protocol === 'file:') DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
"""
html_js_files = [(None, {"body": quiet})]
copybutton_prompt_text = "$ "  # of a console block only the commands are copied
copybutton_copy_empty_lines = False

besides = [
    "lessons/symptoms",
    "lessons/ways",
    "exercises/index",
    "tests/index",
    "data/index",
]
besides += ["contributing"]


def address(path):
    """The address of a source's page, without .html."""
    if path.name == "README.md":  # what a server shows for a folder
        return (path.parent / "index").as_posix()
    if path.suffix == ".py":  # a chapter has the same name
        return f"scripts/{path.with_suffix('').as_posix()}"
    if path.suffix == ".md" and path.parent.name == "lessons":
        return path.with_suffix("").as_posix()
    return path.stem.lower()  # GitHub Pages leaves .github out


def path2doc(self, filename):
    path = Path(filename)
    if path.is_relative_to(self.srcdir):
        path = path.relative_to(self.srcdir)
    return address(path) if is_page(path.as_posix()) else None


Project.path2doc = path2doc  # Sphinx would take the file's own name


def read(app, page, source):
    """What a page shows beyond what its file says."""
    path = Path(app.env.doc2path(page, base=False))
    if path.name == "LICENSE":
        source[0] = "---\norphan: true\n---\n# " + source[0]
    elif path.suffix == ".py":
        source[0] = script(app, path)
    else:
        source[0] = folders_listed(app.srcdir / path, source[0])
    if page == "index":
        source[0] += menu(source[0], app.env.found_docs)


def script(app, path):
    """A script with line numbers, and links to what is read beside it."""
    beside = {
        "Chapter": f"lessons/{path.stem}.md",
        "Script": f"lessons/{path.name}",
        "Exercises": f"exercises/{path.name}",
    }
    links = " · ".join(
        f"[{text}]({Path(os.path.relpath(target, path.parent)).as_posix()})"
        for text, target in beside.items()
        if target != path.as_posix() and (app.srcdir / target).exists()
    )
    code = f"```{{literalinclude}} {path.name}\n:language: python\n:linenos:\n```"
    head = "orphan: true\nhide-toc: true\n"
    if path.parent.name == "solutions":  # a search must not give them away
        head += "nosearch: true\n"
    return f"---\n{head}---\n# {path.as_posix()}\n\n{links}\n\n{code}\n"


def folders_listed(path, text):
    """Let a link to a folder lead to a list of its scripts at the end of the page."""
    for target in sorted(set(re.findall(r"\]\(([\w./]+?)/?\)", text))):
        if (path.parent / target).is_dir():
            files = sorted((path.parent / target).glob("*.py"))
            listed = "\n".join(
                f"- [{file.name}]({target}/{file.name})" for file in files
            )
            text = re.sub(rf"\]\({re.escape(target)}/?\)", f"](#{target})", text)
            text += f"\n## {target}\n\n{listed}\n"
    return text


def menu(front, pages):
    """The menu: the parts of the course, as its front page has them, and the rest."""
    menus, part = {}, None
    for line in front.splitlines():
        if line.startswith("### "):
            part = line.removeprefix("### ")
        if lesson := re.match(r"\| \[\d\d .+?\]\((lessons/\w+)\.md\)", line):
            menus.setdefault(part, []).append(lesson[1])
    menus["Beside the lessons"] = [page for page in besides if page in pages]
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {part}\n\n"
        + "\n".join(entries)
        + "\n```\n"
        for part, entries in menus.items()
    )


def setup(app):
    app.connect("source-read", read)
