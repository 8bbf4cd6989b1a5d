"""What grows is found, and what only moves is not."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from load.soak.judge import judge
from load.soak.record import (
    FILES,
    LATE_FILES,
    LATE_ROWS,
    REGIONS,
    ROWS,
    TASKS,
    TEMPORARY,
    Held,
    Record,
    Sample,
    Visit,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from load.soak.judge import Verdict

COUNTS = {
    TASKS: 31,
    ROWS: 0,
    FILES: 0,
    LATE_ROWS: 0,
    LATE_FILES: 0,
    TEMPORARY: 1,
    REGIONS: 1,
}
QUIET = Sample(0.0, {"front": Held(80.0, 30, 12)}, COUNTS)
HOUR, MINUTES = 3600, 180
WARM_UP_SHARE = 1 / 4


def make_record(
    seconds: int = HOUR,
    memory: Callable[[float], float] = lambda _: 80.0,
    takes: Callable[[float], float] = lambda _: 0.2,
    **counts: Callable[[float], int],
) -> Record:
    """Record a soak; what is held follows from the seconds, and `memory` from the hours, but for noise."""
    dice = random.Random(7)  # noqa: S311  # no secret

    def look(at: float) -> Sample:
        noise = dice.uniform(-0.5, 0.5) + (30 if dice.random() < 0.02 else 0)  # a peak now and then
        held = Held(memory(at / 3600) + noise, count("descriptors", at, 30), count("threads", at, 12))
        tasks = count("tasks", at, 40) + dice.randrange(5)
        more = {what: count(what, at, COUNTS[what]) for what in COUNTS if what != TASKS}
        return Sample(at, {"front": held}, {TASKS: tasks, **more})

    def count(what: str, at: float, usual: int) -> int:
        return counts[what](at) if what in counts else usual

    samples = [look(float(at)) for at in range(0, seconds, 5)]
    visits = [Visit(float(at), "ask", takes(at) + dice.uniform(0, 0.05)) for at in range(seconds)]
    return Record(float(seconds), samples, [QUIET, QUIET], visits)


def judge_record(record: Record) -> Verdict:
    return judge(record, WARM_UP_SHARE * record.seconds)


@pytest.mark.parametrize("seconds", [HOUR, MINUTES])
def test_what_is_flat_but_for_noise_and_a_warm_up_is_no_fault(seconds: int) -> None:
    warm_up = WARM_UP_SHARE * seconds
    warming = make_record(
        seconds, memory=lambda hours: 80 - 40 * max(0.9 - 3600 * hours / warm_up, 0), takes=lambda _: 0.3
    )
    verdict = judge_record(warming)
    assert not verdict.faults
    assert verdict.is_long is (seconds == HOUR)


def test_two_mib_an_hour_are_found_in_an_hour() -> None:
    (fault,) = judge_record(make_record(memory=lambda hours: 80 + 2 * hours)).faults
    assert fault.startswith("memory of front grows by ")


def test_three_minutes_are_held_to_a_looser_bound_which_a_great_leak_breaks() -> None:
    slow = judge_record(make_record(MINUTES, memory=lambda hours: 80 + 50 * hours))
    assert (slow.faults, slow.is_long) == ((), False)
    assert judge_record(make_record(MINUTES, memory=lambda hours: 80 + 900 * hours)).faults


def test_three_minutes_on_a_machine_that_becomes_busy_are_no_fault() -> None:
    """Steps of memory, more that is held at once, and slower answers are what a busy machine does."""
    busy = make_record(
        MINUTES,
        memory=lambda hours: 80 + 2 * (hours > 0.02) + 2 * (hours > 0.03) + 2 * (hours > 0.04),
        takes=lambda at: 0.2 + at / 50,
        tasks=lambda at: 40 + int(at),
        descriptors=lambda at: 30 + int(at / 10),
    )
    assert not judge_record(busy).faults


@pytest.mark.parametrize("what", ["descriptors", "threads", "tasks", ROWS, FILES, TEMPORARY, REGIONS])
def test_what_is_counted_must_stay_flat_for_an_hour(what: str) -> None:
    counts: dict[str, Any] = {what: lambda at: 30 + int(at / 40)}
    (fault,) = judge_record(make_record(**counts)).faults
    assert what in fault


def test_answers_that_take_longer_and_longer_are_found_in_an_hour() -> None:
    (fault,) = judge_record(make_record(takes=lambda at: 0.2 + at / HOUR)).faults
    assert fault.startswith("ask takes longer: ")


@pytest.mark.parametrize("seconds", [HOUR, MINUTES])
def test_what_each_call_leaves_behind_is_found(seconds: int) -> None:
    after = Sample(0.0, {"front": Held(80.0, 40, 12)}, {**COUNTS, TASKS: 41})
    assert judge_record(replace(make_record(seconds), quiet=[QUIET, after])).faults == (
        "asyncio tasks, when it was quiet: 31 became 41",
        "descriptors of front, when it was quiet: 30 became 40",
    )


@pytest.mark.parametrize("what", [LATE_ROWS, LATE_FILES, TEMPORARY, REGIONS])
def test_of_what_must_be_gone_a_single_one_is_found(what: str) -> None:
    after = QUIET._replace(counts={**COUNTS, what: COUNTS[what] + 1})
    (fault,) = judge_record(replace(make_record(MINUTES), quiet=[QUIET, after])).faults
    assert fault.startswith(what)


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"problems": {"ask: no text": 2}}, "2 times ask: no text"),
        ({"status": -9}, "the end with status -9"),
        ({"num_left": 1}, "1 files or regions of shared memory were left after the end"),
        ({"end_seconds": 61.0}, "an end that took 61 s"),
    ],
)
def test_what_goes_wrong_once_is_a_fault(wrong: dict[str, Any], fault: str) -> None:
    assert judge_record(replace(make_record(MINUTES), **wrong)).faults == (fault,)


def test_a_soak_that_few_visited_shows_nothing() -> None:
    record = make_record(MINUTES)
    record.visits = record.visits[::4]
    assert judge_record(record).faults == ("only 0.25 visits a second: that shows nothing",)
