"""Names are looked up in threads that keys share: silence holds up nobody but those who asked for it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import idefics2_service
import pytest
from idefics2_service.look_ups import LookUps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE_SECONDS = 10
ADDRESS = "192.0.2.1"


class NameServers:
    """Those of `silent` say nothing until the end, `nobody` has no address, all others are known."""

    def __init__(self) -> None:
        """Begin silent."""
        self.end = threading.Event()
        self.num_asked: Counter[str] = Counter()

    def look_up(self, name: str) -> list[str]:
        """Block as the system does."""
        self.num_asked[name] += 1
        if name == "silent":
            self.end.wait(PATIENCE_SECONDS)
        if name == "nobody":
            raise socket.gaierror(socket.EAI_NONAME, "nobody")
        return [ADDRESS]


@asynccontextmanager
async def open_look_ups() -> AsyncIterator[tuple[LookUps, NameServers]]:
    """Lend some, whose threads end with them."""
    servers = NameServers()
    look_ups = LookUps(servers.look_up)
    try:
        yield look_ups, servers
    finally:
        servers.end.set()
        look_ups.close()
        for thread in threading.enumerate():
            if thread.name == "look-up":
                await asyncio.to_thread(thread.join)


def begin(look_ups: LookUps, key_id: str, name: str, number: int) -> list[asyncio.Task[list[str]]]:
    """Let a key ask so often."""
    return [asyncio.create_task(look_ups.find(key_id, name)) for _ in range(number)]


async def leave(*tasks: asyncio.Task[list[str]]) -> None:
    """Give them up."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def find(look_ups: LookUps, key_id: str, name: str = "known") -> list[str]:
    """Look up, but not for ever."""
    async with asyncio.timeout(PATIENCE_SECONDS / 2):
        return await look_ups.find(key_id, name)


async def test_a_key_whose_names_are_silent_does_not_hold_up_others() -> None:
    async with open_look_ups() as (look_ups, _):
        asked = begin(look_ups, "anna", "silent", 100)
        assert await find(look_ups, "bert") == [ADDRESS]
        await leave(*asked)


async def test_a_thread_is_its_key_s_until_the_system_answers_however_many_are_given_up() -> None:
    async with open_look_ups() as (look_ups, servers):
        for _ in range(10):
            asked = begin(look_ups, "anna", "silent", 10)
            assert await find(look_ups, "bert") == [ADDRESS]
            await leave(*asked)
        late = asyncio.create_task(look_ups.find("anna", "known"))
        assert await find(look_ups, "bert") == [ADDRESS]
        assert (servers.num_asked["silent"], late.done()) == (16, False)
        servers.end.set()
        assert await asyncio.wait_for(late, PATIENCE_SECONDS) == [ADDRESS]
        assert servers.num_asked["silent"] == 16  # for nobody waits for the others


async def test_what_has_no_thread_yet_is_asked_once_there_is_one() -> None:
    async with open_look_ups() as (look_ups, servers):
        asked = begin(look_ups, "anna", "silent", 100)
        assert await find(look_ups, "bert") == [ADDRESS]
        servers.end.set()
        assert await asyncio.gather(*asked) == [[ADDRESS]] * 100
        assert not look_ups._lines


async def test_a_name_without_an_address_is_told_and_its_thread_is_free() -> None:
    async with open_look_ups() as (look_ups, _):
        for _ in range(40):
            with pytest.raises(socket.gaierror):
                await find(look_ups, "anna", "nobody")


async def test_where_the_system_has_no_thread_the_name_is_not_found_and_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with open_look_ups() as (look_ups, _):
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            for _ in range(40):  # more than there are threads
                with pytest.raises(OSError, match="can't start new thread"):
                    await find(look_ups, "a")
        assert await find(look_ups, "a") == [ADDRESS]


async def test_who_waits_while_it_closes_is_cancelled() -> None:
    async with open_look_ups() as (look_ups, _):
        asked = begin(look_ups, "anna", "silent", 20)
        assert await find(look_ups, "bert") == [ADDRESS]
        look_ups.close()
        ended, _ = await asyncio.wait(asked, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        assert len(ended) == 4


SILENT = """
import asyncio, threading
from idefics2_service.look_ups import LookUps

async def main():
    asked = threading.Event()
    look_ups = LookUps(lambda name: asked.set() or threading.Event().wait())
    finding = asyncio.create_task(look_ups.find("anna", "silent"))
    await asyncio.sleep(0)
    asked.wait()
    finding.cancel()
    look_ups.close()

asyncio.run(main())
"""


def test_a_process_that_has_stopped_ends_though_a_name_server_is_silent() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(idefics2_service.__file__).parents[1])}
    command = [sys.executable, "-c", SILENT]
    subprocess.run(command, check=True, timeout=PATIENCE_SECONDS, env=environment)
