"""Spans that are kept, and sent by OTLP over gRPC. Only `app` imports this, where somebody collects.

Sampling, W3C's headers, batches and the wire are OpenTelemetry's. Spans are ours until they end: those of the
SDK take locks and check bounds that nothing here needs, and cost the event loop five times as much.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from importlib import metadata
from typing import TYPE_CHECKING

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc import exporter as otlp_exporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from idefics2_service.errors import SettingInvalid
from idefics2_service.tracing.spans import NOTHING, Kind, PassedSpan, Span, Tracer
from idefics2_service.tracing.w3c import bound_state

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from idefics2_service.settings import TraceSettings
    from idefics2_service.tracing.spans import Value

logger = structlog.get_logger(__name__)

_MAX_WAITING = 4096
"""Spans that wait to be sent; where nobody takes them, the oldest are lost."""
_MAX_BATCH = 128
"""To write a batch holds Python's lock for some 4 ms, and with it all calls."""
_SEND_MILLISECONDS = 1_000.0
_MAX_SEND_SECONDS = 5.0
_MAX_CLOSE_SECONDS = 2.0
_CHANNEL_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)
"""Each channel has a connection of its own: those to one address would share one otherwise."""
_NANOSECONDS = 1_000_000_000
_SCOPE = InstrumentationScope("idefics2_service", metadata.version("idefics2-serving"))
_KINDS = {kind: SpanKind[kind.name] for kind in Kind}
_FAILED = Status(StatusCode.ERROR)
_PROPAGATOR = TraceContextTextMapPropagator()


