"""Whether what clients saw is what was promised. Pure: a record in, a verdict out."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from faults.requests.record import Record, Seen, Story

MAX_ATTEMPTS = 3


class Kind(enum.Enum):
    """What may not happen."""

    LOST = "lost"
    """It was acknowledged, and does not exist."""
    STALE = "stale"
    """A write was accepted that came too late: the history is not one list that only grows."""
    HUNG = "hung"
    """It did not end in time."""
    WRONG = "wrong"
    """It ended otherwise than it should, or a call was answered by what it should never get."""
    UNTOLD = "untold"
    """It ended, and its webhook never heard of it."""
    MISTOLD = "mistold"
    """Its webhook was told something else than how it ended, or without the service's signature."""
    CRASHED = "crashed"
    """A process ended by itself."""


class Fault(NamedTuple):
    """A promise that was broken."""

    kind: Kind
    where: str
    what: str


@dataclass(frozen=True)
class Verdict:
    """What came out of a trial."""

    num_requests: int
    num_acknowledged: int
    num_ends: dict[str, int]
    """By state."""
    num_strikes: dict[str, int]
    """By what was struck."""
    rate: float
    """Submitted requests per second, those that are submitted again not counted twice."""
    worst_recovery_seconds: float
    """The longest time in which nothing was acknowledged."""
    num_webhooks: int
    """Requests with one, at their end."""
    num_told_again: int
    """Of these: whose webhook was called after it had taken a call. That may be: who called it was lost."""
    is_valid: bool
    """Whether the load was what it had to be."""
    faults: tuple[Fault, ...]

    def count(self, kind: Kind) -> int:
        """Count the faults of a kind."""
        return sum(fault.kind is kind for fault in self.faults)


def judge(record: Record) -> Verdict:
    """Find every broken promise, and the figures of the trial."""
    times = sorted(s.acknowledged_at for s in record.stories if s.acknowledged_at is not None)
    rate = sum(story.submitted_at <= record.seconds for story in record.stories) / record.seconds
    marks = (0.0, *times)
    crashes = [Fault(Kind.CRASHED, name, "ended by itself") for name in record.crashes]
    return Verdict(
        num_requests=len(record.stories),
        num_acknowledged=len(times),
        num_ends=Counter(story.ends[0].state for story in record.stories if story.ends),
        num_strikes=Counter(strike.kind for strike in record.strikes),
        rate=rate,
        worst_recovery_seconds=max((after - before for before, after in pairwise(marks)), default=0.0),
        num_webhooks=sum(story.has_webhook and bool(story.ends) for story in record.stories),
        num_told_again=sum(_is_told_again(story) for story in record.stories),
        is_valid=rate >= record.least_rate,
        faults=(*crashes, *chain.from_iterable(_check(story) for story in record.stories)),
    )


def _lost(story: Story) -> Iterator[str]:
    if story.is_lost:
        yield "it was acknowledged, then not found"


def _hung(story: Story) -> Iterator[str]:
    if story.ended_at is None and not story.is_lost:
        yield "acknowledged, without an end" if story.acknowledged_at is not None else "never acknowledged"


def _broken_lists(story: Story) -> Iterator[str]:
    """Each watcher must see 1, 2, 3 and so on, and nothing after the end."""
    for watch in story.watches:
        numbers = [seen.sequence for seen in watch]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"a gap or a repeat: {numbers}"
        if "finished" in [seen.kind for seen in watch[:-1]]:
            yield "events after the end"


def _differences(story: Story) -> Iterator[str]:
    """Whoever sees an event of a number must see the same one."""
    first: dict[int, bytes] = {}
    for seen in chain.from_iterable(story.watches):
        if first.setdefault(seen.sequence, seen.content) != seen.content:
            yield f"event {seen.sequence} was changed: {first[seen.sequence]!r}, {seen.content!r}"


def _second_ends(story: Story) -> Iterator[str]:
    if len({(end.state, end.reason) for end in story.ends}) > 1:
        yield f"several ends: {story.ends}"
    if len({end.text for end in story.ends if end.text is not None}) > 1:
        yield f"several answers: {story.ends}"


