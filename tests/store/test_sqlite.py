"""What only a store in a file promises: who may open it, a full disk, and what shares a transaction."""

from __future__ import annotations

import asyncio
import stat
import threading
import time
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from idefics2_service.errors import RequestIdTaken, RequestNotFound, StartFailed, StoreUnavailable
from idefics2_service.events import Finished
from idefics2_service.requests import RequestName, State
from idefics2_service.settings import StoreSettings
from idefics2_service.store.records import Lease
from idefics2_service.store.sqlite import schema
from idefics2_service.store.sqlite.store import SqliteStore
from store.submissions import KEY, claim, claim_all, make_output, make_submission, submit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from idefics2_service.store.records import Ended, Record
    from typing_extensions import Buffer

ONE = RequestName(KEY, "one")
PATIENCE_SECONDS = 30
MANY_PAGES = 2**31
DELIVERIES_BEFORE_6 = """
CREATE TABLE deliveries (seq INTEGER PRIMARY KEY, due_at REAL NOT NULL, attempt INTEGER NOT NULL DEFAULT 0);
CREATE INDEX due ON deliveries (due_at);
"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """One store with usual settings."""
    opened = SqliteStore(tmp_path, StoreSettings())
    await opened.start()
    yield opened
    await opened.stop()


class Disk(apsw.VFS):
    """A disk that can be made to fail, by all who read it and write to it."""

    def __init__(self) -> None:
        """Work, until `fails` is set; whoever opens a file from now on opens it here."""
        self.fails = False
        self.num_syncs = 0
        super().__init__("failing", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  # SQLite's
        """Open a file."""
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("unix", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802  # SQLite's
        self._check()
        return super().xRead(amount, offset)

    def xWrite(self, data: Buffer, offset: int) -> None:  # noqa: N802  # SQLite's
        self._check()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802  # SQLite's
        super().xSync(flags)
        self._disk.num_syncs += 1

    def _check(self) -> None:
        if self._disk.fails:
            raise apsw.IOError("a sector is lost")


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Put all files of SQLite's on a disk that can fail."""
    made = Disk()
    yield made
    made.unregister()


async def allow_pages(store: SqliteStore, bound: int) -> None:
    """Bound the size of the file, as a full disk does; never below what it has."""
    connection = store._ledger._connection
    await store._writer.call(lambda: connection.pragma("max_page_count", bound))


async def test_nothing_of_what_was_answered_is_held_until_something_else_is_asked(store: SqliteStore) -> None:
    class Content:
        pass

    answers = await _together(store, *(store._writer.call(Content) for _ in range(3)))
    assert all(isinstance(answer, Content) for answer in answers)
    contents = [weakref.ref(answer) for answer in answers]
    answers.clear()
    async with asyncio.timeout(20):
        while any(content() is not None for content in contents):  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_others_go_on_while_the_disk_takes_what_was_written(store: SqliteStore) -> None:
    num_turns = num_before = 0

    def write_much() -> None:
        nonlocal num_before
        for statement in ("CREATE TABLE much (data)", "INSERT INTO much VALUES (zeroblob(30000000))"):
            store._ledger._connection.execute(statement)
        num_before = num_turns

    writing = asyncio.create_task(store._writer.call(write_much, is_durable=True))
    while not writing.done():
        num_turns += 1
        await asyncio.sleep(0)
    await writing
    assert num_turns - num_before > 100


