"""A scripted engine beneath the loop, and a listener above it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from idefics2_engine.draft import Draft
from idefics2_engine.image_cache import SeenImage
from idefics2_engine.images import Crop
from idefics2_engine.loop import EngineLoop
from idefics2_engine.pixel_room import PixelRoom
from idefics2_engine.processor import PreparedRequest
from idefics2_engine.requests import Alive, SamplingParams, is_last
from idefics2_engine.sequence import Clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from idefics2_engine.requests import Event, Request

PATIENCE_SECONDS = 60


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


Decoding = Future[list[Crop]]
Picture = tuple[SeenImage, Callable[[], Decoding]]


def show(decoding: Decoding, image: SeenImage | None = None) -> Picture:
    """Make a picture of a draft, whose crops come with `decoding`."""
    return image or SeenImage(b"", 1), lambda: decoding


def make_draft(request_id: str, *pictures: Picture, crop_bytes: int = 1, share: str = "") -> Draft:
    """Draft a request of no tokens."""
    prepared = PreparedRequest(
        request_id=request_id,
        sampling=SamplingParams(),
        token_ids=[],
        spans=(),
        num_latents=0,
        num_image_tokens=0,
        num_cached_images=0,
        prefix_keys=[],
        seconds={},
    )
    return Draft(prepared, pictures, crop_bytes, Clock({}), share)


class ScriptedEngine:
    """Tells in each step the next event of each request, as a test wrote it down."""

    def __init__(self) -> None:
        """Begin with nothing written."""
        self.processor = self
        self.room = PixelRoom(1000)
        self.events: dict[str, Iterable[Event]] = {}
        self.faults: dict[str, Exception] = {}
        self.add_faults: dict[str, Exception] = {}
        self.step_fault: Exception | None = None
        self.running: dict[str, Iterator[Event]] = {}
        self.decodings: dict[str, Decoding] = {}
        self.prepared: list[str] = []
        self.added: list[str] = []
        self.stepping, self.preparing = Gate(), Gate()

    def draft(self, request: Request) -> Draft:
        """As Processor.draft; a request is ready at once, or when its picture in `decodings` is decoded."""
        self.prepared.append(request.request_id)
        if request.images:
            self.preparing.pass_by()
        if request.request_id in self.faults:
            raise self.faults[request.request_id]
        decoding = self.decodings.get(request.request_id)
        return make_draft(request.request_id, *([] if decoding is None else [show(decoding)]))

    def add(self, prepared: PreparedRequest) -> None:
        """As Engine.add."""
        request_id = prepared.request_id
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
        if self.step_fault is not None:
            raise self.step_fault

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


def call_from_threads(call: Callable[[list[str]], None], names: list[str], number: int) -> None:
    """Share names among threads, and return when all of them are done."""
    callers = [threading.Thread(target=call, args=(names[part::number],)) for part in range(number)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()


def flush(loop: EngineLoop, told: Told) -> None:
    """Return when the engine's thread has done all that was asked for so far."""
    loop.ping("flush")
    assert told.wait_for_last("flush") == [Alive()]
