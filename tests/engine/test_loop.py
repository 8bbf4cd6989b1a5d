"""The engine's loop: exactly one last event for each request, in every case."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest
from fakes.engine import ScriptedEngine, Told, call_from_threads, flush, running_loop
from idefics2_engine.errors import EngineFault, InvalidRequest
from idefics2_engine.images import InvalidImage
from idefics2_engine.loop import EngineLoop
from idefics2_engine.requests import (
    Alive,
    Cancelled,
    Counted,
    Failed,
    Finished,
    Request,
    StageEntered,
    TextDelta,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from idefics2_engine.requests import Event

PATIENCE_SECONDS = 60
FINISHED = Finished("END_OF_TURN", 1, 1, 1)
BROKEN = Failed("INTERNAL_ERROR", "the engine failed in a step")
COUNTED = Counted(1, 2, 3, 4)
ENDLESS = repeat(TextDelta("x", 1))


@pytest.fixture
def scripted() -> ScriptedEngine:
    """An engine without a model."""
    return ScriptedEngine()


@pytest.fixture
def told() -> Told:
    """What the loop tells."""
    return Told()


def deltas(number: int) -> list[Event]:
    """Make so many deltas, numbered."""
    return [TextDelta("x", n) for n in range(number)]


def ask(request_id: str, *, is_slow: bool = False) -> Request:
    """Make a request; a slow one stops at the gate of preparation."""
    return Request(request_id, "What?", (b"image",) if is_slow else ())


def submit_all(loop: EngineLoop, requests: Iterable[Request]) -> None:
    """Submit one after the other."""
    for request in requests:
        loop.submit(request)


def test_a_request_is_told_its_events_in_order_with_one_last(scripted: ScriptedEngine, told: Told) -> None:
    scripted.events = {"a": [StageEntered("PREFILL"), StageEntered("DECODE"), *deltas(50), FINISHED]}
    with running_loop(scripted, told) as loop:
        loop.submit(ask("a"))
        told.wait_for_last("a")
    assert told.events == {"a": scripted.events["a"]}
    told.check_one_last_event_each({"a"})


def test_many_requests_from_many_threads_each_keep_their_order(scripted: ScriptedEngine, told: Told) -> None:
    names = [f"{n}" for n in range(80)]
    scripted.events = {name: [*deltas(1 + int(name) % 7), FINISHED] for name in names}
    with running_loop(scripted, told) as loop:
        call_from_threads(lambda part: submit_all(loop, map(ask, part)), names, 4)
        told.wait_for_last(*names)
    assert told.events == scripted.events


def test_requests_run_side_by_side(scripted: ScriptedEngine, told: Told) -> None:
    scripted.events = {"long": [*deltas(5), FINISHED], "short": [*deltas(1), FINISHED]}
    scripted.stepping.close()
    with running_loop(scripted, told, num_preparing=1) as loop:
        loop.submit(ask("long"))
        scripted.stepping.wait_until_reached()
        loop.submit(ask("short"))
        loop._preparing.shutdown(wait=True)  # so `short` is prepared
        scripted.stepping.open()
        told.wait_for_last("long", "short")
    assert told.order.index(("short", FINISHED)) < told.order.index(("long", FINISHED))


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            InvalidRequest("IMAGE_MISSING", "no image", "images"),
            Failed("IMAGE_MISSING", "no image", "images"),
        ),
        (EngineFault("it broke"), Failed("INTERNAL_ERROR", "it broke")),
        (
            ZeroDivisionError("a secret"),
            Failed("INTERNAL_ERROR", "the engine failed to begin the request"),
        ),
    ],
    ids=["the caller's", "the engine's", "unknown"],
)
@pytest.mark.parametrize("where", ["faults", "add_faults"])
def test_a_request_that_cannot_begin_fails_alone(
    scripted: ScriptedEngine, told: Told, where: str, fault: Exception, expected: Failed
) -> None:
    scripted.events = {"good": [*deltas(2), FINISHED], "later": [FINISHED]}
    setattr(scripted, where, {"bad": fault})
    with running_loop(scripted, told) as loop:
        for name in ("good", "bad"):
            loop.submit(ask(name))
        assert told.wait_for_last("good", "bad") == [FINISHED, expected]
        loop.submit(ask("later"))
        told.wait_for_last("later")
    told.check_one_last_event_each({"good", "bad", "later"})
    assert told.events["bad"] == [expected]
    assert ("bad" in scripted.added) == (where == "add_faults")


def test_a_request_that_breaks_a_step_fails_alone(scripted: ScriptedEngine, told: Told) -> None:
    scripted.events = {"good": [*deltas(6), FINISHED], "bad": [*deltas(2), BROKEN]}
    with running_loop(scripted, told) as loop:
        for name in scripted.events:
            loop.submit(ask(name))
        assert told.wait_for_last("good", "bad") == [FINISHED, BROKEN]
    assert told.events == scripted.events


def test_a_request_that_is_cancelled_while_it_is_prepared_never_reaches_the_engine(
    scripted: ScriptedEngine, told: Told
) -> None:
    scripted.preparing.close()
    with running_loop(scripted, told) as loop:
        loop.submit(ask("a", is_slow=True))
        scripted.preparing.wait_until_reached()
        loop.cancel("a")
        assert told.wait_for_last("a") == [Cancelled()]
        scripted.preparing.open()
        loop._preparing.shutdown(wait=True)
        flush(loop, told)
    assert scripted.added == []
    assert told.events["a"] == [Cancelled()]


def test_a_request_that_is_cancelled_in_line_is_not_prepared(scripted: ScriptedEngine, told: Told) -> None:
    scripted.preparing.close()
    scripted.events = {"first": [FINISHED]}
    with running_loop(scripted, told, num_preparing=1) as loop:
        loop.submit(ask("first", is_slow=True))
        scripted.preparing.wait_until_reached()
        loop.submit(ask("in line"))
        loop.cancel("in line")
        assert told.wait_for_last("in line") == [Cancelled()]
        scripted.preparing.open()
        loop._preparing.shutdown(wait=True)
        told.wait_for_last("first")
    assert scripted.prepared == ["first"]


def test_a_request_that_is_cancelled_and_prepared_wrongly_has_one_last_event(
    scripted: ScriptedEngine, told: Told
) -> None:
    scripted.preparing.close()
    scripted.faults = {"a": InvalidRequest("IMAGE_MISSING", "no image", "images")}
    with running_loop(scripted, told) as loop:
        loop.submit(ask("a", is_slow=True))
        scripted.preparing.wait_until_reached()
        loop.cancel("a")
        told.wait_for_last("a")
        scripted.preparing.open()
        loop._preparing.shutdown(wait=True)
        flush(loop, told)
    assert told.events["a"] == [Cancelled()]


def test_a_request_that_is_cancelled_while_it_runs_is_gone_with_the_next_step(
    scripted: ScriptedEngine, told: Told
) -> None:
    scripted.events = {"a": ENDLESS, "b": [*deltas(3), FINISHED]}
    with running_loop(scripted, told) as loop:
        loop.submit(ask("a"))
        told.wait_for_events("a", 3)
        scripted.stepping.close()
        scripted.stepping.wait_until_reached()
        num_before = len(told.events["a"])
        loop.cancel("a")
        scripted.stepping.open()
        assert told.wait_for_last("a") == [Cancelled()]
        assert len(told.events["a"]) == num_before + 2  # the step on the way, and the end
        assert scripted.is_idle
        loop.submit(ask("b"))
        told.wait_for_last("b")
    told.check_one_last_event_each({"a", "b"})


def test_cancelling_again_or_too_late_or_nobody_says_nothing(scripted: ScriptedEngine, told: Told) -> None:
    scripted.events = {"a": ENDLESS, "b": [FINISHED]}
    with running_loop(scripted, told) as loop:
        loop.submit(ask("a"))
        told.wait_for_events("a", 1)
        for name in ("a", "a", "nobody"):
            loop.cancel(name)
        loop.submit(ask("b"))
        told.wait_for_last("a", "b")
        for name in ("a", "b"):
            loop.cancel(name)
        flush(loop, told)
    told.check_one_last_event_each({"a", "b", "flush"})
    assert told.events["b"] == [FINISHED]


def test_a_slow_preparation_holds_up_nobody_who_runs(scripted: ScriptedEngine, told: Told) -> None:
    scripted.events = {"slow": [FINISHED], "fast": [*deltas(5), FINISHED]}
    scripted.preparing.close()
    with running_loop(scripted, told, num_preparing=2) as loop:
        loop.submit(ask("slow", is_slow=True))
        scripted.preparing.wait_until_reached()
        loop.submit(ask("fast"))
        assert told.wait_for_last("fast") == [FINISHED]
        assert "slow" not in told.events
        scripted.preparing.open()
        assert told.wait_for_last("slow") == [FINISHED]


def test_a_request_waits_behind_nobody_whose_pictures_are_being_decoded(
    scripted: ScriptedEngine, told: Told
) -> None:
    slow = [f"slow {n}" for n in range(40)]
    scripted.decodings = {name: Future() for name in slow}
    scripted.events = {name: [FINISHED] for name in [*slow, "fast"]}
    with running_loop(scripted, told) as loop:
        submit_all(loop, map(ask, slow))
        loop.submit(ask("fast"))
        assert told.wait_for_last("fast") == [FINISHED]
        assert set(told.events) == {"fast"}
        for decoding in scripted.decodings.values():
            decoding.set_result([])
        told.wait_for_last(*slow)
    told.check_one_last_event_each({*slow, "fast"})


def test_a_request_that_is_cancelled_while_its_picture_is_decoded_never_reaches_the_engine(
    scripted: ScriptedEngine, told: Told
) -> None:
    scripted.decodings = {"a": Future()}
    with running_loop(scripted, told) as loop:
        loop.submit(ask("a"))
        loop._preparing.shutdown(wait=True)
        loop.cancel("a")
        assert told.wait_for_last("a") == [Cancelled()]
        scripted.decodings["a"].set_result([])
        flush(loop, told)
    assert scripted.added == []
    told.check_one_last_event_each({"a", "flush"})


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            InvalidImage("FILE_UNDECODABLE", "is damaged"),
            Failed("FILE_UNDECODABLE", "images[0] is damaged", "images[0]"),
        ),
        (OSError("a secret"), Failed("INTERNAL_ERROR", "the engine failed to decode images[0]")),
    ],
    ids=["the picture's", "ours"],
)
def test_a_request_whose_picture_cannot_be_decoded_fails_alone(
    scripted: ScriptedEngine, told: Told, fault: Exception, expected: Failed
) -> None:
    scripted.decodings = {"bad": Future()}
    scripted.events = {"good": [FINISHED]}
    with running_loop(scripted, told) as loop:
        for name in ("bad", "good"):
            loop.submit(ask(name))
        told.wait_for_last("good")
        scripted.decodings["bad"].set_exception(fault)
        assert told.wait_for_last("bad") == [expected]
    assert scripted.added == ["good"]


def test_a_ping_is_answered_by_the_engines_own_thread(scripted: ScriptedEngine, told: Told) -> None:
    with running_loop(scripted, told) as loop:
        loop.ping("idle")
        assert told.wait_for_last("idle") == [Alive()]
        assert told.threads["idle"] == loop._thread.name == "engine"


def test_a_ping_is_answered_between_steps_and_not_while_one_hangs(
    scripted: ScriptedEngine, told: Told
) -> None:
    scripted.events = {"a": ENDLESS}
    with running_loop(scripted, told) as loop:
        loop.submit(ask("a"))
        told.wait_for_events("a", 1)
        scripted.stepping.close()
        scripted.stepping.wait_until_reached()
        loop.ping("ping")
        for name in ("one", "two", "three"):  # the others go on meanwhile
            loop.count(name, lambda _: COUNTED)
            assert told.wait_for_last(name) == [COUNTED]
        assert "ping" not in told.events
        num_before = len(told.events["a"])
        scripted.stepping.open()
        assert told.wait_for_last("ping") == [Alive()]
        loop.cancel("a")
        told.wait_for_last("a")
    before_ping = told.order[: told.order.index(("ping", Alive()))]
    assert sum(name == "a" for name, _ in before_ping) == num_before + 1  # the step that hung


def test_counting_does_not_wait_behind_slow_preparations(scripted: ScriptedEngine, told: Told) -> None:
    scripted.events = {"slow": [FINISHED], "slow too": [FINISHED]}
    scripted.preparing.close()
    with running_loop(scripted, told, num_preparing=1) as loop:
        for name in scripted.events:
            loop.submit(ask(name, is_slow=True))
        scripted.preparing.wait_until_reached()
        loop.count("a", lambda _: COUNTED)
        assert told.wait_for_last("a") == [COUNTED]
        assert set(told.events) == {"a"}


def test_counting_is_answered_beside_the_engines_thread(scripted: ScriptedEngine, told: Told) -> None:
    seen: list[Any] = []

    def count(processor: Any) -> Counted:
        seen.append(processor)
        return COUNTED

    with running_loop(scripted, told) as loop:
        loop.count("a", count)
        assert told.wait_for_last("a") == [COUNTED]
    assert seen == [scripted.processor]
    assert told.threads["a"].startswith("count")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (InvalidRequest("PROMPT_MISSING", "x", "prompt"), "PROMPT_MISSING"),
        (KeyError("x"), "INTERNAL_ERROR"),
    ],
)
def test_counting_wrongly_fails_alone(
    scripted: ScriptedEngine, told: Told, fault: Exception, reason: str
) -> None:
    def count(_: Any) -> Counted:
        raise fault

    with running_loop(scripted, told) as loop:
        loop.count("bad", count)
        loop.count("good", lambda _: COUNTED)
        bad, good = told.wait_for_last("bad", "good")
    assert isinstance(bad, Failed)
    assert bad.reason == reason
    assert good == COUNTED


def test_closing_ends_all_that_is_open_wherever_it_stands(scripted: ScriptedEngine, told: Told) -> None:
    names = {"runs", "is decoded", "is prepared", "waits to be prepared", "is counted"}
    scripted.events = dict.fromkeys(names, ENDLESS)
    scripted.decodings = {"is decoded": Future()}
    loop = EngineLoop(scripted, told.emit, num_preparing=1)  # type: ignore[arg-type]
    loop.submit(ask("runs"))
    told.wait_for_events("runs", 1)
    loop.submit(ask("is decoded"))
    scripted.preparing.close()
    loop.submit(ask("is prepared", is_slow=True))
    scripted.preparing.wait_until_reached()
    loop.submit(ask("waits to be prepared"))
    loop.count("is counted", lambda _: COUNTED)
    closing = threading.Thread(target=loop.close)
    closing.start()
    scripted.preparing.open()
    closing.join(PATIENCE_SECONDS)
    assert not closing.is_alive()
    told.check_one_last_event_each(names)
    for name in ("runs", "is decoded", "is prepared"):
        last = told.events[name][-1]
        assert isinstance(last, Failed)
        assert last.reason == "BACKEND_UNAVAILABLE"
    assert not loop._thread.is_alive()
    assert not loop._open


def test_closing_a_loop_that_does_nothing_returns_and_says_nothing(
    scripted: ScriptedEngine, told: Told
) -> None:
    with running_loop(scripted, told):
        pass
    assert told.events == {}


LOST = Failed("BACKEND_UNAVAILABLE", "the engine is lost")
LOST_BEFORE = Failed("BACKEND_UNAVAILABLE", "the engine was lost before", was_lost_before=True)


@pytest.mark.parametrize("fault", [EngineFault("nothing works"), ZeroDivisionError("a secret")])
def test_when_the_engine_is_lost_all_who_are_there_or_come_are_told_which_of_both_they_are_once(
    scripted: ScriptedEngine, told: Told, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    names = {"runs", "runs too", "is prepared", "comes later", "pings", "comes last", "pings again"}
    scripted.events = dict.fromkeys(names, ENDLESS)
    scripted.preparing.close()
    with running_loop(scripted, told) as loop:
        for name in ("runs", "runs too"):
            loop.submit(ask(name))
            told.wait_for_events(name, 1)
        loop.submit(ask("is prepared", is_slow=True))
        scripted.preparing.wait_until_reached()
        scripted.step_fault = fault
        assert told.wait_for_last("runs", "runs too", "is prepared") == [LOST] * 3
        scripted.preparing.open()
        for name in ("comes later", "comes last"):
            loop.submit(ask(name))
            assert told.wait_for_last(name) == [LOST_BEFORE]
        for name in ("pings", "pings again"):
            loop.ping(name)
            assert told.wait_for_last(name) == [LOST_BEFORE]
    told.check_one_last_event_each(names)
    assert scripted.prepared == ["runs", "runs too", "is prepared"]
    assert scripted.added == ["runs", "runs too"]
    assert [record.getMessage() for record in caplog.records if record.exc_info] == ["the engine is lost"]


def test_events_of_the_step_in_which_the_engine_is_lost_are_told(
    scripted: ScriptedEngine, told: Told
) -> None:
    scripted.events = {"ends": [FINISHED], "comes": ENDLESS}
    scripted.stepping.close()
    with running_loop(scripted, told) as loop:
        loop.submit(ask("ends"))
        scripted.stepping.wait_until_reached()
        scripted.step_fault = EngineFault("nothing works")
        scripted.stepping.open()
        assert told.wait_for_last("ends") == [FINISHED]
        loop.submit(ask("comes"))
        assert told.wait_for_last("comes")[0] in (LOST, LOST_BEFORE)  # the fault may be on its way
    assert told.events["ends"] == [FINISHED]


def test_cancelling_and_counting_still_end_when_the_engine_is_lost(
    scripted: ScriptedEngine, told: Told
) -> None:
    scripted.events = {"runs": ENDLESS}
    scripted.step_fault = EngineFault("nothing works")
    with running_loop(scripted, told) as loop:
        loop.submit(ask("runs"))
        assert told.wait_for_last("runs") == [LOST]
        loop.cancel("runs")
        loop.count("is counted", lambda _: COUNTED)
        loop.ping("pings")
        assert told.wait_for_last("is counted", "pings") == [LOST_BEFORE] * 2
    told.check_one_last_event_each({"runs", "is counted", "pings"})


def test_a_lost_engine_can_be_closed_from_any_thread_while_many_come(
    scripted: ScriptedEngine, told: Told
) -> None:
    names = [f"{n}" for n in range(200)]
    scripted.events = dict.fromkeys(["first", *names], ENDLESS)
    scripted.step_fault = EngineFault("nothing works")
    with running_loop(scripted, told) as loop:
        loop.submit(ask("first"))
        told.wait_for_last("first")
        call_from_threads(lambda part: submit_all(loop, map(ask, part)), names, 4)
        closing = threading.Thread(target=loop.close)
        closing.start()
        closing.join(PATIENCE_SECONDS)
        assert not closing.is_alive()
    told.check_one_last_event_each({"first", *names})
    assert {type(events[-1]) for events in told.events.values()} == {Failed}
