"""What is read of the tables."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from idefics2_service.events import Event
from idefics2_service.requests import Priority, RequestName, Stage, State
from idefics2_service.store import codec, refusals
from idefics2_service.store.records import Page, Record, Statistics
from idefics2_service.store.sqlite.rows import find_row, read_row, read_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import apsw

    from idefics2_service.store.sqlite.order import Order, Place
    from idefics2_service.store.sqlite.rows import Row

_REQUEST = """
SELECT
    seq, key_id, request_id, state, priority, tag, max_new_tokens, created_at, last_sequence, attempt, stage,
    num_generated_tokens, started_at, ended_at, expires_at, ends.data
FROM requests LEFT JOIN ends USING (seq)
"""
_FIRST_OF_OTHERS = """
WITH RECURSIVE keys (key_id) AS (
    SELECT min(key_id) FROM requests WHERE state = 'QUEUED'
    UNION ALL
    SELECT (SELECT min(key_id) FROM requests WHERE state = 'QUEUED' AND key_id > keys.key_id)
    FROM keys WHERE key_id IS NOT NULL
)
SELECT tag, seq FROM requests WHERE seq IN (
    SELECT (
        SELECT seq FROM requests WHERE state = 'QUEUED' AND key_id = keys.key_id AND priority = column1
        ORDER BY tag, seq LIMIT 1
    )
    FROM keys, (VALUES ('NORMAL'), ('LOW')) WHERE key_id NOT IN (SELECT value FROM json_each(?))
)
ORDER BY tag, seq LIMIT 1
"""
"""Steps from key to key by the index `waiting_of_key`: however many of one wait, only its first is seen."""
_NO_NUMBER = 2**62
"""Above that of any request."""


class Views:
    """Reads over one connection."""

    def __init__(self, connection: apsw.Connection, order: Order) -> None:
        """Read from `connection`; `order` knows who is before whom."""
        self._connection = connection
        self._order = order

    def find(self, name: RequestName) -> int:
        """Return a request's number.

        Raises:
            RequestNotFound: there is none.

        """
        query = "SELECT seq FROM requests WHERE key_id = ? AND request_id = ?"
        found = find_row(self._connection, query, *name)
        if found is None:
            raise refusals.not_found(name)
        return int(found[0])

    def find_first(self, but_of: Collection[str]) -> Place | None:
        """Return who is next among those that wait, but of some keys."""
        found = find_row(self._connection, _FIRST_OF_OTHERS, json.dumps(list(but_of)))
        return None if found is None else (found[0], found[1])

    def get(self, name: RequestName) -> Record:
        """As RequestStore.get."""
        row = find_row(self._connection, f"{_REQUEST} WHERE key_id = ? AND request_id = ?", *name)
        if row is None:
            raise refusals.not_found(name)
        return self._record(row)

    def list_page(self, key_id: str, state: State | None, limit: int, before: int | None) -> Page:
        """As RequestStore.list_page."""
        where, values = "key_id = ?", [key_id]
        if state is not None:
            where, values = f"{where} AND state = ?", [*values, state.value]
        query = f"{_REQUEST} WHERE {where} AND seq < ? ORDER BY seq DESC LIMIT ?"
        newest = before if before is not None else _NO_NUMBER
        rows = read_rows(self._connection, query, *values, newest, limit + 1)
        shown = rows[:limit]
        return Page(tuple(self._record(row) for row in shown), shown[-1][0] if len(rows) > limit else None)

    def events(self, name: RequestName, after: int, limit: int) -> list[Event]:
        """As RequestStore.events."""
        query = "SELECT number, time, data FROM events WHERE seq = ? AND number > ? ORDER BY number LIMIT ?"
        return _read_events(read_rows(self._connection, query, self.find(name), after, limit))

    def log_lines(self, name: RequestName, last: int) -> list[Event]:
        """As RequestStore.log_lines."""
        query = """
            SELECT number, time, data FROM events WHERE seq = ? AND number <= ? AND substr(data, 1, ?) = ?
            ORDER BY number
        """
        beginning = codec.LOG_LINE
        rows = read_rows(self._connection, query, self.find(name), last, len(beginning), beginning)
        return _read_events(rows)

    def statistics(self) -> Statistics:
        """As RequestStore.statistics."""
        oldest = "SELECT min(created_at) FROM requests WHERE state = 'QUEUED'"
        first, num_deliveries = (
            read_row(self._connection, query)[0] for query in (oldest, "SELECT count(*) FROM deliveries")
        )
        now = time.time()
        return Statistics(
            now=now,
            num_queued=len(self._order),
            oldest_queued_seconds=max(0.0, now - first) if first else 0.0,
            num_deliveries=num_deliveries,
        )

    def _record(self, row: Row) -> Record:
        (
            seq,
            key_id,
            request_id,
            state,
            priority,
            tag,
            max_new_tokens,
            created_at,
            last,
            attempt,
            stage,
            *rest,
        ) = row
        num_generated_tokens, started_at, ended_at, expires_at, end = rest
        name = RequestName(key_id, request_id)
        position = self._order.position((tag, seq)) if state == State.QUEUED.value else None
        return Record(
            name=name,
            state=State(state),
            priority=Priority(priority),
            max_new_tokens=max_new_tokens,
            created_at=created_at,
            last_sequence=last,
            attempt=attempt,
            stage=Stage(stage) if stage and state == State.RUNNING.value else None,
            num_generated_tokens=num_generated_tokens,
            started_at=started_at,
            ended_at=ended_at,
            expires_at=expires_at,
            queue_position=position,
            estimated_wait_seconds=None if position is None else self._order.estimate_wait(position),
            end=None if end is None else codec.decode_end(end, name),
        )


def _read_events(rows: Sequence[Row]) -> list[Event]:
    return [Event(number, at, codec.decode_happening(data)) for number, at, data in rows]
