"""What only a store on a server promises: what it does when that goes away, and what replicas see."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import ExitStack, asynccontextmanager, suppress
from itertools import count, pairwise, product
from typing import TYPE_CHECKING, Any

import pytest
from fakes.cable import lay_cable
from idefics2_service.errors import (
    InternalError,
    PayloadTooLarge,
    QueueQuotaExceeded,
    RequestNotFound,
    StoreUnavailable,
)
from idefics2_service.events import AttemptStarted, Failed, Finished, LogLine
from idefics2_service.requests import Priority, RequestName, State
from idefics2_service.settings import StoreSettings
from idefics2_service.store.interface import DELIVERIES, WORK, cancelled, grown
from idefics2_service.store.records import Ended, Lease, draw_holder
from idefics2_service.store.redis import connection
from idefics2_service.store.redis.connection import MAX_CALLS
from idefics2_service.store.redis.store import RedisStore
from ports import HOST
from redis.asyncio import Redis
from store.servers import BINARIES, Server, count_from_one
from store.submissions import (
    KEY,
    check_lost,
    claim,
    claim_all,
    make_output,
    make_submission,
    make_submissions,
    submit,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from store.conftest import OpenStore, StartServer, StartStore

PATIENCE_SECONDS = 20
ONE = RequestName(KEY, "one")
NUM_READERS = 4
MAX_CALLS_OF_KEY = MAX_CALLS // 2
"""At the same time, where the key is alone."""
on_servers = pytest.mark.parametrize("open_store", list(BINARIES), indirect=True)


@pytest.fixture(params=list(BINARIES))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Run a server for one test alone."""
    with Server(request.param) as started:
        yield started


@asynccontextmanager
async def talking_to(store: RedisStore) -> AsyncIterator[Redis]:
    """Speak with a store's server past the store."""
    async with Redis.from_url(store._settings.url) as client:
        yield client


@asynccontextmanager
async def reading(store: RedisStore) -> AsyncIterator[None]:
    """Let many ask again and again meanwhile, whatever they hear."""
    is_over = asyncio.Event()  # a cancellation may be lost: redis uses asyncio.wait_for

    async def go_on_reading() -> None:
        while not is_over.is_set():
            with suppress(StoreUnavailable, RequestNotFound):
                await store.get(ONE)

    readers = [asyncio.create_task(go_on_reading()) for _ in range(NUM_READERS)]
    try:
        yield
    finally:
        is_over.set()
        await asyncio.gather(*readers)


async def find_others(client: Redis) -> set[int]:
    """Return the ids of all connections of a client's server but its own."""
    own = int((await client.client_info())["id"])
    return {int(known["id"]) for known in await client.client_list()} - {own}


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
    async with asyncio.timeout(PATIENCE_SECONDS):
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


@pytest.mark.parametrize("name", list(BINARIES))
async def test_a_claim_that_the_server_forgot_is_lost_to_the_next_one_of_the_same_number(
    start_store: StartStore, name: str
) -> None:
    with Server(name, "--appendonly", "no") as server:
        store, other = [await start_store(url=server.url, allow_data_loss=True) for _ in range(2)]
        await submit(store, "one")
        async with talking_to(store) as client:
            await client.save()
        forgotten = await claim(store)
        with store.listen("any") as told, other.listen("any") as told_other:
            server.kill()
            server.start()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.gather(told.wait(), told_other.wait())
        claimed = await claim(other)
        assert (claimed.name, claimed.attempt) == (forgotten.name, forgotten.attempt)
        await check_lost(store, forgotten)
        assert await other.finish(claimed, 1, [LogLine("x")], Finished(make_output())) is Lease.HELD
        written = [event.happening for event in await store.events(ONE, 0, 10)]
        assert written == [AttemptStarted(1), LogLine("x"), Finished(make_output())]
        await asyncio.gather(store.stop(), other.stop())


@on_servers
async def test_a_claim_that_comes_late_behind_its_repetition_begins_nothing_that_nobody_hears_of(
    open_store: OpenStore,
) -> None:
    store = await open_store()
    await submit(store, "one", "two")
    given = {"holder": draw_holder()}
    claimed = await store.claim(holder=given["holder"])
    assert claimed is not None
    for is_over in (False, True):
        if is_over:
            await store.finish(claimed, 1, [], Finished(make_output()))
        ended, late = await store._servers.write("claim", given)
        assert ended == []
        assert (late == b"OVER") is is_over
        assert (await store.get(RequestName(KEY, "two"))).state is State.QUEUED


