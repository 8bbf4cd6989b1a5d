"""One service, called over any of its faces: plain questions go in, plain answers and refusals come out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from idefics2_service.events import (
    AttemptStarted,
    Finished,
    LogLine,
    QueuePosition,
    StageEntered,
    TextDelta,
)
from pictures import DESCRIBE, red_circle

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Sequence

    from harness import Harness, Refusal
    from idefics2_service.requests import GenerateOutput, Stage, State, Usage

PATIENCE_SECONDS = 30

Question = dict[str, Any]
"""Fields as in the proto's GenerateRequest, images as Picture; None: left out."""


@dataclass(frozen=True)
class Picture:
    """One image of a question, by at most one of these."""

    url: str | None = None
    data: bytes | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Failure:
    """The last event of a request that failed."""

    reason: str
    message: str
    field: str


Happening = QueuePosition | AttemptStarted | StageEntered | LogLine | TextDelta | Finished | Failure


@dataclass(frozen=True)
class Standing:
    """Where a submitted request stands."""

    state: State
    queue_position: int | None
    stage: Stage | None
    num_generated_tokens: int
    logs: tuple[str, ...]
    error: str
    """Why it failed; empty: it did not."""
    usage: Usage | None


class Refused(Exception):
    """A call was answered with an error."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Face(Protocol):
    """One way to call. Everything raises Refused."""

    service: Harness

    def __init__(self, service: Harness, authorization: str | None = None) -> None:
        """Call a service, with its key unless another `authorization` is given; empty: without any."""

    async def run(self, question: Question) -> str:
        """Ask, and wait for the text; who leaves cancels the request."""
        ...

    async def generate(self, question: Question) -> GenerateOutput:
        """Ask, and wait for the answer with all that is told of it."""
        ...

    def stream(self, question: Question) -> AsyncGenerator[str, None]:
        """Ask, and hear the text piece by piece; who leaves cancels the request."""
        ...

    async def submit(self, question: Question, name: str = "", **options: Any) -> str:
        """Submit, again under the same `name`; return the request's id.

        Options are those of the core's SubmitInput.
        """
        ...

    async def get(self, request_id: str, *, has_logs: bool = False) -> Standing:
        """Ask where a request stands."""
        ...

    def watch(self, request_id: str) -> AsyncGenerator[Happening, None]:
        """Hear of what happens, from the beginning to the end."""
        ...

    async def result(self, request_id: str) -> GenerateOutput:
        """Fetch the answer."""
        ...

    async def cancel(self, request_id: str) -> bool:
        """Cancel; tell whether there was something to be cancelled."""
        ...


def ask(**fields: Any) -> Question:
    """Ask what a red circle is, without randomness; `fields` are set on top."""
    return {"prompt": DESCRIBE, "temperature": 0, "images": [Picture(data=red_circle())], **fields}


def ask_without_end(**fields: Any) -> Question:
    """Ask for something that goes on for thousands of steps, and is never the same for two seeds."""
    wild = {"temperature": 10, "top_p": 1, "max_new_tokens": 1500, "min_new_tokens": 1500, "seed": 11}
    return ask(**{**wild, **fields})


async def refusal_of(call: Awaitable[Any]) -> Refusal:
    """Return the error of a call that must fail."""
    with pytest.raises(Refused) as caught:
        await call
    return caught.value.refusal


async def read(face: Face, request_id: str) -> list[Happening]:
    """Watch a request to its end; leave places in the queue out."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return [event async for event in face.watch(request_id) if not isinstance(event, QueuePosition)]


async def read_until(events: AsyncGenerator[Happening, None], kind: type[Happening]) -> Any:
    """Read events until one is of a kind."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"no {kind.__name__} came")


async def read_to_end(pieces: AsyncGenerator[str, None]) -> str:
    """Read a stream until it ends or fails."""
    return "".join([piece async for piece in pieces])


def text_of(events: Sequence[Happening]) -> str:
    """Put text together."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def stages_of(events: Sequence[Happening]) -> list[Stage]:
    """List the stages that were entered."""
    return [event.stage for event in events if isinstance(event, StageEntered)]
