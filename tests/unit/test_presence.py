"""Whether a caller is there, over TLS: what is encrypted leaves sight, and is still to be taken."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from certificates import HOST, Identity
from idefics2_service.rest.presence import Presence, Protocol
from idefics2_service.rest.server import HttpServer
from idefics2_service.tls import Certificates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from harness import MakeSettings
    from idefics2_service.settings import Settings
    from starlette.types import Receive, Scope, Send

PATIENCE_SECONDS = 10
PIECE = b"x" * 4 * 2**20
LOOPS = [uvloop.new_event_loop, asyncio.new_event_loop]
ROOT = Identity.make("root")


@dataclass
class Speaker:
    """Answers each call in pieces, as fast as they are taken."""

    pieces: tuple[bytes, ...]
    stall_timeout_seconds: float
    is_left_off: bool = False
    """Whether an answer does not get its end."""
    is_taken: asyncio.Event = field(default_factory=asyncio.Event)
    presence: Presence | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call, as ASGI says."""
        self.presence = presence = Presence(scope, receive, send, self.stall_timeout_seconds)
        await presence.send({"type": "http.response.start", "status": 200})
        for piece in self.pieces:
            await presence.send({"type": "http.response.body", "body": piece, "more_body": True})
        await presence.wait_until_taken()
        self.is_taken.set()
        if self.is_left_off:
            await presence.leave_off()
            await presence.end()
        else:
            await presence.send({"type": "http.response.body"})


@dataclass
class Caller:
    """Who has called over TLS, and takes nothing by itself; the system takes hardly anything, too."""

    socket: ssl.SSLSocket
    server: HttpServer

    @property
    def connection(self) -> Protocol | None:
        """What answers; None: nothing any more."""
        for connection in self.server._server.server_state.connections:
            assert isinstance(connection, Protocol)
            return connection
        return None

    async def take(self, num_bytes: int) -> bytes:
        """Take so many bytes."""
        got = b""
        while len(got) < num_bytes:
            got += await asyncio.to_thread(self.socket.recv, num_bytes - len(got))
        return got

    async def take_all(self) -> bytes:
        """Take what there is until the other side says that it closes.

        Raises:
            OSError: it broke off.

        """
        got = b""
        while chunk := await asyncio.to_thread(self.socket.recv, 100_000):
            got += chunk
        return got


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something is so that nothing tells of."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110  # see above
            await asyncio.sleep(0)


def connect(address: str, version: str) -> ssl.SSLSocket:
    """Call once."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cadata=ROOT.certificate_pem.decode())
    plain = socket.socket()
    plain.settimeout(PATIENCE_SECONDS)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    plain.connect((host, int(port)))
    caller = context.wrap_socket(plain, server_hostname=HOST, suppress_ragged_eofs=False)
    caller.sendall(f"GET / HTTP/{version}\r\nHost: x\r\n\r\n".encode())
    return caller


@asynccontextmanager
async def call(settings: Settings, speaker: Speaker, version: str) -> AsyncIterator[Caller]:
    """Call a speaker."""
    server = HttpServer(settings.http, speaker, Certificates("http", settings.http))
    await server.start()
    # Of the connections to come: else the system would take as much as it has learned that the way can bear.
    server._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    try:
        with await asyncio.to_thread(connect, server.address, version) as called:
            yield Caller(called, server)
    finally:
        await server.stop()


@pytest.fixture(params=LOOPS, ids=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest, make_settings: MakeSettings, tmp_path: Path) -> Callable[..., None]:
    """Run a story of a caller, on each loop in turn: they encrypt in ways of their own."""
    certificate, key = Identity.make("service", ROOT).write(tmp_path)

    def run(
        tell: Callable[[Caller, Speaker], Awaitable[None]],
        *pieces: bytes,
        version: str = "1.1",
        **fields: Any,
    ) -> None:
        seconds = fields.pop("stall_timeout_seconds", 30.0)
        settings = make_settings(
            http__tls_certificate_file=str(certificate),
            http__tls_key_file=str(key),
            http__stall_timeout_seconds=seconds,
        )

        async def begin() -> None:
            speaker = Speaker(pieces, seconds, **fields)
            async with call(settings, speaker, version) as caller:
                await tell(caller, speaker)

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(begin())

    return run


def test_who_reads_steadily_over_tls_is_seen_to_do_so(run: Callable[..., None]) -> None:
    async def tell(caller: Caller, speaker: Speaker) -> None:  # noqa: ARG001  # as in each story
        await caller.take(100_000)
        connection = caller.connection
        assert connection is not None
        for _ in range(20):
            await wait_until(lambda: connection._next_look is not None)
            look = connection._next_look
            await caller.take(200_000)
            await wait_until(lambda before=look: connection._next_look is not before)  # type: ignore[misc]

    run(tell, PIECE, PIECE)


def test_who_takes_nothing_over_tls_is_given_up(run: Callable[..., None]) -> None:
    async def tell(caller: Caller, speaker: Speaker) -> None:
        await speaker.is_taken.wait()  # or given up
        assert speaker.presence is not None
        assert speaker.presence.has_stalled
        with suppress(ssl.SSLEOFError, ConnectionResetError):
            assert len(await caller.take_all()) < 150_000

    run(tell, b"x" * 200_000, stall_timeout_seconds=0.2)


def test_all_that_was_written_over_tls_comes_where_an_answer_is_left_off(run: Callable[..., None]) -> None:
    async def tell(caller: Caller, speaker: Speaker) -> None:
        await speaker.is_taken.wait()  # as far as it is in sight
        got = await caller.take_all()
        assert got.endswith(b"the last\r\n")  # and not the end

    run(tell, b"x" * 60_000, b"the last", is_left_off=True)


def test_who_does_not_take_what_was_written_over_tls_is_broken_off(run: Callable[..., None]) -> None:
    async def tell(caller: Caller, speaker: Speaker) -> None:
        await speaker.is_taken.wait()
        await wait_until(lambda: caller.connection is None)
        with suppress(ssl.SSLEOFError):  # some versions of Python say so of an end that is none
            assert b"the last" not in await caller.take_all()

    run(tell, b"x" * 60_000, b"the last", is_left_off=True, stall_timeout_seconds=0.2)


def test_an_answer_that_is_left_off_over_tls_has_no_end_for_who_takes_that_for_the_whole(
    run: Callable[..., None],
) -> None:
    async def tell(caller: Caller, speaker: Speaker) -> None:
        await speaker.is_taken.wait()
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            await caller.take_all()

    run(tell, b"the last", version="1.0", is_left_off=True)