class OtlpTracer(Tracer):
    """Begins spans, keeps those that are sampled, and sends them from a thread of its own."""

    def __init__(self, settings: TraceSettings) -> None:
        """Begin with nothing to send.

        Raises:
            SettingInvalid: OpenTelemetry's own variables say what cannot be sent with.

        """
        about = {"service.name": settings.service_name, "service.instance.id": str(uuid.uuid4())}
        self.resource = _Resource(
            Resource.create({**about, "service.version": _SCOPE.version or ""}).attributes
        )
        self.make_id = RandomIdGenerator().generate_span_id
        self._make_trace_id = RandomIdGenerator().generate_trace_id
        self._sampler = ParentBased(TraceIdRatioBased(settings.ratio))
        self._exporter = _Exporter(settings.endpoint)
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=_MAX_WAITING,
            schedule_delay_millis=_SEND_MILLISECONDS,
            max_export_batch_size=_MAX_BATCH,
        )
        self.keep = self._processor.on_end

    def begin(
        self, name: str, kind: Kind, headers: Mapping[str, str], attributes: Mapping[str, Value] = NOTHING
    ) -> Span:
        """As Tracer.begin. Whether a trace is kept is the caller's word, and the sampler's on new ones."""
        context = _PROPAGATOR.extract(bound_state(headers))
        caller = trace.get_current_span(context).get_span_context()
        parent = caller if caller.is_valid else None
        trace_id = self._make_trace_id() if parent is None else parent.trace_id
        decision = self._sampler.should_sample(context, trace_id, name).decision
        is_kept = decision is Decision.RECORD_AND_SAMPLE
        own = SpanContext(
            trace_id,
            self.make_id(),
            is_remote=False,
            trace_flags=TraceFlags(TraceFlags.SAMPLED if is_kept else TraceFlags.DEFAULT),
            trace_state=caller.trace_state,
        )
        if is_kept:
            return _KeptSpan(self, name, kind, (own, parent), attributes)
        return PassedSpan(trace.format_trace_id(trace_id), _write(parent or own))

    async def close(self) -> None:
        """As Tracer.close."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        give_up = threading.Timer(_MAX_CLOSE_SECONDS, self._exporter.shutdown)
        give_up.start()
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # it has no annotations
        give_up.cancel()


class _Resource(Resource):
    """What all spans say of who sends them."""

    def __hash__(self) -> int:
        """Be one of its own. The SDK asks each span for it, and would write it as JSON each time."""
        return id(self)


class _KeptSpan(PassedSpan):
    """A stretch that is sent when it is over."""

    def __init__(
        self,
        tracer: OtlpTracer,
        name: str,
        kind: Kind,
        place: tuple[SpanContext, SpanContext | None],
        attributes: Mapping[str, Value],
    ) -> None:
        """Begin now; `place` is where it stands: its own ids and those of what it is a stretch of."""
        self._own, self._parent = place
        super().__init__(trace.format_trace_id(self._own.trace_id), {})
        self._tracer = tracer
        self._name = name
        self._kind = kind
        self._attributes = dict(attributes)
        self._has_failed = self._has_ended = False
        self._started = time.time_ns()

    @property
    def headers(self) -> Mapping[str, str]:
        """As Span.headers."""
        return _write(self._own)

    def begin(self, name: str, kind: Kind = Kind.INTERNAL, attributes: Mapping[str, Value] = NOTHING) -> Span:
        """As Span.begin."""
        return _KeptSpan(self._tracer, name, kind, (self._make_place(), self._own), attributes)

    def add_ended(self, stretches: Sequence[tuple[str, float]]) -> None:
        """As Span.add_ended."""
        lengths = [(name, round(seconds * _NANOSECONDS)) for name, seconds in stretches]
        start = time.time_ns() - sum(length for _, length in lengths)
        for name, length in lengths:
            self._tracer.keep(
                ReadableSpan(
                    name,
                    self._make_place(),
                    self._own,
                    self._tracer.resource,
                    start_time=start,
                    end_time=start + length,
                    instrumentation_scope=_SCOPE,
                )
            )
            start += length

    def rename(self, name: str) -> None:
        """As Span.rename."""
        self._name = name

    def describe(self, attributes: Mapping[str, Value]) -> None:
        """As Span.describe."""
        self._attributes.update(attributes)

    def fail(self, reason: str) -> None:
        """As Span.fail."""
        self._has_failed = True
        self._attributes.setdefault("error.type", reason)

    def end(self) -> None:
        """As Span.end."""
        if self._has_ended:
            return
        self._has_ended = True
        self._tracer.keep(
            ReadableSpan(
                self._name,
                self._own,
                self._parent,
                self._tracer.resource,
                self._attributes,
                kind=_KINDS[self._kind],
                status=_FAILED if self._has_failed else Status(StatusCode.UNSET),
                start_time=self._started,
                end_time=time.time_ns(),
                instrumentation_scope=_SCOPE,
            )
        )

    def _make_place(self) -> SpanContext:
        own = self._own
        return SpanContext(
            own.trace_id,
            self._tracer.make_id(),
            is_remote=False,
            trace_flags=own.trace_flags,
            trace_state=own.trace_state,
        )


class _Exporter(SpanExporter):
    """Sends, and tells the log when that begins to fail and when it works again, not each time."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._said = _LastWords()
        try:
            self._otlp = self._connect()
        except (
            otlp_exporter.InvalidCompressionValueException,
            OSError,
            ValueError,
            KeyError,
            RuntimeError,
        ) as error:
            raise SettingInvalid(f"traces cannot be sent: {error}") from error
        if self._said.words:  # a file of certificates that is not there: it would go on without
            raise SettingInvalid(f"traces cannot be sent: {self._said.words}")
        self._is_lost = self._is_over = False
        self._ending = threading.Lock()

    def _connect(self) -> OTLPSpanExporter:
        return OTLPSpanExporter(
            self._endpoint,
            timeout=_MAX_SEND_SECONDS,
            channel_options=_CHANNEL_OPTIONS,  # type: ignore[arg-type]  # not all options are text
        )

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._otlp.export(spans)
        is_lost = result is not SpanExportResult.SUCCESS
        if is_lost and not self._is_lost:
            logger.warning("traces are lost", endpoint=self._endpoint, detail=self._said.words)
        elif self._is_lost and not is_lost:
            logger.info("traces are taken again", endpoint=self._endpoint)
        self._is_lost = is_lost
        if is_lost:
            self._connect_again()
        return result

    def _connect_again(self) -> None:
        """Leave a connection whose other end may be gone without a word: it would look open for long."""
        with self._ending:
            if not self._is_over:
                self._otlp.shutdown()
                self._otlp = self._connect()

    def shutdown(self) -> None:
        with self._ending:
            self._is_over = True
            self._otlp.shutdown()


class _LastWords(logging.Handler):
    """What OpenTelemetry last called an error: its log is the only place where it says why.

    It has a line for each attempt; ours tell when sending begins to fail, and when it works again.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.words = ""
        talker = logging.getLogger("opentelemetry")
        talker.propagate = False
        talker.handlers[:] = [self]
        # It would keep back a second error for 20 s, also one for another reason.
        logging.getLogger(otlp_exporter.__name__).filters.clear()

    def emit(self, record: logging.LogRecord) -> None:
        self.words = record.getMessage()


def _write(place: SpanContext) -> dict[str, str]:
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers, trace.set_span_in_context(trace.NonRecordingSpan(place)))
    return headers