async def test_a_large_request_passes_a_slow_link_that_works(
    start_store: StartStore, start_server: StartServer
) -> None:
    large = make_submission("one", prompt="x" * 25_000_000)
    async with lay_cable(f"{HOST}:{start_server('valkey').port}") as (cable, address):
        store = await start_store(url=f"redis://{address}", prefix="slow")
        cable.slow(10_000_000)
        assert (await store.submit(large)).state is State.QUEUED
        claimed = await claim(store)
        assert claimed.request == large.request
        assert await store.renew(claimed) is Lease.HELD
        await store.stop()


async def test_a_server_that_falls_silent_within_an_answer_is_given_up_as_soon_as_any_other(
    start_store: StartStore, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        lay_cable(f"{HOST}:{start_server('valkey').port}") as (cable, address),
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        store = await start_store(url=f"redis://{address}", prefix="silent")
        await store.submit(make_submission("one", prompt="x" * 25_000_000))
        monkeypatch.setattr("idefics2_service.store.redis.connection.TIMEOUT_SECONDS", 0.5)
        cable.slow(10_000_000)
        claiming = asyncio.create_task(store.claim())
        while (await store.get(ONE)).state is not State.RUNNING:
            pass
        cable.silence()
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="Timeout"):
            await claiming
        assert time.monotonic() - started < PATIENCE_SECONDS / 2  # not by the rate: that would be 25 s
        cable.cut()
        await store.stop()


