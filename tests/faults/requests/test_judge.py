"""The judge finds every kind of violation, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from faults.requests.judge import Kind, judge
from faults.requests.record import Call, End, Record, Seen, Story, Strike

Spoil = Callable[[Story], object]
SUCCEEDED = End("SUCCEEDED", text="ab")


def make_watch() -> list[Seen]:
    """Two attempts, the first of which was lost."""
    return [
        Seen(1, "attempt_started", b"1", attempt=1),
        Seen(2, "text_delta", b"2", text="a"),
        Seen(3, "attempt_started", b"3", attempt=2),
        Seen(4, "text_delta", b"4", text="ab"),
        Seen(5, "finished", b"5"),
    ]


def make_call(**changes: object) -> Call:
    """A call of its webhook, of which all is well."""
    call = Call("request", SUCCEEDED, is_signed=True, is_taken=True, is_answered=True)
    return call._replace(**changes)  # type: ignore[arg-type]  # any field


def make_story() -> Story:
    """A request of which all is well, watched twice."""
    return Story(
        "request",
        "ab",
        submitted_at=0.1,
        acknowledged_at=0.2,
        ended_at=0.9,
        watches=[make_watch(), make_watch()],
        ends=[SUCCEEDED, SUCCEEDED],
        has_webhook=True,
        calls=[make_call(is_taken=False), make_call()],
    )


def make_exhausted(num_attempts: int, num_unbegun: int = 0) -> Story:
    """A request that was lost again and again, before the model had begun with it or after."""
    watch: list[Seen] = []
    for attempt in range(1, num_unbegun + num_attempts + 1):
        watch.append(Seen(len(watch) + 1, "attempt_started", b"", attempt=attempt))
        if attempt > num_unbegun:
            watch += [Seen(len(watch) + n, "stage_entered", b"", is_begun=True) for n in (1, 2)]
    watch.append(Seen(len(watch) + 1, "finished", b""))
    ends = [End("FAILED", "ATTEMPTS_EXHAUSTED")]
    return Story("request", "ab", acknowledged_at=0.2, ended_at=0.9, watches=[watch], ends=ends)


def judge_story(story: Story) -> list[Kind]:
    """Judge a trial of one request."""
    return [fault.kind for fault in judge(Record(1.0, 1.0, [story])).faults]


def test_nothing_is_found_where_all_is_well() -> None:
    assert judge_story(make_story()) == []
    assert judge_story(make_exhausted(3)) == []
    assert judge_story(make_exhausted(3, num_unbegun=2)) == []


def replace_seen(place: int, **changes: object) -> Spoil:
    """Change what the second watcher saw at a place."""

    def spoil(story: Story) -> None:
        story.watches[1][place] = story.watches[1][place]._replace(**changes)  # type: ignore[arg-type]  # any field

    return spoil


def call_first(**changes: object) -> Spoil:
    """Let a call come before the others in which something is not as it was."""
    return lambda story: story.calls.insert(0, make_call(**changes))


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        pytest.param(lambda story: setattr(story, "is_lost", True), Kind.LOST, id="not found"),
        pytest.param(lambda story: setattr(story, "ended_at", None), Kind.HUNG, id="without end"),
        pytest.param(lambda story: story.watches[0].pop(1), Kind.STALE, id="gap"),
        pytest.param(lambda story: story.watches[0].insert(2, story.watches[0][1]), Kind.STALE, id="repeat"),
        pytest.param(
            lambda story: story.watches[1].append(Seen(6, "log_line", b"6")), Kind.STALE, id="after the end"
        ),
        pytest.param(replace_seen(1, content=b"other"), Kind.STALE, id="changed event"),
        pytest.param(lambda story: story.ends.append(End("FAILED", "INTERNAL")), Kind.STALE, id="second end"),
        pytest.param(
            lambda story: story.ends.append(End("SUCCEEDED", text="ba")), Kind.STALE, id="second answer"
        ),
        pytest.param(
            lambda story: setattr(story, "ends", [End("SUCCEEDED", text="ba")]), Kind.WRONG, id="wrong answer"
        ),
        pytest.param(replace_seen(3, text="a"), Kind.STALE, id="mixed attempts"),
        pytest.param(replace_seen(2, attempt=3), Kind.WRONG, id="attempt left out"),
        pytest.param(
            lambda story: setattr(story, "ends", [End("CANCELLED")]), Kind.WRONG, id="cancelled by nobody"
        ),
        pytest.param(
            lambda story: setattr(story, "ends", [End("FAILED", "INTERNAL")]), Kind.WRONG, id="wrong failure"
        ),
        pytest.param(lambda story: story.errors.append("INTERNAL"), Kind.WRONG, id="strange refusal"),
        pytest.param(lambda story: story.calls.clear(), Kind.UNTOLD, id="never told"),
        pytest.param(lambda story: story.calls.pop(), Kind.UNTOLD, id="told, and not taken"),
        pytest.param(
            lambda story: setattr(story, "calls", [make_call(is_answered=False)]),
            Kind.UNTOLD,
            id="told by who was lost, and not again",
        ),
        pytest.param(call_first(request_id="other"), Kind.MISTOLD, id="told of another one"),
        pytest.param(call_first(is_signed=False), Kind.MISTOLD, id="told unsigned"),
        pytest.param(call_first(end=End.of_failure("INTERNAL")), Kind.MISTOLD, id="told another end"),
        pytest.param(call_first(end=End("SUCCEEDED", text="ba")), Kind.MISTOLD, id="told another answer"),
    ],
)
def test_a_planted_violation_is_found(spoil: Spoil, kind: Kind) -> None:
    story = make_story()
    spoil(story)
    assert kind in judge_story(story)


@pytest.mark.parametrize("num_attempts", [2, 4])
def test_a_request_is_given_up_after_three_attempts_no_sooner_and_no_later(num_attempts: int) -> None:
    assert Kind.WRONG in judge_story(make_exhausted(num_attempts))


def test_a_process_that_ends_by_itself_is_found() -> None:
    (fault,) = judge(Record(1.0, 0.0, crashes=["front0"])).faults
    assert (fault.kind, fault.where) == (Kind.CRASHED, "front0")


def test_too_little_load_makes_a_trial_invalid() -> None:
    assert judge(Record(1.0, 1.0, [make_story()])).is_valid
    assert not judge(Record(1.0, 2.0, [make_story()])).is_valid


def test_a_webhook_that_is_told_again_is_counted_and_is_no_fault() -> None:
    story = make_story()
    assert judge(Record(1.0, 1.0, [story])).num_told_again == 0
    story.calls.insert(0, make_call(is_answered=False))
    verdict = judge(Record(1.0, 1.0, [story]))
    assert (verdict.num_webhooks, verdict.num_told_again, verdict.faults) == (1, 1, ())


def test_the_figures_are_counted() -> None:
    late = make_story()
    late.acknowledged_at, late.ends, late.calls = 1.5, [], []
    verdict = judge(Record(1.0, 1.0, [make_story(), late], [Strike(0.5, "front"), Strike(0.6, "front")]))
    assert (verdict.num_requests, verdict.num_acknowledged, verdict.rate) == (2, 2, 2.0)
    assert (verdict.num_ends, verdict.num_strikes) == ({"SUCCEEDED": 1}, {"front": 2})
    assert verdict.worst_recovery_seconds == pytest.approx(1.3)
