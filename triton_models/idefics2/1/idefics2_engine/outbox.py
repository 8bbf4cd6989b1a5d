"""Sending, beside the engine's thread.

A send blocks for 0.3 to 1 ms whatever its size, so each sender takes all that is pending for one
request as one message: tokens are joined only when senders are slower than the engine.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from idefics2_engine.requests import Event

logger = logging.getLogger(__name__)

Send = Callable[[str, list[Event]], None]


class Outbox:
    """Keeps the order of each request's events; holds no lock while sending."""

    def __init__(self, send: Send, num_senders: int = 4) -> None:
        """Start the senders; `send` is called by one of them at a time for each request."""
        self._send = send
        self._lock = threading.Lock()
        self._empty = threading.Condition(self._lock)
        self._pending: dict[str, list[Event]] = {}
        self._scheduled: set[str] = set()  # in `_ready`, or in a sender's hands
        self._ready: SimpleQueue[str | None] = SimpleQueue()
        self._senders = [
            threading.Thread(target=self._run, name=f"sender-{n}", daemon=True) for n in range(num_senders)
        ]
        for sender in self._senders:
            sender.start()

    def put(self, request_id: str, event: Event) -> None:
        """Have `event` sent after all earlier ones of its request. Never blocks."""
        with self._lock:
            self._pending.setdefault(request_id, []).append(event)
            if request_id in self._scheduled:
                return
            self._scheduled.add(request_id)
        self._ready.put(request_id)

    def close(self) -> None:
        """Send what is pending, then stop."""
        with self._empty:
            self._empty.wait_for(lambda: not self._scheduled)
        for _ in self._senders:
            self._ready.put(None)
        for sender in self._senders:
            sender.join()

    def _run(self) -> None:
        while (request_id := self._ready.get()) is not None:
            # One message a turn: a request that talks much goes to the end of the line each time.
            with self._lock:
                events = self._pending.pop(request_id)
            try:
                self._send(request_id, events)
            except Exception:
                logger.exception("could not send to request %s", request_id)
            with self._lock:
                again = request_id in self._pending
                if not again:
                    self._scheduled.discard(request_id)
                    self._empty.notify_all()
            if again:
                self._ready.put(request_id)
