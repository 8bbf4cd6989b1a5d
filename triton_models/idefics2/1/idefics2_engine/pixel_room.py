"""Room for pixels: who may have pictures decoded, and who waits."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from idefics2_engine.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_engine.draft import Draft


class PixelRoom:
    """Lets drafts begin as long as there is room for all that their crops may take.

    They give it back when they leave. The next one is the first of the share that has taken the least, and of
    such the one whose last turn is longest ago; until there is room for it, nobody comes in of a share
    that has taken as much. Who needs
    none, since the model has seen the images, waits behind nobody; who needs more than there is comes in when
    nobody else takes any. Who is in needs nobody who is not: so all who are in leave in the end, and nobody
    waits for ever. Safe to use from several threads.
    """

    def __init__(self, max_bytes: int) -> None:
        """Begin empty."""
        self.max_bytes = max_bytes
        self.num_bytes = 0
        """What is taken."""
        self._taken: dict[Draft, int] = {}
        self._line: list[Draft] = []
        self._turns = Turns()
        self._lock = threading.Lock()

    def enter(self, draft: Draft) -> None:
        """Let a draft begin, at once or when there is room for it."""
        with self._lock:
            self._line.append(draft)
        self._let_in()

    def leave(self, draft: Draft) -> None:
        """Let a draft leave, wherever it stands, and others in."""
        draft.leave()
        with self._lock:
            self.num_bytes -= self._taken.pop(draft, 0)
        self._let_in()

    def _let_in(self) -> None:
        with self._lock:
            drafts = list(self._take())
        for draft in drafts:
            draft.begin()

    def _take(self) -> Iterator[Draft]:
        """Take room for those who may begin now, and yield them."""
        needed = {draft: draft.num_missing_bytes for draft in self._line if not draft.is_left}
        yield from (draft for draft, num_bytes in needed.items() if not num_bytes)
        waiting = {draft: num_bytes for draft, num_bytes in needed.items() if num_bytes}
        turns = self._turns.number(draft.share for draft in waiting)
        taken: Counter[str] = Counter()
        for draft, num_bytes in self._taken.items():
            taken[draft.share] += num_bytes
        while waiting:
            draft = min(waiting, key=lambda draft: (taken[draft.share], turns[draft.share]))
            if not self._has_room(waiting[draft]):
                break
            self._taken[draft] = num_bytes = waiting.pop(draft)
            self.num_bytes += num_bytes
            taken[draft.share] += num_bytes
            self._turns.give(draft.share)
            yield draft
        self._line = list(waiting)

    def _has_room(self, num_bytes: int) -> bool:
        return not self.num_bytes or self.num_bytes + num_bytes <= self.max_bytes
