"""What only a store on servers promises: which it trusts, and what it does when one goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from idefics2_service.errors import StartFailed, StoreUnavailable
from idefics2_service.events import AttemptStarted, Failed, Finished, LogLine
from idefics2_service.requests import Priority, State
from idefics2_service.settings import StoreSettings
from idefics2_service.store.interface import DELIVERIES, WORK, cancelled, grown
from idefics2_service.store.records import Lease, RequestName
from idefics2_service.store.redis.store import RedisStore
from redis.asyncio import Redis
from store.servers import BINARIES, HOST, Server, free_port
from store.submissions import KEY, claim, claim_all, make_output, make_submission, submit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from store.conftest import OpenStore, StartServer

PATIENCE_SECONDS = 20
ONE = RequestName(KEY, "one")
on_servers = pytest.mark.parametrize("open_store", list(BINARIES), indirect=True)

StartStore = Callable[..., Any]


@pytest.fixture(params=list(BINARIES))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Run a server for one test alone."""
    with Server(request.param) as started:
        yield started


@pytest.fixture
async def start_store() -> AsyncIterator[StartStore]:
    """Start stores; arguments are settings. All are stopped at the end."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> RedisStore:
            store = RedisStore(StoreSettings(**settings))
            stack.push_async_callback(store.stop)
            await store.start()
            return store

        yield start


@asynccontextmanager
async def talking_to(store: RedisStore) -> AsyncIterator[Redis]:
    """Speak with a store's server past the store."""
    async with Redis.from_url(store._settings.url) as client:
        yield client


async def allow(client: Redis, user: str, *rules: str) -> None:
    """Make a user of the password "secret" who may do some things with all keys and channels."""
    await client.acl_setuser(
        user, enabled=True, passwords=["+secret"], keys=["*"], channels=["*"], categories=[], commands=rules
    )


