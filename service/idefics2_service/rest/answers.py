"""Calls that wait for their answer. Who leaves cancels the request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from idefics2_service.errors import InternalError
from idefics2_service.events import Event, Failed, Finished, TextDelta
from idefics2_service.rest.bodies import Answer, GenerateBody
from idefics2_service.rest.contract import SENT, WORK
from idefics2_service.rest.dependencies import (
    CurrentCall,
    CurrentCores,
    CurrentDeadlines,
    NewName,
    check_app,
    while_present,
)
from idefics2_service.rest.problems import Problem
from idefics2_service.rest.questions import QuestionRoute

PROBLEMS = {**WORK, **SENT}
HEAD_SECONDS = 15.0
"""For so long a stream's head waits for the first text: a plain error is understood better than an event.
Not for longer: JavaScript's `fetch` gives up after 300 s without a head.
"""

router = APIRouter(
    prefix="/run/{owner}/{alias}",
    tags=["run"],
    dependencies=[Depends(check_app)],
    route_class=QuestionRoute,
)


@router.post("", responses=PROBLEMS)
async def run(
    body: GenerateBody, request: Request, cores: CurrentCores, name: NewName, deadlines: CurrentDeadlines
) -> Answer:
    """Ask, and wait for the answer."""
    async with (
        while_present(request),
        cores.generation.attach(name, body.read(), deadlines) as events,
    ):
        async for event in events:
            match event.happening:
                case Finished(output):
                    return Answer(output=output.output)
                case Failed(error):
                    raise error
    raise InternalError("the request ended without its last event")


async def begin(
    body: GenerateBody, request: Request, cores: CurrentCores, name: NewName, deadlines: CurrentDeadlines
) -> AsyncIterator[AsyncIterator[Event]]:
    """Yield the events once there is text, or was none for long: what fails before is answered as a call."""
    async with cores.generation.attach(name, body.read(), deadlines) as events:
        async with while_present(request):
            first = await _wait_for_first(events)
        if first is None:
            yield events
            return
        if isinstance(first.happening, Failed):
            raise first.happening.error
        yield _precede(first, events)


@router.post("/stream", response_class=EventSourceResponse, responses=PROBLEMS)
async def stream(
    events: Annotated[AsyncIterator[Event], Depends(begin)], call: CurrentCall
) -> AsyncIterator[ServerSentEvent]:
    """Ask, and hear the answer as it is written: `delta` after `delta`, then `output`, the whole.

    What fails before the first text is an answer of its own, unless that is late; what fails after it is told
    as the last event, and then broken off: clients do not look into events.
    """
    async for event in events:
        match event.happening:
            case TextDelta(text):
                yield ServerSentEvent(data={"delta": text})
            case Finished(output):
                yield ServerSentEvent(data={"output": output.output})
            case Failed(error):
                yield ServerSentEvent(data=_write_failure(Problem.of(error)))
                call.failure = error


async def _wait_for_first(events: AsyncIterator[Event]) -> Event | None:
    """Return the first text, or the end where there is none; None: neither is there in time for the head."""
    with suppress(TimeoutError):
        async with asyncio.timeout(HEAD_SECONDS):
            return await anext(event async for event in events if event.is_last or _has_text(event))
    return None


def _has_text(event: Event) -> bool:
    return isinstance(event.happening, TextDelta)


async def _precede(first: Event, others: AsyncIterator[Event]) -> AsyncIterator[Event]:
    yield first
    async for event in others:
        yield event


def _write_failure(problem: Problem) -> dict[str, Any]:
    return {**problem.body, "status_code": problem.status}
