"""The programs under measurement, as an operator starts them: the service, and a Triton for its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idefics2_service.settings import Settings
from idefics2_service.triton.server import TritonServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MAX_START_SECONDS = 30.0
MAX_STOP_SECONDS = 20.0
SECONDS_BETWEEN_LOOKS = 0.01


class ServiceLost(Exception):
    """The service did not start; says what it wrote."""


@dataclass(frozen=True)
class Service:
    """A running `idefics2-service serve`."""

    start_seconds: float
    """From the start of the process to the ready file."""
    address: str
    """`host:port` of the gRPC face."""
    api_key: str


@contextmanager
def run_service(*options: str) -> Iterator[Service]:
    """Run it with `options` on free ports, with a folder of its own, and stop it by SIGINT.

    Raises:
        ServiceLost: it ended, or was not ready in MAX_START_SECONDS.

    """
    with tempfile.TemporaryDirectory(prefix="idefics2-bench-") as name:
        ready, log = Path(name, "ready.json"), Path(name, "log")
        started = time.perf_counter()
        process = _launch(("--ready-file", str(ready), *options), log)
        try:
            _wait_until_ready(process, ready, log)
            facts, seconds = json.loads(ready.read_text()), time.perf_counter() - started
            yield Service(seconds, facts["grpc"], facts["api_key"])
        finally:
            _stop(process)


@asynccontextmanager
async def run_triton() -> AsyncIterator[str]:
    """Run a Triton as the service would; yield `host:port` of its gRPC endpoint."""
    settings = Settings.read({}, {"triton.start_timeout_seconds": MAX_START_SECONDS})
    server = TritonServer(settings.triton, _environment())
    try:
        yield await server.start()
    finally:
        await server.stop()


def _launch(options: tuple[str, ...], log: Path) -> subprocess.Popen[bytes]:
    ports = ("--grpc-port", "0", "--http-port", "0")
    with log.open("wb") as output:
        return subprocess.Popen(
            (sys.executable, "-m", "idefics2_service", "serve", *ports, *options),
            stdout=output,
            stderr=output,
            env={**_environment(), "IDEFICS2_DATA_FOLDER": str(log.parent / "data")},
            start_new_session=True,  # Ctrl-C is for us; we stop it ourselves
        )


def _wait_until_ready(process: subprocess.Popen[bytes], ready: Path, log: Path) -> None:
    give_up = time.perf_counter() + MAX_START_SECONDS
    while not ready.exists():
        if process.poll() is not None or time.perf_counter() > give_up:
            raise ServiceLost(f"the service did not start. It said:\n{log.read_text()}")
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(MAX_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    """Read the environment without the machine's own settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("IDEFICS2_")}
