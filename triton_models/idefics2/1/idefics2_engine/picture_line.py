"""The line before those who decode: whose picture is next."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from idefics2_engine.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

Picture = TypeVar("Picture")


class PictureLine(Generic[Picture]):
    """Pictures that wait to be decoded, each for the shares that want it.

    Shares take turns: the next picture is for the share whose last turn is longest ago, and within a share
    for who came first. So who comes beside floods of others waits for one picture of each, and what two
    shares want comes with the first turn of either. A picture that nobody wants any more is next: whoever
    takes it lets it go. Safe to use from several threads.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._wanted_by: dict[Picture, Callable[[], Collection[str]]] = {}
        """In the order in which they came."""
        self._turns = Turns()
        self._is_closed = False
        self._changed = threading.Condition()

    def put(self, picture: Picture, shares: Callable[[], Collection[str]]) -> None:
        """Let a picture wait; `shares` tells again and again who wants it, and must not block."""
        with self._changed:
            self._wanted_by[picture] = shares
            self._changed.notify()

    def take(self) -> Picture | None:
        """Wait for the next picture and return it; None once the line is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._wanted_by or self._is_closed)
            if not self._wanted_by:
                return None
            picture = self._find_next()
            del self._wanted_by[picture]
            return picture

    def close(self) -> None:
        """Let nobody wait any more for pictures to come."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _find_next(self) -> Picture:
        wanted_by = {picture: shares() for picture, shares in self._wanted_by.items()}
        for picture, shares in wanted_by.items():
            if not shares:
                return picture
        turns = self._turns.number(share for shares in wanted_by.values() for share in shares)
        share = min(turns, key=turns.__getitem__)
        self._turns.give(share)
        return next(picture for picture, shares in wanted_by.items() if share in shares)
