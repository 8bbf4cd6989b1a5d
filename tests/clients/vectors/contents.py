"""What stands in vectors for what would be too long to write: pictures, large files, long texts."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any

from pictures import red_circle

if TYPE_CHECKING:
    from pathlib import Path

_PATTERN = bytes(range(251))  # a prime period: no two of its first 251 MiB are alike


@cache
def make_content(num_bytes: int) -> bytes:
    """Write a file that begins like a BMP, no two pieces of which are alike."""
    body = _PATTERN * (num_bytes // len(_PATTERN) + 1)
    return b"BM" + body[: num_bytes - 2]


@cache
def draw(name: str) -> bytes:
    """Draw a picture by its name."""
    return {"red_circle": red_circle}[name]()


class Expansion:
    """Puts values in the place of what stands for them, in one vector."""

    def __init__(self, folder: Path, run: str, file: dict[str, Any] | None) -> None:
        """Write the vector's file, if it has one, to `folder`; `run` is what no other run is called."""
        self._words = {"$run": run, "$folder": str(folder)}
        self.content = None
        if file is not None:
            self.content = draw(file["picture"]) if "picture" in file else make_content(file["num_bytes"])
            digest, size = _measure(self.content)
            self._words |= {"$sha256": digest, "$size": size, "$path": str(folder / file["name"])}
            (folder / file["name"]).write_bytes(self.content)

    def expand(self, value: Any) -> Any:
        """Return `value` with all words and objects that begin with a dollar replaced."""
        expanded = value
        match value:
            case str():
                for word, meaning in self._words.items():
                    expanded = expanded.replace(word, meaning)
            case {"$repeat": text, "times": times}:
                expanded = text * times
            case {"$picture": name}:
                expanded = base64.b64encode(draw(name)).decode()
            case {"$part": [start, end]}:
                expanded = base64.b64encode((self.content or b"")[start:end]).decode()
            case dict():
                expanded = {name: self.expand(item) for name, item in value.items()}
            case list():
                expanded = [item for part in value for item in self._expand_item(part)]
        return expanded

    def _expand_item(self, item: Any) -> list[Any]:
        if isinstance(item, dict) and "$times" in item:
            return [self.expand(item["item"])] * item["$times"]
        return [self.expand(item)]


@cache
def _measure(content: bytes) -> tuple[str, str]:
    return hashlib.sha256(content).hexdigest(), str(len(content))