async def test_a_folder_has_one_store_at_a_time(store: SqliteStore, tmp_path: Path) -> None:
    second = SqliteStore(tmp_path, StoreSettings())
    with pytest.raises(StartFailed, match=r"IDEFICS2_DATA_FOLDER.*another service uses this folder"):
        await second.start()
    await submit(store, "one")
    await store.stop()
    await second.start()
    assert (await second.get(ONE)).state is State.QUEUED
    await second.stop()


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
async def test_a_file_of_an_earlier_version_is_brought_to_this_one_with_all_that_it_holds(
    tmp_path: Path, version: int
) -> None:
    connection = apsw.Connection(str(tmp_path / "requests.sqlite"))
    tables = schema._TABLES
    columns = (
        "keep_seconds REAL",
        "traceparent TEXT NOT NULL DEFAULT ''",
        "holder TEXT NOT NULL DEFAULT ''",
        "is_begun_once INTEGER NOT NULL DEFAULT 0",
    )
    for later in (f"    {column},\n" for column in columns[version - 1 :]):
        assert later in tables
        tables = tables.replace(later, "")
    connection.execute(tables + DELIVERIES_BEFORE_6)
    connection.execute(
        "INSERT INTO requests (key_id, request_id, fingerprint, state, priority, tag, max_new_tokens, "
        "webhook_url, created_at, end_by) "
        "VALUES ('anna', 'one', x'00', 'QUEUED', 'NORMAL', 1, 5, '', 0, 1e11), "
        "('bert', 'told', x'00', 'CANCELLED', 'NORMAL', 1, 5, 'http://h/', 0, 1e11)"
    )
    connection.execute("INSERT INTO deliveries VALUES (2, 0, 3)")
    connection.pragma("user_version", version)
    connection.close()
    store = SqliteStore(tmp_path, StoreSettings())
    await store.start()
    await submit(store, "two", keep_seconds=5.0)
    assert (await store.get(ONE)).state is State.QUEUED
    assert (await store.get(RequestName(KEY, "two"))).state is State.QUEUED
    claimed = await claim(store)
    assert await store.renew(claimed) is Lease.HELD
    assert await store.release(claimed, "lost", is_lost=True) is Lease.HELD  # it may be begun again
    delivery = await store.claim_delivery(60)
    assert delivery is not None
    assert (delivery.record.name, delivery.attempt) == (("bert", "told"), 4)
    await store.stop()


@pytest.mark.parametrize("mode", [None, 0o644])
async def test_nobody_else_may_read_what_is_kept(tmp_path: Path, mode: int | None) -> None:
    if mode is not None:  # as an earlier version left it
        (tmp_path / "requests.sqlite").touch(mode)
    opened = SqliteStore(tmp_path, StoreSettings())
    await opened.start()
    await submit(opened, "one")
    modes = read_modes(tmp_path)
    await opened.stop()
    kept = {"requests.sqlite", "requests.sqlite-wal", "requests.sqlite-shm", "requests.lock"}
    assert modes == dict.fromkeys(kept, 0o600)


