"""The store of a single machine."""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import apsw

from idefics2_service.errors import StartFailed
from idefics2_service.store.interface import ignore
from idefics2_service.store.parts import list_in_parts
from idefics2_service.store.records import draw_holder
from idefics2_service.store.signals import Signals
from idefics2_service.store.sqlite.ledger import Ledger
from idefics2_service.store.sqlite.order import Order
from idefics2_service.store.sqlite.schema import connect
from idefics2_service.store.sqlite.thread import DatabaseThread
from idefics2_service.store.sqlite.views import Views
from idefics2_service.store.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from idefics2_service.events import Event, Failed, Finished, Happening
    from idefics2_service.requests import RequestName, State
    from idefics2_service.settings import StoreSettings
    from idefics2_service.store.interface import OnEnded
    from idefics2_service.store.records import (
        Claim,
        Delivery,
        Lease,
        Page,
        Reaped,
        Record,
        Statistics,
        Submission,
    )


_MAX_LISTINGS = 4
"""Parts of lists that are read at the same time. Keys share them; all else takes hardly any time."""


class SqliteStore:
    """As RequestStore. One process at a time; a thread writes, another reads."""

    def __init__(self, folder: Path, settings: StoreSettings) -> None:
        """Keep everything in `folder`."""
        self._folder = folder
        self._settings = settings
        self._signals = Signals()
        self._listings = Turns(_MAX_LISTINGS)
        self._opened = ExitStack()

    @property
    def max_payload_bytes(self) -> int:
        """As RequestStore.max_payload_bytes."""
        return self._settings.max_payload_bytes

    async def start(self) -> None:
        """As RequestStore.start; also if another process has the folder."""
        self._loop = asyncio.get_running_loop()
        path = self._folder / "requests.sqlite"
        try:
            with ExitStack() as opened:
                self._folder.mkdir(parents=True, exist_ok=True)
                opened.callback(os.close, _lock(self._folder / "requests.lock"))
                _hide(path)
                self._open(connect(path), connect(path), opened)
                self._opened = opened.pop_all()
        except (OSError, apsw.Error) as error:
            message = f"IDEFICS2_DATA_FOLDER: cannot keep requests in {path}: {error}"
            raise StartFailed(message) from error

    def _open(self, writing: apsw.Connection, reading: apsw.Connection, opened: ExitStack) -> None:
        order = Order(())
        self._ledger, self._views = Ledger(writing, order, self._settings), Views(reading, order)
        self._ledger.load()
        self._ledger.shorten_leases()
        self._writer = DatabaseThread(writing, self._loop, self._ledger.load, self._tell)
        self._reader = DatabaseThread(reading, self._loop)
        for thread in (self._reader, self._writer):
            thread.start()
            opened.callback(thread.close)

    async def stop(self) -> None:
        """As RequestStore.stop."""
        await asyncio.to_thread(self._opened.close)

    def _tell(self) -> None:
        """Tell who waits for what was written."""
        topics, self._ledger.topics = self._ledger.topics, set()
        if topics:
            self._loop.call_soon_threadsafe(self._signals.tell, topics)

    def listen(self, topic: str) -> AbstractContextManager[asyncio.Event]:
        """As RequestStore.listen."""
        return self._signals.listen(topic)

    async def submit(self, submission: Submission) -> Record:
        """As RequestStore.submit."""
        return await self._writer.call(lambda: self._ledger.submit(submission), is_durable=True)

    async def get(self, name: RequestName) -> Record:
        """As RequestStore.get."""
        return await self._reader.call(lambda: self._views.get(name))

    async def list_page(self, key_id: str, state: State | None, limit: int, before: int | None) -> Page:
        """As RequestStore.list_page; in parts, so that others pass between."""
        return await list_in_parts(partial(self._list_part, key_id, state), limit, before)

    async def _list_part(self, key_id: str, state: State | None, limit: int, before: int | None) -> Page:
        await self._listings.take(key_id)
        try:
            return await self._reader.call(lambda: self._views.list_page(key_id, state, limit, before))
        finally:
            self._listings.give_back(key_id)

    async def events(self, name: RequestName, after: int, limit: int) -> Sequence[Event]:
        """As RequestStore.events."""
        return await self._reader.call(lambda: self._views.events(name, after, limit))

    async def log_lines(self, name: RequestName, last: int) -> Sequence[Event]:
        """As RequestStore.log_lines."""
        return await self._reader.call(lambda: self._views.log_lines(name, last))

    async def cancel(self, name: RequestName, on_ended: OnEnded = ignore) -> Record:
        """As RequestStore.cancel."""
        record, ended = await self._writer.call(lambda: self._ledger.cancel(name), is_durable=True)
        if ended is not None:
            on_ended(ended)
        return record

    async def claim(
        self, but_of: Collection[str] = (), on_ended: OnEnded = ignore, holder: str = ""
    ) -> Claim | None:
        """As RequestStore.claim; most do not wait for the disk, for what is forgotten is begun again."""
        is_durable, holder = False, holder or draw_holder()
        while True:
            work = partial(self._ledger.claim, holder, but_of, is_durable=is_durable)
            claimed = await self._writer.call(work, is_durable=is_durable)
            for each in claimed.ended:
                on_ended(each)
            if claimed.is_over:
                return claimed.claim
            is_durable = True

    async def renew(self, claim: Claim) -> Lease:
        """As RequestStore.renew."""
        return await self._writer.call(lambda: self._ledger.renew(claim))

    async def append(self, claim: Claim, after: int, happenings: Sequence[Happening]) -> Lease:
        """As RequestStore.append."""
        return await self._writer.call(lambda: self._ledger.append(claim, after, happenings))

    async def finish(
        self, claim: Claim, after: int, happenings: Sequence[Happening], end: Finished | Failed
    ) -> Lease:
        """As RequestStore.finish."""
        return await self._writer.call(
            lambda: self._ledger.finish(claim, after, happenings, end), is_durable=True
        )

    async def release(self, claim: Claim, reason: str, *, is_lost: bool) -> Lease:
        """As RequestStore.release."""
        return await self._writer.call(
            lambda: self._ledger.release(claim, reason, is_lost=is_lost), is_durable=True
        )

    async def reap(self) -> Reaped:
        """As RequestStore.reap."""
        return await self._writer.call(self._ledger.reap, is_durable=True)

    async def claim_delivery(
        self, again_after_seconds: float, but_of: Collection[str] = ()
    ) -> Delivery | None:
        """As RequestStore.claim_delivery."""
        return await self._writer.call(lambda: self._ledger.claim_delivery(again_after_seconds, but_of))

    async def settle_delivery(self, delivery: Delivery, retry_after_seconds: float | None) -> None:
        """As RequestStore.settle_delivery."""
        await self._writer.call(lambda: self._ledger.settle_delivery(delivery, retry_after_seconds))

    async def statistics(self) -> Statistics:
        """As RequestStore.statistics."""
        return await self._reader.call(self._views.statistics)


def _hide(path: Path) -> None:
    """Let nobody else read what is in a database: prompts, pictures, answers. SQLite's other files follow it.

    Raises:
        OSError: it is not ours.

    """
    path.touch(mode=0o600)
    path.chmod(0o600)


def _lock(path: Path) -> int:
    """Hold a file against other processes; one that dies lets go.

    Raises:
        OSError: another process holds it.

    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise OSError(error.errno, "another service uses this folder") from error
    return descriptor
