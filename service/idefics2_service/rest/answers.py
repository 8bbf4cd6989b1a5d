"""Calls that wait for their answer. Who leaves cancels the request."""

from collections.abc import AsyncIterator
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

PROBLEMS = {**WORK, **SENT}

router = APIRouter(prefix="/run/{owner}/{alias}", tags=["run"], dependencies=[Depends(check_app)])


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
    """Yield the events from the first text on: what fails before it is answered as a call that fails."""
    async with cores.generation.attach(name, body.read(), deadlines) as events:
        async with while_present(request):
            first = await anext(event async for event in events if event.is_last or _has_text(event))
        if isinstance(first.happening, Failed):
            raise first.happening.error
        yield _precede(first, events)


@router.post("/stream", response_class=EventSourceResponse, responses=PROBLEMS)
async def stream(
    events: Annotated[AsyncIterator[Event], Depends(begin)], call: CurrentCall
) -> AsyncIterator[ServerSentEvent]:
    """Ask, and hear the answer as it is written: `delta` after `delta`, then `output`, the whole.

    What fails meanwhile is told as the last event, and then broken off: clients do not look into events.
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


def _has_text(event: Event) -> bool:
    return isinstance(event.happening, TextDelta)


async def _precede(first: Event, others: AsyncIterator[Event]) -> AsyncIterator[Event]:
    yield first
    async for event in others:
        yield event


def _write_failure(problem: Problem) -> dict[str, Any]:
    return {**problem.body, "status_code": problem.status}
