"""Clients hold nothing of what was asked, once it has ended, one way or another."""

from __future__ import annotations

import asyncio
import gc
import io
import threading
import weakref
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import pytest
from fakes.file_server import make_file
from fakes.scripted_server import PATIENCE_SECONDS, Take, make_status
from idefics2_client import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakes.file_server import FileServer
    from idefics2_client import AsyncClient

LARGE = b"BM" + bytes(3_000_000)
REFUSED = make_status("INVALID_ARGUMENT", "VALUE_OUT_OF_RANGE", "top_p must be less", field="top_p")
NO_FILE = make_status("NOT_FOUND", "FILE_NOT_UPLOADED", "why")
NO_UPLOAD = make_status("NOT_FOUND", "UPLOAD_NOT_FOUND", "why")


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    """Find nothing that is held by circles alone: the collector comes late to what is old."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Picture(bytes):
    """Tells when nobody holds it any more."""

    is_gone: threading.Event

    def __del__(self) -> None:
        """Tell."""
        self.is_gone.set()


def make_picture(is_gone: threading.Event) -> Picture:
    picture = Picture(b"BM" + bytes(1000))
    picture.is_gone = is_gone
    return picture


async def ask(caller: AsyncClient, method: str, picture: bytes) -> None:
    """Ask what is refused."""
    with suppress(InvalidRequest):
        if method == "stream":
            async with aclosing(caller.stream(picture, "What?")) as events:
                async for _ in events:
                    pass
        else:
            await getattr(caller, method)(picture, "What?")


@pytest.mark.parametrize("method", ["generate", "stream", "submit", "count_tokens"])
async def test_nothing_is_held_of_a_question_that_was_refused(
    server: FileServer, caller: AsyncClient, method: str
) -> None:
    is_gone = threading.Event()
    server.expect(REFUSED)
    await ask(caller, method, make_picture(is_gone))
    assert await asyncio.to_thread(is_gone.wait, PATIENCE_SECONDS)


async def test_nothing_is_held_of_a_file_that_was_uploaded(server: FileServer, caller: AsyncClient) -> None:
    server.expect(NO_FILE)
    server.expect(NO_UPLOAD)
    server.expect(Take(), make_file(LARGE))
    is_gone = threading.Event()
    file = io.BytesIO(LARGE)
    weakref.finalize(file, is_gone.set)
    await caller.upload(file)
    del file
    assert await asyncio.to_thread(is_gone.wait, PATIENCE_SECONDS)


@pytest.mark.parametrize("fails", ["the call", "the callback"])
async def test_nothing_is_held_of_a_file_whose_upload_failed(
    server: FileServer, caller: AsyncClient, fails: str
) -> None:
    def fail(_: object) -> None:
        if fails == "the callback":
            raise ZeroDivisionError

    server.expect(NO_FILE)
    server.expect(NO_UPLOAD)
    server.expect(Take(), REFUSED)
    is_gone = threading.Event()
    file = io.BytesIO(LARGE)
    weakref.finalize(file, is_gone.set)
    with pytest.raises(InvalidRequest if fails == "the call" else ZeroDivisionError) as caught:
        await caller.upload(file, on_progress=fail)
    del file, caught
    assert await asyncio.to_thread(is_gone.wait, PATIENCE_SECONDS)
