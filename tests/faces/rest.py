"""The HTTP face, as the hosted endpoint's clients call it: by the paths /run and /queue."""

from __future__ import annotations

import base64
import json
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
from faces.face import Face, Failure, Happening, Picture, Question, Refused, Standing
from harness import Harness, Refusal
from idefics2_service.errors import concrete_errors
from idefics2_service.events import (
    AttemptStarted,
    Finished,
    LogLine,
    QueuePosition,
    StageEntered,
    TextDelta,
)
from idefics2_service.requests import FinishReason, GenerateOutput, Stage, State, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    import httpx

Json = dict[str, Any]

APP = "fal-ai/idefics-2-8b"
CODES = {kind.reason: kind.code for kind in concrete_errors()}
STATUSES = {
    "INVALID_ARGUMENT": 422,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 422,
    "FAILED_PRECONDITION": 400,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""What is promised of each code."""
_FIELDS = {
    ("header", "idempotency-key"): "request_id",
    ("header", "x-fal-request-timeout"): "start_timeout",
    ("query", "fal_webhook"): "webhook_url",
    ("query", "fal_max_queue_length"): "max_queue_length",
}


class RestFace(Face):
    """Calls over HTTP. Bytes of a picture travel as a data URI, and errors name its `url`, not its `data`."""

    def __init__(self, service: Harness, authorization: str | None = None) -> None:
        """Call a service, with its key unless another `authorization` is given; empty: without any."""
        self.service = service
        given = f"Key {service.app.api_key}" if authorization is None else authorization
        self._headers = {"authorization": given, "content-type": "application/json"}
        if not given:
            del self._headers["authorization"]
        self._asked: dict[str, Question] = {}

    async def run(self, question: Question) -> str:
        body = await self._call("POST", f"/run/{APP}", question)
        return str(body["output"])

    async def generate(self, question: Question) -> GenerateOutput:
        request_id = await self.submit(question)
        async with aclosing(self.watch(request_id)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return event.output
        return await self.result(request_id)

    async def stream(self, question: Question) -> AsyncGenerator[str, None]:
        told = ""
        async with self._listen("POST", f"/run/{APP}/stream", question) as events:
            async for event in events:
                if "delta" in event:
                    told += event["delta"]
                    yield event["delta"]
                elif "output" in event:
                    assert event["output"] == told
                else:
                    raise Refused(_rename_all(read_refusal(event["status_code"], event), question))

    async def submit(self, question: Question, name: str = "", **options: Any) -> str:
        headers, query = {"idempotency-key": name} if name else {}, {}
        for option, value in options.items():
            match option:
                case "priority":
                    headers["x-fal-queue-priority"] = value.value.lower()
                case "start_timeout_seconds":
                    headers["x-fal-request-timeout"] = str(value)
                case "webhook_url":
                    query["fal_webhook"] = value
                case "max_queue_length":
                    query["fal_max_queue_length"] = value
                case _:
                    raise TypeError(f"{option} is not said over HTTP")
        body = await self._call("POST", f"/queue/{APP}", question, headers=headers, params=query)
        self._asked[body["request_id"]] = question
        return str(body["request_id"])

    async def get(self, request_id: str, *, has_logs: bool = False) -> Standing:
        query = {"logs": int(has_logs)}
        status = await self._call("GET", f"/queue/{APP}/requests/{request_id}/status", params=query)
        return Standing(
            state=_read_state(status),
            queue_position=status.get("queue_position"),
            stage=Stage(status["stage"]) if status.get("stage") else None,
            num_generated_tokens=status.get("num_generated_tokens", 0),
            logs=tuple(line["message"] for line in status["logs"] or ()),
            error=_rename(status.get("error", ""), self._asked.get(request_id, {})),
            usage=_read_usage(status["metrics"]) if "num_prompt_tokens" in status["metrics"] else None,
        )

    async def watch(self, request_id: str) -> AsyncGenerator[Happening, None]:
        path = f"/queue/{APP}/requests/{request_id}/status/stream"
        async with self._listen("GET", path, params={"logs": 1, "text": 1}) as statuses:
            async for status in statuses:
                if status["status"] == "COMPLETED":
                    yield await self._read_end(request_id)
                else:
                    yield _read_happening(status)

    async def _read_end(self, request_id: str) -> Finished | Failure:
        try:
            return Finished(await self.result(request_id))
        except Refused as error:
            return Failure(error.refusal.reason, error.refusal.message, error.refusal.field)

    async def result(self, request_id: str) -> GenerateOutput:
        path = f"/queue/{APP}/requests/{request_id}"
        try:
            output = (await self._call("GET", path))["output"]
        except Refused as error:
            raise Refused(_rename_all(error.refusal, self._asked.get(request_id, {}))) from error
        metrics = (await self._call("GET", f"{path}/status"))["metrics"]
        return GenerateOutput(
            output,
            FinishReason(metrics["finish_reason"]),
            _read_usage(metrics),
            metrics["stage_seconds"],
            request_id,
            int(metrics["seed"]),
        )

    async def cancel(self, request_id: str) -> bool:
        path = f"/queue/{APP}/requests/{request_id}/cancel"
        response = await self.service.http.put(path, headers=self._headers)
        match response.status_code, response.json().get("status"):
            case 202, "CANCELLATION_REQUESTED":
                return True
            case 400, "ALREADY_COMPLETED":
                return False
        raise Refused(read_refusal(response.status_code, response.json(), response.headers))

    async def _call(self, method: str, path: str, question: Question | None = None, **more: Any) -> Json:
        response = await self.service.http.request(method, path, **self._write_call(question, **more))
        if response.status_code >= 400:
            refusal = read_refusal(response.status_code, response.json(), response.headers)
            raise Refused(_rename_all(refusal, question or {}))
        body: Json = response.json()
        return body

    @asynccontextmanager
    async def _listen(
        self, method: str, path: str, question: Question | None = None, **more: Any
    ) -> AsyncIterator[AsyncIterator[Json]]:
        call = self.service.http.stream(method, path, **self._write_call(question, **more))
        async with call as response:
            if response.status_code != 200:
                await response.aread()
                refusal = read_refusal(response.status_code, response.json(), response.headers)
                raise Refused(_rename_all(refusal, question or {}))
            assert response.headers["content-type"].startswith("text/event-stream")
            yield read_events(response)

    def _write_call(self, question: Question | None, **more: Any) -> Json:
        headers = {**self._headers, **more.pop("headers", {})}
        content = None if question is None else json.dumps(write_body(question))
        return {"headers": headers, "content": content, **more}


async def read_events(response: httpx.Response) -> AsyncIterator[Json]:
    """Read the data of events, each in one line as the clients want it."""
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))
        else:
            assert not line or line.startswith(":"), line


def write_body(question: Question) -> Json:
    """Write a question as a JSON object."""
    body = {field: value for field, value in question.items() if value is not None}
    if "images" in body:
        body["images"] = [_write_image(picture) for picture in body["images"]]
    return body


def _write_image(picture: Picture) -> Json:
    if picture.data is not None:
        return {"url": "data:image/png;base64," + base64.b64encode(picture.data).decode()}
    return {name: value for name, value in vars(picture).items() if value is not None}


def read_refusal(status: int, body: Json, headers: Mapping[str, str] | None = None) -> Refusal:
    """Read an error, whose status has to be that of its code."""
    code = CODES[body["reason"]]
    assert status == STATUSES[code], body
    assert body["error_type"]
    detail, retry = body["detail"], (headers or {}).get("retry-after")
    faults = detail if isinstance(detail, list) else []
    assert faults or detail == body["message"], body
    fields = tuple(filter(None, (_read_field(fault["loc"]) for fault in faults)))
    facts = dict(faults[0].get("ctx", {})) if faults else body.get("ctx", {})
    facts.pop("reason", None)
    return Refusal(
        code=grpc.StatusCode[code],
        message=body["message"],
        reason=body["reason"],
        metadata={**({"field": fields[0]} if fields else {}), **facts},
        field=fields[0] if fields else "",
        num_error_infos=1,
        retry_seconds=None if retry is None else float(retry),
        fields=fields,
    )


def _read_field(place: list[str | int]) -> str:
    if place[0] != "body":
        return _FIELDS[str(place[0]), str(place[1])]
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in place[1:])
    return "".join(parts).removeprefix(".")


def _rename_all(refusal: Refusal, question: Question) -> Refusal:
    return replace(
        refusal,
        message=_rename(refusal.message, question),
        metadata={name: _rename(value, question) for name, value in refusal.metadata.items()},
        field=_rename(refusal.field, question),
        fields=tuple(_rename(field, question) for field in refusal.fields),
    )


def _rename(text: str, question: Question) -> str:
    """Name pictures that were given as bytes as every other face does."""
    for index, picture in enumerate(question.get("images") or ()):
        if picture.data is not None:
            text = text.replace(f"images[{index}].url", f"images[{index}].data")
    return text


def _read_state(status: Json) -> State:
    match status["status"]:
        case "IN_QUEUE":
            return State.QUEUED
        case "IN_PROGRESS":
            return State.RUNNING
    if "error" not in status:
        return State.SUCCEEDED
    return State.CANCELLED if status["error_type"] == "client_cancelled" else State.FAILED


def _read_happening(status: Json) -> Happening:
    match status:
        case {"queue_position": position}:
            return QueuePosition(position)
        case {"attempt": attempt}:
            return AttemptStarted(attempt)
        case {"stage": stage}:
            return StageEntered(Stage(stage))
        case {"delta": text, "num_generated_tokens": count}:
            return TextDelta(text, count)
    (line,) = status["logs"]
    return LogLine(line["message"])


def _read_usage(metrics: Json) -> Usage:
    return Usage(**{field: metrics[field] for field in Usage.__dataclass_fields__})
