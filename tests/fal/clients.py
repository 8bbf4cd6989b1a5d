"""Processes with one of fal's clients in each, and calls of them."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fal.ways import Way
    from fal.workplaces import Workplace

Told = dict[str, Any]


class ClientError(Exception):
    """The client raised something; `told` is what its caller could see of it."""

    def __init__(self, told: Told) -> None:
        super().__init__(f"{told['name']}: {told['message']}")
        self.told = told

    def __getitem__(self, name: str) -> Any:
        """Return a part of it."""
        return self.told.get(name)


class Call:
    """A call on its way."""

    def __init__(self, told: asyncio.Queue[Told]) -> None:
        self._told = told
        self.heard: list[Told] = []

    async def wait_for(self, kind: str, **facts: Any) -> Told:
        """Wait until something of this kind is told, with these facts."""
        while True:
            told = await self._hear()
            if told["kind"] == kind and facts.items() <= told.items():
                return told
            assert told["kind"] not in {"value", "error"}, f"never told: {kind} {facts}, but {self.heard}"

    async def finish(self) -> Any:
        """Return what the call returns.

        Raises:
            ClientError: it fails.

        """
        while True:
            told = await self._hear()
            if told["kind"] == "error":
                raise ClientError(told)
            if told["kind"] == "value":
                return told.get("value")

    async def _hear(self) -> Told:
        async with asyncio.timeout(PATIENCE_SECONDS):
            told = await self._told.get()
        self.heard.append(told)
        return told

    def find(self, kind: str) -> list[Told]:
        """Return what was told of this kind."""
        return [told for told in self.heard if told["kind"] == kind]


class Client:
    """One of fal's clients, in a process of its own, that calls as it is told."""

    def __init__(self, way: Way, process: asyncio.subprocess.Process) -> None:
        self.way = way
        self._process = process
        self._numbers = itertools.count()
        self._told: defaultdict[int, asyncio.Queue[Told]] = defaultdict(asyncio.Queue)

    async def call(self, flow: str, **arguments: Any) -> Any:
        """Call, and return what the client returns.

        Raises:
            ClientError: it raises something.

        """
        return await self.begin(flow, **arguments).finish()

    def begin(self, flow: str, **arguments: Any) -> Call:
        """Call, and listen."""
        number = next(self._numbers)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "flow": flow, **arguments}).encode() + b"\n")
        return Call(self._told[number])

    async def wait_for_answer(self, request_id: str) -> str:
        """Return the answer of a request that was submitted, as soon as there is one."""
        while (await self.call("status", request_id=request_id))["status"] != "COMPLETED":
            pass
        return read_output(await self.call("result", request_id=request_id))

    async def read(self) -> None:
        """Hear what is told, to the process' end."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if not line.startswith(b'{"id"'):
                continue  # a client's own remark
            told = json.loads(line)
            self._told[told["id"]].put_nowait(told)
        for waiting in self._told.values():
            waiting.put_nowait(
                {"kind": "error", "name": "ProcessEnded", "message": "the client's process ended"}
            )


@asynccontextmanager
async def run_client(workplace: Workplace) -> AsyncIterator[Client]:
    """Run a client in `workplace`, and let nothing of it survive the block."""
    driver = "driver.py" if workplace.way.is_python else "driver.mjs"
    process = await workplace.start(driver)
    client = Client(workplace.way, process)
    reading = asyncio.create_task(client.read())
    try:
        yield client
    finally:
        process.terminate()
        await process.wait()
        await reading


def read_output(value: Any) -> str:
    """Return the answer; the new client lays an envelope around it."""
    output = value.get("data", value)["output"]
    assert isinstance(output, str)
    return output


def read_error_type(error: ClientError) -> str:
    """Return the hosted endpoint's word for what went wrong."""
    body = error["body"]
    return str(body["error_type"] if body else error["error_type"])


def read_faults(error: ClientError) -> list[Told]:
    """Return what the client says of each field that is wrong."""
    faults: list[Told] = error["fieldErrors"] or error["message"]
    assert isinstance(faults, list), faults
    return faults
