"""What a store with a replica promises: reads go on while its server is away, and nothing untrue is told."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from idefics2_service.errors import RequestNotFound, SettingInvalid, StartFailed, StoreUnavailable
from idefics2_service.events import AttemptStarted, Finished, LogLine
from idefics2_service.requests import RequestName, State
from idefics2_service.store.records import Lease
from idefics2_service.store.redis.connection import MAX_CALLS
from ports import free_port
from redis.asyncio import Redis
from store.servers import BINARIES, Server, catch_up, cut_off, make_replica
from store.submissions import (
    KEY,
    claim,
    claim_all,
    make_output,
    make_submission,
    make_submissions,
    submit,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_service.events import Event
    from idefics2_service.store.redis.store import RedisStore
    from store.conftest import StartServer, StartStore

PATIENCE_SECONDS = 20
ONE, TWO = RequestName(KEY, "one"), RequestName(KEY, "two")
Pair = tuple[Server, Server]
on_valkey = pytest.mark.parametrize("pair", ["valkey"], indirect=True)


@contextmanager
def run_pair(name: str, *options: str) -> Iterator[Pair]:
    """Run a server and its replica, which has the options."""
    with Server(name) as server, make_replica(server, *options) as replica:
        yield server, replica


@pytest.fixture(params=list(BINARIES))
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Run a server and its replica for one test alone."""
    with run_pair(request.param) as started:
        yield started


@pytest.fixture(scope="module")
def lasting_pair() -> Iterator[Pair]:
    """Run a server and its replica that go on through all tests."""
    with run_pair("valkey") as (server, replica):
        asyncio.run(catch_up(server))
        yield server, replica


async def start_on(pair: Pair, start_store: StartStore, **settings: Any) -> RedisStore:
    """Start a store on a pair of which the one follows the other."""
    await catch_up(pair[0])
    store: RedisStore = await start_store(url=pair[0].url, replica_url=pair[1].url, **settings)
    assert not store.is_replica_behind
    return store


async def look(store: RedisStore) -> None:
    """Compare replica and server now."""
    await store._servers._look()


async def check_refused(store: RedisStore, request_id: str) -> None:
    """Check that a submission is refused."""
    with pytest.raises(StoreUnavailable):
        await store.submit(make_submission(request_id))


async def test_reads_go_on_while_the_server_is_away_and_go_back_to_it(
    pair: Pair, start_store: StartStore
) -> None:
    server, _ = pair
    told: list[str] = []
    store = await start_on(pair, start_store, tell=told.append)
    await submit(store, "one", "two")
    await store.finish(await claim(store), 1, [LogLine("x")], Finished(make_output()))
    before = await store.get(ONE)
    assert not told
    await catch_up(pair[0])
    server.kill()
    assert await store.get(ONE) == before
    assert before.end == Finished(make_output())
    assert [event.happening for event in await store.events(ONE, 0, 2)] == [AttemptStarted(1), LogLine("x")]
    page = await store.list_page(KEY, None, 10, None)
    assert [record.name for record in page.records] == [TWO, ONE]
    assert (await store.get(TWO)).queue_position == 0
    counted = await store.statistics()
    assert (counted.num_queued, counted.may_be_behind) == (1, True)
    assert told == ["get", "events", "list_page", "get", "statistics"]
    await check_refused(store, "three")
    server.start()
    await submit(store, "three")
    assert (await store.get(RequestName(KEY, "three"))).state is State.QUEUED  # at once
    assert told[5:] == []
    with pytest.raises(RequestNotFound):
        await store.get(RequestName(KEY, "four"))


@on_valkey
async def test_a_burst_of_reads_while_the_server_is_away_is_answered_to_its_end(
    pair: Pair, start_store: StartStore
) -> None:
    server, _ = pair
    store = await start_on(pair, start_store)
    await submit(store, "one")
    await catch_up(server)
    assert store._replica is not None
    pool = store._replica._client.connection_pool
    pool.timeout = 0.2  # type: ignore[attr-defined]  # within which a connection must be free, however many ask
    server.kill()
    records = await asyncio.gather(*(store.get(ONE) for _ in range(40 * MAX_CALLS)))
    assert all(record.may_be_behind for record in records)


