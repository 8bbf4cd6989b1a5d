"""The programs under measurement, as an operator starts them: the service, and a Triton for its own."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from idefics2_service.settings import Settings
from idefics2_service.triton.server import TritonServer
from processes import Started, clean_environment, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

MAX_TRITON_START_SECONDS = 30.0


@asynccontextmanager
async def run_service(*options: str, **variables: str) -> AsyncIterator[Started]:
    """Run `idefics2-service serve` in a folder that goes with it; yield it as soon as it answers."""
    with (
        tempfile.TemporaryDirectory(prefix="idefics2-bench-") as folder,
        running_service(Path(folder), *options, **variables) as service,
    ):
        yield Started(service, await asyncio.to_thread(service.wait_until_ready))


@asynccontextmanager
async def run_script(
    path: Path, variables: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[psutil.Process, str]]:
    """Run a Python file of ours until the block ends, which ends its input; yield it and its first line."""
    environment = {**clean_environment(), **(variables or {})}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(path)), stdin=pipe, stdout=pipe, env=environment
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield psutil.Process(process.pid), (await process.stdout.readline()).decode()
    finally:
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def run_triton(
    repository: str = "", environment: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """Run a Triton as the service would, or with another repository; yield its `host:port`."""
    given: dict[str, object] = {"triton.start_timeout_seconds": MAX_TRITON_START_SECONDS}
    if repository:
        given["triton.model_repository"] = repository
    settings = Settings.read({}, given)
    server = TritonServer(settings.triton, {**clean_environment(), **(environment or {})})
    try:
        yield await server.start()
    finally:
        await server.stop()
