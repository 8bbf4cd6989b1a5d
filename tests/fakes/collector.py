"""A collector: a real gRPC server that takes spans by OTLP, and hands them out by name."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.proto.trace.v1 import trace_pb2

PATIENCE_SECONDS = 30
FAILED = 2
"""A status of OTLP's."""


@dataclass(frozen=True)
class ToldSpan:
    """A span as it was sent."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    """Empty: it is the first of its trace."""
    start: int
    end: int
    """In nanoseconds since the epoch."""
    attributes: dict[str, Any]
    has_failed: bool
    trace_state: str
    service: dict[str, Any]
    """Attributes of who sent it."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.start) / 1e9


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Listens on loopback, as an async context; on a free port, unless one is given."""

    def __init__(self, port: int = 0) -> None:
        """Set up, listen later."""
        self._server = grpc.aio.server()
        add = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
        add(self, self._server)  # type: ignore[no-untyped-call]  # generated without types
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.url = f"http://127.0.0.1:{self.port}"
        self.spans: list[ToldSpan] = []
        self.raw: list[bytes] = []
        """All that came, as it came."""
        self.refusal: tuple[grpc.StatusCode, str] | None = None
        """How it answers instead of taking anything."""
        self._grown = asyncio.Condition()

    async def __aenter__(self) -> Self:
        """Listen."""
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self._server.stop(0)

    async def Export(  # noqa: N802  # OTLP's name
        self,
        request: trace_service_pb2.ExportTraceServiceRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Take spans."""
        if self.refusal is not None:
            await context.abort(*self.refusal)
        async with self._grown:
            self.raw.append(request.SerializeToString())
            for group in request.resource_spans:
                service = _read_attributes(group.resource.attributes)
                for scope in group.scope_spans:
                    self.spans += [_read_span(span, service) for span in scope.spans]
            self._grown.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    async def find(self, name: str, **attributes: Any) -> ToldSpan:
        """Wait for a span of a name that has `attributes`, dots in their names written as `__`."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}.items()
        return (await self._wait(lambda span: span.name == name and wanted <= span.attributes.items()))[0]

    async def find_all(self, name: str, trace_id: str, number: int) -> list[ToldSpan]:
        """Wait for so many spans of a name in a trace; return them in their order."""
        found = await self._wait(lambda span: (span.name, span.trace_id) == (name, trace_id), number)
        return sorted(found, key=lambda span: span.start)

    async def trace(self, trace_id: str, *names: str) -> dict[str, ToldSpan]:
        """Wait for spans of these names in a trace; return all of it that came, by name."""
        await self._wait(lambda span: span.trace_id == trace_id and span.name in names, len(names))
        return {span.name: span for span in self.spans if span.trace_id == trace_id}

    async def _wait(self, is_wanted: Callable[[ToldSpan], bool], number: int = 1) -> list[ToldSpan]:
        async with asyncio.timeout(PATIENCE_SECONDS), self._grown:
            await self._grown.wait_for(lambda: sum(map(is_wanted, self.spans)) >= number)
            return list(filter(is_wanted, self.spans))


def _read_span(span: trace_pb2.Span, service: dict[str, Any]) -> ToldSpan:
    return ToldSpan(
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=_read_attributes(span.attributes),
        has_failed=span.status.code == FAILED,
        trace_state=span.trace_state,
        service=service,
    )


def _read_attributes(attributes: Any) -> dict[str, Any]:
    return {pair.key: _read_value(pair.value) for pair in attributes}


def _read_value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_read_value(item) for item in value.array_value.values)
    return getattr(value, kind)
