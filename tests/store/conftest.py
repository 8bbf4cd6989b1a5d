"""Each promise of a store is asserted over every engine, against real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from idefics2_service.settings import StoreSettings
from idefics2_service.store.redis.store import RedisStore
from idefics2_service.store.sqlite.store import SqliteStore
from store.servers import BINARIES, Server, count_from_one

if TYPE_CHECKING:
    from pathlib import Path

    from idefics2_service.store.interface import RequestStore

OpenStore = Callable[..., Any]
"""Opens the engine's store, started; arguments are settings. Stores of one test share what they keep."""
StartStore = Callable[..., Any]
"""Starts a store on a server; arguments are settings, and `tell`, who hears of what a replica reads."""
StartServer = Callable[[str], Server]
"""Returns the running server of that name, the same each time."""


@pytest.fixture(scope="session")
def start_server() -> Iterator[StartServer]:
    """Run one server of each name that is asked for, until the end of all tests."""
    with ExitStack() as running:
        yield cache(lambda name: running.enter_context(Server(name)))


def _place(engine: str, start_server: StartServer) -> dict[str, str]:
    """Choose where a test's stores keep what they keep, as settings; SQLite needs but a folder."""
    if engine == "sqlite":
        return {}
    return {"url": start_server(engine).url, "prefix": uuid4().hex}


@pytest.fixture(params=["sqlite", *BINARIES])
async def open_store(
    request: pytest.FixtureRequest, tmp_path: Path, start_server: StartServer
) -> AsyncIterator[OpenStore]:
    """Open stores over one engine; all are stopped at the end."""
    place = _place(request.param, start_server)
    async with AsyncExitStack() as stack:

        async def open_(**given: Any) -> RequestStore:
            settings = StoreSettings(**{**place, **given})
            store = RedisStore(settings) if settings.url else SqliteStore(tmp_path, settings)
            await store.start()
            stack.push_async_callback(store.stop)
            if isinstance(store, RedisStore):
                await count_from_one(store)
            return store

        yield open_


@pytest.fixture
async def store(open_store: OpenStore) -> RequestStore:
    """One store with usual settings."""
    opened: RequestStore = await open_store()
    return opened


@pytest.fixture
async def start_store() -> AsyncIterator[StartStore]:
    """Start stores; all are stopped at the end."""
    async with AsyncExitStack() as stack:

        async def start(tell: Callable[[str], None] = lambda _: None, **settings: Any) -> RedisStore:
            store = RedisStore(StoreSettings(**settings), tell)
            stack.push_async_callback(store.stop)
            await store.start()
            return store

        yield start
