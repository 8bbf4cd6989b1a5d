"""An image may be anywhere on the web; where it cannot be had, the error says what its host said."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from aiohttp import web
from faces.face import ask, refusal_of
from fakes.backend import FakeBackend
from fakes.script import Script
from fakes.web_server import run_web_server
from harness import MakeSettings, describe_red_circle, red_circle_answer, run_harness
from idefics2.v1 import generation_pb2
from idefics2_service.app import App
from pictures import RED_CIRCLE, red_circle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from faces.face import Face
    from harness import Harness

    MakeFace = Callable[..., Face]

SECRET = "signature-of-anna"


class Host:
    """A web server with pictures and bad manners."""

    def __init__(self) -> None:
        """Begin without a port."""
        self.port = 0
        self.num_asked = 0
        self.gate = asyncio.Event()

    def url(self, path: str) -> str:
        """Write the address of a file; it holds a secret."""
        return f"http://127.0.0.1:{self.port}/{path}?{SECRET}"

    async def answer(self, request: web.Request) -> web.Response:
        """Give, move or refuse a file by its path."""
        self.num_asked += 1
        path = request.path.strip("/")
        if path == "held.png":
            await self.gate.wait()
        made = _ANSWERS.get(path)
        return web.Response(**made()) if made else web.Response(status=int(path))


_ANSWERS: dict[str, Callable[[], dict[str, Any]]] = {
    "cat.png": lambda: {"body": red_circle()},
    "held.png": lambda: {"body": red_circle()},
    "moved.png": lambda: {"status": 302, "headers": {"Location": "/cat.png"}},
    "page.html": lambda: {"text": "<html>", "content_type": "text/html"},
    "packed.png": lambda: {"body": gzip.compress(red_circle()), "headers": {"Content-Encoding": "gzip"}},
    "huge.png": lambda: {"body": bytes(20_000_001)},
    "inside.png": lambda: {"status": 302, "headers": {"Location": "http://10.0.0.1/"}},
}


@asynccontextmanager
async def serve_files() -> AsyncIterator[Host]:
    """Listen on a free port."""
    host = Host()
    app = web.Application()
    app.router.add_get("/{path}", host.answer)
    async with run_web_server(app) as host.port:
        try:
            yield host
        finally:
            host.gate.set()


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """A web server."""
    async with serve_files() as host:
        yield host


@asynccontextmanager
async def allow(make_settings: MakeSettings, host: Host, script: Script) -> AsyncIterator[Harness]:
    """Run a service that may fetch from the host, whose port is free and whose address is not public."""
    settings = make_settings(
        fetch__allowed_networks="127.0.0.0/8", fetch__ports=f"80,{host.port}", queue__max_running=1
    )
    async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
        yield harness
        harness.check_script()


@pytest.mark.parametrize("path", ["cat.png", "moved.png"])
async def test_an_image_is_fetched_from_its_host(
    make_settings: MakeSettings, make_face: MakeFace, host: Host, path: str
) -> None:
    script = Script()
    script.add(red_circle_answer())
    async with allow(make_settings, host, script) as service:
        assert await make_face(service).run(ask(image_url=host.url(path), images=[])) == RED_CIRCLE


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("404", "FILE_NOT_FOUND"),
        ("410", "FILE_NOT_FOUND"),
        ("401", "FILE_BLOCKED"),
        ("403", "FILE_BLOCKED"),
        ("429", "FILE_RATE_LIMITED"),
        ("500", "FILE_UNREACHABLE"),
        ("page.html", "FILE_NOT_AN_IMAGE"),
        ("packed.png", "FILE_UNREACHABLE"),
        ("huge.png", "FILE_TOO_LARGE"),
        ("inside.png", "FILE_URL_FORBIDDEN"),
    ],
)
async def test_what_the_host_said_is_told_without_the_urls_secrets(
    make_settings: MakeSettings, make_face: MakeFace, host: Host, path: str, reason: str
) -> None:
    async with allow(make_settings, host, Script()) as service:
        refusal = await refusal_of(make_face(service).run(ask(image_url=host.url(path), images=[])))
        assert (refusal.code, refusal.reason, refusal.field) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            reason,
            "image_url",
        )
        assert refusal.message.startswith("image_url")
        assert SECRET not in refusal.message


async def test_a_host_that_is_away_is_said(
    make_settings: MakeSettings, make_face: MakeFace, host: Host
) -> None:
    async with serve_files() as other:
        pass
    host.port = other.port
    async with allow(make_settings, host, Script()) as service:
        call = make_face(service).run(ask(image_url=host.url("cat.png"), images=[]))
        assert (await refusal_of(call)).reason == "FILE_UNREACHABLE"


async def test_a_slow_host_holds_no_turn_and_equal_urls_are_fetched_once(
    make_settings: MakeSettings, host: Host
) -> None:
    script = Script()
    script.add(*[red_circle_answer()] * 4)
    async with allow(make_settings, host, script) as service:
        request = describe_red_circle(image_url=host.url("held.png"), images=[])
        held = [aiter(service.stream(request)) for _ in range(3)]
        for call in held:  # once it is told of, the file is wanted
            assert (await anext(call)).stage_entered.stage == generation_pb2.STAGE_RESOLVING
        assert (await service.generate(describe_red_circle())).output == RED_CIRCLE  # of one turn in all
        host.gate.set()
        for call in held:
            events = [event async for event in call]
            assert events[-1].finished.response.output == RED_CIRCLE
        assert host.num_asked == 1
