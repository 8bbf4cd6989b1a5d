"""The vectors of clients/vectors, as they are written."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[3] / "clients/vectors"
_SMALL_BYTES = 3_000_000


@dataclass(frozen=True)
class Vector:
    """Calls that a client makes one after the other, and what must come of them."""

    name: str
    runs_on: list[str]
    """`fake`: a server that does as `server` says. `real`: the service over a fake model, which does as
    `model` says. `triton`: the service over the model that ships."""
    calls: list[dict[str, Any]]
    server: list[dict[str, Any]] = field(default_factory=list)
    model: list[dict[str, Any]] = field(default_factory=list)
    file: dict[str, Any] | None = None
    """A file that the calls upload or download."""
    max_growth_bytes: int | None = None
    """By how much the client's process may grow meanwhile, once it has done the same with a small file."""

    @property
    def with_small_file(self) -> Vector:
        """The same with a file that takes a few messages, and hardly any memory."""
        return replace(self, file={**(self.file or {}), "num_bytes": _SMALL_BYTES})


def read_book() -> list[Vector]:
    """Read all vectors, in the order of files and lines."""
    paths = sorted(FOLDER.glob("*.json"))
    return [Vector(**vector) for path in paths for vector in json.loads(path.read_text(encoding="utf-8"))]


def select(place: str) -> list[Vector]:
    """Return the vectors that run on `place`."""
    return [vector for vector in read_book() if place in vector.runs_on]
