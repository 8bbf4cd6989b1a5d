"""Many requests that wait, put into a SQLite before a front opens it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from faults.requests.cluster import API_KEY
from idefics2_service.requests import GenerateInput, ImageSource, RequestName
from idefics2_service.settings import Settings
from idefics2_service.store.records import Submission
from idefics2_service.store.sqlite.store import SqliteStore
from idefics2_service.validation import validate
from pictures import red_circle

if TYPE_CHECKING:
    from pathlib import Path

_KEY_ID = API_KEY.partition(".")[0]
_AT_ONCE = 1_000


async def fill(folder: Path, num_queued: int) -> None:
    """Submit requests that are called `queued-0` and so on."""
    settings, image = Settings(), ImageSource("images[0].data", data=red_circle())
    store = SqliteStore(folder, settings.store)
    await store.start()
    for first in range(0, num_queued, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, num_queued))
        await asyncio.gather(*(store.submit(_make(number, image, settings)) for number in numbers))
    await store.stop()


def _make(number: int, image: ImageSource, settings: Settings) -> Submission:
    request = validate(GenerateInput(f"question {number}", (image,)), settings.limits)
    return Submission(RequestName(_KEY_ID, f"queued-{number}"), b"", request)