def read_modes(folder: Path) -> dict[str, int]:
    """Read who may do what with the files of a folder."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


async def test_a_file_of_a_newer_version_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "requests.sqlite"
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 99)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StartFailed, match="it is of version 99, this program reads version 6"):
        await SqliteStore(tmp_path, StoreSettings()).start()
    assert path.read_bytes()[100:] == before[100:]  # all but the file's header


async def test_a_full_disk_refuses_new_requests_by_its_name_until_there_is_room(store: SqliteStore) -> None:
    await submit(store, "one", "two")
    claimed = await claim(store)
    await allow_pages(store, 1)
    for number in range(3):
        with pytest.raises(StoreUnavailable, match="the store of requests cannot be used: Full"):
            await store.submit(make_submission(str(number), prompt="x" * 100_000))
    assert (await store.get(ONE)).state is State.RUNNING
    assert [event.sequence for event in await store.events(ONE, 0, 10)] == [1]
    assert (await store.statistics()).num_queued == 1
    await allow_pages(store, MANY_PAGES)
    await store.finish(claimed, 1, [], Finished(make_output()))
    await submit(store, "0", prompt="x" * 100_000)
    assert await claim_all(store) == ["anna/two", "anna/0"]


async def test_who_fails_does_not_undo_what_shares_its_transaction(store: SqliteStore) -> None:
    def submit_and_fail() -> Record:
        store._ledger.submit(make_submission("undone"))
        raise ArithmeticError("a fault of ours")

    answers = await _together(
        store, store.submit(make_submission("one")), store._writer.call(submit_and_fail), submit(store, "two")
    )
    assert [type(answer).__name__ for answer in answers] == ["Record", "ArithmeticError", "NoneType"]
    with pytest.raises(RequestNotFound):
        await store.get(RequestName(KEY, "undone"))
    assert await claim_all(store) == ["anna/one", "anna/two"]


async def test_a_refusal_reads_nothing_anew(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await submit(store, "one")
    monkeypatch.setattr(store._writer, "_on_undone", lambda: pytest.fail("all who wait were read again"))
    with pytest.raises(RequestIdTaken):
        await store.submit(make_submission("one", prompt="Something else?"))
    assert await claim_all(store) == ["anna/one"]


async def test_a_store_can_be_stopped_before_and_started_after_a_start_that_failed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, StoreSettings())
    await store.stop()
    (tmp_path / "requests.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(StartFailed):
        await store.start()
    (tmp_path / "requests.sqlite").unlink()
    await store.start()
    await submit(store, "one")
    await store.stop()


async def test_what_a_full_disk_undid_was_not_acknowledged(store: SqliteStore) -> None:
    await submit(store, "one")
    await allow_pages(store, 1)
    cancelled, large = await _together(
        store, store.cancel(ONE), store.submit(make_submission("large", prompt="x" * 100_000))
    )
    assert isinstance(large, StoreUnavailable)
    is_kept = (await store.get(ONE)).state is State.CANCELLED
    assert is_kept is not isinstance(cancelled, StoreUnavailable)
    await allow_pages(store, MANY_PAGES)
    assert await claim_all(store) == ([] if is_kept else ["anna/one"])


async def test_a_disk_that_fails_refuses_until_it_works_again_and_nothing_is_lost(
    disk: Disk, store: SqliteStore
) -> None:
    def claim_and_fail() -> None:
        assert store._ledger.claim("x", is_durable=False).claim is not None
        disk.fails = True

    await submit(store, "one")
    await store._writer.call(lambda: store._ledger._connection.pragma("cache_size", 1))
    answers = await _together(store, store._writer.call(claim_and_fail), store.submit(make_submission("two")))
    assert [type(answer) for answer in answers] == [StoreUnavailable, StoreUnavailable]
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="the store of requests cannot be used: IO"):
            await store.claim()  # not even that nobody waits is known now
    disk.fails = False
    await submit(store, "two")
    assert await claim_all(store) == ["anna/one", "anna/two"]


async def claim_late(store: SqliteStore) -> None:
    """Claim where one waits that is late, and hear of its end."""
    await submit(store, "one", start_timeout_seconds=0.000_001)
    assert await store.claim() is None


async def reap_late(store: SqliteStore) -> None:
    """Take back where one waits that is late, and hear of its end."""
    await submit(store, "one", start_timeout_seconds=0.000_001)
    assert len((await store.reap()).ended) == 1


async def reap_lost(store: SqliteStore) -> None:
    """Take back what is to be begun once, and hear of its end."""
    await submit(store, "one", is_begun_once=True)
    claimed = await claim(store)
    await store._writer.call(lambda: store._ledger._connection.execute("UPDATE requests SET lease_until = 0"))
    assert len((await store.reap()).ended) == 1
    assert await store.renew(claimed) is Lease.LOST


async def release_lost(store: SqliteStore) -> None:
    """Hand back what was to be begun once, which ends it."""
    await submit(store, "one", is_begun_once=True)
    assert await store.release(await claim(store), "lost", is_lost=True) is Lease.LOST_ONCE


async def cancel_waiting(store: SqliteStore) -> None:
    """Cancel what waits, which ends it."""
    await submit(store, "one")
    assert (await store.cancel(ONE)).state is State.CANCELLED


@pytest.mark.parametrize("end", [claim_late, reap_late, reap_lost, release_lost, cancel_waiting])
async def test_an_end_is_on_the_disk_before_it_is_told(
    disk: Disk,
    store: SqliteStore,
    end: Callable[[SqliteStore], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[int] = []
    write = store._ledger._end

    def note(*arguments: Any) -> None:
        write(*arguments)
        written.append(disk.num_syncs)

    monkeypatch.setattr(store._ledger, "_end", note)
    await end(store)
    assert len(written) == 1
    assert disk.num_syncs > written[0]


@pytest.mark.parametrize("is_begun_once", [True, False])
async def test_a_claim_waits_for_the_disk_where_none_must_follow_it(
    disk: Disk, store: SqliteStore, *, is_begun_once: bool
) -> None:
    await submit(store, "one", is_begun_once=is_begun_once)
    before = disk.num_syncs
    claimed = await claim(store)
    assert (disk.num_syncs > before) is is_begun_once
    await store.finish(claimed, 1, [], Finished(make_output()))
    assert disk.num_syncs > before + is_begun_once


async def test_who_finds_nothing_to_take_back_does_not_wait_for_the_disk(
    disk: Disk, store: SqliteStore
) -> None:
    await submit(store, "one")
    await claim(store)
    before = disk.num_syncs
    assert (await store.reap()).ended == ()
    assert disk.num_syncs == before


async def test_no_wait_is_negative_where_the_clock_was_set_back(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submit(store, *"123")
    await claim(store)
    before = time.time()
    set_to = SimpleNamespace(time=lambda: before - 3_600)
    monkeypatch.setattr("idefics2_service.store.sqlite.ledger.time", set_to)
    assert (await claim(store)).seconds_queued == 0
    assert (await store.get(RequestName(KEY, "3"))).estimated_wait_seconds == 0
    ended: list[Ended] = []
    await store.cancel(RequestName(KEY, "3"), ended.append)
    assert [each.seconds for each in ended] == [0]


async def test_what_was_claimed_while_the_clock_was_ahead_is_claimed_again_once_its_worker_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = StoreSettings(lease_seconds=0.02)
    ahead = SimpleNamespace(time=lambda: time.time() + 3_600)
    store = SqliteStore(tmp_path, settings)
    await store.start()
    with monkeypatch.context() as patch:
        patch.setattr("idefics2_service.store.sqlite.ledger.time", ahead)
        await submit(store, "one")
        await claim(store)
    await store.stop()
    again = SqliteStore(tmp_path, settings)
    await again.start()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (await again.reap()).num_requeued:
            pass
    assert await claim_all(again) == ["anna/one"]
    await again.stop()


async def test_who_asks_beside_a_flood_of_another_keys_lists_has_an_answer_before_most_of_them(
    store: SqliteStore,
) -> None:
    await submit(store, *map(str, range(60)))
    await submit(store, "one", key_id="bert")
    flood = [asyncio.create_task(store.list_page(KEY, None, 1_000, None)) for _ in range(100)]
    await asyncio.sleep(0)  # each of them has asked
    await store.get(RequestName("bert", "one"))
    await store.list_page("bert", None, 1_000, None)
    assert sum(listing.done() for listing in flood) < len(flood) / 2
    assert {len((await listing).records) for listing in flood} == {60}


async def test_a_store_that_is_stopped_refuses_and_lets_nobody_wait(store: SqliteStore) -> None:
    await submit(store, "one")
    await store.stop()
    for call in (store.claim(), store.get(ONE)):
        with pytest.raises(StoreUnavailable, match="the store of requests is closed"):
            await call


async def test_who_leaves_undoes_only_what_is_not_begun(store: SqliteStore) -> None:
    is_begun, is_going_on = threading.Event(), threading.Event()

    def submit_slowly() -> Record:
        is_begun.set()
        is_going_on.wait()
        return store._ledger.submit(make_submission("begun"))

    calls = [
        asyncio.create_task(call) for call in (store._writer.call(submit_slowly), submit(store, "waiting"))
    ]
    await asyncio.to_thread(is_begun.wait)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    is_going_on.set()
    assert await claim_all(store) == ["anna/begun"]


async def _together(store: SqliteStore, *calls: Awaitable[object]) -> list[object]:
    """Let calls share one transaction: they come while the thread is busy."""
    is_going_on = threading.Event()
    busy = asyncio.create_task(store._writer.call(is_going_on.wait))
    answers = asyncio.gather(*calls, return_exceptions=True)
    await asyncio.sleep(0)
    is_going_on.set()
    await asyncio.gather(busy, return_exceptions=True)
    return list(await answers)
