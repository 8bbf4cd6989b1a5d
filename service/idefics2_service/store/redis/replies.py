"""What scripts answer, as plain types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from idefics2_service.events import Event, Failed
from idefics2_service.requests import Priority, RequestName, Stage, State
from idefics2_service.store import codec
from idefics2_service.store.records import Claim, Delivery, Ended, Page, Reaped, Record, Statistics

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Unreadable:
    """A claim of a request that cannot be read."""

    name: RequestName
    attempt: int
    holder: str
    last_sequence: int
    seconds_queued: float
    end: Failed
    """How it is to end."""


def read_record(reply: Sequence[Any]) -> Record:
    """Read what `view` in lua/shared made."""
    _, flat, position, interval, end = reply
    fields = {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
    state = State(fields["state"])
    name = RequestName(fields["key_id"], fields["request_id"])
    return Record(
        name=name,
        state=state,
        priority=Priority(fields["priority"]),
        max_new_tokens=int(fields["max_new_tokens"]),
        created_at=float(fields["created_at"]),
        last_sequence=int(fields["last_sequence"]),
        attempt=int(fields["attempt"]),
        stage=Stage(fields["stage"]) if state is State.RUNNING and fields.get("stage") else None,
        num_generated_tokens=int(fields["num_generated_tokens"]),
        started_at=_number(fields.get("started_at")),
        ended_at=_number(fields.get("ended_at")),
        expires_at=_number(fields.get("expires_at")),
        queue_position=position,
        estimated_wait_seconds=_estimate_wait(position, interval),
        end=codec.decode_end(end or b"", name) if state.is_final else None,  # the server may have lost it
    )


def read_page(reply: Sequence[Any], limit: int) -> Page:
    """Read a list that was asked for one more than `limit`."""
    shown = reply[:limit]
    next_before = int(shown[-1][0]) if len(reply) > limit else None
    return Page(tuple(read_record(view) for view in shown if _is_known(view)), next_before)


def find_lost(reply: Sequence[Any]) -> Sequence[str]:
    """Return the numbers of requests in a list that the server has not any more."""
    return [view[0].decode() for view in reply if not _is_known(view)]


def read_event(entry: Sequence[Any]) -> Event:
    """Read an entry of a stream; its id is the event's number, then `-0`."""
    entry_id, (_, time, _, data) = entry
    return Event(int(entry_id.partition(b"-")[0]), float(time), codec.decode_happening(data))


def read_claim(reply: Sequence[Any], holder: str) -> Claim | Unreadable:
    """Read what claim.lua made for `holder`."""
    key_id, request_id, attempt, payload, left, start_left, seconds_queued, last_sequence, parent = reply
    name = RequestName(key_id.decode(), request_id.decode())
    request = codec.decode_request(payload, name)
    if isinstance(request, Failed):
        return Unreadable(name, attempt, holder, last_sequence, float(seconds_queued), request)
    return Claim(
        name=name,
        attempt=attempt,
        request=request,
        seconds_left=float(left),
        start_seconds_left=float(start_left) if start_left else None,
        seconds_queued=float(seconds_queued),
        last_sequence=last_sequence,
        traceparent=parent.decode(),
        holder=holder,
    )


def read_delivery(reply: Sequence[Any], holder: str) -> Delivery:
    """Read what claim_delivery.lua made for `holder`."""
    view, url, attempt, parent = reply
    return Delivery(read_record(view), url.decode(), attempt, parent.decode(), holder)


def read_reaped(reply: Sequence[Any]) -> Reaped:
    """Read what reap.lua made."""
    num_requeued, ended = reply
    return Reaped(num_requeued, tuple(read_ended(entry) for entry in ended))


def read_ended(reply: Sequence[Any]) -> Ended:
    """Read what `describe` in lua/shared made."""
    key_id, request_id, data, seconds = reply
    name = RequestName(key_id.decode(), request_id.decode())
    end = codec.decode_end(data, name)
    assert isinstance(end, Failed)  # noqa: S101  # nothing finishes without its worker
    return Ended(name, end, float(seconds))


def read_statistics(reply: Sequence[Any]) -> Statistics:
    """Read what statistics.lua made."""
    now, num_queued, oldest, num_deliveries = reply
    return Statistics(float(now), num_queued, float(oldest), num_deliveries)


def _is_known(view: Sequence[Any]) -> bool:
    """Tell whether the server still has the request that it lists."""
    return bool(view[1])


def _number(text: str | bytes | None) -> float | None:
    return None if text is None else float(text)


def _estimate_wait(position: int | None, interval: bytes | None) -> float | None:
    return None if position is None or interval is None else (position + 1) * float(interval)
