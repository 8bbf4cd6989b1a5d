"""Reading rows: apsw's own types allow for every value that SQLite knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import apsw

Row = tuple[Any, ...]


def find_row(connection: apsw.Connection, statement: str, *values: Any) -> Row | None:
    """Return the first row, if there is one."""
    row: Row | None = connection.execute(statement, values).fetchone()
    return row


def read_row(connection: apsw.Connection, statement: str, *values: Any) -> Row:
    """Return the first row.

    Raises:
        LookupError: there is none.

    """
    row = find_row(connection, statement, *values)
    if row is None:
        raise LookupError(statement)
    return row


def read_rows(connection: apsw.Connection, statement: str, *values: Any) -> list[Row]:
    """Return all rows."""
    rows: list[Row] = connection.execute(statement, values).fetchall()
    return rows
