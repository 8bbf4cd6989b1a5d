"""What happens to a request: events, numbered from 1 without gaps, the last one `Finished` or `Failed`."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from idefics2_service.requests import GenerateOutput, Stage  # noqa: TC001  # stores read the annotations

if TYPE_CHECKING:
    from idefics2_service.errors import ServiceError

_MAX_UNREAD = 64


@dataclass(frozen=True)
class QueuePosition:
    """How many requests get their turn before this one, if nobody else comes."""

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


class Feed:
    """The events of one request on their way to the one who is attached to it: each once, to the last."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._unread: deque[Event] = deque()
        self._num_events = 0
        self._is_complete = False
        self._grown = asyncio.Event()

    def append(self, time: float, happening: Happening) -> None:
        """Add what happened; after the last event nothing is added any more.

        Once many events are unread, text joins the text before it: who reads slowly holds up nobody, and
        costs no more memory than the text itself.
        """
        if self._is_complete:
            return
        joined = self._join(happening) if len(self._unread) >= _MAX_UNREAD else None
        if joined is None:
            self._num_events += 1
            self._unread.append(Event(self._num_events, time, happening))
        else:
            self._unread[-1] = Event(self._num_events, time, joined)
        self._is_complete = self._unread[-1].is_last
        self._grown.set()

    def __aiter__(self) -> Self:
        """Read on from what was not read yet."""
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event; who gives that up misses nothing, and may read on."""
        while not self._unread:
            if self._is_complete:
                raise StopAsyncIteration
            self._grown.clear()
            await self._grown.wait()
        return self._unread.popleft()

    def _join(self, happening: Happening) -> TextDelta | None:
        last = self._unread[-1].happening
        if isinstance(last, TextDelta) and isinstance(happening, TextDelta):
            return TextDelta(last.text + happening.text, happening.num_generated_tokens)
        return None
