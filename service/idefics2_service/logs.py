"""The log: one JSON object a line on standard error, or coloured lines where a terminal reads it."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import structlog

from idefics2_service.tracing.spans import current_span

if TYPE_CHECKING:
    from idefics2_service.settings import LogSettings

# Without local variables: they hold prompts and images.
_TRACEBACK = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def configure(settings: LogSettings) -> None:
    """Set up structlog and hand it what libraries log."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace_id,
        structlog.processors.add_log_level,
        structlog.processors.MaybeTimeStamper(fmt="iso", utc=True),  # the model's lines come with their time
    ]
    as_console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    render: list[structlog.typing.Processor] = (
        [
            _write_exception,
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ]
        if as_console
        else [structlog.processors.ExceptionRenderer(_TRACEBACK), structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    for noisy in ("uvicorn.access", "asyncio", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _add_trace_id(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Say to which trace a line belongs, if to any."""
    if trace_id := current_span().trace_id:
        line["trace_id"] = trace_id
    return line


def _write_exception(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Write as text what was raised in another process, the first thing first, as Python does."""
    if "exception" in line:
        line["exception"] = "\n\n".join(
            "\n".join([*map(_write_frame, raised["frames"]), f"{raised['exc_type']}: {raised['exc_value']}"])
            for raised in reversed(line["exception"])
        )
    return line


def _write_frame(frame: dict[str, str]) -> str:
    return f'  File "{frame["filename"]}", line {frame["lineno"]}, in {frame["name"]}'
