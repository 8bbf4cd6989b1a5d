"""Each behaviour is asserted over both faces, and over a fake backend, a scripted fake Triton and the real.

What is gRPC's own takes `service` and calls its stubs; everything else takes `face`. Over HTTP, the real
Triton answers only where the model matters: `everywhere`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from faces.places import FACES, SERVICES, USUAL_PLACES
from fakes.backend import FakeBackend
from fakes.script import Script
from harness import Harness, MakeSettings, run_harness, run_on_fake_backend, run_on_fake_triton
from idefics2_service.app import App
from idefics2_service.events import TextDelta
from store.servers import BINARIES, Server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from faces.face import Face
    from idefics2_service.backend import BackendEvent
    from idefics2_service.requests import ResolvedRequest, ValidRequest


@pytest.fixture(scope="session")
async def running_on_fake_backend(make_settings: MakeSettings) -> AsyncIterator[Harness]:
    """The service over a fake in its own process; started once."""
    async with run_on_fake_backend(make_settings()) as harness:
        yield harness


@pytest.fixture(scope="session")
async def running_on_fake_triton(make_settings: MakeSettings) -> AsyncIterator[Harness]:
    """The service over a fake that speaks Triton's protocol; started once."""
    async with run_on_fake_triton(make_settings()) as harness:
        yield harness


@pytest.fixture
def on_fake_backend(running_on_fake_backend: Harness) -> Iterator[Harness]:
    """The service over a fake in its own process, whose script is empty."""
    yield from _lend(running_on_fake_backend)


@pytest.fixture
def on_fake_triton(running_on_fake_triton: Harness) -> Iterator[Harness]:
    """The service over a fake that speaks Triton's protocol, whose script is empty."""
    yield from _lend(running_on_fake_triton)


def _lend(harness: Harness) -> Iterator[Harness]:
    try:
        yield harness
        harness.check_script()
    finally:
        harness.script.forget()


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> Harness:
    """The service over each of them in turn."""
    harness = request.getfixturevalue(request.param)
    assert isinstance(harness, Harness)
    return harness


@pytest.fixture(params=USUAL_PLACES)
def face(request: pytest.FixtureRequest) -> Face:
    """Each face of each service in turn."""
    kind, _, service = request.param.partition("-")
    return FACES[kind](request.getfixturevalue(service))


@pytest.fixture
def script() -> Script:
    """What a fake backend answers."""
    return Script()


@pytest.fixture
def backend(script: Script) -> FakeBackend:
    """A fake that a test can lose."""
    return FakeBackend(script)


@pytest.fixture
def asked(backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> list[ValidRequest]:
    """What the backend is asked."""
    asked: list[ValidRequest] = []
    generate = backend.generate

    def listen(request: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        asked.append(request.request)
        return generate(request)

    monkeypatch.setattr(backend, "generate", listen)
    return asked


@pytest.fixture
def pieces(backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> asyncio.Semaphore:
    """What each answer waits for after each piece of its text."""
    pieces, generate = asyncio.Semaphore(0), backend.generate

    async def pause(request: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        async for event in generate(request):
            yield event
            if isinstance(event, TextDelta):
                await pieces.acquire()

    monkeypatch.setattr(backend, "generate", pause)
    return pieces


@pytest.fixture(params=FACES)
def make_face(request: pytest.FixtureRequest) -> Callable[..., Face]:
    """A face of a service that the test runs itself."""
    return FACES[request.param]


@pytest.fixture
async def alone(
    make_settings: MakeSettings, backend: FakeBackend, script: Script, make_face: Callable[..., Face]
) -> AsyncIterator[Face]:
    """Each face of a service over a fake backend that a test has for itself."""
    async with run_harness(App(make_settings(), backend), script, is_real=False) as harness:
        yield make_face(harness)
        harness.check_script()


@pytest.fixture(params=["sqlite", *BINARIES])
def store_place(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Where submitted requests are kept, in each store in turn, as settings."""
    if request.param == "sqlite":
        yield {}
        return
    with Server(request.param) as server:
        yield {"store__url": server.url}
