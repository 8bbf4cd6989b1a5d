"""What grows is found, and what only moves is not."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from load.soak.judge import judge
from load.soak.samples import Held, Sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from load.soak.judge import Verdict

QUIET = Sample(0.0, {"front": Held(80.0, 30, 12)}, {"asyncio tasks": 31})
HOUR, WARM_UP = 3600, 900


def make_samples(
    memory: Callable[[float], float] = lambda _: 80.0,
    descriptors: Callable[[float], int] = lambda _: 30,
    tasks: Callable[[float], int] = lambda _: 40,
    seconds: int = HOUR,
) -> list[Sample]:
    dice = random.Random(7)  # noqa: S311  # no secret

    def look(at: float) -> Sample:
        noise = dice.uniform(-0.5, 0.5) + (30 if dice.random() < 0.02 else 0)  # a peak now and then
        held = Held(memory(at / 3600) + noise, descriptors(at), 12)
        return Sample(at, {"front": held}, {"asyncio tasks": tasks(at) + dice.randrange(5)})

    return [look(float(at)) for at in range(0, seconds, 15)]


def judge_samples(samples: list[Sample], after: Sample = QUIET, **problems: int) -> Verdict:
    return judge(samples, (QUIET, after), WARM_UP * len(samples) * 15 / HOUR, problems)


def test_what_is_flat_but_for_noise_and_a_warm_up_is_no_fault() -> None:
    verdict = judge_samples(make_samples(memory=lambda hours: 80 - 40 * max(0.2 - hours, 0)))
    assert not verdict.faults
    assert verdict.is_long
    assert abs(verdict.slopes["front"].value) < 1


def test_two_mib_an_hour_are_found_in_an_hour() -> None:
    (fault,) = judge_samples(make_samples(memory=lambda hours: 80 + 2 * hours)).faults
    assert fault.startswith("memory of front grows by ")


def test_three_minutes_are_held_to_a_looser_bound_which_a_great_leak_breaks() -> None:
    slow = judge_samples(make_samples(memory=lambda hours: 80 + 20 * hours, seconds=180))
    assert (slow.faults, slow.is_long) == ((), False)
    assert judge_samples(make_samples(memory=lambda hours: 80 + 600 * hours, seconds=180)).faults


@pytest.mark.parametrize("what", ["descriptors", "tasks"])
def test_what_is_counted_must_stay_flat(what: str) -> None:
    rising = make_samples(**{what: lambda at: 30 + int(at / 40)})  # type: ignore[arg-type]  # by name
    (fault,) = judge_samples(rising).faults
    assert what in fault


def test_what_calls_left_behind_is_found() -> None:
    after = Sample(0.0, {"front": Held(80.0, 40, 12)}, {"asyncio tasks": 41})
    assert judge_samples(make_samples(), after).faults == (
        "asyncio tasks, when it was quiet: 31 became 41",
        "descriptors of front, when it was quiet: 30 became 40",
    )


def test_a_wrong_answer_is_a_fault() -> None:
    assert judge_samples(make_samples(), ask=2).faults == ("2 times ask",)
