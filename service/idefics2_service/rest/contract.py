"""What OpenAPI says beside what FastAPI finds by itself: keys, statuses, and what an error looks like."""

from collections.abc import Mapping
from typing import Any, Literal

from fastapi.security import APIKeyHeader
from pydantic import BaseModel, Field

KEY = APIKeyHeader(
    name="Authorization",
    scheme_name="key",
    description="`Key <id>.<secret>`, or `Bearer` instead of `Key`.",
    auto_error=False,  # rest.calls has looked at it before
)
TAGS = [
    {"name": "run", "description": "Ask, and wait for the answer. Who leaves cancels the request."},
    {"name": "queue", "description": "Submit, look how far it is, fetch the answer."},
    {"name": "storage", "description": "Ask where to bring a file."},
    {"name": "files", "description": "Files themselves, by addresses that nobody can guess."},
    {"name": "probes", "description": "What operators and their machines look at; no key is needed."},
]
Responses = dict[int | str, dict[str, Any]]
_STREAM = "text/event-stream"


class ProblemBody(BaseModel):
    """Why there is no answer."""

    detail: str = Field(description="The same sentence as `message`.")
    error_type: str = Field(description="The hosted endpoint's word for it, where it has one.")
    message: str
    reason: str = Field("", description="A value of ErrorReason, as over gRPC.")
    ctx: dict[str, str] = Field({}, description="Facts for a machine.")


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    type: str
    loc: list[str | int] = Field(
        description="Where it stands: `body`, `query`, `header` or `path`, then the way to the field."
    )
    msg: str
    url: str = Field(
        description="The hosted endpoint's page about its errors, at this `type`; our own are not on it."
    )
    ctx: dict[str, str] = Field({}, description="Facts for a machine: `reason`, `bound`, `value`.")


class FaultsBody(BaseModel):
    """All that is wrong with a request."""

    detail: list[Fault]
    error_type: str = Field(description="Of the first one.")
    message: str = Field(description="What is wrong, for a person.")
    reason: str = Field(description="A value of ErrorReason, as over gRPC; of the first one.")


class LogBody(BaseModel):
    """A line of a request's log."""

    message: str
    level: Literal["INFO"]
    source: Literal["USER"]
    timestamp: str = Field(examples=["2026-11-26T12:00:00.000000+00:00"])


class MetricsBody(BaseModel):
    """What an answer cost: empty before the end, tokens and the rest where it was answered."""

    inference_time: float | None = Field(None, description="Seconds of work.")
    num_prompt_tokens: int = 0
    num_image_tokens: int = 0
    num_generated_tokens: int = 0
    num_cached_tokens: int = 0
    num_cached_images: int = 0
    finish_reason: Literal["END_OF_TURN", "STOP_STRING", "LENGTH"] = "END_OF_TURN"
    stage_seconds: dict[str, float] = Field({}, description="Seconds by stage, and `total`.")
    seed: str = Field("", description="Repeats the answer; a number too large for some.")


class StatusBody(BaseModel):
    """Where a request stands. COMPLETED is also what failed: `error` says so, and its result is an error."""

    status: Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    request_id: str
    response_url: str
    status_url: str
    cancel_url: str
    logs: list[LogBody] | None = Field(description="Null unless they are asked for.")
    metrics: MetricsBody
    queue_position: int = Field(0, description="IN_QUEUE: how many are before it.")
    estimated_wait_seconds: float | None = Field(None, description="IN_QUEUE, and a pace was measured.")
    stage: Literal["RESOLVING", "QUEUED", "PREFILL", "DECODE"] | None = None
    num_generated_tokens: int = 0
    attempt: int = Field(0, description="In streams: it is begun for this many times.")
    delta: str = Field("", description="In streams, where text is asked for: to be appended to the answer.")
    error: str = Field("", description="COMPLETED: why there is no answer.")
    error_type: str = Field("", description="COMPLETED: the hosted endpoint's word for it.")


class CancelBody(BaseModel):
    """A request will not go on."""

    status: Literal["CANCELLATION_REQUESTED"]


class CompletedBody(ProblemBody):
    """A request was at its end before."""

    status: Literal["ALREADY_COMPLETED"]


_REQUEST_ID = {"x-fal-request-id": {"description": "Of the request.", "schema": {"type": "string"}}}
_ERROR_TYPE = {"x-fal-error-type": {"description": "As in the body.", "schema": {"type": "string"}}}
_RETRY = {"retry-after": {"description": "Seconds after which to come back.", "schema": {"type": "integer"}}}
_TIMEOUT = {
    "x-fal-request-timeout-type": {
        "description": "`user`: the caller's own X-Fal-Request-Timeout passed.",
        "schema": {"type": "string"},
    }
}
_PROBLEMS: Mapping[int, tuple[str, type[BaseModel], dict[str, Any]]] = {
    400: (
        "The call makes no sense: its body has more values than any needs, or there is no answer yet.",
        ProblemBody,
        {},
    ),
    401: ("The key is missing, unknown, revoked or expired.", ProblemBody, {}),
    403: ("The key may not be used here.", ProblemBody, {}),
    404: ("There is no such path, app, request or file, or it is another key's.", ProblemBody, {}),
    408: ("No more of the body came, or not all of it in time.", ProblemBody, {}),
    413: ("The body is too large.", ProblemBody, {}),
    422: ("Something is wrong with the request; all of it is named.", FaultsBody, {}),
    429: ("Not so much at once.", ProblemBody, _RETRY),
    499: ("The request was cancelled.", ProblemBody, {}),
    500: ("A fault of ours; the log has the details under the request's id.", ProblemBody, {}),
    503: ("Not now: something that is needed is away.", ProblemBody, _RETRY),
    504: ("The request was not begun, or not ended, in time.", ProblemBody, _TIMEOUT),
}


def describe_problems(*statuses: int) -> Responses:
    """Describe the errors that a route answers with, by their statuses."""
    told: Responses = {}
    for status in statuses:
        description, body, headers = _PROBLEMS[status]
        told[status] = {
            "description": description,
            "model": body,
            "headers": {**_REQUEST_ID, **_ERROR_TYPE, **headers},
        }
    return told


def mend(document: dict[str, Any], app_id: str) -> None:
    """Say of streams that their errors are JSON, as all are; and of apps, which is served here."""
    names = dict(zip(("owner", "alias"), app_id.split("/"), strict=True))
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        for parameter in operation.get("parameters", ()):
            if parameter["name"] in names:
                parameter["schema"]["examples"] = [names[parameter["name"]]]
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            if _STREAM in content and status != "200":
                content["application/json"] = content.pop(_STREAM)


def _link(operation: str) -> dict[str, Any]:
    parameters = {name: f"$request.path.{name}" for name in ("owner", "alias")}
    return {
        "operationId": operation,
        "parameters": {**parameters, "request_id": "$response.body#/request_id"},
    }


SUBMITTED: Responses = {
    200: {
        "model": StatusBody,
        "description": "The request was taken.",
        "headers": _REQUEST_ID,
        "links": {name: _link(name) for name in ("get_status", "stream_status", "get_result", "cancel")},
    }
}
"""What a submission is answered with, and where it leads."""
SLOW = describe_problems(408)
"""Errors of a call that brings a file."""
SENT = {**SLOW, **describe_problems(413)}
"""Errors of a call with another body."""
ANY_CALL = describe_problems(400, 401, 403, 404, 422, 429, 500, 503)
"""Errors of every call that shows a key."""
WORK = describe_problems(499, 504)
"""Errors of a request, beside those."""
