"""The log of the engine's processes: one JSON object a line on standard error, as the service writes its own.

A line has `event`, `logger`, `level` and `timestamp`; where it is about a request, what `names.about` says of
it; where something was raised, `exception`: that and what it came of, without its frames' local variables.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import traceback
from datetime import UTC, datetime
from typing import Any

LEVEL_VARIABLE = "IDEFICS2_LOG_LEVEL"
"""The service's own setting."""
LEVELS = ("debug", "info", "warning", "error")
_OF_A_REQUEST = ("request_id", "trace_id")
_MAX_FRAMES = 50
_MAX_CAUSES = 10

logger = logging.getLogger(__name__)


def configure() -> None:
    """Have this process write so all that is logged or warned of, and what ends it or one of its threads.

    Raises:
        ValueError: IDEFICS2_LOG_LEVEL is no level.

    """
    level = os.environ.get(LEVEL_VARIABLE) or "info"
    if level not in LEVELS:
        message = f"{LEVEL_VARIABLE} must be {', '.join(LEVELS[:-1])} or {LEVELS[-1]}, not {level!r}"
        raise ValueError(message)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for library in logging.root.manager.loggerDict.values():
        if isinstance(library, logging.Logger) and library.handlers:  # it would write lines of its own
            library.handlers, library.propagate = [], True
    logging.getLogger("PIL").setLevel(logging.ERROR)  # one damaged file may make it say hundreds of things
    logging.captureWarnings(capture=True)
    sys.excepthook = lambda _, error, __: _tell_end(error)
    threading.excepthook = lambda raised: _tell_end(raised.exc_value)


class Lines(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """As Formatter.format."""
        line: dict[str, Any] = {"event": record.getMessage(), "logger": record.name}
        line |= {name: getattr(record, name) for name in _OF_A_REQUEST if hasattr(record, name)}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = _tell_error(record.exc_info[1])
        time = datetime.fromtimestamp(record.created, UTC).replace(tzinfo=None)
        line |= {
            "level": record.levelname.lower(),
            "timestamp": f"{time.isoformat(timespec='microseconds')}Z",
        }
        return json.dumps(line, default=str)


def _tell_error(error: BaseException) -> list[dict[str, Any]]:
    """Write an error, then what it came of, and so on, by the names of structlog's tracebacks."""
    told: list[dict[str, Any]] = []
    is_cause = False
    following: BaseException | None = error
    while following is not None and len(told) < _MAX_CAUSES:
        frames = [(frame.f_code, number) for frame, number in traceback.walk_tb(following.__traceback__)]
        told.append(
            {
                "exc_type": type(following).__name__,
                "exc_value": str(following),
                "is_cause": is_cause,
                "frames": [
                    {"filename": code.co_filename, "lineno": number, "name": code.co_name}
                    for code, number in frames[-_MAX_FRAMES:]
                ],
            }
        )
        is_cause = following.__cause__ is not None
        context = None if following.__suppress_context__ else following.__context__
        following = following.__cause__ or context
    return told


def _tell_end(error: BaseException | None) -> None:
    """Say what nobody has caught."""
    logger.critical("a thread or the process ends by an error", exc_info=error)