def _wrong_ends(story: Story) -> Iterator[str]:
    """A request succeeds, was cancelled by its client, or was lost too often; else something is at fault."""
    for end in story.ends:
        if end.state == "SUCCEEDED" and end.text not in {None, story.truth}:
            yield f"a wrong answer: {end.text!r}"
        if end.state == "CANCELLED" and not story.is_cancel_sent:
            yield "cancelled by nobody"
        if end.state == "FAILED" and end.reason != "ATTEMPTS_EXHAUSTED":
            yield f"failed with {end.reason}"


def _mixed_texts(story: Story) -> Iterator[str]:
    """The text of the last attempt is the answer: else two attempts wrote at the same time."""
    if story.ends and story.ends[0].state == "SUCCEEDED":
        for watch in story.watches:
            text = _last_text(watch)
            if watch and watch[-1].kind == "finished" and text != story.truth:
                yield f"its pieces are {text!r}"


def _last_text(watch: Sequence[Seen]) -> str:
    begins = [place for place, seen in enumerate(watch) if seen.attempt]
    return "".join(seen.text for seen in watch[begins[-1] if begins else 0 :])


def _wrong_attempts(story: Story) -> Iterator[str]:
    """The model begins at most three times, and a request that is given up had as many attempts.

    Others may be between: those that never came to the model.
    """
    for watch in story.watches:
        attempts = [seen.attempt for seen in watch if seen.attempt]
        if attempts != list(range(1, len(attempts) + 1)):
            yield f"attempts {attempts}"
        num_begun = _count_begun(watch)
        if num_begun > MAX_ATTEMPTS:
            yield f"begun by the model {num_begun} times"
        is_failed = bool(story.ends) and story.ends[0].state == "FAILED"
        if is_failed and watch and watch[-1].kind == "finished" and len(attempts) < MAX_ATTEMPTS:
            yield f"exhausted after attempts {attempts}"


def _count_begun(watch: Sequence[Seen]) -> int:
    """Count the attempts that came to the model."""
    num_begun, attempt_is_begun = 0, True
    for seen in watch:
        if seen.attempt:
            attempt_is_begun = False
        elif seen.is_begun and not attempt_is_begun:
            num_begun, attempt_is_begun = num_begun + 1, True
    return num_begun


def _strange_refusals(story: Story) -> Iterator[str]:
    yield from story.errors


def _untold(story: Story) -> Iterator[str]:
    if story.has_webhook and story.ends and not story.is_told:
        yield f"ended, and of {len(story.calls)} calls of its webhook none was heard"


def _mistold(story: Story) -> Iterator[str]:
    """Each call tells, signed, how its own request ended, whether it is taken or not."""
    ends = {(end.state, end.reason) for end in story.ends}
    for call in story.calls:
        if call.request_id != story.request_id:
            yield f"its webhook was told of {call.request_id}"
        if not call.is_signed:
            yield "its webhook was told without a signature that fits"
        if ends and (call.end.state, call.end.reason) not in ends:
            yield f"its webhook was told {call.end} of {story.ends}"
        if call.end.state == "SUCCEEDED" and call.end.text != story.truth:
            yield f"its webhook was told a wrong answer: {call.end.text!r}"


def _is_told_again(story: Story) -> bool:
    """Tell whether a call came after one that its webhook took."""
    return any(call.is_taken for call in story.calls[:-1])


_CHECKS = (
    (Kind.LOST, _lost),
    (Kind.HUNG, _hung),
    (Kind.STALE, _broken_lists),
    (Kind.STALE, _differences),
    (Kind.STALE, _second_ends),
    (Kind.STALE, _mixed_texts),
    (Kind.WRONG, _wrong_ends),
    (Kind.WRONG, _wrong_attempts),
    (Kind.WRONG, _strange_refusals),
    (Kind.UNTOLD, _untold),
    (Kind.MISTOLD, _mistold),
)


def _check(story: Story) -> Iterator[Fault]:
    return (Fault(kind, story.request_id, what) for kind, check in _CHECKS for what in check(story))
