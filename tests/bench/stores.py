"""Real stores, each over a place of its own that goes with it."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idefics2_service.settings import StoreSettings
from idefics2_service.store.redis.store import RedisStore
from idefics2_service.store.sqlite.store import SqliteStore
from processes import patience
from redis import Redis
from store.servers import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from idefics2_service.store.interface import RequestStore

ENGINES = {"sqlite": "SQLite", "valkey": "Valkey"}
"""How a reader knows them."""
MAX_QUEUED = 200_000
LEASE_SECONDS = 3_600.0
"""Longer than any measurement: nobody renews what is claimed in one."""


@dataclass(frozen=True)
class Place:
    """Where requests are kept: stores that are opened over it one after the other find the same."""

    folder: Path
    url: str
    """Of a server; empty: the folder holds all."""

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[RequestStore]:
        """Start a store, and stop it at the end."""
        settings = StoreSettings(url=self.url, max_queued=MAX_QUEUED, lease_seconds=LEASE_SECONDS)
        store: RequestStore = RedisStore(settings) if self.url else SqliteStore(self.folder, settings)
        await store.start()
        try:
            yield store
        finally:
            await store.stop()

    def wait_until_quiet(self) -> None:
        """Return when a server does nothing by itself any more: one that was filled rewrites its file."""
        if not self.url:
            return
        with Redis.from_url(self.url) as server:
            for _ in patience("the server's file to be rewritten"):
                if not server.info("persistence")["aof_rewrite_in_progress"]:
                    return


@contextmanager
def prepare_place(engine: str) -> Iterator[Place]:
    """Make an empty place, with a server where `engine` is one, and let nothing of it survive the block."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="idefics2-bench-"))
        url = "" if engine == "sqlite" else stack.enter_context(Server(engine)).url
        yield Place(Path(folder), url)
