"""A cancel reaches who runs the request at once, in every stage, and from whatever replica it comes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from faces.face import Failure, ask, read_until
from fakes.backend import FakeBackend
from fakes.script import Script
from fakes.slow_host import SlowHost, run_slow_host
from harness import MakeSettings, run_harness
from idefics2_service.app import App
from idefics2_service.events import StageEntered, TextDelta
from idefics2_service.requests import Stage, State
from ports import HOST
from store.servers import Server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from faces.face import Face, Happening
    from idefics2_service.backend import BackendEvent
    from idefics2_service.requests import ResolvedRequest

PATIENCE_SECONDS = 30
LONG_LEASE = {"store__lease_seconds": 7_200, "store__renew_seconds": 3_600}
"""Who runs a request hears of nothing by renewing its lease."""
READ = "Read this for ever."


class HeldBackend(FakeBackend):
    """Answers nobody to the end: one prompt it reads for ever, all others it leaves after some text."""

    def __init__(self) -> None:
        super().__init__(Script())
        self.num_begun = self.num_held = 0

    async def generate(self, request: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        """As Backend.generate."""
        self.num_begun += 1
        self.num_held += 1
        try:
            yield StageEntered(Stage.PREFILL)
            if request.request.prompt != READ:
                yield StageEntered(Stage.DECODE)
                yield TextDelta("x", 1)
            await asyncio.Event().wait()
        finally:
            self.num_held -= 1


@pytest.fixture
async def host() -> AsyncIterator[SlowHost]:
    """A host of a picture that does not come."""
    async with run_slow_host() as host:
        yield host


@pytest.fixture
def held() -> HeldBackend:
    """The model of who runs all requests, one at a time."""
    return HeldBackend()


@pytest.fixture(params=["the replica that runs it", "another replica"])
async def face(
    request: pytest.FixtureRequest,
    make_settings: MakeSettings,
    make_face: Callable[..., Face],
    held: HeldBackend,
    host: SlowHost,
) -> AsyncIterator[Face]:
    """Each face of the replica that is asked."""
    settings = {
        "queue__max_running": 1,
        "fetch__allowed_networks": HOST,
        "fetch__ports": str(host.port),
        **LONG_LEASE,
    }
    async with AsyncExitStack() as stack:

        async def run(backend: FakeBackend) -> Face:
            app = App(make_settings(**settings), backend)
            return make_face(await stack.enter_async_context(run_harness(app, Script(), is_real=False)))

        if request.param == "another replica":
            settings["store__url"] = stack.enter_context(Server("valkey")).url
            idle = FakeBackend(Script())
            asked = await run(idle)
            await idle.set_healthy(healthy=False)
            await run(held)
            yield asked
        else:
            yield await run(held)


async def read_until_stage(events: AsyncGenerator[Happening, None], stage: Stage) -> None:
    """Read events until a stage is entered."""
    while (await read_until(events, StageEntered)).stage is not stage:
        pass


async def cancel(face: Face, request_id: str, watching: AsyncGenerator[Happening, None]) -> None:
    """Cancel a request that does not end by itself, and hear of its end."""
    assert await face.cancel(request_id)
    assert (await read_until(watching, Failure)).reason == "REQUEST_CANCELLED"
    assert (await face.get(request_id)).state is State.CANCELLED


async def test_the_host_of_a_picture_that_is_fetched_is_let_go(
    face: Face, held: HeldBackend, host: SlowHost
) -> None:
    request_id = await face.submit(ask(image_url=host.url, images=[]))
    watching = face.watch(request_id)
    await read_until_stage(watching, Stage.RESOLVING)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await host.is_asked.wait()
        await cancel(face, request_id, watching)
        await host.is_left.wait()
    assert held.num_begun == 0


async def test_what_waits_for_its_turn_is_never_begun(face: Face, held: HeldBackend) -> None:
    running = await face.submit(ask())
    watching = face.watch(running)
    await read_until(watching, TextDelta)
    waiting = await face.submit(ask())
    watching_other = face.watch(waiting)
    await read_until_stage(watching_other, Stage.QUEUED)
    await cancel(face, waiting, watching_other)
    await cancel(face, running, watching)
    assert (held.num_begun, held.num_held) == (1, 0)


async def test_a_model_that_reads_lets_go(face: Face, held: HeldBackend) -> None:
    request_id = await face.submit(ask(prompt=READ))
    watching = face.watch(request_id)
    await read_until_stage(watching, Stage.PREFILL)
    await cancel(face, request_id, watching)
    assert (held.num_begun, held.num_held) == (1, 0)


async def test_a_model_that_writes_lets_go(face: Face, held: HeldBackend) -> None:
    request_id = await face.submit(ask())
    watching = face.watch(request_id)
    await read_until(watching, TextDelta)
    await cancel(face, request_id, watching)
    assert (held.num_begun, held.num_held) == (1, 0)
