"""Files by URL: fetched once for all requests of a key that want the same at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from idefics2_service.errors import let_go_of_frames
from idefics2_service.fetcher import FetchFailed

if TYPE_CHECKING:
    from idefics2_service.fetcher import Fetcher

_Wanted = tuple[str, str, int]
"""Key, URL and the most bytes that are taken."""
Tell = Callable[[str, float, int], None]
"""Hears how a download went, and how many seconds it took and bytes it brought."""


@dataclass
class _Download:
    task: asyncio.Task[bytes]
    num_waiting: int = 0
    started: float = field(default_factory=time.monotonic)


class Downloads:
    """All that is being fetched now."""

    def __init__(self, fetcher: Fetcher, tell: Tell = lambda *_: None) -> None:
        """Fetch with `fetcher`, and `tell` how it went."""
        self._fetcher = fetcher
        self._tell = tell
        self._running: dict[_Wanted, _Download] = {}

    async def fetch(self, key_id: str, url: str, max_bytes: int) -> bytes:
        """Return the file at `url`. The last one who leaves before it is there ends the fetching.

        Raises:
            FetchFailed: as the fetcher raises it, to everybody who waits.

        """
        wanted = (key_id, url, max_bytes)
        download = self._running.get(wanted)
        if download is None:
            download = self._begin(wanted)
        else:
            self._tell("shared", 0.0, 0)
        download.num_waiting += 1
        try:
            return await asyncio.shield(download.task)
        finally:
            download.num_waiting -= 1
            if not download.num_waiting:
                download.task.cancel()
                self._forget(wanted, download.task)
            del download  # or the frames of a failure would lead back to it

    def _begin(self, wanted: _Wanted) -> _Download:
        task = asyncio.create_task(self._fetcher.get(*wanted))
        download = self._running[wanted] = _Download(task)
        task.add_done_callback(lambda _: self._end(wanted, download))
        return download

    def _end(self, wanted: _Wanted, download: _Download) -> None:
        self._forget(wanted, download.task)
        seconds = time.monotonic() - download.started
        if download.task.cancelled():
            self._tell("cancelled", seconds, 0)
        elif (error := download.task.exception()) is not None:  # heard, even where everybody has left
            if isinstance(error, FetchFailed):
                let_go_of_frames(error)  # which hold what came of the file
            self._tell("failed", seconds, 0)
        else:
            self._tell("fetched", seconds, len(download.task.result()))

    def _forget(self, wanted: _Wanted, task: asyncio.Task[bytes]) -> None:
        """Let the next one who wants it fetch anew."""
        download = self._running.get(wanted)
        if download is not None and download.task is task:
            del self._running[wanted]
