"""What happens to a request, and the list of it.

A request's history only grows: events are numbered from 1 without gaps, and the last one is `Finished`
or `Failed`. Watching it late is the same as watching it from the start.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idefics2_service.requests import GenerateOutput, Stage  # noqa: TC001  # stores read the annotations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from idefics2_service.errors import ServiceError


@dataclass(frozen=True)
class QueuePosition:
    """How many requests get their turn before this one."""

    position: int


@dataclass(frozen=True)
class StageEntered:
    """A stage begins."""

    stage: Stage


@dataclass(frozen=True)
class AttemptStarted:
    """A submitted request is begun; the text of earlier attempts does not count."""

    attempt: int


@dataclass(frozen=True)
class LogLine:
    """A line for a person; never a key, a prompt or a signed URL."""

    message: str


@dataclass(frozen=True)
class TextDelta:
    """Text to append to the answer."""

    text: str
    num_generated_tokens: int


@dataclass(frozen=True)
class Finished:
    """The answer is complete."""

    output: GenerateOutput


@dataclass(frozen=True)
class Failed:
    """There will be no answer."""

    error: ServiceError


Happening = QueuePosition | AttemptStarted | StageEntered | LogLine | TextDelta | Finished | Failed


@dataclass(frozen=True)
class Event:
    """A happening with its place in the history and in time (seconds since the epoch)."""

    sequence: int
    time: float
    happening: Happening

    @property
    def is_last(self) -> bool:
        """Whether nothing follows."""
        return isinstance(self.happening, Finished | Failed)


class History:
    """The events of one request, while it lives."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._events: list[Event] = []
        self._grown = asyncio.Event()

    @property
    def events(self) -> Sequence[Event]:
        """All that happened so far."""
        return self._events

    @property
    def is_complete(self) -> bool:
        """Whether the last event is there."""
        return bool(self._events) and self._events[-1].is_last

    def append(self, time: float, happening: Happening) -> None:
        """Add what happened; after the last event nothing is added any more."""
        if self.is_complete:
            return
        self._events.append(Event(len(self._events) + 1, time, happening))
        self._grown.set()
        self._grown = asyncio.Event()

    async def watch(self, after: int = 0) -> AsyncIterator[Event]:
        """Yield the events after number `after`, then each new one, to the last."""
        while not (self.is_complete and after >= len(self._events)):
            grown = self._grown
            for event in self._events[after:]:
                after = event.sequence
                yield event
            if after >= len(self._events) and not self.is_complete:
                await grown.wait()
