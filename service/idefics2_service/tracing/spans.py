"""Spans: stretches of the way of a call or a request.

Where nobody collects traces, or this one is not kept, they only tell on in which trace a caller works. What
is kept of them and sent is `otlp.py`'s. Nothing of a prompt, a picture, an answer, a key or a URL's path and
query is ever put into one.
"""

from __future__ import annotations

import asyncio
import enum
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from idefics2_service.errors import RequestCancelled, ServiceError
from idefics2_service.tracing import w3c

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextvars import Token
    from types import TracebackType

Value = str | int | float | tuple[str, ...]
"""What an attribute may be."""
NOTHING: Mapping[str, Value] = MappingProxyType({})


class Kind(enum.Enum):
    """Which side of a call a span is; names as OpenTelemetry has them."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    CLIENT = "CLIENT"
    CONSUMER = "CONSUMER"


class Span:
    """A stretch of the way; this one belongs to no trace.

    As a context, it is the current one inside, fails with what is raised there, and ends.
    """

    trace_id = ""
    """32 hexadecimal digits; empty: there is no trace."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What tells others in which trace they work: W3C's `traceparent` and `tracestate`."""
        return {}

    def begin(self, name: str, kind: Kind = Kind.INTERNAL, attributes: Mapping[str, Value] = NOTHING) -> Span:
        """Begin a stretch of this one."""
        return self

    def add_ended(self, stretches: Sequence[tuple[str, float]]) -> None:
        """Add stretches of this one that followed each other, the last one up to now: names and seconds."""

    def rename(self, name: str) -> None:
        """Call it by what is only known later."""

    def describe(self, attributes: Mapping[str, Value]) -> None:
        """Add what is known of it."""

    def fail(self, reason: str) -> None:
        """Say that it failed; the first reason stands."""

    def end(self) -> None:
        """Say that it is over; what comes later does not count."""

    def __enter__(self) -> Self:
        """Do nothing."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing."""


NO_SPAN = Span()
_current: ContextVar[Span] = ContextVar("current_span", default=NO_SPAN)


def current_span() -> Span:
    """Return the span of what is going on here."""
    return _current.get()


class PassedSpan(Span):
    """A stretch of a trace that is not kept: it is only told on."""

    def __init__(self, trace_id: str, headers: Mapping[str, str]) -> None:
        """Belong to a trace."""
        self.trace_id = trace_id
        self._headers = headers
        self._token: Token[Span] | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """As Span.headers."""
        return self._headers

    def begin(self, name: str, kind: Kind = Kind.INTERNAL, attributes: Mapping[str, Value] = NOTHING) -> Span:
        """As Span.begin; one of its own, since each may be current once."""
        return PassedSpan(self.trace_id, self._headers)

    def __enter__(self) -> Self:
        """Be the current one."""
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the one before be current again."""
        if error is not None:
            self.fail(reason_of(error))
        self.end()
        if self._token is not None:
            _current.reset(self._token)


class Tracer:
    """Begins spans where something comes in. This one, where nobody collects, keeps none."""

    def begin(
        self, name: str, kind: Kind, headers: Mapping[str, str], attributes: Mapping[str, Value] = NOTHING
    ) -> Span:
        """Begin a span in the trace that `headers` tell of; where they do not, or badly, in a new one.

        Where nobody collects, no new one is begun.
        """
        told = w3c.read(headers)
        return NO_SPAN if told is None else PassedSpan(*told)

    async def close(self) -> None:
        """Send what is not sent yet, for a short time."""


NO_TRACER = Tracer()


def reason_of(error: BaseException) -> str:
    """Name what went wrong: by the reason that callers are told, or by its type."""
    if isinstance(error, ServiceError):
        return error.reason
    return RequestCancelled.reason if isinstance(error, asyncio.CancelledError) else type(error).__name__
