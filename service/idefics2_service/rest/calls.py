"""What stands around every call of the API: who calls, under which id, how long it took, and how it ended.

As `rpc/interceptor.py` on the other face. It comes before anything is read of a call's body.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from anyio import BrokenResourceError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from idefics2_service.addresses import find_neighbourhood
from idefics2_service.budget import SMALL_BYTES
from idefics2_service.errors import InternalError, ServiceError, ServiceStopping
from idefics2_service.keys.records import Face
from idefics2_service.rest.content import check_encoding
from idefics2_service.rest.presence import Presence
from idefics2_service.rest.problems import Problem
from idefics2_service.tracing.spans import NO_SPAN, Kind, reason_of
from idefics2_service.tracing.w3c import TRACE_HEADERS

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from idefics2_service.budget import Reservation
    from idefics2_service.gate import Gate
    from idefics2_service.keys.records import Key
    from idefics2_service.metrics import Metrics
    from idefics2_service.rest.origins import Origin
    from idefics2_service.settings import HttpSettings
    from idefics2_service.tracing.spans import Span, Tracer

logger = structlog.get_logger(__name__)

_GUARDED_FOLDERS = ("/run/", "/queue/", "/rest/")
_GUARDED_PATHS = ("/cdn/files/upload", "/cdn/files/upload/multipart")
"""Where a key is asked for. Who knows a file's id may read it, or write it where it was announced."""
_OPEN_PATH = "/rest/.well-known/jwks.json"
_CANCEL_PATH = re.compile("/queue/[^/]+/[^/]+/requests/[^/]+/cancel")
_MAX_PARTS_BYTES = 2**20
"""Of a body that names the parts of a file: 1,000 fit well. Who sends it shows no key."""
_MARKS = (b",", b"[", b"{")
_MAX_MARKS = 50_000
"""Of a JSON body. A mark stands before each value, which may take many times its bytes when it is built, even
where its field is unknown. A prompt may be of commas alone.
"""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""What metrics name: callers may make up others without end."""
_FIRST_ERROR = 400


@dataclass
class Call:
    """What is known of a call."""

    origin: Origin
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    """Of the request that it makes or is about."""
    key: Key | None = None
    status: int | None = None
    """Of the answer, once it is begun."""
    refusal: ServiceError | None = None
    """Why no more is said: the key was revoked meanwhile, or there is no more to follow here."""
    failure: ServiceError | None = None
    """What an answer that was begun ended with: it is told, and then broken off, not ended as a whole one."""
    reason: str = ""
    """Of the error that it was answered with."""
    _as_stranger: ExitStack = field(default_factory=ExitStack)
    """What it holds among those who show no key."""

    def be_stranger(self, place: AbstractContextManager[None]) -> ExitStack:
        """Hold a place among those who show no key; return what gives it back."""
        self._as_stranger.enter_context(place)
        return self._as_stranger

    def be_known(self) -> None:
        """Give it back: the call named a file that there is, so that it is its key's from now on."""
        self._as_stranger.close()


