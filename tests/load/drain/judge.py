"""Whether a rolling restart was one that callers do not feel. Pure: a record in, a verdict out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from faults.requests import judge as requests
from faults.requests.record import Record as RequestsRecord
from load.drain.record import DEAF

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faults.requests.record import Story
    from load.drain.record import Call, Record, Restart

MOST_END_SECONDS = 60.0
_NOT_SERVING = 503
_CUT = "CANCELLED : "
_HANDED_BACK, _LOST = (
    b"handed back: this replica is shutting down",
    b"handed back: what ran the request was lost",
)


@dataclass(frozen=True)
class Verdict:
    """What came out of a trial."""

    num_calls: dict[str, int]
    """By how they found a front; submitted requests are those of all."""
    num_handed_back: int
    """Requests that ran on a front that ended, and were run again by another."""
    num_resumed: int
    num_cut: int
    """Calls of those who do not ask for health that came in the moment in which the port was closed."""
    rate: float
    """Calls and submitted requests per second."""
    told_seconds: float
    """The longest of all restarts, as all below."""
    ready_seconds: float
    end_seconds: float
    faults: tuple[str, ...]


def judge(record: Record) -> Verdict:
    """Find all that a caller felt, and the figures of the trial."""
    num_calls = Counter(call.way for call in record.calls)
    return Verdict(
        num_calls={**num_calls, "submitted": len(record.stories)},
        num_handed_back=sum(_is_told(story, _HANDED_BACK) for story in record.stories),
        num_resumed=record.num_resumed,
        num_cut=sum(map(_is_cut, record.calls)),
        rate=(len(record.calls) + len(record.stories)) / record.seconds,
        told_seconds=max(restart.told_seconds for restart in record.restarts),
        ready_seconds=max(restart.ready_seconds for restart in record.restarts),
        end_seconds=max(restart.end_seconds for restart in record.restarts),
        faults=(
            *_failed_calls(record),
            *_broken_requests(record),
            *chain.from_iterable(map(_check_restart, record.restarts)),
            *(f"{name} ended unasked" for name in record.crashes),
        ),
    )


def _failed_calls(record: Record) -> Iterator[str]:
    for call in record.calls:
        if call.problem and not _is_cut(call):
            times = f"{call.began_at:.2f} to {call.began_at + call.seconds:.2f} s"
            yield f"{call.way}, {call.kind}, {times}: {call.problem}"


def _is_cut(call: Call) -> bool:
    """Tell whether grpc ended a call that it had not handed to the service when its server closed."""
    return call.way == DEAF and call.problem.startswith(_CUT)


def _broken_requests(record: Record) -> Iterator[str]:
    """As where processes are killed; and no attempt may count as one that was lost."""
    verdict = requests.judge(RequestsRecord(record.seconds, 0.0, stories=record.stories))
    for fault in verdict.faults:
        yield f"{fault.where}: {fault.kind.value}: {fault.what}"
    for story in record.stories:
        if _is_told(story, _LOST):
            yield f"{story.request_id}: lost, not handed back"


def _is_told(story: Story, line: bytes) -> bool:
    return any(line in seen.content for watch in story.watches for seen in watch)


def _check_restart(restart: Restart) -> Iterator[str]:
    where = f"the front that was ended at {restart.at:.2f} s"
    if restart.status:
        yield f"{where} ended with status {restart.status}"
    if restart.ready_status != _NOT_SERVING:
        yield f"{where} said {restart.ready_status} of its readiness"
    if restart.end_seconds > MOST_END_SECONDS:
        yield f"{where} took {restart.end_seconds:.1f} s"