@pytest.mark.parametrize("name", list(BINARIES))
@pytest.mark.parametrize(
    ("option", "unsafe", "safe"),
    [
        ("appendonly", "no", "yes"),
        ("appendfsync", "everysec", "always"),
        ("no-appendfsync-on-rewrite", "yes", "no"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
    ],
)
async def test_a_server_that_may_lose_what_it_acknowledged_is_taken_only_where_that_is_accepted(
    start_store: StartStore, start_server: StartServer, name: str, option: str, unsafe: str, safe: str
) -> None:
    url = start_server(name).url
    async with Redis.from_url(url) as client:
        await client.config_set(option, unsafe)
        try:
            with pytest.raises(StartFailed) as caught:
                await start_store(url=url)
            await start_store(url=url, allow_data_loss=True)
        finally:
            await client.config_set(option, safe)
    assert f"set {option} to {safe}, not {unsafe}, or accept" in str(caught.value)
    assert "IDEFICS2_STORE_ALLOW_DATA_LOSS=true" in str(caught.value)


async def test_a_server_that_does_not_show_its_settings_is_not_trusted(
    start_store: StartStore, start_server: StartServer
) -> None:
    url = start_server("valkey").url
    async with Redis.from_url(url) as client:
        await allow(client, "shy", "+@all", "-config")
    theirs = url.replace("redis://", "redis://shy:secret@")
    with pytest.raises(StartFailed, match=r"allow CONFIG GET .* IDEFICS2_STORE_ALLOW_DATA_LOSS=true"):
        await start_store(url=theirs)
    await start_store(url=theirs, allow_data_loss=True)


@pytest.mark.parametrize(("user", "lacks"), [("mute", "-@scripting"), ("deaf", "-subscribe")])
async def test_a_user_who_may_not_do_all_that_is_needed_is_refused_at_the_start(
    start_store: StartStore, start_server: StartServer, user: str, lacks: str
) -> None:
    url = start_server("valkey").url
    async with Redis.from_url(url) as client:
        await allow(client, user, "+@all", lacks)
    with pytest.raises(StartFailed, match="no permission"):
        await start_store(url=url.replace("redis://", f"redis://{user}:secret@"))


async def test_a_wrong_password_is_refused_and_told_to_nobody(start_store: StartStore) -> None:
    with Server("redis", "--requirepass", "right") as server:
        with pytest.raises(StartFailed, match=f"IDEFICS2_STORE_URL: {HOST}:{server.port}") as caught:
            await start_store(url=server.url.replace("redis://", "redis://:hunter2@"))
        assert "hunter2" not in str(caught.value)
        await start_store(url=server.url.replace("redis://", "redis://:right@"))


@pytest.mark.parametrize(
    "url", ["http://h", "redis://:hunter/2@h", "redis://h:hunter2", "redis://u:hunter2@h?timeoutt=1"]
)
async def test_a_url_that_cannot_be_read_is_refused_and_its_password_told_to_nobody(
    start_store: StartStore, url: str
) -> None:
    with pytest.raises(StartFailed, match="IDEFICS2_STORE_URL must be") as caught:
        await start_store(url=url)
    assert "hunter" not in str(caught.value)


async def test_a_server_that_is_not_there_is_named(start_store: StartStore) -> None:
    port = free_port()
    with pytest.raises(StartFailed, match=f"IDEFICS2_STORE_URL: {HOST}:{port} cannot be used"):
        await start_store(url=f"redis://{HOST}:{port}")


@pytest.mark.parametrize(
    ("answer", "message"), [(b"$20\r\nredis_version:5.0.14\r\n", "it is Redis 5.0.14"), (b"", "Timeout")]
)
async def test_a_server_that_is_too_old_or_never_answers_is_refused(
    start_store: StartStore, monkeypatch: pytest.MonkeyPatch, answer: bytes, message: str
) -> None:
    monkeypatch.setattr("idefics2_service.store.redis.connection.TIMEOUT_SECONDS", 0.1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as fake:
        port = fake.sockets[0].getsockname()[1]
        with pytest.raises(StartFailed, match=message):
            await start_store(url=f"redis://{HOST}:{port}")


async def test_nothing_that_was_acknowledged_is_lost_with_a_killed_server(
    start_store: StartStore, server: Server
) -> None:
    store = await start_store(url=server.url)
    acknowledged: list[str] = []
    is_under_way = asyncio.Event()

    async def go_on_submitting() -> None:
        for number in count():
            await submit(store, str(number))
            acknowledged.append(f"{KEY}/{number}")
            if len(acknowledged) >= 20:
                is_under_way.set()

    submitting = asyncio.create_task(go_on_submitting())
    await is_under_way.wait()
    server.kill()
    with pytest.raises(StoreUnavailable):
        await submitting
    with store.listen(WORK) as told:
        server.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await told.wait()  # something may have been missed
    assert set(acknowledged) <= set(await claim_all(store))


async def test_a_store_whose_server_is_away_says_so_and_works_again_when_it_is_back(
    start_store: StartStore, server: Server
) -> None:
    store, other = await start_store(url=server.url), await start_store(url=server.url)
    await submit(store, "one", "two")
    claimed = await claim(store)
    await store.append(claimed, 1, [LogLine("x")])
    server.kill()
    for call in (store.get(ONE), store.claim(), store.renew(claimed), store.reap(), other.statistics()):
        with pytest.raises(StoreUnavailable, match="Connection") as caught:
            await call
        assert str(server.port) not in caught.value.message
    with store.listen("any") as told, other.listen("any") as told_other:
        server.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(told.wait(), told_other.wait())
    assert await store.renew(claimed) is Lease.HELD
    assert [event.happening for event in await other.events(ONE, 0, 10)] == [AttemptStarted(1), LogLine("x")]
    with other.listen(grown(ONE)) as told:
        await store.finish(claimed, 2, [], Finished(make_output()))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await told.wait()
    assert await claim_all(other) == ["anna/two"]


async def test_a_server_that_hangs_is_given_up_and_heard_again_when_it_goes_on(
    start_store: StartStore, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("connection", "subscription"):
        monkeypatch.setattr(f"idefics2_service.store.redis.{module}.TIMEOUT_SECONDS", 0.1)
    store = await start_store(url=server.url)
    server.pause()
    try:
        while store._subscription._pause_seconds < 0.1:  # until the signals are given up, too
            with pytest.raises(StoreUnavailable, match="Timeout"):
                await submit(store, "one")
    finally:
        server.resume()
    with store.listen("any") as told:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await told.wait()
    assert (await store.submit(make_submission("one"))).state is State.QUEUED


@on_servers
async def test_replicas_see_each_others_work_and_hear_of_it(open_store: OpenStore) -> None:
    one, other = await open_store(), await open_store()
    with one.listen(WORK) as work, one.listen(DELIVERIES) as deliveries, one.listen(cancelled(ONE)) as wish:
        await submit(other, "one", webhook_url="https://example.org/hook")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await work.wait()
            claimed = await claim(one)
            await other.cancel(ONE)
            await wish.wait()
            assert await one.renew(claimed) is Lease.CANCELLED
            await other.finish(claimed, 1, [], Finished(make_output()))
            await deliveries.wait()
    assert (await one.get(ONE)).end == Finished(make_output())
    assert await one.renew(claimed) is Lease.LOST


@on_servers
async def test_a_request_is_claimed_by_one_replica(open_store: OpenStore) -> None:
    stores = [await open_store() for _ in range(3)]
    await submit(stores[0], *map(str, range(20)))
    claims = await asyncio.gather(*(store.claim() for store in stores * 10))
    names = [claimed.name.request_id for claimed in claims if claimed]
    assert sorted(names, key=int) == [str(number) for number in range(20)]


@on_servers
async def test_a_server_that_forgot_the_scripts_is_told_them_again(open_store: OpenStore) -> None:
    store = await open_store()
    await submit(store, "one")
    async with talking_to(store) as client:
        await client.script_flush()
    assert (await claim(store)).name == ONE


@on_servers
async def test_a_full_server_takes_no_new_requests_and_lets_the_others_end(open_store: OpenStore) -> None:
    store = await open_store(keep_seconds=0.01)
    await submit(store, "one", "two", "three", webhook_url="https://example.org/hook")
    claimed = await claim(store)
    async with talking_to(store) as client:
        await client.config_set("maxmemory", 1)
        try:
            with pytest.raises(StoreUnavailable):
                await submit(store, "four")
            assert await store.append(claimed, 1, [LogLine("x")]) is Lease.HELD
            assert await store.renew(claimed) is Lease.HELD
            assert await store.finish(claimed, 2, [], Finished(make_output())) is Lease.HELD
            assert (await store.claim_delivery()) is not None
            assert (await store.cancel(RequestName(KEY, "two"))).state is State.CANCELLED
            assert await store.release(await claim(store), "x", is_lost=False) is Lease.HELD
            assert [event.sequence for event in await store.events(ONE, 0, 10)] == [1, 2, 3]
        finally:
            await client.config_set("maxmemory", 0)
    await submit(store, "four")


@on_servers
async def test_nothing_is_left_of_what_is_forgotten(open_store: OpenStore) -> None:
    store = await open_store(keep_seconds=0.001, lease_seconds=0.001)
    await submit(store, "late", start_timeout_seconds=0.001)
    await submit(store, *"12", webhook_url="https://example.org/hook", start_timeout_seconds=60)
    await submit(store, *"345", key_id="bert", priority=Priority.LOW)
    await store.cancel(RequestName("bert", "5"))
    claimed = await claim(store)
    await store.append(claimed, claimed.last_sequence, [LogLine("x")])
    await claim(store)
    await store.claim_delivery()
    num_left = 6
    async with talking_to(store) as client, asyncio.timeout(PATIENCE_SECONDS):
        while num_left > 0:
            waiting = await store.claim()
            if waiting is not None:
                await store.finish(waiting, waiting.last_sequence, [], Failed(StoreUnavailable("x")))
            num_left -= (await store.reap()).num_forgotten
        prefix = f"{{{store._settings.prefix}}}:"
        assert await client.keys(f"{prefix}*") == [f"{prefix}progress".encode()]


async def test_a_store_that_is_stopped_answers_nothing_and_may_be_stopped_again(
    start_server: StartServer,
) -> None:
    store = RedisStore(StoreSettings(url=start_server("redis").url))
    await store.stop()
    await store.start()
    await store.stop()
    await store.stop()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.claim()
