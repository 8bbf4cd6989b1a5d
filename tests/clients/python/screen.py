"""What a person sees of what a program writes on a terminal."""

from __future__ import annotations

import re
from unicodedata import east_asian_width

# A control sequence, one that has not all come yet, or a letter.
_PIECE = re.compile(r"\x1b\[(?P<number>[?\d;]*)(?P<name>[A-Za-z])|\x1b[^A-Za-z]*$|(?P<letter>.)", re.DOTALL)


class Screen:
    """A terminal as far as `idefics2` needs one; a sequence that it does not know is an error.

    The rows that scrolled away are kept, but as on any terminal, the cursor cannot go back to them.
    """

    def __init__(self, written: str, *, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._rows: list[list[str]] = [[]]  # one string a cell; the second half of a wide letter is empty
        self._wrapped: set[int] = set()  # the rows that go on in the next one
        self._row = self._column = 0
        self.has_cursor = True
        for piece in _PIECE.finditer(written):
            if letter := piece["letter"]:
                self._write(letter)
            elif name := piece["name"]:
                self._obey(piece["number"], name)

    @property
    def text(self) -> str:
        """All rows from the first, as they are copied: what the terminal wrapped is one line."""
        ends = ("" if index in self._wrapped else "\n" for index in range(len(self._rows)))
        return "".join(row + end for row, end in zip(self.rows, ends, strict=True)).removesuffix("\n")

    @property
    def rows(self) -> list[str]:
        """All rows from the first."""
        return ["".join(row) for row in self._rows]

    def _write(self, letter: str) -> None:
        match letter:
            case "\r":
                self._column = 0
            case "\n":
                self._feed_line()
            case _:
                self._put(letter)

    def _put(self, letter: str) -> None:
        cells = [letter, ""] if east_asian_width(letter) in "FW" else [letter]
        if self._column + len(cells) > self._width:
            self._wrapped.add(self._row)
            self._feed_line()
        row = self._rows[self._row]
        row[self._column : self._column + len(cells)] = cells
        self._column += len(cells)

    def _feed_line(self) -> None:
        """Go to the next row, as a terminal does when a program writes a newline."""
        self._row, self._column = self._row + 1, 0
        if self._row == len(self._rows):
            self._rows.append([])

    def _obey(self, number: str, name: str) -> None:
        match number, name:
            case _, "m":  # colour
                pass
            case "?25", ("h" | "l"):
                self.has_cursor = name == "h"
            case _, "A":
                self._row = max(self._row - int(number), len(self._rows) - self._height, 0)
            case "2", "K":
                self._rows[self._row].clear()
                self._wrapped.discard(self._row)
            case unknown:
                raise AssertionError(unknown)