class Calls:
    """Lets calls in, and answers whatever goes wrong."""

    def __init__(
        self, app: ASGIApp, gate: Gate, metrics: Metrics, settings: HttpSettings, tracer: Tracer
    ) -> None:
        """Stand before `app`, let in who passes `gate`, within the bounds of `settings`."""
        self._tracer = tracer
        self._app = app
        self._gate = gate
        self._metrics = metrics
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call, as ASGI says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = Call(scope["state"]["origin"])
        scope["state"]["call"] = call
        started = time.monotonic()
        presence = Presence(scope, receive, send, self._settings.stall_timeout_seconds)
        with self._begin_span(scope) as span:
            try:
                await self._answer(call, scope, presence)
            finally:
                self._record(call, scope, span, time.monotonic() - started)
                if presence.has_stalled:
                    self._metrics.stalled.labels(_name(scope)).inc()

    def _begin_span(self, scope: Scope) -> Span:
        """Begin a span in the caller's trace, of a call of the API. What came twice joins to what is none."""
        if not (_is_guarded(scope["path"]) or _is_about_file(scope)):
            return NO_SPAN
        given = Headers(scope=scope)
        headers = {name: ",".join(given.getlist(name)) for name in TRACE_HEADERS if name in given}
        return self._tracer.begin(_method(scope), Kind.SERVER, headers)

    async def _answer(self, call: Call, scope: Scope, presence: Presence) -> None:
        send = self._watch(call, presence)
        try:
            with ExitStack() as place:
                _check_pointing(scope)
                _check_framing(scope)
                if _is_guarded(scope["path"]):
                    authorization = Headers(scope=scope).get("authorization")
                    is_counted = _is_counted(scope)
                    call.key = place.enter_context(
                        self._gate.admit(authorization, Face.HTTP, is_counted=is_counted)
                    )
                elif _is_about_file(scope):
                    place.enter_context(call.be_stranger(self._gate.admit_stranger(_find_address(scope))))
                check_encoding(Headers(scope=scope))
                held = self._hold(call, scope, place)
                if held is not None:  # it must not drip for ever
                    presence.expect_whole_body(self._settings.message_timeout_seconds)
                await self._app(scope, self._bound(scope, presence.receive, held), send)
                await presence.wait_until_taken()
        except asyncio.CancelledError:  # the port closes, and this was not at its end in time
            await self._end(ServiceStopping("this replica is shutting down"), call, scope, presence)
        except Exception as error:
            if not (presence.has_ended or call.refusal or _is_told(error)):
                logger.exception("call failed", request_id=call.request_id)
            await self._end(call.refusal or error, call, scope, presence)

    async def _end(self, error: Exception, call: Call, scope: Scope, presence: Presence) -> None:
        """Answer with an error; where an answer was begun, there is no time for another."""
        if call.status is None and not presence.has_ended:
            send = self._watch(call, presence)
            await explain(error, call).response()(scope, presence.receive, send)
        else:
            await presence.end()

    def _hold(self, call: Call, scope: Scope, place: ExitStack) -> Reservation | None:
        """Hold the bytes of a call's body before they come; None: there is none, or it is a file."""
        num_bytes = self._expect(scope)
        if not num_bytes:
            return None
        if call.key is not None:
            return place.enter_context(self._gate.hold(call.key.id, num_bytes))
        return place.enter_context(self._gate.hold_for_stranger(_find_address(scope), num_bytes))

    def _expect(self, scope: Scope) -> int:
        """Return how many bytes of a body are to be held, at most.

        A file is never held whole. Where neither a key nor a file's id is shown, nothing reads a body.
        """
        if _brings_file(scope) or not (_is_guarded(scope["path"]) or _is_about_file(scope)):
            return 0
        headers, most = Headers(scope=scope), self._max_bytes(scope)
        length = headers.get("content-length", str(most) if "transfer-encoding" in headers else "0")
        if int(length) > most:
            raise _too_large(most)
        return int(length)

    def _bound(self, scope: Scope, receive: Receive, held: Reservation | None) -> Receive:
        """Wrap `receive`: a body has so many bytes and values at most; a file has bounds of its own.

        Of a body that came in chunks, the most was held; once it is whole, only what came of it is.
        """
        if held is None:
            return receive
        most, num_received, num_marks = self._max_bytes(scope), 0, 0

        async def bounded() -> Message:
            nonlocal num_received, num_marks
            message = await receive()
            data = message.get("body", b"")
            num_received += len(data)
            if num_received > most:
                raise _too_large(most)
            num_marks += sum(map(data.count, _MARKS))
            if num_marks > _MAX_MARKS:
                raise HTTPException(400, f"the body has more than {_MAX_MARKS} commas and brackets")
            if not message.get("more_body", False):
                held.shrink(num_received if num_received > SMALL_BYTES else 0)
            return message

        return bounded

    def _max_bytes(self, scope: Scope) -> int:
        most = self._settings.max_receive_bytes
        return min(most, _MAX_PARTS_BYTES) if _is_about_file(scope) else most

    def _watch(self, call: Call, presence: Presence) -> Send:
        """Wrap sending: each answer has the request's id, and none goes to whose key was revoked meanwhile.

        One that failed after its beginning does not get its end.
        """

        async def watched(message: Message) -> None:
            if call.failure is not None and _is_last(message):
                await presence.leave_off()
                call.refusal = call.failure
            if (call.status or message.get("status", 0)) < _FIRST_ERROR:
                self._check(call)
            if message["type"] == "http.response.start":
                call.status = message["status"]
                MutableHeaders(scope=message)["x-fal-request-id"] = call.request_id
            await presence.send(message)

        return watched

    def _check(self, call: Call) -> None:
        if call.refusal is not None:
            raise call.refusal
        try:
            if call.key is not None:
                self._gate.check(call.key)
        except ServiceError as error:  # remembered: what is raised while something is sent changes on its way
            call.refusal = error
            raise

    def _record(self, call: Call, scope: Scope, span: Span, seconds: float) -> None:
        """Count, time and describe a call; not by its path, which may be all that it takes to read a file."""
        method, route, status = _method(scope), _route(scope), str(call.status or "cancelled")
        self._metrics.http_handled.labels(method, route, status).inc()
        self._metrics.http_handling.labels(method, route).observe(seconds)
        span.rename(_name(scope))
        span.describe(
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": call.status or 0,
                "idefics2.request_id": call.request_id,
            }
        )
        if call.status is None or call.status >= _FIRST_ERROR:
            span.fail(call.reason or status)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "other"


