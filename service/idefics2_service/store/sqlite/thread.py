"""A thread that owns a connection: what is asked of it at the same time is one transaction."""

from __future__ import annotations

import queue
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import apsw
import structlog

from idefics2_service.errors import ServiceError
from idefics2_service.store.refusals import closed, unavailable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Sequence

logger = structlog.get_logger(__name__)

_Answer = TypeVar("_Answer")
_MAX_TOGETHER = 256
"""Operations of one transaction."""


@dataclass
class _Operation:
    work: Callable[[], Any] | None
    """None: whoever asked has left before it was begun."""
    answer: asyncio.Future[Any]
    is_durable: bool
    result: Any = None
    error: Exception | None = None


class DatabaseThread(threading.Thread):
    """Runs operations in their order; those that wait together share a transaction, and a write to disk."""

    def __init__(
        self,
        connection: apsw.Connection,
        loop: asyncio.AbstractEventLoop,
        on_undone: Callable[[], None] = lambda: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Own `connection` from `start` on.

        Args:
            connection: used by nobody else.
            loop: where answers are awaited.
            on_undone: called in this thread where something was undone, to read anew what is kept in memory;
                again before each transaction until it succeeds.
            on_end: called in this thread after each transaction.

        """
        super().__init__(name="store", daemon=True)
        self._connection = connection
        self._loop = loop
        self._on_undone = on_undone
        self._on_end = on_end
        self._is_undone = False
        self._is_closed = False
        self._entrance = threading.Lock()
        self._operations: queue.SimpleQueue[_Operation | None] = queue.SimpleQueue()
        self._is_full_sync: bool | None = None

    async def call(self, work: Callable[[], _Answer], *, is_durable: bool = False) -> _Answer:
        """Run `work` in the thread; return when its transaction is kept, if `is_durable` on the disk.

        That cannot be decided by `work`: SQLite has to know before it begins a transaction.

        Who leaves does not undo what is begun; what is not is never done, and nothing of it is held.

        Raises:
            ServiceError: as `work` raises it.
            StoreUnavailable: the database failed, or is closed.

        """
        operation = _Operation(work, self._loop.create_future(), is_durable)
        with self._entrance:  # who comes in before `close` is answered, who comes after is not waited for
            if self._is_closed or not self.is_alive():
                raise closed()
            self._operations.put(operation)
        try:
            answer: _Answer = await operation.answer
        finally:
            operation.work = None
        return answer

    def close(self) -> None:
        """Let the thread end when all that was asked is done, and close the connection."""
        with self._entrance:
            self._is_closed = True
            self._operations.put(None)
        self.join()
        self._connection.close()

    def run(self) -> None:
        """Work until `close`."""
        while self._do_next():  # a frame of its own: nothing of what was done is held while waiting
            pass

    def _do_next(self) -> bool:
        """Do what is asked next, with all that waits behind it; return whether more may come."""
        together: list[_Operation] = []
        while not together or (len(together) < _MAX_TOGETHER and not self._operations.empty()):
            operation = self._operations.get()
            if operation is None:
                break
            together.append(operation)
        if together:
            self._run_together(together)
        return operation is not None

    def _run_together(self, operations: Sequence[_Operation]) -> None:
        """Do them in one transaction, and answer, whatever fails: else all who come would wait for ever."""
        try:
            self._recover()
            self._transact(operations)
        except apsw.Error as error:  # also where the transaction could not be kept
            self._is_undone = True
            cause = _first(error)
            logger.error("the store failed", error=str(cause))  # noqa: TRY400  # its way here says nothing
            for operation in operations:
                operation.error = unavailable(cause)
        with suppress(apsw.Error):  # tried again, and told of, before the next transaction
            self._recover()
        self._on_end()
        self._loop.call_soon_threadsafe(_answer, operations)

    def _recover(self) -> None:
        """Let memory follow the file again, where something was undone."""
        if self._is_undone:
            self._on_undone()
            self._is_undone = False

    def _transact(self, operations: Sequence[_Operation]) -> None:
        self._set_sync(is_full=any(operation.is_durable for operation in operations))
        with _transaction(self._connection):
            for operation in operations:
                self._is_undone |= not self._run_one(operation)

    def _run_one(self, operation: _Operation) -> bool:
        """Run an operation; return whether nothing that it did was undone.

        Raises:
            apsw.Error: SQLite has undone the whole transaction, as it does where the disk is full.

        """
        work = operation.work
        if work is None:
            return True
        try:
            with self._connection:  # a savepoint: who fails does not undo the others
                operation.result = work()
        except ServiceError as error:  # refused, before anything was changed
            operation.error = error
            return True
        except apsw.Error as error:
            if not self._connection.in_transaction:
                raise
            cause = _first(error)
            logger.error("an operation of the store failed", error=str(cause))  # noqa: TRY400  # as above
            operation.error = unavailable(cause)
        except Exception as error:
            logger.exception("an operation of the store is at fault")
            operation.error = error
        return operation.error is None

    def _set_sync(self, *, is_full: bool) -> None:
        """Wait for the disk only where it was promised: it takes as long as all else."""
        if is_full is not self._is_full_sync:
            self._connection.pragma("synchronous", "full" if is_full else "normal")
            self._is_full_sync = is_full


@contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[None]:
    """Keep what is done inside, or nothing of it.

    apsw's own context would hold the interpreter's lock until the disk has all: the loop would stand still.
    """
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # else SQLite has undone it, as it does where the disk is full
            connection.execute("ROLLBACK")
        raise


def _first(error: apsw.Error) -> apsw.Error:
    """Return what failed at first: where SQLite has undone a transaction, leaving it fails, too."""
    while isinstance(error.__context__, apsw.Error):
        error = error.__context__
    return error


def _answer(operations: Sequence[_Operation]) -> None:
    for operation in operations:
        if operation.answer.done():  # whoever asked has left
            continue
        if operation.error is not None:
            operation.answer.set_exception(operation.error)
            operation.answer.exception()  # heard, even by nobody
        else:
            operation.answer.set_result(operation.result)