@on_valkey
async def test_what_a_replica_lacks_is_not_said_not_to_exist(pair: Pair, start_store: StartStore) -> None:
    server, _ = pair
    store = await start_on(pair, start_store)
    await submit(store, "one")
    await catch_up(pair[0])
    await cut_off(server)
    await submit(store, "two")
    server.kill()
    for call in (store.get(TWO), store.events(TWO, 0, 10), store.get(RequestName(KEY, "never"))):
        with pytest.raises(StoreUnavailable):
            await call
    assert (await store.get(ONE)).state is State.QUEUED
    server.start()
    await store.reap()
    assert (await store.get(TWO)).state is State.QUEUED


@on_valkey
async def test_a_watcher_who_knows_more_than_the_replica_waits_and_goes_on_with_the_server(
    pair: Pair, start_store: StartStore
) -> None:
    server, _ = pair
    told: asyncio.Queue[str] = asyncio.Queue()
    store = await start_on(pair, start_store, tell=told.put_nowait)
    await submit(store, "one")
    await catch_up(pair[0])
    await cut_off(server)
    claimed = await claim(store)
    await store.append(claimed, 1, [LogLine("x"), LogLine("y")])
    seen: asyncio.Queue[Event] = asyncio.Queue()

    async def watch() -> None:
        async for event in make_submissions(store).watch(ONE):
            seen.put_nowait(event)

    watching = asyncio.create_task(watch())
    async with asyncio.timeout(PATIENCE_SECONDS):
        early = [await seen.get() for _ in range(3)]
        server.kill()
        store._signals.tell_all()
        assert await told.get() == "get"  # by the watcher
        assert (await store.get(ONE)).state is State.QUEUED
        assert seen.empty()
        server.start()
        assert await store.finish(claimed, 3, [], Finished(make_output())) is Lease.HELD
        await watching
    late = [seen.get_nowait() for _ in range(seen.qsize())]
    assert [event.sequence for event in (*early, *late)] == [1, 2, 3, 4]


