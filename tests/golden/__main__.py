"""Draws the golden pictures and writes down what is true of them: `python -m golden` in `tests/`.

A motif (a shape, a line of print, a handwritten digit) cuts a stencil; a brush paints a page through it.
Each picture stands together with its questions, in the order of `cases.json`.
"""

from __future__ import annotations

import json
from pathlib import Path

from golden import nothing, shapes, writing  # noqa: F401  # each enters its pictures
from golden.catalogue import GOLDEN
from golden.pairs import PAIRS

HERE = Path(__file__).parent


def write_pictures(folder: Path) -> None:
    """Draw every picture anew, and leave no other one there."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, picture in GOLDEN.items():
        picture.draw().save(folder / name, **picture.options)


def write_cases(file: Path) -> None:
    """Write what is true, a case a line."""
    entries = [case.about(name) for name, picture in GOLDEN.items() for case in picture.cases]
    entries += [case.about(*names) for names, case in PAIRS.items()]
    lines = ",\n".join(f"  {json.dumps(entry, ensure_ascii=False)}" for entry in entries)
    file.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    write_pictures(HERE / "images")
    write_cases(HERE / "cases.json")