@on_servers
async def test_the_lease_of_a_claim_is_longer_by_the_time_that_its_payload_may_be_on_its_way(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idefics2_service.store.redis.store.LEAST_BYTES_PER_SECOND", 1_000)
    store = await open_store(lease_seconds=0.001)
    await store.submit(make_submission("one", prompt="x" * 50_000))
    await submit(store, "two")
    held, _ = await claim(store), await claim(store)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await store.get(RequestName(KEY, "two"))).state is State.RUNNING:
            await store.reap()
    assert await store.renew(held) is Lease.HELD
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await store.get(ONE)).state is State.RUNNING:
            await store.reap()


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
async def test_a_server_that_hangs_is_given_up_and_heard_again_when_it_goes_on(
    start_store: StartStore, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idefics2_service.store.redis.subscription.TIMEOUT_SECONDS", 0.5)
    store = await start_store(url=server.url)
    server.pause()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while store._subscription._pause_seconds < 0.1:  # until the signals are given up, too
                with pytest.raises(StoreUnavailable, match="Timeout"):
                    await submit(store, "one")
        with store.listen("any") as told:
            server.resume()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await told.wait()
    finally:
        server.resume()
    assert (await store.submit(make_submission("one"))).state is State.QUEUED


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
async def test_a_store_that_is_stopped_while_its_server_hangs_says_nothing_of_whom_nobody_waits_for(
    start_store: StartStore, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection._OPTIONS, "socket_timeout", 0.5)
    store = await start_store(url=server.url)
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    server.pause()
    try:
        stays = asyncio.create_task(store.claim())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await store.get(ONE)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await store.stop()
        with pytest.raises(StoreUnavailable, match="Timeout"):
            await stays
    finally:
        server.resume()
    gc.collect()  # asyncio complains of an exception that nobody read when it is forgotten
    assert complaints == []


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
async def test_who_waits_behind_others_for_a_server_that_hangs_is_refused_no_later_than_they(
    start_store: StartStore, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idefics2_service.store.redis.connection.TIMEOUT_SECONDS", 2 * PATIENCE_SECONDS)
    monkeypatch.setattr("idefics2_service.store.redis.scripts.TIMEOUT_SECONDS", 0.1)
    store = await start_store(url=server.url)
    await submit(store, "one")
    server.pause()
    try:
        before = [asyncio.create_task(store.get(ONE)) for _ in range(MAX_CALLS_OF_KEY)]
        await asyncio.sleep(0)
        behind = [submit(store, "two"), *(store.get(ONE) for _ in range(20 * MAX_CALLS))]
        async with asyncio.timeout(PATIENCE_SECONDS):
            answers = await asyncio.gather(*behind, return_exceptions=True)
        assert {str(answer) for answer in answers} == {"the store of requests cannot be used: Timeout"}
        assert not any(call.done() for call in before)
    finally:
        server.resume()
    assert {(await call).state for call in before} == {State.QUEUED}
    assert await claim_all(store) == ["anna/one"]  # what had no turn was not asked


async def test_a_burst_that_takes_a_busy_server_long_is_answered_to_its_end(
    start_store: StartStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 0.5
    monkeypatch.setattr("idefics2_service.store.redis.scripts.TIMEOUT_SECONDS", seconds)
    with Server("valkey", "--enable-debug-command", "yes") as server:
        store = await start_store(url=server.url)
        await submit(store, "one")
        async with talking_to(store) as client, asyncio.timeout(PATIENCE_SECONDS):

            async def keep_busy() -> None:
                while True:
                    await client.execute_command("DEBUG", "SLEEP", seconds / 10)  # type: ignore[no-untyped-call]  # theirs

            started, busy = time.monotonic(), asyncio.create_task(keep_busy())
            await asyncio.gather(*(store.get(ONE) for _ in range(40 * MAX_CALLS)))
            assert time.monotonic() - started > 2 * seconds  # nearly as long as the last one waited
            busy.cancel()
            await asyncio.gather(busy, return_exceptions=True)
        await store.stop()


@on_servers
async def test_who_says_what_is_no_topic_makes_nobody_deaf(open_store: OpenStore) -> None:
    store = await open_store()
    async with talking_to(store) as client, asyncio.timeout(PATIENCE_SECONDS):
        with store.listen(WORK) as told:
            await client.publish(f"{{{store._settings.prefix}}}:signals", b"\xff")
            await told.wait()  # something may have been missed
            told.clear()
            await submit(store, "one")
            await told.wait()


@on_servers
async def test_what_keeps_a_lease_and_brings_a_request_to_its_end_waits_for_no_callers(
    open_store: OpenStore,
) -> None:
    store = await open_store()
    await submit(store, "one", "two", webhook_url="https://example.org/hook")
    reads = [asyncio.create_task(store.get(ONE)) for _ in range(40 * MAX_CALLS)]
    await asyncio.sleep(0)  # all wait for turns, or have them
    claimed = await claim(store)
    assert await store.renew(claimed) is Lease.HELD
    assert await store.append(claimed, 1, [LogLine("x")]) is Lease.HELD
    assert await store.finish(claimed, 2, [], Finished(make_output())) is Lease.HELD
    assert await store.release(await claim(store), "x", is_lost=False) is Lease.HELD
    await store.reap()
    delivery = await store.claim_delivery(60)
    assert delivery is not None
    await store.settle_delivery(delivery, None)
    await store.statistics()
    assert sum(read.done() for read in reads) < len(reads) / 2
    await asyncio.gather(*reads)


@on_servers
@pytest.mark.parametrize(("limit", "num_shown"), [(120, 120), (121, 121), (150, 121), (100, 100), (50, 50)])
async def test_a_long_list_is_read_in_parts_between_which_others_pass(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch, limit: int, num_shown: int
) -> None:
    store, names = await open_store(), [str(number) for number in range(121)]
    for name in names:
        await submit(store, name)
    read, num_read = store._servers.read, list[int]()

    async def read_and_count(*arguments: Any) -> Any:
        answer = await read(*arguments)
        num_read.append(len(answer.value))
        return answer

    monkeypatch.setattr(store._servers, "read", read_and_count)
    page = await store.list_page(KEY, None, limit, None)
    assert [record.name.request_id for record in page.records] == names[::-1][:num_shown]
    assert max(num_read) <= 51  # the last one only tells that there are more
    assert (page.next_before is None) is (num_shown == len(names))
    if page.next_before is not None:
        rest = await store.list_page(KEY, State.QUEUED, 1_000, page.next_before)
        assert [record.name.request_id for record in rest.records] == names[::-1][num_shown:]


@on_servers
async def test_who_calls_beside_a_flood_of_another_key_does_not_wait_for_it(open_store: OpenStore) -> None:
    store = await open_store()
    await submit(store, "one")
    reads = [asyncio.create_task(store.get(ONE)) for _ in range(40 * MAX_CALLS)]
    await asyncio.sleep(0)
    await submit(store, "two", key_id="bert")
    assert (await store.get(RequestName("bert", "two"))).queue_position == 1
    assert await store.events(RequestName("bert", "two"), 0, 10) == []
    assert len((await store.list_page("bert", None, 10, None)).records) == 1
    assert (await store.cancel(RequestName("bert", "two"))).state is State.CANCELLED
    assert sum(read.done() for read in reads) < len(reads) / 2
    await asyncio.gather(*reads)


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
async def test_a_webhook_is_claimed_by_one_replica(open_store: OpenStore) -> None:
    stores = [await open_store() for _ in range(3)]
    names = [RequestName(*name) for name in product("abc", "123")]
    for name in names:
        await submit(stores[0], name.request_id, key_id=name.key_id, webhook_url="https://example.org/hook")
        await stores[0].cancel(name)
    claims = await asyncio.gather(*(store.claim_delivery(60) for store in stores * 5))
    deliveries = [claimed for claimed in claims if claimed]
    assert sorted(delivery.record.name for delivery in deliveries) == names
    assert len({delivery.holder for delivery in deliveries}) == len(names)


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
            assert (await store.claim_delivery(60)) is not None
            assert (await store.cancel(RequestName(KEY, "two"))).state is State.CANCELLED
            assert await store.release(await claim(store), "x", is_lost=False) is Lease.HELD
            assert [event.sequence for event in await store.events(ONE, 0, 10)] == [1, 2, 3]
        finally:
            await client.config_set("maxmemory", 0)
    await submit(store, "four")


@on_servers
async def test_what_the_server_refuses_is_logged_once_until_it_is_taken_again(
    open_store: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    store = await open_store()
    for number in range(2):
        async with talking_to(store) as client:
            await client.config_set("maxmemory", 1)
            try:
                for _ in range(3):
                    with pytest.raises(StoreUnavailable):
                        await submit(store, f"{number}")
                    assert await store.claim() is None
            finally:
                await client.config_set("maxmemory", 0)
        await submit(store, f"{number}")
        await claim(store)
    told: list[Any] = [record.msg for record in caplog.records if "script" in record.msg]
    assert [line["level"] for line in told] == ["error", "info"] * 2
    assert {line["script"] for line in told} == {"submit"}
    assert not any("exc_info" in line for line in told)


@on_servers
async def test_who_claims_hears_of_what_ended_also_where_the_store_goes_away_before_the_claim(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store()
    late = (make_submission(str(number), start_timeout_seconds=0.001) for number in range(120))
    await asyncio.gather(*map(store.submit, late))
    write, ended = store._servers.write, list[Ended]()

    async def write_once(*arguments: object) -> object:
        monkeypatch.setattr(store._servers, "write", go_away)
        return await write(*arguments)

    async def go_away(*_: object) -> object:
        raise StoreUnavailable("away")

    monkeypatch.setattr(store._servers, "write", write_once)
    with pytest.raises(StoreUnavailable):
        await store.claim(on_ended=ended.append)
    assert len(ended) == 100


def lose_answer(store: RedisStore, monkeypatch: pytest.MonkeyPatch, num_heard: int) -> None:
    """Let the answer be lost that comes after `num_heard` others: what was asked is done."""
    write, num_answers = store._servers.write, 0

    async def write_and_lose(*arguments: Any) -> Any:
        nonlocal num_answers
        answer = await write(*arguments)
        num_answers += 1
        if num_answers == num_heard + 1:
            raise StoreUnavailable("away")
        return answer

    monkeypatch.setattr(store._servers, "write", write_and_lose)


@on_servers
@pytest.mark.parametrize("num_heard", [0, 1])
async def test_what_a_claim_ended_whose_answer_was_lost_the_next_one_tells_of(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch, num_heard: int
) -> None:
    store, holder, ended = await open_store(), draw_holder(), list[Ended]()
    late = (make_submission(str(number), start_timeout_seconds=0.001) for number in range(120))
    await asyncio.gather(*map(store.submit, late))
    await submit(store, "one")
    lose_answer(store, monkeypatch, num_heard)
    with pytest.raises(StoreUnavailable):
        await store.claim(on_ended=ended.append, holder=holder)
    assert len(ended) == 100 * num_heard
    claimed = await store.claim(on_ended=ended.append, holder=holder)
    assert claimed is not None
    assert claimed.name == ONE
    assert await store.claim(on_ended=ended.append) is None
    assert sorted(each.name.request_id for each in ended) == sorted(map(str, range(120)))
    assert (await store.reap()).ended == ()


@on_servers
async def test_what_tidying_did_whose_answer_was_lost_the_next_one_tells_of(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(lease_seconds=0.02)
    await submit(store, "one")
    await claim(store)
    await submit(store, "late", "lost", start_timeout_seconds=0.001)
    await lose(store, 3)
    prefix = f"{{{store._settings.prefix}}}:"
    async with talking_to(store) as client, asyncio.timeout(PATIENCE_SECONDS):
        for name, num in (("leased", 1), ("start_by", 2)):
            while await client.zcount(f"{prefix}{name}", 0, time.time()) < num:
                pass
    lose_answer(store, monkeypatch, 0)
    with pytest.raises(StoreUnavailable):
        await store.reap()
    reaped = [await store.reap() for _ in range(2)]
    assert [each.num_requeued for each in reaped] == [1, 0]
    assert [[ended.name.request_id for ended in each.ended] for each in reaped] == [["late"], []]


@pytest.mark.parametrize("says", ["yes", "no"], ids=["answers what reads", "answers nothing"])
async def test_connections_to_a_server_that_was_demoted_are_given_up(
    start_store: StartStore, server: Server, says: str
) -> None:
    store = await start_store(url=server.url)
    await submit(store, "one")
    async with talking_to(store) as client, asyncio.timeout(PATIENCE_SECONDS):
        await client.config_set("replica-serve-stale-data", says)
        async with reading(store):
            while len(before := await find_others(client)) < NUM_READERS + 1:  # one hears signals
                pass
            await client.replicaof(HOST, 1)
            with pytest.raises(StoreUnavailable):
                await submit(store, "two")
            while before & await find_others(client):
                pass
        await client.replicaof("NO", "ONE")
        with store.listen(WORK) as told:
            await submit(store, "two")
            await told.wait()
    assert await claim_all(store) == ["anna/one", "anna/two"]


async def test_a_store_follows_its_name_from_a_server_that_was_demoted_to_another(
    start_store: StartStore, server: Server
) -> None:
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        Redis.from_url(server.url) as client,
        lay_cable(f"{HOST}:{server.port}") as (cable, address),
    ):
        store = await start_store(url=f"redis://{address}")
        with Server(server.name) as promoted:
            other = await start_store(url=promoted.url)
            async with reading(store):
                while len(await find_others(client)) < NUM_READERS + 1:
                    pass
                await client.replicaof(HOST, 1)
                cable.address = f"{HOST}:{promoted.port}"
                while await find_others(client):
                    with suppress(StoreUnavailable):
                        await store.reap()  # as who tidies does all the time
            with store.listen(WORK) as told:
                await submit(other, "one")
                await told.wait()
            assert (await store.get(ONE)).state is State.QUEUED
            await store.stop()


async def test_a_server_that_stands_in_for_a_demoted_one_is_given_nothing_before_it_was_looked_at(
    start_store: StartStore, server: Server
) -> None:
    async with (
        Redis.from_url(server.url) as client,
        lay_cable(f"{HOST}:{server.port}") as (cable, address),
    ):
        store = await start_store(url=f"redis://{address}")
        with Server(server.name) as promoted:
            async with Redis.from_url(promoted.url) as unfit:
                await unfit.config_set("appendfsync", "everysec")
            await client.replicaof(HOST, 1)
            with pytest.raises(StoreUnavailable):
                await submit(store, "one")
            cable.address = f"{HOST}:{promoted.port}"
            with pytest.raises(StoreUnavailable, match="may lose what it acknowledges"):
                await submit(store, "one")
            await store.stop()


@on_servers
async def test_a_payload_that_is_too_large_is_refused_unsent_unless_it_was_taken_before(
    open_store: OpenStore,
) -> None:
    known, new = (make_submission(name, prompt="x" * 5_000_000) for name in ("known", "new"))
    await (await open_store()).submit(known)
    store = await open_store(max_payload_bytes=600)
    async with talking_to(store) as client:
        before = (await client.info("stats"))["total_net_input_bytes"]
        assert (await store.submit(known)).state is State.QUEUED
        with pytest.raises(PayloadTooLarge, match=r"have 500\d{4} bytes; at most 600 are kept"):
            await store.submit(new)
        assert (await client.info("stats"))["total_net_input_bytes"] - before < 1_000_000


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
    prefix = f"{{{store._settings.prefix}}}:"
    async with talking_to(store) as client, asyncio.timeout(PATIENCE_SECONDS):
        while await client.keys(f"{prefix}*") != [f"{prefix}progress".encode()]:
            waiting = await store.claim()
            if waiting is not None:
                await store.finish(waiting, waiting.last_sequence, [], Failed(StoreUnavailable("x")))
            if (delivery := await store.claim_delivery(60)) is not None:
                await store.settle_delivery(delivery, None)
            await store.reap()


async def lose_keys(store: RedisStore, *names: str) -> None:
    """Let a store's server lose keys of these names, which it has."""
    async with talking_to(store) as client:
        assert await client.delete(*(f"{{{store._settings.prefix}}}:{name}" for name in names)) == len(names)


async def lose(store: RedisStore, *numbers: int) -> None:
    """Let a store's server lose what is known of some requests, as one does that evicts keys."""
    await lose_keys(store, *(f"request:{number:016}" for number in numbers))


async def end(store: RedisStore, name: RequestName, **fields: Any) -> None:
    """Submit a request, and let it end at once."""
    await submit(store, name.request_id, key_id=name.key_id, **fields)
    await store.cancel(name)


async def find_numbers(store: RedisStore) -> set[int]:
    """Return all that are in any of a store's sets of numbers but in those that list a caller's requests."""
    prefix, numbers = f"{{{store._settings.prefix}}}:", set[int]()
    async with talking_to(store) as client:
        async for name in client.scan_iter(f"{prefix}*", _type="zset"):
            if name.decode().removeprefix(prefix).partition(":")[0] not in {"of_key", "heads", "turns"}:
                found: list[Any] = await client.zrange(name, 0, -1)
                numbers.update(map(int, found))
    return numbers


@on_servers
async def test_no_wait_is_negative_where_the_servers_clock_was_set_back(open_store: OpenStore) -> None:
    store = await open_store()
    await submit(store, "one", "two")
    async with talking_to(store) as client:
        for number in (1, 2):
            request = f"{{{store._settings.prefix}}}:request:{number:016}"
            await client.hset(request, "created_at", str(time.time() + 3_600))
    assert (await claim(store)).seconds_queued == 0
    ended: list[Ended] = []
    await store.cancel(RequestName(KEY, "two"), ended.append)
    assert [each.seconds for each in ended] == [0]


@on_servers
@pytest.mark.parametrize("but_of", [(), ("nobody",)])
async def test_a_request_that_the_server_lost_is_passed_over_by_claims_and_its_name_is_free(
    open_store: OpenStore, but_of: tuple[str, ...]
) -> None:
    store = await open_store()
    await submit(store, "lost", "one")
    await submit(store, "two", key_id="bert")
    await lose(store, 1)
    claimed = [await store.claim(but_of) for _ in range(3)]
    assert [each and each.name for each in claimed] == [("bert", "two"), ONE, None]
    lost = RequestName(KEY, "lost")
    for call in (store.get(lost), store.events(lost, 0, 10), store.cancel(lost)):
        with pytest.raises(RequestNotFound):
            await call
    assert [record.name for record in (await store.list_page(KEY, None, 10, None)).records] == [ONE]
    assert (await store.statistics()).num_queued == 0
    await submit(store, "lost")
    assert (await claim(store)).name == lost


@on_servers
async def test_who_watches_hears_the_end_though_the_server_lost_all_that_was_before(
    open_store: OpenStore,
) -> None:
    store = await open_store()
    await submit(store, "one")
    end = Finished(make_output())
    await store.finish(await claim(store), 1, [LogLine("x")], end)
    await lose_keys(store, f"events:{1:016}")
    submissions = make_submissions(store)
    async with asyncio.timeout(PATIENCE_SECONDS):
        for after in (0, 2):
            seen = [event async for event in submissions.watch(ONE, after)]
            assert [(event.sequence, event.happening) for event in seen] == [(3, end)]
            assert seen[0].time == (await store.get(ONE)).ended_at
        assert [event async for event in submissions.watch(ONE, 3)] == []


@on_servers
async def test_a_request_whose_end_the_server_lost_ended_as_a_fault_of_ours(open_store: OpenStore) -> None:
    store = await open_store()
    await submit(store, "one", webhook_url="https://example.org/hook")
    await store.finish(await claim(store), 1, [], Finished(make_output()))
    await lose_keys(store, f"end:{1:016}")
    with pytest.raises(InternalError, match="cannot be read"):
        await make_submissions(store).result(ONE)
    delivery = await store.claim_delivery(60)
    assert delivery is not None
    assert isinstance(delivery.record.end, Failed)


@on_servers
async def test_a_server_that_lost_how_far_it_was_gives_nobody_what_is_anothers(open_store: OpenStore) -> None:
    store = await open_store()
    await end(store, ONE)
    await lose_keys(store, "progress")
    await submit(store, "two", key_id="bert")
    assert (await store.get(ONE)).state is State.CANCELLED
    assert (await store.get(RequestName("bert", "two"))).state is State.QUEUED
    assert (await claim(store)).name == RequestName("bert", "two")
    assert [record.name for record in (await store.list_page(KEY, None, 10, None)).records] == [ONE]


@on_servers
async def test_what_the_server_lost_holds_up_nobody_who_is_tidied_away_behind_it(
    open_store: OpenStore,
) -> None:
    store = await open_store(lease_seconds=0.02)
    await submit(store, "over", "gone", keep_seconds=0.001)
    for request_id in ("over", "gone"):
        await store.cancel(RequestName(KEY, request_id))
    await submit(store, "held", "one")
    held, _ = [await claim(store) for _ in range(2)]
    await submit(store, "late", "too late", start_timeout_seconds=0.001)
    await lose(store, 1, 3, 5)
    num_requeued, ended = 0, list[RequestName]()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (num_requeued and ended) or await find_numbers(store) != {4, 6}:
            reaped = await store.reap()
            num_requeued += reaped.num_requeued
            ended += [each.name for each in reaped.ended]
    assert num_requeued == 1
    assert (await store.get(ONE)).state is State.QUEUED
    assert ended == [(KEY, "too late")]
    await check_lost(store, held)
    with pytest.raises(RequestNotFound):
        await store.get(RequestName(KEY, "gone"))


async def find_listed(store: RedisStore) -> dict[str, set[int]]:
    """Return the numbers in each of the sets that list the requests of KEY, by the ends of their names."""
    beginning, listed = f"{{{store._settings.prefix}}}:of_key:{KEY}", {}
    async with talking_to(store) as client:
        async for name in client.scan_iter(f"{beginning}*"):
            found: list[Any] = await client.zrange(name, 0, -1)
            listed[name.decode().removeprefix(beginning)] = set(map(int, found))
    return listed


@on_servers
@pytest.mark.parametrize("state", [None, State.QUEUED])
async def test_a_list_comes_upon_what_the_server_lost_once(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch, state: State | None
) -> None:
    store = await open_store()
    await submit(store, *map(str, range(1, 121)))
    await lose(store, *range(2, 121))
    write, written = store._servers.write, list[str]()

    async def note(name: str, *arguments: Any) -> Any:
        written.append(name)
        return await write(name, *arguments)

    monkeypatch.setattr(store._servers, "write", note)
    for num_parts in (3, 0):
        page = await store.list_page(KEY, state, 200, None)
        assert [record.name.request_id for record in page.records] == ["1"]
        assert len(written) == num_parts
        assert await find_listed(store) == {"": {1}, ":QUEUED": {1}}
        written.clear()


@on_servers
async def test_what_a_list_of_all_finds_lost_is_in_that_of_no_state(open_store: OpenStore) -> None:
    store = await open_store()
    await submit(store, "succeeded", "failed", "running", "cancelled", "queued", "one")
    for end_ in (Finished(make_output()), Failed(StoreUnavailable("x"))):
        claimed = await claim(store)
        await store.finish(claimed, claimed.last_sequence, [], end_)
    await claim(store)
    await store.cancel(RequestName(KEY, "cancelled"))
    assert len(await find_listed(store)) == 1 + len(State)
    await lose(store, *range(1, 6))
    await store.list_page(KEY, None, 10, None)
    assert await find_listed(store) == {"": {6}, ":QUEUED": {6}}


async def test_what_the_server_lost_is_passed_over_by_lists_also_where_it_takes_no_writes(
    start_store: StartStore, server: Server
) -> None:
    store = await start_store(url=server.url)
    await count_from_one(store)
    await submit(store, "lost", "one")
    await lose(store, 1)
    async with talking_to(store) as client:
        await client.replicaof(HOST, 1)
    assert [record.name for record in (await store.list_page(KEY, None, 10, None)).records] == [ONE]
    assert await find_listed(store) == {"": {1, 2}, ":QUEUED": {1, 2}}
    await store.stop()


@on_servers
async def test_a_webhook_of_a_request_that_the_server_lost_holds_up_no_other(open_store: OpenStore) -> None:
    store = await open_store()
    for key_id, request_id in ((KEY, "lost"), (KEY, "one"), ("bert", "two")):
        await submit(store, request_id, key_id=key_id, webhook_url="https://example.org/hook")
        await store.cancel(RequestName(key_id, request_id))
    await lose(store, 1)
    claimed = [await store.claim_delivery(60) for _ in range(3)]
    assert [each and each.record.name for each in claimed] == [ONE, ("bert", "two"), None]
    assert (await store.statistics()).num_deliveries == 2


@on_servers
async def test_webhooks_that_the_server_lost_with_all_of_their_key_hold_up_no_other(
    open_store: OpenStore,
) -> None:
    store = await open_store()
    for key_id in (KEY, "bert"):
        await submit(store, "one", key_id=key_id, webhook_url="https://example.org/hook")
        await store.cancel(RequestName(key_id, "one"))
    async with talking_to(store) as client:
        await client.delete(f"{{{store._settings.prefix}}}:deliveries:{KEY}")
    claimed = [await store.claim_delivery(60) for _ in range(2)]
    assert [each and each.record.name for each in claimed] == [("bert", "one"), None]


@on_servers
@pytest.mark.parametrize("lost", [("turns",), (f"deliveries:{KEY}",), ("turns", f"deliveries:{KEY}")])
async def test_webhooks_are_told_though_the_server_lost_what_is_due_of_their_key_or_whose_turn_it_is(
    open_store: OpenStore, lost: tuple[str, ...]
) -> None:
    store = await open_store()
    for request_id in ("one", "two"):
        await end(store, RequestName(KEY, request_id), webhook_url="https://example.org/hook")
    first = await store.claim_delivery(60)
    await lose_keys(store, *lost)
    assert await store.claim_delivery(60) is None
    with store.listen(DELIVERIES) as told:
        await store.reap()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await told.wait()
    second = await store.claim_delivery(60)
    assert first is not None
    assert second is not None
    assert {first.record.name, second.record.name} == {ONE, (KEY, "two")}
    assert await store.claim_delivery(60) is None  # the first one is on its way
    for delivery in (first, second):
        await store.settle_delivery(delivery, None)
    assert (await store.statistics()).num_deliveries == 0


@on_servers
async def test_a_part_at_a_time_finds_all_webhooks_again_whose_places_the_server_lost(
    open_store: OpenStore,
) -> None:
    store, num = await open_store(), 1_000
    names = [RequestName(f"key-{number}", "one") for number in range(num)]
    ends = (end(store, name, webhook_url="https://example.org/hook") for name in names)
    await asyncio.gather(*ends)
    await lose_keys(store, "turns", *(f"deliveries:{name.key_id}" for name in names))
    num_found = [0]
    async with talking_to(store) as client:
        for _ in range(20):
            await store.reap()
            num_found.append(await client.zcard(f"{{{store._settings.prefix}}}:turns"))
    assert num_found[-1] == num
    assert max(after - before for before, after in pairwise(num_found)) < num / 2


@on_servers
async def test_a_webhook_that_the_server_lost_in_every_respect_is_not_counted_for_ever(
    open_store: OpenStore,
) -> None:
    store = await open_store()
    for request_id in ("one", "two"):
        await end(store, RequestName(KEY, request_id), webhook_url="https://example.org/hook")
    await lose(store, 1)
    await lose_keys(store, "turns", f"deliveries:{KEY}")
    await store.reap()
    assert (await store.statistics()).num_deliveries == 1
    assert await find_numbers(store) == {2}


@on_servers
@pytest.mark.parametrize("is_begun", [False, True])
async def test_what_the_server_lost_is_not_counted_among_a_keys_requests(
    open_store: OpenStore, *, is_begun: bool
) -> None:
    store = await open_store()
    await submit(store, "lost", "one")
    for _ in range(2 if is_begun else 0):
        await claim(store)
    await lose(store, 1)
    await submit(store, "two", max_queued_of_key=2)
    with pytest.raises(QueueQuotaExceeded):
        await submit(store, "three", max_queued_of_key=2)


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


@on_servers
async def test_who_leaves_does_not_undo_what_is_asked(open_store: OpenStore) -> None:
    store = await open_store()
    names = [str(number) for number in range(MAX_CALLS_OF_KEY)]  # none has to wait for a turn
    for number, name in enumerate(names):
        call = asyncio.create_task(store.submit(make_submission(name)))
        for _ in range(number):  # leave at every step on the way
            await asyncio.sleep(0)
        call.cancel()
    await store.stop()
    assert sorted(await claim_all(await open_store()), key=lambda name: int(name[5:])) == [
        f"{KEY}/{name}" for name in names[1:]
    ]


@on_servers
async def test_what_waits_for_a_turn_is_not_asked_when_its_caller_leaves(open_store: OpenStore) -> None:
    store = await open_store()
    turns = store._servers._scripts._turns
    with ExitStack() as stack:
        for _ in range(MAX_CALLS_OF_KEY):
            await turns.take(KEY)
            stack.callback(turns.give_back, KEY)
        left = asyncio.create_task(submit(store, "one"))
        stays = asyncio.create_task(submit(store, "two"))
        await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        stopping = asyncio.create_task(store.stop())  # which answers whom it finds
    await asyncio.gather(stays, stopping)
    assert await claim_all(await open_store()) == ["anna/two"]
