"""Who is before whom, in memory: SQLite counts rows one by one, and there may be a hundred thousand."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from sortedcontainers import SortedList

if TYPE_CHECKING:
    from collections.abc import Iterable

Place = tuple[int, int]
"""Tag and number of a request."""
_WEIGHT = 0.2
"""Of the newest interval in the average."""


class Order:
    """Everybody who waits, first to last, and the pace at which they are begun. For all threads."""

    def __init__(self, places: Iterable[Place]) -> None:
        """Begin with those who wait already."""
        self._places: SortedList[Place] = SortedList(places)
        self._lock = threading.Lock()
        self._begun_at: float | None = None
        self._interval: float | None = None

    def __len__(self) -> int:
        """Count them."""
        return len(self._places)

    @property
    def first(self) -> Place | None:
        """Who is next."""
        with self._lock:
            return self._places[0] if self._places else None

    def add(self, place: Place) -> None:
        """Let one more wait."""
        with self._lock:
            self._places.add(place)

    def remove(self, place: Place) -> None:
        """Let one wait no more."""
        with self._lock:
            self._places.discard(place)

    def position(self, place: Place) -> int:
        """Count who is before a place."""
        with self._lock:
            return int(self._places.bisect_left(place))

    def reset(self, places: Iterable[Place]) -> None:
        """Begin anew."""
        with self._lock:
            self._places = SortedList(places)

    def begin(self, now: float) -> None:
        """Measure the pace: one was begun, and `remove` has been called for it."""
        if self._begun_at is not None:
            interval = max(0.0, now - self._begun_at)  # the clock may have been set back
            before = interval if self._interval is None else self._interval
            self._interval = before + _WEIGHT * (interval - before)
        self._begun_at = now if self._places else None

    def estimate_wait(self, position: int) -> float | None:
        """Return the seconds until the one at `position` is begun, as far as the pace tells."""
        return None if self._interval is None else (position + 1) * self._interval