def _find_address(scope: Scope) -> str:
    """Return what stands for where a call comes from."""
    return find_neighbourhood((scope["client"] or ("",))[0])


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "unknown")


def _name(scope: Scope) -> str:
    """Name what was called, without its path."""
    return f"{_method(scope)} {_route(scope)}"


def _check_pointing(scope: Scope) -> None:
    """Raise what was found wrong with where a call points."""
    problem: Problem | None = scope["state"].get("problem")
    if problem is not None:
        raise problem


def _check_framing(scope: Scope) -> None:
    """Raise where a body's end is said in two ways: who reads it and who counts it must not differ."""
    headers = Headers(scope=scope)
    if "content-length" in headers and "transfer-encoding" in headers:
        message = "content-length and transfer-encoding: a call may have one of them, not both"
        raise Problem(400, "bad_request", message, headers={"connection": "close"})


def _is_last(message: Message) -> bool:
    return message["type"] == "http.response.body" and not message.get("more_body", False)


def _too_large(most: int) -> HTTPException:
    """Make the one kind of error that FastAPI lets pass while it reads a body."""
    return HTTPException(413, f"the body has more than {most} bytes; upload the image and send its URL")


def _is_about_file(scope: Scope) -> bool:
    return str(scope["path"]).startswith("/cdn/")


def _brings_file(scope: Scope) -> bool:
    """Tell whether a body is a file, or a part of one: it is taken in as it comes."""
    return bool(scope["path"] == "/cdn/files/upload" or (scope["method"] == "PUT" and _is_about_file(scope)))


def _is_guarded(path: str) -> bool:
    return path in _GUARDED_PATHS or (path.startswith(_GUARDED_FOLDERS) and path != _OPEN_PATH)


def _is_counted(scope: Scope) -> bool:
    """Tell whether a key's limits are asked: not of who looks, ten times a second, or gives back."""
    path = str(scope["path"])
    if scope["method"] == "GET":
        return path.endswith("/stream")
    return not (scope["method"] == "PUT" and _CANCEL_PATH.fullmatch(path))


def _is_told(error: BaseException) -> bool:
    """Tell whether an error is for the caller, and none of ours."""
    if isinstance(error, BaseExceptionGroup):  # what streams raise; the second is what the first one broke
        return all(_is_told(each) or isinstance(each, BrokenResourceError) for each in error.exceptions)
    return isinstance(error, Problem | HTTPException | ServiceError)


def explain(error: Exception, call: Call) -> Problem:
    """Say what went wrong with a call; of what nobody expected, only the id under which it is logged."""
    call.reason = reason_of(error)
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return Problem(error.status_code, "bad_request", error.detail, headers=error.headers)
    if isinstance(error, ServiceError):
        return Problem.of(error)
    return Problem.of(InternalError(f"the service failed; its log has the details under {call.request_id}"))
