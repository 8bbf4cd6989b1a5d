"""How a server is looked at all the time, and that this holds up nobody."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
from idefics2_service.errors import StoreUnavailable
from idefics2_service.store.redis import connection
from store.servers import BINARIES, Server

if TYPE_CHECKING:
    from store.conftest import StartServer, StartStore

PATIENCE_SECONDS = 20


def find_tasks() -> set[asyncio.Task[Any]]:
    """Find those of stores; whatever else runs on this loop begins and ends tasks as it likes."""
    return {task for task in asyncio.all_tasks() if "/redis/" in repr(task)}


@pytest.mark.parametrize("name", list(BINARIES))
async def test_a_look_is_one_message_over_one_connection(
    start_store: StartStore, start_server: StartServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("idefics2_service.store.redis.servers.LOOK_SECONDS", 2 * PATIENCE_SECONDS)
    store = await start_store(url=start_server(name).url)
    send, num_sent = connection._Patient.send_packed_command, 0

    async def count(*arguments: Any, **named: Any) -> None:
        nonlocal num_sent
        num_sent += 1
        await send(*arguments, **named)

    monkeypatch.setattr(connection._Patient, "send_packed_command", count)
    await store._fitness.look()
    assert num_sent == 1


async def test_a_look_at_a_server_that_hangs_ends_in_time_however_patient_its_connection_is(
    start_store: StartStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idefics2_service.store.redis.connection.TIMEOUT_SECONDS", 2 * PATIENCE_SECONDS)
    with Server("valkey") as server:
        store = await start_store(url=server.url)
        server.pause()
        try:
            store._fitness.doubt()
            with monkeypatch.context() as impatience:
                impatience.setattr("idefics2_service.store.redis.fitness._LOOK_TIMEOUT_SECONDS", 0.1)
                async with asyncio.timeout(PATIENCE_SECONDS):
                    with pytest.raises(StoreUnavailable, match="Timeout"):
                        await store._fitness.insist()
        finally:
            server.resume()
        await store._fitness.insist()  # over no connection that has an answer left
        await store.stop()


async def test_a_store_that_is_stopped_does_not_wait_for_a_look_and_whoever_does_is_told(
    start_store: StartStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("idefics2_service.store.redis.servers.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("idefics2_service.store.redis.connection.TIMEOUT_SECONDS", 2 * PATIENCE_SECONDS)
    monkeypatch.setattr("idefics2_service.store.redis.fitness._LOOK_TIMEOUT_SECONDS", 2 * PATIENCE_SECONDS)
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    with Server("valkey") as server:
        before = find_tasks()
        store = await start_store(url=server.url)
        server.pause()
        try:
            store._fitness.doubt()
            insisting = asyncio.create_task(store._fitness.insist())
            await asyncio.sleep(0)
            assert find_tasks() > before
            async with asyncio.timeout(PATIENCE_SECONDS):
                await store.stop()
                with pytest.raises(StoreUnavailable, match="closed"):
                    await insisting
            with pytest.raises(StoreUnavailable, match="closed"):
                await store._fitness.look()
        finally:
            server.resume()
        assert find_tasks() == before
    gc.collect()  # asyncio complains of an exception that nobody read when it is forgotten
    assert complaints == []
    assert [record.msg for record in caplog.records if record.levelname != "INFO"] == []
