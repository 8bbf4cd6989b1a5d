"""The service under test, with one of three things behind it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from engine_figures import EngineFigures
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from fakes.triton import FakeTriton
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from idefics2.v1 import generation_pb2, generation_pb2_grpc
from idefics2_service.app import App
from idefics2_service.blobs.directory import DirectoryBlobs
from idefics2_service.downloads import Downloads
from idefics2_service.fetcher import Fetcher
from idefics2_service.files import Files
from idefics2_service.settings import FetchSettings, FileSettings, LimitSettings, Settings
from idefics2_service.triton.server import TritonServer
from idefics2_service.uploads.library import Library
from pictures import DESCRIBE, RED_CIRCLE_PIECES, red_circle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable


Request = generation_pb2.GenerateRequest
MakeSettings = Callable[..., Settings]
PATIENCE_SECONDS = 30
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Cheaper to make than one that knows whom to trust."""


@dataclass
class Harness:
    """A running service and the way to call it."""

    app: App
    stub: Any
    channel: grpc.aio.Channel
    http: httpx.AsyncClient
    script: Script
    is_real: bool

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The key."""
        return (("authorization", f"Key {self.app.api_key}"),)

    def expect(self, *answers: Answer) -> None:
        """Tell a fake what the real model would answer by itself."""
        if not self.is_real:
            self.script.add(*answers)

    def check_script(self) -> None:
        """Fail if a fake was told more than it was asked."""
        self.script.check_used_up()

    @property
    def engine(self) -> EngineFigures:
        """What the real engine tells of itself."""
        port = self.app._settings.triton.metrics_port
        return EngineFigures(self.http, f"http://127.0.0.1:{port}/metrics")

    @asynccontextmanager
    async def letting_go(self, count: int) -> AsyncIterator[None]:
        """Check that so many of the answers that run are cancelled there, in the block or soon after it."""
        if self.is_real:
            await self.engine.catch_up()
            before = await self.engine.read("requests_cancelled_total")
            yield
            await self.engine.wait_for("requests_cancelled_total", before + count)
        else:
            before = self.script.num_cancelled
            yield
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.script.wait_until_cancelled(before + count)

    async def generate(self, request: Request, **options: Any) -> generation_pb2.GenerateResponse:
        """Call Generate."""
        response = await self.stub.Generate(request, **{"metadata": self.metadata, **options})
        assert isinstance(response, generation_pb2.GenerateResponse)
        return response

    def stream(self, request: Request, **options: Any) -> Any:
        """Call GenerateStream."""
        return self.stub.GenerateStream(request, **{"metadata": self.metadata, **options})


@asynccontextmanager
async def run_harness(app: App, script: Script, *, is_real: bool) -> AsyncIterator[Harness]:
    """Run `app` and connect to it."""
    async with app, _connect(app, script, is_real=is_real) as harness:
        await app.wait_until_serving()
        yield harness


@asynccontextmanager
async def run_while_triton_starts(app: App, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    """Connect to `app` while it waits for its embedded Triton, which does not come; then end it."""
    is_waiting = asyncio.Event()

    async def hang(_: TritonServer) -> str:
        is_waiting.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    monkeypatch.setattr(TritonServer, "start", hang)
    async with _connect(app, Script(), is_real=False) as harness:
        starting = asyncio.create_task(app.__aenter__())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await is_waiting.wait()
            yield harness
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)


@asynccontextmanager
async def _connect(app: App, script: Script, *, is_real: bool) -> AsyncIterator[Harness]:
    async with (
        grpc.aio.insecure_channel(app.grpc_address) as channel,
        httpx.AsyncClient(
            base_url=f"http://{app.http_address}",
            verify=_NO_TLS,
            timeout=PATIENCE_SECONDS,
        ) as http,
    ):
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        yield Harness(app, stub, channel, http, script, is_real)


@asynccontextmanager
async def run_on_fake_backend(settings: Settings) -> AsyncIterator[Harness]:
    """Run the service over FakeBackend."""
    script = Script()
    async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
        yield harness


@asynccontextmanager
async def run_on_fake_triton(settings: Settings) -> AsyncIterator[Harness]:
    """Run the service over FakeTriton, through the real TritonBackend."""
    script = Script()
    async with AsyncExitStack() as stack:
        triton = await stack.enter_async_context(FakeTriton(script))
        pointed = settings.model_copy(
            update={"triton": settings.triton.model_copy(update={"url": triton.url})}
        )
        yield await stack.enter_async_context(run_harness(App(pointed), script, is_real=False))


def make_files(limits: LimitSettings | None = None) -> Files:
    """Read images that are not fetched."""
    return Files(limits or LimitSettings(), Downloads(Fetcher(FetchSettings())), make_library())


def make_library() -> Library:
    """Make one without files."""
    return Library(DirectoryBlobs(Path("/nonexistent")), FileSettings())


def describe_red_circle(**fields: Any) -> Request:
    """Ask what a red circle is, without randomness; `fields` are set on top."""
    fields = {"temperature": 0, "images": [generation_pb2.Image(data=red_circle())], **fields}
    return Request(**{"prompt": DESCRIBE, **fields})


def red_circle_answer() -> Answer:
    """What the model says to `describe_red_circle`."""
    return Answer(RED_CIRCLE_PIECES)


def talk_without_end(**fields: Any) -> Request:
    """Ask for something that goes on for thousands of steps, and is never the same for two seeds."""
    wild = {"temperature": 10, "top_p": 1, "max_new_tokens": 1500, "min_new_tokens": 1500, "seed": 11}
    return describe_red_circle(**{**wild, **fields})


@dataclass(frozen=True)
class Refusal:
    """An error as a caller sees it."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]
    field: str
    num_error_infos: int
    retry_seconds: float | None
    fields: tuple[str, ...] = ()
    """All that are wrong."""


async def refuse(call: Awaitable[Any]) -> Refusal:
    """Make a gRPC call that must fail, and return how it does."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
    refusal = read_refusal(caught.value)
    assert refusal.num_error_infos == 1
    return refusal


def read_refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """Read status and details."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has what it needs
    assert status is not None, f"no details: {error}"
    infos, fields, retry = [], [""], None
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        delay = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            infos.append(info)
        elif detail.Unpack(bad):
            fields = [violation.field for violation in bad.field_violations]
        elif detail.Unpack(delay):
            retry = delay.retry_delay.ToTimedelta().total_seconds()
    return Refusal(
        code=error.code(),
        message=status.message,
        reason=infos[0].reason,
        metadata=dict(infos[0].metadata),
        field=fields[0],
        num_error_infos=len(infos),
        retry_seconds=retry,
        fields=tuple(fields) if fields != [""] else (),
    )
