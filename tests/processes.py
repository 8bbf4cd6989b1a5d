"""The programs as a user starts them, and what they leave on the machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_SECONDS = 60
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # what the service must leave empty


@dataclass(frozen=True)
class Ready:
    """What the ready file says."""

    grpc: str
    http: str
    api_key: str


class Service:
    """`idefics2-service serve` as a process of its own."""

    def __init__(self, folder: Path, *options: str, **variables: str) -> None:
        """Start it; its files go to `folder`."""
        self._ready_file = folder / "ready.json"
        self.log = folder / "service.log"
        command = [
            *(sys.executable, "-m", "idefics2_service", "serve", "--grpc-port", "0", "--http-port", "0"),
            *("--ready-file", str(self._ready_file), *options),
        ]
        self._temporary = folder / "temporary"
        self._temporary.mkdir()
        environment = {
            "IDEFICS2_DATA_FOLDER": str(folder),
            "IDEFICS2_LOG_FORMAT": "json",
            "TMPDIR": str(self._temporary),
            **variables,
        }
        self.start_time = time.perf_counter()
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C reaches it and not the tests.
            self.process = subprocess.Popen(
                command, stderr=log, env={**clean_environment(), **environment}, start_new_session=True
            )

    def wait_until_ready(self) -> Ready:
        """Return what it says when everything answers."""
        for _ in patience(f"ready file of {self.log}"):
            assert self.process.poll() is None, self.log.read_text()
            if self._ready_file.exists():
                return Ready(**json.loads(self._ready_file.read_text()))
        raise AssertionError

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and wait for the end; return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)

    def tree(self) -> list[psutil.Process]:
        """List its descendants: guard, tritonserver, stub."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stub(self) -> psutil.Process:
        """Find the process that hosts the model."""
        (stub,) = self.named("stub")
        return stub

    def named(self, word: str) -> list[psutil.Process]:
        """List the descendants whose program has a word in its name."""
        return [process for process in self.tree() if word in program_name(process)]

    def shared_memory(self) -> list[str]:
        """List its regions, whichever of its Tritons made them."""
        return [path.name for path in SHARED_MEMORY.glob(f"idefics2_{self.process.pid}_*")]

    def leftovers(self) -> list[str]:
        """List its regions and what it keeps in the temporary folder."""
        return [*self.shared_memory(), *(path.name for path in self._temporary.iterdir())]


@dataclass(frozen=True)
class EmbeddedTriton:
    """What a service's log says of a Triton that it starts."""

    url: str
    """Of its gRPC port, as `host:port`."""
    metrics_url: str
    log: Path
    """There as long as it runs."""


@dataclass(frozen=True)
class Started:
    """A service that answers."""

    service: Service
    ready: Ready

    @property
    def variables(self) -> dict[str, str]:
        """What a client's environment must say."""
        return {"IDEFICS2_CLIENT_TARGET": self.ready.grpc, "IDEFICS2_API_KEY": self.ready.api_key}

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What its log says so far."""
        whole = self.service.log.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line[:1] == "{"]

    @property
    def tritons(self) -> list[EmbeddedTriton]:
        """Those that it started, the latest last."""
        return [
            EmbeddedTriton(line["url"], line["metrics"], Path(line["log"]))
            for line in self.lines
            if line["event"] == "starting triton"
        ]


@contextmanager
def running_service(folder: Path, *options: str, **variables: str) -> Iterator[Service]:
    """Run a service, and let nothing of it survive the block."""
    service = Service(folder, *options, **variables)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            try:
                service.stop(signal.SIGTERM)
            finally:
                service.process.kill()  # does nothing where it has ended


def program_name(process: psutil.Process) -> str:
    """Read the name of a process's program; nothing of a process that has ended meanwhile."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def clean_environment() -> dict[str, str]:
    """Read the environment without the machine's own settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("IDEFICS2_")}


def patience(what: str) -> Iterator[None]:
    """Look again and again for something that nothing tells of; give up after a while."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        yield
        time.sleep(0.02)
    message = f"waited {PATIENCE_SECONDS} s for {what}"
    raise TimeoutError(message)


def wait_until_gone(processes: list[psutil.Process]) -> None:
    """Wait until none of them is alive."""
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_SECONDS)
    assert not alive, alive
