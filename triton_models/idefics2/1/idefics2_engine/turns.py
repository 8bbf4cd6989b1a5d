"""Whose turn it is, among shares that wait for the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Turns:
    """The last turn of each share that waits: who has the lowest number is next.

    Who begins to wait is behind all who wait, but for the one that had the last turn: so who comes beside a
    busy share is next, and whoever comes, however often, who waits has a turn in the end.
    """

    def __init__(self) -> None:
        """Begin with nobody."""
        self._numbers: dict[str, int] = {}
        self._last = 0

    def number(self, shares: Iterable[str]) -> Mapping[str, int]:
        """Return the numbers of those who wait, as they are and become; forget all others."""
        self._numbers = {share: self._numbers.get(share, self._last - 1) for share in shares}
        return self._numbers

    def give(self, share: str) -> None:
        """Give a share that waits a turn."""
        self._last += 1
        self._numbers[share] = self._last
