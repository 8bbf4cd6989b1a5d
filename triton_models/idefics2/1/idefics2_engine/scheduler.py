"""Who runs in the next step."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idefics2_engine.sequence import Sequence


class Scheduler:
    """First come, first served, `max_running` at a time."""

    def __init__(self, max_running: int) -> None:
        """Begin with nobody."""
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._max_running = max_running

    def add(self, sequence: Sequence) -> None:
        """Let `sequence` wait."""
        self.waiting.append(sequence)

    def schedule(self) -> list[Sequence]:
        """Admit one who fits and return all who run, in the order of their arrival.

        One at a time: reading an image takes as long as many tokens, and answers that run would stand still.
        """
        if self.waiting and len(self.running) < self._max_running:
            self.running.append(self.waiting.popleft())
        return list(self.running)

    def remove(self, request_id: str) -> Sequence | None:
        """Forget a sequence, wherever it stands; None if it is not here."""
        for queue in (self.running, self.waiting):
            for sequence in queue:
                if sequence.request_id == request_id:
                    queue.remove(sequence)
                    return sequence
        return None

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.waiting and not self.running
