"""Where a request stands, in the hosted endpoint's words: IN_QUEUE, IN_PROGRESS, COMPLETED.

COMPLETED is also what failed or was cancelled: `error` and `error_type` say so, and the result is that error.
Beside the hosted endpoint's fields stand some of our own: `stage`, `num_generated_tokens` and
`estimated_wait_seconds`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from idefics2_service.events import (
    AttemptStarted,
    Failed,
    Finished,
    LogLine,
    QueuePosition,
    StageEntered,
    TextDelta,
)
from idefics2_service.requests import State
from idefics2_service.rest.problems import type_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from idefics2_service.events import Event
    from idefics2_service.requests import GenerateOutput, RequestName
    from idefics2_service.rest.origins import Origin
    from idefics2_service.store.records import Record

Status = dict[str, Any]


class Writer:
    """Writes statuses of one request for one caller."""

    def __init__(
        self, origin: Origin, app_id: str, name: RequestName, *, has_logs: bool, has_text: bool
    ) -> None:
        """Write URLs that work by `origin`; the log's lines, and the answer's text, where they are wanted."""
        base = f"{app_id}/requests/{name.request_id}"
        self.name = name
        self._names = {
            "request_id": name.request_id,
            "response_url": origin.url("queue", base),
            "status_url": origin.url("queue", f"{base}/status"),
            "cancel_url": origin.url("queue", f"{base}/cancel"),
        }
        self.has_logs = has_logs
        self._has_text = has_text

    def write(self, record: Record, lines: Sequence[tuple[float, str]] = ()) -> Status:
        """Write where a request stands, with these lines of its log."""
        status = self._write(_word_for(record.state), lines)
        if record.state is State.QUEUED:
            status["queue_position"] = record.queue_position or 0
            status["estimated_wait_seconds"] = record.estimated_wait_seconds
        else:
            status["stage"] = record.stage and record.stage.value
            status["num_generated_tokens"] = record.num_generated_tokens
        if isinstance(record.end, Failed):
            status |= {"error": record.end.error.message, "error_type": type_of(record.end.error)}
        if record.end is not None:
            status["metrics"] = dict(_write_metrics(record))
        return status

    def write_event(self, event: Event) -> Status | None:
        """Write what an event before the last one changes; None: nothing that the caller wants to hear."""
        match event.happening:
            case QueuePosition(position):
                return {**self._write("IN_QUEUE"), "queue_position": position}
            case AttemptStarted(attempt):
                return {**self._write("IN_PROGRESS"), "attempt": attempt}
            case StageEntered(stage):
                return {**self._write("IN_PROGRESS"), "stage": stage.value}
            case LogLine(line) if self.has_logs:
                return self._write("IN_PROGRESS", [(event.time, line)])
            case TextDelta(text, num_generated_tokens) if self._has_text:
                return {
                    **self._write("IN_PROGRESS"),
                    "delta": text,
                    "num_generated_tokens": num_generated_tokens,
                }
        return None

    def _write(self, word: str, lines: Sequence[tuple[float, str]] = ()) -> Status:
        logs = [_write_line(at, line) for at, line in lines] if self.has_logs else None
        return {"status": word, **self._names, "logs": logs, "metrics": {}}


def _word_for(state: State) -> str:
    if state.is_final:
        return "COMPLETED"
    return "IN_QUEUE" if state is State.QUEUED else "IN_PROGRESS"


def _write_line(at: float, line: str) -> dict[str, str]:
    timestamp = datetime.fromtimestamp(at, UTC).isoformat()
    return {"message": line, "level": "INFO", "source": "USER", "timestamp": timestamp}


def _write_metrics(record: Record) -> Iterator[tuple[str, object]]:
    """Write seconds of work, and what the answer cost."""
    is_timed = record.started_at is not None and record.ended_at is not None
    seconds = max(0.0, (record.ended_at or 0) - (record.started_at or 0))  # the clock may have been set back
    yield "inference_time", seconds if is_timed else None
    if isinstance(record.end, Finished):
        yield from _write_usage(record.end.output)


def _write_usage(output: GenerateOutput) -> Iterator[tuple[str, object]]:
    yield from vars(output.usage).items()
    yield "finish_reason", output.finish_reason.value
    yield "stage_seconds", output.stage_seconds
    yield "seed", str(output.seed)  # may be more than a number in JavaScript holds
