"""Submitted requests: submit, status, result, cancel."""

import hashlib
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import JSONResponse

from idefics2_service.errors import ServiceError
from idefics2_service.requests import Priority, State
from idefics2_service.rest.bodies import Answer, GenerateBody
from idefics2_service.rest.contract import (
    SENT,
    SUBMITTED,
    WORK,
    CancelBody,
    CompletedBody,
    StatusBody,
)
from idefics2_service.rest.dependencies import (
    Cores,
    CurrentCall,
    CurrentCores,
    KeyId,
    KnownName,
    StartTimeout,
    check_app,
    get_call,
    get_cores,
)
from idefics2_service.rest.problems import Problem
from idefics2_service.rest.questions import QuestionRoute
from idefics2_service.rest.statuses import Writer
from idefics2_service.submissions import SubmitInput

router = APIRouter(
    prefix="/queue/{owner}/{alias}",
    tags=["queue"],
    dependencies=[Depends(check_app)],
    route_class=QuestionRoute,
)

_KEEP_UNSTORED_SECONDS = 360.0
"""How long an answer is there to be fetched that shall not be stored."""
_NAMESPACE = uuid.UUID("5f7e2d0c-7a4b-4f0e-9d0e-2d1f0a9a1c7e")
"""Of the ids that are made of idempotency keys."""

IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        description="To submit again with the same key and content makes no second request.",
    ),
]
WithLogs = Annotated[bool, Query(description="Whether the lines of its log are wanted.")]
WithText = Annotated[bool, Query(description="Whether the text of the answer is wanted as it is written.")]


@dataclass(frozen=True)
class SubmitOptions:
    """What a submission says beside its body."""

    priority: Priority
    start_timeout: float | None
    webhook_url: str
    max_queue_length: int | None
    keep_seconds: float | None
    is_begun_once: bool

    def apply_to(self, body: GenerateBody, request_id: str) -> SubmitInput:
        """Make a submission of a body."""
        # Stores keep a fingerprint of these names: under another one, a repeat is refused as other content.
        others = {
            "priority": self.priority.value,
            "start_timeout": self.start_timeout,
            "webhook_url": self.webhook_url,
            "max_queue_length": self.max_queue_length,
            "keep_seconds": self.keep_seconds,
            "is_begun_once": self.is_begun_once,
        }
        content = [body.model_dump(exclude_unset=True), others]
        return SubmitInput(
            input=body.read(),
            fingerprint=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest(),
            request_id=request_id,
            priority=self.priority,
            start_timeout_seconds=self.start_timeout,
            keep_seconds=self.keep_seconds,
            webhook_url=self.webhook_url,
            max_queue_length=self.max_queue_length,
            is_begun_once=self.is_begun_once,
        )


async def read_options(
    start_timeout: StartTimeout,
    priority: Annotated[Literal["normal", "low"], Header(alias="X-Fal-Queue-Priority")] = "normal",
    webhook_url: Annotated[
        str, Query(alias="fal_webhook", description="Is told of the end, by a signed POST.")
    ] = "",
    max_queue_length: Annotated[
        int | None,
        Query(
            alias="fal_max_queue_length",
            description="Refuse it where more wait.",
            json_schema_extra={"minimum": 0},
        ),
    ] = None,
    *,
    is_stored: Annotated[
        bool,
        Header(
            alias="X-Fal-Store-IO",
            description="0 keeps the answer just long enough to be fetched, and until its webhook was "
            "told or given up; what was sent is never kept after the end.",
        ),
    ] = True,
    is_begun_once: Annotated[
        bool,
        Header(
            alias="X-Fal-No-Retry",
            description="1 ends the request where what ran it was lost, instead of beginning it again.",
        ),
    ] = False,
) -> SubmitOptions:
    """Read headers and query."""
    return SubmitOptions(
        priority=Priority(priority.upper()),
        start_timeout=start_timeout,
        webhook_url=webhook_url,
        max_queue_length=max_queue_length,
        keep_seconds=None if is_stored else _KEEP_UNSTORED_SECONDS,
        is_begun_once=is_begun_once,
    )


