"""The engine's loop: exactly one last event for each request, in every case."""

from __future__ import annotations

import random
import threading
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest
from idefics2_engine.errors import EngineFault, InvalidRequest
from idefics2_engine.loop import EngineLoop
from idefics2_engine.requests import (
    Alive,
    Cancelled,
    Counted,
    Failed,
    Finished,
    Request,
    SamplingParams,
    StageEntered,
    TextDelta,
    is_last,
)
from pictures import draw_red_circle, encode
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from idefics2_engine.engine import Engine
    from idefics2_engine.requests import Event

PATIENCE_SECONDS = 60
FINISHED = Finished("END_OF_TURN", 1, 1, 1)
BROKEN = Failed("INTERNAL_ERROR", "the engine failed in a step")
COUNTED = Counted(1, 2, 3, 4)
ENDLESS = repeat(TextDelta("x", 1))


class Gate:
    """Holds up whoever comes by while it is closed, and tells that somebody stands there."""

    def __init__(self) -> None:
        """Begin open."""
        self._opened = threading.Event()
        self._reached = threading.Event()
        self.open()

    def open(self) -> None:
        """Let all pass."""
        self._opened.set()

    def close(self) -> None:
        """Let nobody pass."""
        self._reached.clear()
        self._opened.clear()

    def pass_by(self) -> None:
        """Pass, or wait."""
        if not self._opened.is_set():
            self._reached.set()
            assert self._opened.wait(PATIENCE_SECONDS)

    def wait_until_reached(self) -> None:
        """Return when somebody stands there."""
        assert self._reached.wait(PATIENCE_SECONDS)


@dataclass
class Prepared:
    """A request that is ready for the engine."""

    request: Request


class ScriptedEngine:
    """Tells in each step the next event of each request, as a test wrote it down."""

    def __init__(self) -> None:
        """Begin with nothing written."""
        self.processor = self
        self.events: dict[str, Iterable[Event]] = {}
        self.faults: dict[str, Exception] = {}
        self.add_faults: dict[str, Exception] = {}
        self.running: dict[str, Iterator[Event]] = {}
        self.added: list[str] = []
        self.stepping, self.preparing = Gate(), Gate()

    def prepare(self, request: Request, _: object = None) -> Prepared:
        """As Processor.prepare."""
        if request.images:
            self.preparing.pass_by()
        if request.request_id in self.faults:
            raise self.faults[request.request_id]
        return Prepared(request)

    def add(self, prepared: Prepared) -> None:
        """As Engine.add."""
        request_id = prepared.request.request_id
        self.added.append(request_id)
        if request_id in self.add_faults:
            raise self.add_faults[request_id]
        self.running[request_id] = iter(self.events[request_id])

    def cancel(self, request_id: str) -> bool:
        """As Engine.cancel."""
        return self.running.pop(request_id, None) is not None

    def step(self) -> Iterator[tuple[str, Event]]:
        """As Engine.step."""
        self.stepping.pass_by()
        for request_id, events in list(self.running.items()):
            event = next(events)
            if is_last(event):
                del self.running[request_id]
            yield request_id, event

    @property
    def is_idle(self) -> bool:
        """As Engine.is_idle."""
        return not self.running


