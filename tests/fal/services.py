"""Services that fal's clients call: some with a fake model that does as tests say, one with a real one."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from certificates import Identity
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from fal.ways import CONNECT, HTTP, TLS, Door
from harness import Harness, run_harness
from idefics2_service.app import App
from idefics2_service.events import StageEntered
from idefics2_service.requests import Stage, State
from ports import free_port
from processes import PATIENCE_SECONDS, Started, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator
    from pathlib import Path

    from idefics2_service.backend import BackendEvent
    from idefics2_service.requests import ResolvedRequest
    from idefics2_service.settings import Settings


class GatedBackend(FakeBackend):
    """Begins, and says nothing while its gate is closed."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.gate = asyncio.Event()
        self.gate.set()

    async def generate(self, request: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        """As Backend.generate."""
        async for event in super().generate(request):
            yield event
            if event == StageEntered(Stage.DECODE):
                await self.gate.wait()


class Fake:
    """A service with a fake model."""

    def __init__(self, harness: Harness, backend: GatedBackend) -> None:
        self.harness = harness
        self._backend = backend

    def expect(self, *pieces: str) -> None:
        """Answer one more request so."""
        self.harness.expect(Answer(pieces))

    def hold_answers(self) -> None:
        """Let the model begin, and say nothing."""
        self._backend.gate.clear()

    def release_answers(self) -> None:
        """Let the model go on."""
        self._backend.gate.set()

    async def hold_queue(self) -> None:
        """Let nothing begin of what is submitted."""
        await self._backend.set_healthy(healthy=False)

    async def release_queue(self) -> None:
        """Let what waits begin."""
        await self._backend.set_healthy(healthy=True)

    def find_door(self, kind: str) -> Door:
        """Return where clients come in: by HTTP, with the TLS that it may have, or by CONNECT."""
        app, folder = self.harness.app, self.harness.app._settings.data.folder
        if kind == CONNECT:
            return Door(str(app.connect_address), str(app.api_key), folder / "connect/ca.pem")
        return Door(app.http_address, str(app.api_key), folder / "ca.pem" if kind == TLS else None)

    async def count_requests(self) -> int:
        """Tell how many requests were ever submitted."""
        page = await self.harness.app._store.list_page(self._key_id, None, 1_000, None)
        return len(page.records)

    async def clear(self) -> None:
        """End what a test left behind, so that the next one begins with nothing."""
        self.release_answers()
        await self.release_queue()
        store = self.harness.app._store
        for state in (State.QUEUED, State.RUNNING):
            for record in (await store.list_page(self._key_id, state, 1_000, None)).records:
                await store.cancel(record.name)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while runs := list(self.harness.app._workers._runs):
                await asyncio.wait(runs)

    @property
    def _key_id(self) -> str:
        return str(self.harness.app.api_key).partition(".")[0]


@asynccontextmanager
async def run_fake(settings: Settings) -> AsyncIterator[Fake]:
    """Run a service with a fake model."""
    script = Script()
    backend = GatedBackend(script)
    async with run_harness(App(settings, backend), script, is_real=False) as harness:
        yield Fake(harness, backend)


class Real:
    """A service with a real Triton and the embedded checkpoint, as processes."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._connect_port = free_port()
        (folder / "plain").mkdir()
        self._plain = self._start("plain", IDEFICS2_CONNECT_PORT=str(self._connect_port))
        self._doors = {HTTP: Door(self._plain.ready.http, self._plain.ready.api_key)}

    def find_door(self, kind: str) -> Door:
        """Return where clients come in; the door is made when it is asked for."""
        if kind not in self._doors:
            self._doors[kind] = self._open_connect() if kind == CONNECT else self._open_tls()
        return self._doors[kind]

    def _open_connect(self) -> Door:
        ca_file = self._folder / "plain/connect/ca.pem"
        return Door(f"127.0.0.1:{self._connect_port}", self._plain.ready.api_key, ca_file)

    def _open_tls(self) -> Door:
        """Start another front before the same Triton."""
        folder = self._folder / "tls"
        folder.mkdir()
        variables = {
            f"IDEFICS2_HTTP_{name.upper()}": path for name, path in write_certificate(folder).items()
        }
        started = self._start("tls", "--triton-url", self._plain.tritons[-1].url, **variables)
        return Door(started.ready.http, started.ready.api_key, folder / "ca.pem")

    def _start(self, name: str, *options: str, **variables: str) -> Started:
        service = self._stack.enter_context(running_service(self._folder / name, *options, **variables))
        return Started(service, service.wait_until_ready())


@contextmanager
def run_real(folder: Path) -> Iterator[Real]:
    """Run a service with a real model."""
    with ExitStack() as stack:
        yield Real(folder, stack)


def write_certificate(folder: Path) -> dict[str, str]:
    """Write a certificate for this machine, and who vouches for it as `ca.pem`; return settings."""
    root = Identity.make("root")
    certificate, key = Identity.make("gateway", root).write(folder)
    (folder / "ca.pem").write_bytes(root.certificate_pem)
    return {"tls_certificate_file": str(certificate), "tls_key_file": str(key)}
