"""Simulated time: what happens later, without a process for each."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from simpy import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from simpy import Environment

Process = Generator[Event, Any, None]
"""Yields what it waits for."""


def after(clock: Environment, seconds: float, act: Callable[[], None]) -> None:
    """Let something happen in so many seconds."""
    follow(clock.timeout(seconds), act)


def follow(event: Event, act: Callable[[], None]) -> None:
    """Let something happen at once after an event."""
    assert event.callbacks is not None
    event.callbacks.append(lambda _: act())


class Counters:
    """Servers that work for one at a time each, in the order in which they are asked."""

    def __init__(self, clock: Environment, number: int = 1) -> None:
        self._clock = clock
        self._free_at = [0.0] * number
        self.busy_seconds = 0.0
        """Of all of them together."""

    def serve(self, seconds: float) -> float:
        """Ask for so much work; return the seconds until it is done."""
        place = min(range(len(self._free_at)), key=self._free_at.__getitem__)
        begin = max(self._clock.now, self._free_at[place])
        self._free_at[place] = begin + seconds
        self.busy_seconds += seconds
        return begin + seconds - self._clock.now