class Told:
    """What the loop tells, in order, with the thread that told it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.events: dict[str, list[Event]] = defaultdict(list)
        self.order: list[tuple[str, Event]] = []
        self.threads: dict[str, str] = {}
        self.listener: Callable[[str, Event], None] = lambda *_: None
        self._changed = threading.Condition()

    def emit(self, request_id: str, event: Event) -> None:
        """As the loop's Emit."""
        with self._changed:
            self.events[request_id].append(event)
            self.order.append((request_id, event))
            self.threads[request_id] = threading.current_thread().name
            self._changed.notify_all()
        self.listener(request_id, event)

    def wait_for_events(self, request_id: str, number: int) -> None:
        """Return when a request has so many events."""
        self._wait(lambda: len(self.events[request_id]) >= number)

    def wait_for_last(self, *request_ids: str) -> list[Event]:
        """Return the last events of these requests."""
        self._wait(lambda: all(map(self._is_over, request_ids)))
        return [self.events[request_id][-1] for request_id in request_ids]

    def check_one_last_event_each(self, request_ids: set[str]) -> None:
        assert set(self.events) == request_ids
        for request_id, events in self.events.items():
            assert [is_last(event) for event in events] == [False] * (len(events) - 1) + [True], request_id

    def _is_over(self, request_id: str) -> bool:
        return bool(self.events[request_id]) and is_last(self.events[request_id][-1])

    def _wait(self, holds: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(holds, PATIENCE_SECONDS), f"only {dict(self.events)}"


@contextmanager
def running_loop(engine: Any, told: Told, num_preparing: int = 2) -> Iterator[EngineLoop]:
    """Run a loop and close it, with all gates open."""
    loop = EngineLoop(engine, told.emit, num_preparing)
    try:
        yield loop
    finally:
        if isinstance(engine, ScriptedEngine):
            engine.stepping.open()
            engine.preparing.open()
        loop.close()
        assert not loop._thread.is_alive()
        assert not loop._open


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


def call_from_threads(call: Callable[[list[str]], None], names: list[str], number: int) -> None:
    """Share names among threads, and return when all of them are done."""
    callers = [threading.Thread(target=call, args=(names[part::number],)) for part in range(number)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()


def flush(loop: EngineLoop, told: Told, name: str = "flush") -> None:
    """Return when the engine's thread has done all that was asked for so far."""
    loop.ping(name)
    assert told.wait_for_last(name) == [Alive()]


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
        loop.count("next", lambda _: COUNTED)
        told.wait_for_last("next")  # so `short` is prepared
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


def test_counting_is_answered_beside_the_engines_thread(scripted: ScriptedEngine, told: Told) -> None:
    seen: list[Any] = []

    def count(processor: Any) -> Counted:
        seen.append(processor)
        return COUNTED

    with running_loop(scripted, told) as loop:
        loop.count("a", count)
        assert told.wait_for_last("a") == [COUNTED]
    assert seen == [scripted.processor]
    assert told.threads["a"].startswith("prepare")


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
    names = {"runs", "is prepared", "waits to be prepared", "is counted"}
    scripted.events = dict.fromkeys(names, ENDLESS)
    loop = EngineLoop(scripted, told.emit, num_preparing=1)  # type: ignore[arg-type]
    loop.submit(ask("runs"))
    told.wait_for_events("runs", 1)
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
    for name in ("runs", "is prepared"):
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


PICTURES = (
    encode(draw_red_circle((48, 36))),
    encode(Image.new("RGB", (60, 20)), "JPEG"),
    encode(draw_red_circle((20, 60)), "GIF"),
)
BAD_PICTURE = PICTURES[0][: len(PICTURES[0]) // 2]
WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "damaged": ("FILE_UNDECODABLE", {"images": (BAD_PICTURE,)}),
    "no image": ("IMAGE_MISSING", {"images": ()}),
    "too long": ("CONTEXT_EXCEEDED", {"prompt": "long " * 2000}),
}
FATES_OF_THE_CANCELLED = {"0": 1, "1": 2, "2": 1, "3": 1}  # after how many events
FATES = {"answered": 12, **dict.fromkeys(WRONG, 1), **FATES_OF_THE_CANCELLED}  # and how many of each


def draw_question(draw: random.Random) -> Request:
    """Draw a request of any size."""
    sampling = SamplingParams(
        max_new_tokens=draw.randint(1, 10),
        min_new_tokens=draw.choice((0, 1)),
        temperature=draw.choice((0.0, 0.4, 3.0)),
        top_k=draw.choice((0, 5)),
        seed=draw.getrandbits(64),
        stop=tuple(draw.sample((" red", "e", "circle on", ". "), draw.choice((0, 0, 1, 2)))),
    )
    images = tuple(draw.choices(PICTURES, k=draw.choice((1, 1, 2))))
    return Request(
        "alone", "What is this? " * draw.randint(1, 5), images, sampling, draw.choice((None, True))
    )


def answer_alone(engine: Engine, request: Request) -> list[Event]:
    """Answer a request when nobody else is there."""
    engine.add(engine.processor.prepare(request))
    events = []
    while not engine.is_idle:
        events += [event for _, event in engine.step()]
    return events


def check_answer(fate: str, events: list[Event], alone: list[Event]) -> None:
    """Compare what a request was told with its answer when nobody else was there."""
    last = events[-1]
    if isinstance(last, Failed):
        assert [last.reason] == [WRONG[fate][0]] * len(events)
    elif isinstance(last, Cancelled):
        assert fate in FATES_OF_THE_CANCELLED
        assert events[:-1] == alone[: len(events) - 1]
    else:
        assert events == alone


def test_in_a_storm_each_answer_is_the_one_made_alone_and_nothing_is_left(engine: Engine, told: Told) -> None:
    draw = random.Random(5)  # noqa: S311  # not a secret
    questions = [draw_question(draw) for _ in range(30)]
    alone = [answer_alone(engine, question) for question in questions]
    names = [f"{n}" for n in range(150)]
    chosen = {name: draw.randrange(len(questions)) for name in names}
    fates = {name: draw.choices(list(FATES), list(FATES.values()))[0] for name in names}

    def cancel_in_time(request_id: str, _: Event) -> None:
        """Cancel, after so many events, those whose fate is a number; some of them twice."""
        if fates.get(request_id) == str(len(told.events[request_id])):
            for _again in range(1 + int(request_id) % 2):
                loop.cancel(request_id)

    def submit(part: list[str]) -> None:
        for name in part:
            _, changed = WRONG.get(fates[name], ("", {}))
            loop.submit(replace(questions[chosen[name]], request_id=name, **changed))
            if fates[name] == "0":
                loop.cancel(name)

    told.listener = cancel_in_time
    with running_loop(engine, told) as loop:
        call_from_threads(submit, names, 3)
        lasts = told.wait_for_last(*names)
        flush(loop, told)
        assert engine.is_idle
        assert not loop._open
    told.check_one_last_event_each({*names, "flush"})
    for name in names:
        check_answer(fates[name], told.events[name], alone[chosen[name]])
    kinds = Counter(type(last) for last in lasts)
    assert set(kinds) == {Finished, Failed, Cancelled}
    assert kinds[Finished] > len(names) / 2
