"""The service as it is deployed: one front on SQLite, or three on one Valkey or Redis, each with a Triton."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faults.requests.programs import Program
from ports import HOST, free_port, wait_for_grpc, wait_for_store
from store.servers import BINARIES, SAFE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

API_KEY = "faults.0123456789abcdef0123456789abcdef"
LEASE_SECONDS = 2.0
ENGINES = ("sqlite", "valkey", "redis")


@dataclass(frozen=True)
class Front:
    """A front and its Triton."""

    front: Program
    triton: Program
    address: str
    http: str
    """`host:port` of its HTTP face."""
    journal: Path
    """What its Triton was asked."""


@dataclass(frozen=True)
class Cluster:
    """All of it."""

    fronts: tuple[Front, ...]
    store: Program | None
    """The server of the store; None on SQLite."""

    @property
    def programs(self) -> tuple[Program, ...]:
        """Whatever can be struck."""
        tritons = tuple(front.triton for front in self.fronts)
        stores = (self.store,) if self.store else ()
        return (*(front.front for front in self.fronts), *tritons, *stores)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the fronts listen."""
        return tuple(front.address for front in self.fronts)

    async def wait_until_up(self) -> None:
        """Return when everything answers."""
        await asyncio.gather(*(program.wait_until_up() for program in self.programs))


@asynccontextmanager
async def run_cluster(
    engine: str, folder: Path, num_fronts: int | None = None, **variables: str
) -> AsyncIterator[Cluster]:
    """Run a cluster whose files go to `folder`; yield it when everything answers."""
    async with AsyncExitStack() as stack:
        store, place = None, {}
        if engine != "sqlite":
            port = free_port()
            store = await stack.enter_async_context(_make_store(engine, folder, port))
            await store.wait_until_up()
            place = {"IDEFICS2_STORE_URL": f"redis://{HOST}:{port}"}
        count = num_fronts or (3 if store else 1)
        fronts = [_make_front(folder, number, {**place, **variables}) for number in range(count)]
        for front in fronts:
            await stack.enter_async_context(front.triton)
            await stack.enter_async_context(front.front)
        cluster = Cluster(tuple(fronts), store)
        await cluster.wait_until_up()
        yield cluster


def _make_store(engine: str, folder: Path, port: int) -> Program:
    data = folder / "store"
    data.mkdir()
    command = [BINARIES[engine], "--port", str(port), "--bind", HOST, "--dir", str(data), *SAFE]
    return Program("store", command, folder / "store.log", lambda: wait_for_store(port), {})


def _make_front(folder: Path, number: int, variables: dict[str, str]) -> Front:
    port, http_port, triton_port = free_port(), free_port(), free_port()
    address, triton_address = f"{HOST}:{port}", f"{HOST}:{triton_port}"
    journal = folder / f"triton{number}.journal"
    triton = Program(
        f"triton{number}",
        [
            sys.executable,
            "-m",
            "faults.requests.triton",
            "--port",
            str(triton_port),
            "--journal",
            str(journal),
        ],
        folder / f"triton{number}.log",
        lambda: wait_for_grpc(triton_address),
        {"PYTHONPATH": ":".join(sys.path)},
    )
    command = [sys.executable, "-m", "idefics2_service", "serve", "--triton-url", triton_address]
    front = Program(
        f"front{number}",
        [*command, "--grpc-port", str(port), "--http-port", str(http_port)],
        folder / f"front{number}.log",
        lambda: wait_for_grpc(address),
        {**_settings(folder / f"data{number}"), **variables},
    )
    return Front(front, triton, address, f"{HOST}:{http_port}", journal)


def _settings(data: Path) -> dict[str, str]:
    """Make the test profile of reference/reliability.md."""
    return {
        "IDEFICS2_API_KEY": API_KEY,
        "IDEFICS2_DATA_FOLDER": str(data),
        "IDEFICS2_LOG_FORMAT": "json",
        "IDEFICS2_STORE_LEASE_SECONDS": str(LEASE_SECONDS),
        "IDEFICS2_STORE_RENEW_SECONDS": "0.5",
    }
