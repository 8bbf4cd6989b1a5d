"""Sending, beside the engine's thread.

A send blocks for 0.3 to 1 ms whatever its size, and costs every process on the way as much, so each sender
takes all that is pending for one request as one message. Where many requests talk at once, each waits between
two messages, so that all of them together do not send more often than they may: tokens are joined under
pressure alone. The first piece of an answer and its end never wait.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable

from idefics2_engine.names import about
from idefics2_engine.requests import Event, TextDelta

logger = logging.getLogger(__name__)

Send = Callable[[str, list[Event]], None]
_NOW = 0.0


class Outbox:
    """Keeps the order of each request's events; holds no lock while sending."""

    def __init__(self, send: Send, num_senders: int = 4, max_messages_per_second: float = math.inf) -> None:
        """Start the senders; `send` is called by one of them at a time for each request."""
        self._send = send
        self._max_messages_per_second = max_messages_per_second
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._pending: dict[str, list[Event]] = {}
        self._due: dict[str, float] = {}  # by request that stands in line
        self._line: list[tuple[float, int, str]] = []  # a heap; entries that are not in `_due` are void
        self._numbers = itertools.count()
        self._in_hands: set[str] = set()  # of senders
        self._talked_at: dict[str, float] = {}  # by request that has been told text
        self._is_closing = False
        self._senders = [
            threading.Thread(target=self._run, name=f"sender-{n}", daemon=True) for n in range(num_senders)
        ]
        for sender in self._senders:
            sender.start()

    def put(self, request_id: str, event: Event) -> None:
        """Have `event` sent after all earlier ones of its request. Never blocks."""
        with self._lock:
            self._pending.setdefault(request_id, []).append(event)
            if request_id not in self._in_hands:
                self._line_up(request_id)

    def close(self) -> None:
        """Send what is pending, then stop."""
        with self._lock:
            self._is_closing = True
            for request_id in self._due:
                self._line_up(request_id)
            if self._is_closing:
                self._changed.notify_all()
        for sender in self._senders:
            sender.join()

    def _line_up(self, request_id: str) -> None:
        """Put a request into the line, or before its present place there if its newest event cannot wait."""
        due = self._find_due(request_id)
        if due < self._due.get(request_id, math.inf):
            self._due[request_id] = due
            heapq.heappush(self._line, (due, next(self._numbers), request_id))
            self._changed.notify()

    def _find_due(self, request_id: str) -> float:
        talked_at = self._talked_at.get(request_id)
        can_wait = isinstance(self._pending[request_id][-1], TextDelta) and talked_at is not None
        if not can_wait or talked_at is None or self._is_closing:
            return _NOW
        return talked_at + len(self._talked_at) / self._max_messages_per_second

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            request_id, events = taken
            try:
                self._send(request_id, events)
            except Exception:
                logger.exception("could not send to a request's caller", extra=about(request_id))
            self._give_back(request_id, events)

    def _take(self) -> tuple[str, list[Event]] | None:
        """Wait for the request that is due next; None when all is sent and nothing will come."""
        with self._changed:
            while True:
                while self._line and self._due.get(self._line[0][2]) != self._line[0][0]:
                    heapq.heappop(self._line)
                if not self._line:
                    if self._is_closing and not self._in_hands:
                        return None
                    self._changed.wait()
                elif (wait := self._line[0][0] - time.monotonic()) > 0:
                    self._changed.wait(wait)
                else:
                    request_id = heapq.heappop(self._line)[2]
                    del self._due[request_id]
                    self._in_hands.add(request_id)
                    return request_id, self._pending.pop(request_id)

    def _give_back(self, request_id: str, events: list[Event]) -> None:
        """Note what a request has been told; what came meanwhile stands in line anew."""
        with self._lock:
            self._in_hands.discard(request_id)
            if not isinstance(events[-1], TextDelta):
                self._talked_at.pop(request_id, None)
            elif any(isinstance(event, TextDelta) for event in events):
                self._talked_at[request_id] = time.monotonic()
            if request_id in self._pending:
                self._line_up(request_id)
            if self._is_closing:
                self._changed.notify_all()


def join_text(events: list[Event]) -> list[Event]:
    """Make one delta of neighbouring ones: what is sent together is shown together."""
    joined: list[Event] = []
    for event in events:
        before = joined[-1] if joined else None
        if isinstance(event, TextDelta) and isinstance(before, TextDelta):
            joined[-1] = TextDelta(before.text + event.text, event.num_generated_tokens)
        else:
            joined.append(event)
    return joined
