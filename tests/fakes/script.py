"""What fakes answer: written by a test beforehand, all of it used by the end."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """One answer of the model."""

    pieces: tuple[str, ...] = ()
    finish_reason: str = "END_OF_TURN"
    failure: tuple[str, str, str] | None = None
    """Instead of an answer: reason, message, field as the engine names it."""
    holds: bool = False
    """After its pieces it stays open until it is cancelled."""
    is_lost: bool = False
    """After its pieces the backend is gone."""
    is_refused: bool = False
    """The backend was gone before, and says so."""


class Script:
    """Answers in the order in which requests come."""

    def __init__(self) -> None:
        """Begin with none."""
        self._answers: deque[Answer] = deque()
        self.num_cancelled = 0
        self.cancelled = asyncio.Event()
        self.asked = asyncio.Event()

    def add(self, *answers: Answer) -> None:
        """Write what comes next."""
        self._answers.extend(answers)

    def take(self) -> Answer:
        """Return the next answer; a request that nobody expected fails."""
        self.asked.set()
        return self._answers.popleft()

    def note_cancelled(self) -> None:
        """Remember that a held answer was let go."""
        self.num_cancelled += 1
        self.cancelled.set()

    async def wait_until_cancelled(self, count: int) -> None:
        """Return when so many held answers were let go."""
        while self.num_cancelled < count:
            self.cancelled.clear()
            await self.cancelled.wait()

    def forget(self) -> None:
        """Begin again."""
        self._answers.clear()
        self.num_cancelled = 0
        self.cancelled.clear()
        self.asked.clear()

    def check_used_up(self) -> None:
        """Fail if an answer was never asked for."""
        assert not self._answers, f"nobody asked for {list(self._answers)}"
