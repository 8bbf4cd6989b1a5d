"""The thread that owns the engine, and the way into it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

from idefics2_engine.errors import EngineError
from idefics2_engine.names import about
from idefics2_engine.requests import (
    LOST,
    LOST_BEFORE,
    Alive,
    Cancelled,
    Counted,
    Event,
    Failed,
    Request,
    is_last,
    needs_no_pixels,
)

if TYPE_CHECKING:
    from idefics2_engine.draft import Draft
    from idefics2_engine.engine import Engine
    from idefics2_engine.processor import Processor

logger = logging.getLogger(__name__)

Emit = Callable[[str, Event], None]


class EngineLoop:
    """Takes requests from any thread and tells `emit` what happens to each, in order.

    Every request that is submitted gets exactly one last event, whatever happens to it. Requests are
    prepared beside the engine's thread, so that images do not hold up running answers; and no thread waits
    for an image, so that they do not hold up requests that need none.
    """

    def __init__(self, engine: Engine, emit: Emit, num_preparing: int = 16) -> None:
        """Start the thread; `emit` is called from several threads and must not block."""
        self._engine = engine
        self._emit = emit
        self._open: set[str] = set()
        self._drafts: dict[str, Draft] = {}
        """Of those of them whose images are not looked at yet."""
        self._is_lost = False
        self._lock = threading.Lock()
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._preparing = ThreadPoolExecutor(num_preparing, thread_name_prefix="prepare")
        self._counting = ThreadPoolExecutor(1, thread_name_prefix="count")  # soon done: never behind pictures
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Take a request; its id must not be in use."""
        if self._begin(request.request_id):
            self._preparing.submit(self._guard, request.request_id, lambda: self._prepare(request))

    def cancel(self, request_id: str) -> None:
        """End a request within one step, wherever it stands; an unknown one is ignored."""
        self._inbox.put(lambda: self._cancel(request_id))

    def ping(self, request_id: str) -> None:
        """Answer `Alive` from the engine's own thread: the proof that it moves."""
        if self._begin(request_id):
            self._inbox.put(lambda: self._tell(request_id, Alive()))

    def count(self, request_id: str, count: Callable[[Processor], Counted]) -> None:
        """Answer what `count` makes of the processor, beside the engine's thread and those that prepare."""
        if self._begin(request_id):
            self._counting.submit(
                self._guard, request_id, lambda: self._tell(request_id, count(self._engine.processor))
            )

    def close(self) -> None:
        """Stop the thread after its current step and fail what is still open."""
        for threads in (self._preparing, self._counting):
            threads.shutdown(wait=True, cancel_futures=True)
        self._inbox.put(None)
        self._thread.join()
        self._fail_all(Failed("BACKEND_UNAVAILABLE", "the model is being unloaded"))

    def _begin(self, request_id: str) -> bool:
        """Know a request as open, or refuse it where the engine is lost."""
        with self._lock:
            self._open.add(request_id)
            is_lost = self._is_lost
        if is_lost:
            self._tell(request_id, LOST_BEFORE)
        return not is_lost

    def _run(self) -> None:
        try:
            while self._take_inbox():
                for request_id, event in self._engine.step():
                    self._tell(request_id, event)
        except Exception:
            logger.exception("the engine is lost")
            self._lose()

    def _lose(self) -> None:
        """Fail whoever is here or comes, pings too: who looks after this process has to replace it."""
        with self._lock:
            self._is_lost = True
        self._fail_all(LOST)

    def _fail_all(self, failed: Failed) -> None:
        with self._lock:
            request_ids = list(self._open)
        for request_id in request_ids:
            self._tell(request_id, failed)

    def _take_inbox(self) -> bool:
        """Do all that is asked for, waiting for it when there is nothing else; False to stop."""
        while self._engine.is_idle or not self._inbox.empty():
            action = self._inbox.get()
            if action is None:
                return False
            action()
        return True

    def _prepare(self, request: Request) -> None:
        """Draft a request; once the draft is ready, the engine's thread adds it."""
        request_id = request.request_id
        if not self._is_open(request_id):  # it was cancelled in line
            return
        draft = self._engine.processor.draft(request)
        with self._lock:
            if request_id not in self._open:  # it was cancelled meanwhile
                return
            self._drafts[request_id] = draft
        add = partial(self._guard, request_id, partial(self._add, request_id))
        draft.ready.add_done_callback(lambda _: self._inbox.put(add))
        self._engine.processor.room.enter(draft)

    def _add(self, request_id: str) -> None:
        if self._is_open(request_id):  # not if it was cancelled meanwhile
            self._engine.add(self._drafts[request_id].finish())

    def _guard(self, request_id: str, action: Callable[[], None]) -> None:
        """Do what one request asks for; whatever it raises ends that request alone."""
        try:
            action()
        except EngineError as error:
            self._tell(request_id, Failed.of(error))
        except Exception:
            logger.exception("a request could not be begun", extra=about(request_id))
            self._tell(request_id, Failed("INTERNAL_ERROR", "the engine failed to begin the request"))

    def _cancel(self, request_id: str) -> None:
        self._engine.cancel(request_id)
        self._tell(request_id, Cancelled())

    def _is_open(self, request_id: str) -> bool:
        with self._lock:
            return request_id in self._open

    def _tell(self, request_id: str, event: Event) -> None:
        """Pass an event on, unless the request's last one is out already."""
        with self._lock:
            if request_id not in self._open:
                return
            if is_last(event):
                self._open.discard(request_id)
            draft = self._drafts.pop(request_id, None) if needs_no_pixels(event) else None
        self._emit(request_id, event)
        if draft is not None:
            self._engine.processor.room.leave(draft)
