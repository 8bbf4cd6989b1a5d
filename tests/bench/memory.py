"""How much memory a process takes on top, while something runs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    import psutil

LOOK_SECONDS = 0.005


class Growth:
    """Looks at a process again and again, as a context."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._before = self._peak = process.memory_info().rss
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._is_over.set()
        self._thread.join()

    @property
    def num_bytes(self) -> int:
        """How much more it had than at the beginning, at most."""
        return self._peak - self._before

    def _look(self) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            self._peak = max(self._peak, self._process.memory_info().rss)