@pytest.mark.long
@on_valkey
async def test_who_reads_record_and_events_of_two_servers_misses_nothing(
    pair: Pair, start_store: StartStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = pair
    store = await start_on(pair, start_store)
    await submit(store, "one")
    claimed = await claim(store)
    await catch_up(pair[0])
    await cut_off(server)
    await store.finish(claimed, 1, [LogLine("x")], Finished(make_output()))
    get = store.get

    async def get_and_go(name: RequestName) -> object:
        """Let the server end between the one reading and the other."""
        record = await get(name)
        monkeypatch.undo()
        server.kill()
        return record

    monkeypatch.setattr(store, "get", get_and_go)
    sequences = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in make_submissions(store).watch(ONE):
            sequences.append(event.sequence)
            if event.sequence == 1:
                server.start()
                await store.reap()
    assert sequences == [1, 2, 3]


@on_valkey
async def test_a_replica_that_was_left_behind_for_long_is_not_asked(
    pair: Pair, start_store: StartStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = pair
    monkeypatch.setattr("idefics2_service.store.redis.replica._MAX_MISSED", 2)
    monkeypatch.setattr("idefics2_service.store.redis.servers.LOOK_SECONDS", 10 * PATIENCE_SECONDS)
    store = await start_on(pair, start_store)
    await submit(store, "one")
    await catch_up(pair[0])
    await look(store)
    await cut_off(server)
    num_looks = 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not store.is_replica_behind:
            await look(store)
            num_looks += 1
    assert num_looks >= 2
    assert (await store.get(ONE)).state is State.QUEUED
    server.kill()
    with pytest.raises(StoreUnavailable):
        await store.get(ONE)


async def test_a_replica_that_was_started_without_its_server_is_not_believed(
    pair: Pair, start_store: StartStore
) -> None:
    server, replica = pair
    store = await start_on(pair, start_store)
    await submit(store, "one")
    await catch_up(pair[0])
    server.kill()
    replica.kill()
    replica.start()
    for call in (store.get(ONE), store.list_page(KEY, None, 10, None)):
        with pytest.raises(StoreUnavailable):
            await call


@pytest.mark.long
@on_valkey
async def test_a_replica_that_became_a_server_is_not_believed(pair: Pair, start_store: StartStore) -> None:
    server, replica = pair
    store = await start_on(pair, start_store)
    await submit(store, "one")
    await catch_up(pair[0])
    server.kill()
    async with Redis.from_url(replica.url) as client:
        await client.replicaof("NO", "ONE")
    with pytest.raises(StoreUnavailable, match="too old"):
        await store.get(ONE)


async def test_nothing_is_written_to_a_replica_though_it_would_let_us(
    start_store: StartStore, lasting_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, replica = lasting_pair
    monkeypatch.setattr("idefics2_service.store.redis.connection.TIMEOUT_SECONDS", 0.5)
    store = await start_on(lasting_pair, start_store)
    await submit(store, "one", "two")
    claimed = await claim(store)
    await catch_up(lasting_pair[0])
    async with Redis.from_url(replica.url) as client:
        await client.config_set("replica-read-only", "no")
        before = (await client.info("persistence"))["rdb_changes_since_last_save"]
        server.pause()
        try:
            assert (await store.get(ONE)).state is State.RUNNING
            for call in (
                store.submit(make_submission("three")),
                store.claim(),
                store.renew(claimed),
                store.append(claimed, 1, [LogLine("x")]),
                store.finish(claimed, 1, [], Finished(make_output())),
                store.release(claimed, "x", is_lost=False),
                store.cancel(TWO),
                store.reap(),
                store.claim_delivery(60),
            ):
                with pytest.raises(StoreUnavailable, match="Timeout"):
                    await call
            assert (await client.info("persistence"))["rdb_changes_since_last_save"] == before
        finally:
            server.resume()
            await client.config_set("replica-read-only", "yes")


@pytest.mark.parametrize(
    ("option", "unfit", "fit"),
    [
        ("replica-serve-stale-data", "no", "yes"),
        ("replica-read-only", "no", "yes"),
        ("repl-diskless-load", "swapdb", "disabled"),
    ],
)
async def test_a_replica_that_might_not_tell_what_it_had_is_refused_at_the_start(
    start_store: StartStore, lasting_pair: Pair, option: str, unfit: str, fit: str
) -> None:
    server, replica = lasting_pair
    async with Redis.from_url(replica.url) as client:
        await client.config_set(option, unfit)
        try:
            with pytest.raises(StartFailed, match=f"REPLICA_URL: .* set {option} to {fit}, not {unfit}"):
                await start_store(url=server.url, replica_url=replica.url)
        finally:
            await client.config_set(option, fit)


async def test_what_is_no_replica_of_the_store_is_refused_at_the_start(
    start_store: StartStore, start_server: StartServer, lasting_pair: Pair
) -> None:
    other = start_server("valkey")
    with pytest.raises(StartFailed, match=r"IDEFICS2_STORE_REPLICA_URL: .*: it is no replica"):
        await start_store(url=other.url, replica_url=other.url)
    with pytest.raises(StartFailed, match="it is the replica of another server than IDEFICS2_STORE_URL"):
        await start_store(url=other.url, replica_url=lasting_pair[1].url)
    with pytest.raises(SettingInvalid, match="IDEFICS2_STORE_REPLICA_URL must be") as caught:
        await start_store(url=other.url, replica_url="redis://h:hunter2")
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    ("password", "lacks", "message"),
    [
        ("wrong", "-subscribe", "invalid username-password"),
        ("right", "-@scripting", "no permission"),
        ("right", "-config", "allow CONFIG GET"),
    ],
)
async def test_a_replica_that_does_not_let_us_read_it_is_refused_at_the_start(
    start_store: StartStore, lasting_pair: Pair, password: str, lacks: str, message: str
) -> None:
    server, replica = lasting_pair
    async with Redis.from_url(replica.url) as client:
        await client.acl_setuser(
            "reader", enabled=True, passwords=["+right"], keys=["*"], categories=[], commands=["+@all", lacks]
        )
    theirs = replica.url.replace("redis://", f"redis://reader:{password}@")
    with pytest.raises(StartFailed, match=f"IDEFICS2_STORE_REPLICA_URL: .*{message}"):
        await start_store(url=server.url, replica_url=theirs)


async def test_a_replica_may_come_later_than_the_store(
    start_store: StartStore, start_server: StartServer
) -> None:
    server = start_server("valkey")
    await start_store(url=server.url, replica_url=f"redis://127.0.0.1:{free_port()}")
    replica = make_replica(server)
    store = await start_store(url=server.url, replica_url=replica.url, prefix="later")
    assert store.is_replica_behind
    with replica:
        await catch_up(server)
        await look(store)
        await look(store)
        assert not store.is_replica_behind
        assert await claim_all(store) == []
