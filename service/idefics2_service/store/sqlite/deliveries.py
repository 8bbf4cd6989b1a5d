"""Who is to be told of ends, and whose turn it is, inside the transactions of a `Ledger`."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from idefics2_service.store.sqlite.rows import find_row, read_row

if TYPE_CHECKING:
    from collections.abc import Collection

    import apsw

_NEXT_TURN = """
SELECT key_id FROM turns WHERE at <= ? AND key_id NOT IN (SELECT value FROM json_each(?)) ORDER BY at LIMIT 1
"""


class Due(NamedTuple):
    """A delivery that was claimed."""

    seq: int
    """Of its request."""
    attempt: int
    """From 1."""


class Deliveries:
    """Changes over one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        """Write to `connection`."""
        self._connection = connection

    def add(self, seq: int, key_id: str, due_at: float) -> None:
        """Let one more be due, once `due_at` has come."""
        self._execute("INSERT INTO deliveries (seq, key_id, due_at) VALUES (?, ?, ?)", seq, key_id, due_at)
        self._note_turn(key_id)

    def claim(self, again_after_seconds: float, but_of: Collection[str], holder: str) -> Due | None:
        """As RequestStore.claim_delivery, for `holder`."""
        now = time.time()
        turn = find_row(self._connection, _NEXT_TURN, now, json.dumps(list(but_of)))
        if turn is None:
            return None
        (key_id,) = turn
        query = "SELECT seq, attempt + 1 FROM deliveries WHERE key_id = ? ORDER BY due_at, seq LIMIT 1"
        due = Due(*read_row(self._connection, query, key_id))
        self._execute(
            "UPDATE deliveries SET due_at = ?, attempt = ?, holder = ? WHERE seq = ?",
            *(now + again_after_seconds, due.attempt, holder, due.seq),
        )
        # Behind all others that are due.
        self._execute("UPDATE turns SET at = ? WHERE key_id = ?", now, key_id)
        self._note_turn(key_id)
        return due

    def settle(self, seq: int, key_id: str, holder: str, retry_after_seconds: float | None) -> None:
        """As RequestStore.settle_delivery, of what `holder` has claimed."""
        if retry_after_seconds is None:
            self._execute("DELETE FROM deliveries WHERE seq = ? AND holder = ?", seq, holder)
        else:
            due_at = time.time() + retry_after_seconds
            self._execute(
                "UPDATE deliveries SET due_at = ? WHERE seq = ? AND holder = ?", due_at, seq, holder
            )
        self._note_turn(key_id)

    def _note_turn(self, key_id: str) -> None:
        """Let a key's turn come when the first of its deliveries is due, but not before its last turn.

        So those who have many due let the others pass, each time that one of theirs was claimed.
        """
        first = "SELECT min(due_at) FROM deliveries WHERE key_id = ?"
        (first_due_at,) = read_row(self._connection, first, key_id)
        if first_due_at is None:
            self._execute("DELETE FROM turns WHERE key_id = ?", key_id)
            return
        (turn,) = find_row(self._connection, "SELECT at FROM turns WHERE key_id = ?", key_id) or (0,)
        at = max(first_due_at, min(turn, time.time()))
        self._execute("INSERT OR REPLACE INTO turns VALUES (?, ?)", key_id, at)

    def _execute(self, statement: str, *values: Any) -> None:
        self._connection.execute(statement, values)
