"""Long lists, read a part at a time, so that others pass between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idefics2_service.store.records import Page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from idefics2_service.store.records import Record

_RECORDS_AT_ONCE = 50
"""Each takes the store, and us, some dozens of microseconds, in which all others wait."""


async def list_in_parts(
    list_part: Callable[[int, int | None], Awaitable[Page]], limit: int, before: int | None
) -> Page:
    """Return a page of at most `limit`, read by `list_part`, which is given a limit and `before`."""
    records: list[Record] = []
    while True:
        part = await list_part(min(limit - len(records), _RECORDS_AT_ONCE), before)
        records += part.records
        before = part.next_before
        if before is None or len(records) == limit:
            return Page(tuple(records), before)
