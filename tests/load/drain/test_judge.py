"""Each broken promise of a rolling restart is found: a judge that finds nothing proves nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from faults.requests.record import End, Seen, Story
from load.drain.judge import Verdict, judge
from load.drain.record import Call, Record, Restart

RESTART = Restart(at=1.0, told_seconds=0.01, ready_status=503, ready_seconds=0.01, end_seconds=4.0, status=0)
CALL = Call("envoy", "generate", 1.0, 0.5, "")


def make_story(line: bytes = b"") -> Story:
    watch = [
        Seen(1, "attempt_started", b"1", attempt=1),
        Seen(2, "log_line", line),
        Seen(3, "text_delta", b"3", text="A"),
        Seen(4, "finished", b"4"),
    ]
    ends = [End("SUCCEEDED", text="A")]
    return Story("one", "A", acknowledged_at=1.0, ended_at=2.0, watches=[watch], ends=ends)


def judge_one(*, call: Call = CALL, story: Story | None = None, restart: Restart = RESTART) -> Verdict:
    record = Record(10.0, [call], [story or make_story()], [restart])
    return judge(record)


def test_what_nobody_felt_has_no_faults() -> None:
    verdict = judge_one()
    assert not verdict.faults
    assert verdict.num_calls == {"envoy": 1, "submitted": 1}
    assert (verdict.rate, verdict.end_seconds) == (0.2, 4.0)


def test_a_failed_call_is_found() -> None:
    (fault,) = judge_one(call=CALL._replace(problem="UNAVAILABLE")).faults
    assert fault == "envoy, generate, 1.00 to 1.50 s: UNAVAILABLE"


def test_a_call_that_a_closing_port_cuts_is_a_fault_only_for_those_who_ask_for_health() -> None:
    cut = CALL._replace(problem="CANCELLED : CANCELLED")
    assert judge_one(call=cut).faults
    verdict = judge_one(call=cut._replace(way="client"))
    assert (verdict.num_cut, verdict.faults) == (1, ())


def test_a_gap_in_what_a_watcher_saw_is_found() -> None:
    story = make_story()
    del story.watches[0][1]
    assert judge_one(story=story).faults


def test_a_request_without_an_end_is_found() -> None:
    assert judge_one(story=replace(make_story(), ended_at=None)).faults


def test_a_request_that_is_handed_back_is_counted_and_one_that_is_lost_is_found() -> None:
    verdict = judge_one(story=make_story(b"handed back: this replica is shutting down"))
    assert (verdict.num_handed_back, verdict.faults) == (1, ())
    verdict = judge_one(story=make_story(b"handed back: what ran the request was lost"))
    assert (verdict.num_handed_back, verdict.faults) == (0, ("one: lost, not handed back",))


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": -9},
        {"ready_status": 0},
        {"end_seconds": 61.0},
    ],
)
def test_a_front_that_ends_badly_is_found(wrong: dict[str, float]) -> None:
    assert len(judge_one(restart=RESTART._replace(**wrong)).faults) == 1  # type: ignore[arg-type]  # by name


def test_a_process_that_ends_unasked_is_found() -> None:
    assert judge(Record(10.0, [CALL], [], [RESTART], crashes=["front0"])).faults == ("front0 ended unasked",)
