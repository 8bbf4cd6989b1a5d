"""The tables, and how their file is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 6
_BUSY_MILLISECONDS = 5_000
_TABLES = """
CREATE TABLE requests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    state TEXT NOT NULL,
    priority TEXT NOT NULL,
    tag INTEGER NOT NULL,
    max_new_tokens INTEGER NOT NULL,
    webhook_url TEXT NOT NULL,
    created_at REAL NOT NULL,
    end_by REAL NOT NULL,
    start_by REAL,
    keep_seconds REAL,
    started_at REAL,
    ended_at REAL,
    expires_at REAL,
    lease_until REAL,
    attempt INTEGER NOT NULL DEFAULT 0,
    num_losses INTEGER NOT NULL DEFAULT 0,
    is_cancelled INTEGER NOT NULL DEFAULT 0,
    stage TEXT,
    num_generated_tokens INTEGER NOT NULL DEFAULT 0,
    last_sequence INTEGER NOT NULL DEFAULT 0,
    traceparent TEXT NOT NULL DEFAULT '',
    holder TEXT NOT NULL DEFAULT '',
    is_begun_once INTEGER NOT NULL DEFAULT 0,
    UNIQUE (key_id, request_id)
);
CREATE INDEX waiting ON requests (tag, seq) WHERE state = 'QUEUED';
CREATE INDEX waiting_of_key ON requests (key_id, priority, tag) WHERE state = 'QUEUED';
CREATE INDEX oldest ON requests (created_at) WHERE state = 'QUEUED';
CREATE INDEX to_start ON requests (start_by) WHERE state = 'QUEUED' AND start_by IS NOT NULL;
CREATE INDEX to_end ON requests (end_by) WHERE state = 'QUEUED';
CREATE INDEX leased ON requests (lease_until) WHERE state = 'RUNNING';
CREATE INDEX expiring ON requests (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX of_key ON requests (key_id, seq);
CREATE INDEX of_key_by_state ON requests (key_id, state, seq);
CREATE TABLE payloads (seq INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE ends (seq INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE events (
    seq INTEGER NOT NULL, number INTEGER NOT NULL, time REAL NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (seq, number)
) WITHOUT ROWID;
CREATE TABLE progress (last_tag INTEGER NOT NULL);
INSERT INTO progress VALUES (0);
"""
_DELIVERIES = """
CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY,
    key_id TEXT NOT NULL,
    due_at REAL NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    holder TEXT NOT NULL DEFAULT ''
);
CREATE INDEX due_of_key ON deliveries (key_id, due_at);
CREATE TABLE turns (key_id TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX next_turn ON turns (at);
"""
_UPGRADES = {
    1: "ALTER TABLE requests ADD COLUMN keep_seconds REAL",
    2: "ALTER TABLE requests ADD COLUMN traceparent TEXT NOT NULL DEFAULT ''",
    3: "ALTER TABLE requests ADD COLUMN holder TEXT NOT NULL DEFAULT ''",
    4: "ALTER TABLE requests ADD COLUMN is_begun_once INTEGER NOT NULL DEFAULT 0",
    5: f"""
ALTER TABLE deliveries RENAME TO earlier;
DROP INDEX due;
{_DELIVERIES}
INSERT INTO deliveries (seq, key_id, due_at, attempt)
    SELECT seq, key_id, due_at, earlier.attempt FROM earlier JOIN requests USING (seq);
INSERT INTO turns SELECT key_id, min(due_at) FROM deliveries GROUP BY key_id;
DROP TABLE earlier;
""",  # noqa: S608  # our own words
}
"""From each earlier version to the one after it."""


def connect(path: Path) -> apsw.Connection:
    """Open the file, made where it is missing, with foreign threads kept out.

    Raises:
        apsw.Error: it cannot be opened, or is of a newer version.

    """
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    connection.pragma("journal_mode", "wal")
    connection.pragma("wal_autocheckpoint", 2_000)
    version = connection.pragma("user_version")
    if version == 0:
        with connection:
            connection.execute(_TABLES + _DELIVERIES)
            connection.pragma("user_version", VERSION)
    elif version > VERSION:
        raise apsw.CantOpenError(f"it is of version {version}, this program reads version {VERSION}")
    else:
        _upgrade(connection, version)
    return connection


def _upgrade(connection: apsw.Connection, version: int) -> None:
    """Bring the tables of an earlier version to this one, all or nothing."""
    with connection:
        for earlier in range(version, VERSION):
            connection.execute(_UPGRADES[earlier])
        connection.pragma("user_version", VERSION)
