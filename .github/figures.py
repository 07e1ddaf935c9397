"""Draws the pictures of a chapter anew: python .github/figures.py 03 [06 ...]

lessons/figures/NN_name.png is drawn by the script, with --figure. Any other is what a
block of the chapter shows: it stands below that block.
"""

import contextlib
import importlib
import os
import re
import sys
import tempfile
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "lessons")]

import matplotlib.pyplot as plt  # noqa: E402
from helpers import CHAPTERS, FENCE, read, run_block  # noqa: E402

PICTURE = re.compile(r"!\[[^\]]*\]\((figures/.+?\.png)\)")


def draw(chapter):
    folder = chapter.parent
    own = f"figures/{chapter.stem}.png"
    figure = importlib.import_module(chapter.stem).figure()
    figure.savefig(folder / own)
    print(f"lessons/{own}")
    names = {"__name__": "chapter"}
    parts = FENCE.split(read(chapter))  # prose, language, text, prose, ...
    for language, text, below in zip(
        parts[1::3], parts[2::3], parts[3::3], strict=True
    ):
        if language == "python" and not re.match(r"# \w+\.py\b", text):
            run_block(text, names)
            if plt.get_fignums():
                name = PICTURE.search(below)[1]
                assert name != own, f"{chapter.name}: {name} is the script's"
                plt.savefig(folder / name)
                plt.close("all")
                print(f"lessons/{name}")


def main(numbers):
    chosen = [path for path in CHAPTERS if path.stem[:2] in numbers]
    if not numbers or len(chosen) < len(set(numbers)):
        sys.exit("figures: give the numbers of lessons, such as 03")
    before = Path.cwd()
    for chapter in chosen:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            with contextlib.suppress(OSError):
                os.symlink(ROOT / "data", "data")
            draw(chapter)
            os.chdir(before)


if __name__ == "__main__":
    main(sys.argv[1:])