@router.post("", responses={**SUBMITTED, **SENT})
async def submit(
    body: GenerateBody,
    options: Annotated[SubmitOptions, Depends(read_options)],
    cores: CurrentCores,
    call: CurrentCall,
    key_id: KeyId,
    idempotency_key: IdempotencyKey = "",
) -> JSONResponse:
    """Take a request; once this is answered, it ends in a result or an error."""
    if idempotency_key:
        call.request_id = str(uuid.uuid5(_NAMESPACE, f"{key_id}/{idempotency_key}"))
    record = await cores.submissions.submit(key_id, options.apply_to(body, call.request_id))
    writer = Writer(call.origin, cores.app_id, record.name, has_logs=False, has_text=False)
    return JSONResponse(writer.write(record))


async def make_writer(
    request: Request, name: KnownName, *, logs: WithLogs = False, text: WithText = False
) -> Writer:
    """Write as the caller of a status asks."""
    cores, call = await get_cores(request), await get_call(request)
    return Writer(call.origin, cores.app_id, name, has_logs=logs, has_text=text)


CurrentWriter = Annotated[Writer, Depends(make_writer)]


@router.get(
    "/requests/{request_id}/status",
    responses={
        200: {"model": StatusBody, "description": "It is at its end."},
        202: {"model": StatusBody, "description": "It is not at its end."},
    },
)
async def get_status(cores: CurrentCores, writer: CurrentWriter) -> JSONResponse:
    """Tell where a request stands, 202 while it is not at its end; with all lines of its log on demand."""
    record = await cores.submissions.get(writer.name)
    lines = await cores.submissions.read_logs(record) if writer.has_logs else []
    return JSONResponse(writer.write(record, lines), 200 if record.state.is_final else 202)


async def follow(cores: CurrentCores, writer: CurrentWriter) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Yield the statuses of a request to its end; there is such a request."""
    await cores.submissions.get(writer.name)
    async with aclosing(_follow(cores, writer)) as statuses:
        yield statuses


@router.get("/requests/{request_id}/status/stream", response_class=EventSourceResponse)
async def stream_status(
    statuses: Annotated[AsyncIterator[dict[str, Any]], Depends(follow)], call: CurrentCall
) -> AsyncIterator[ServerSentEvent]:
    """Tell of each change, with the new lines of its log only, until the request is at its end."""
    try:
        async for status in statuses:
            yield ServerSentEvent(data=status)
    except ServiceError as error:  # remembered: FastAPI ends the stream first, as if that were all
        call.refusal = error
        raise


async def _follow(cores: Cores, writer: Writer) -> AsyncGenerator[dict[str, Any], None]:
    async with aclosing(cores.submissions.watch(writer.name)) as events:
        async for event in events:
            if not event.is_last and (status := writer.write_event(event)) is not None:
                yield status
    yield writer.write(await cores.submissions.get(writer.name))


@router.get("/requests/{request_id}", responses=WORK)
async def get_result(cores: CurrentCores, name: KnownName) -> Answer:
    """Return the answer, or the error that the request ended with; 400 while there is neither."""
    output = await cores.submissions.result(name)
    return Answer(output=output.output)


@router.put(
    "/requests/{request_id}/cancel",
    status_code=202,
    responses={202: {"model": CancelBody}, 400: {"model": CompletedBody, "description": "It has ended."}},
)
async def cancel(cores: CurrentCores, name: KnownName) -> JSONResponse:
    """Cancel a request: one that waits is never begun, one that runs is stopped."""
    record = await cores.submissions.cancel(name)
    if record.state in {State.SUCCEEDED, State.FAILED}:
        raise Problem(400, "bad_request", "the request is at its end", more={"status": "ALREADY_COMPLETED"})
    return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202)
