"""The golden pictures are those that `python -m golden` draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from golden.__main__ import write_cases, write_pictures
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

HERE = Path(__file__).parent


def test_drawing_again_gives_the_same_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    kept, drawn = ({path.name: path for path in folder.iterdir()} for folder in (HERE / "images", tmp_path))
    assert len(kept) == 40
    assert kept.keys() == drawn.keys()
    for name, path in kept.items():
        assert np.abs(read(path) - read(drawn[name])).mean() < 0.5, name  # processors round differently


def read(file: Path) -> NDArray[np.int64]:
    """Read the pixels of a picture."""
    with Image.open(file) as picture:
        return np.asarray(picture).astype(np.int64)


def test_the_cases_are_those_of_the_pictures(tmp_path: Path) -> None:
    write_cases(tmp_path / "cases.json")
    assert (tmp_path / "cases.json").read_text() == (HERE / "cases.json").read_text()
    asked = {image for case in json.loads((HERE / "cases.json").read_text()) for image in case["images"]}
    assert asked == {path.name for path in (HERE / "images").iterdir()}
