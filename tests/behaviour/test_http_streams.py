"""Answers over HTTP that come bit by bit: how they are written, and what happens when somebody leaves."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import ssl
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import fastapi.routing
import httpx
import pytest
from certificates import HOST, Identity
from faces.rest import read_events
from faces.web import BODY, QUEUE, RUN, Web
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from harness import Harness, MakeSettings, red_circle_answer, run_harness
from idefics2_service.app import App
from idefics2_service.events import StageEntered, TextDelta
from idefics2_service.requests import Stage
from idefics2_service.rest import answers
from idefics2_service.rest.presence import Protocol
from pictures import RED_CIRCLE, RED_CIRCLE_PIECES, red_circle

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
    from pathlib import Path

    from idefics2_service.backend import BackendEvent
    from idefics2_service.requests import ResolvedRequest

PATIENCE_SECONDS = 30
HEAD = "GET /healthz/live HTTP/1.1\r\nHost: x\r\n"
PIECES = ("né", " 😀", "\u2028", " 画")


class Talker(FakeBackend):
    """Never stops."""

    async def generate(self, _: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        yield StageEntered(Stage.PREFILL)
        yield StageEntered(Stage.DECODE)
        count = 0
        try:
            while True:
                count += 1
                yield TextDelta("x" * 10_000, count)
                await asyncio.sleep(0)
        finally:
            self._script.note_cancelled()


@dataclass(frozen=True)
class Late:
    """A service whose answers begin only when their gate is opened, which is too late for a stream's head."""

    web: Web
    gate: asyncio.Event


@pytest.fixture
async def late(
    make_settings: MakeSettings, backend: FakeBackend, script: Script, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Late]:
    """A service that is slow to answer."""
    gate, generate = asyncio.Event(), backend.generate

    async def wait(request: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        await gate.wait()
        async for event in generate(request):
            yield event

    monkeypatch.setattr(backend, "generate", wait)
    monkeypatch.setattr(answers, "HEAD_SECONDS", 0.01)
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.01)
    async with run_harness(App(make_settings(), backend), script, is_real=False) as harness:
        yield Late(Web(harness), gate)
        harness.check_script()


@pytest.fixture
def web(on_fake_backend: Harness) -> Web:
    """Somebody who calls."""
    return Web(on_fake_backend)


async def read(data: bytes) -> list[dict[str, Any]]:
    """Read the events of a whole answer."""
    return [event async for event in read_events(httpx.Response(200, content=data))]


async def wait_until_cancelled(script: Script) -> None:
    """Wait until the backend heard that an answer is not wanted."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await script.cancelled.wait()


async def read_lines(lines: AsyncIterator[str]) -> None:
    """Read lines to the end, of which none says that the request is at its end."""
    async for line in lines:
        assert "COMPLETED" not in line


async def open_raw(
    web: Web, method: str, path: str, body: bytes = b"", header: str = "", num_missing_bytes: int = 0
) -> tuple[Any, asyncio.StreamWriter]:
    """Call by hand, to read as slowly as one wants, or to send less than was said."""
    host, port = web.service.app.http_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1_000)
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
    head += f"Authorization: {web.headers['authorization']}\r\nContent-Type: application/json\r\n"
    head += f"{header}\r\n" if header else ""
    head += f"Content-Length: {len(body) + num_missing_bytes}\r\n\r\n"
    writer.write(head.encode() + body)
    return reader, writer


async def read_what_is_left(reader: asyncio.StreamReader) -> bytes:
    """Read until the other side has closed or broken off."""
    got = b""
    with suppress(ConnectionResetError):
        while chunk := await reader.read(100_000):
            got += chunk
    return got


def mistakes(caplog: pytest.LogCaptureFixture) -> list[str]:
    """List what was logged as an error."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_text_comes_piece_by_piece_and_then_as_a_whole(web: Web) -> None:
    web.service.expect(red_circle_answer())
    events = await read(await web.read_stream("POST", f"{RUN}/stream", json=BODY))
    assert events == [*({"delta": piece} for piece in RED_CIRCLE_PIECES), {"output": RED_CIRCLE}]


async def test_events_are_of_ascii_alone_so_that_no_client_cuts_a_character(web: Web) -> None:
    web.service.expect(Answer(PIECES), Answer(PIECES))
    data = await web.read_stream("POST", f"{RUN}/stream", json=BODY)
    assert data.isascii()
    assert [event.get("delta") for event in await read(data)][:-1] == list(PIECES)
    taken = await web.submit()
    path = f"{taken['status_url']}/stream"
    data = await web.read_stream("GET", path, params={"text": 1, "logs": 1})
    assert data.isascii()
    assert "".join(event.get("delta", "") for event in await read(data)) == "".join(PIECES)
    assert (await web.get(taken["response_url"])).json() == {"output": "".join(PIECES)}


async def test_a_stream_of_statuses_ends_when_the_request_is_completed(web: Web) -> None:
    web.service.expect(red_circle_answer())
    taken = await web.submit()
    for _ in range(2):  # also for who comes late
        async with web.stream("GET", f"{taken['status_url']}/stream") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.headers["cache-control"] == "no-cache"
            assert response.headers["x-fal-request-id"] == taken["request_id"]
            events = [event async for event in read_events(response)]
        assert events[-1]["status"] == "COMPLETED"
        assert {event["status"] for event in events} <= {"IN_QUEUE", "IN_PROGRESS", "COMPLETED"}
        assert [event["status"] for event in events].count("COMPLETED") == 1
        assert all("logs" in event and "metrics" in event for event in events)
        assert not any("delta" in event for event in events)


async def test_a_stream_tells_each_line_of_the_log_once(web: Web) -> None:
    web.service.expect(red_circle_answer())
    taken = await web.submit()
    data = await web.read_stream("GET", f"{taken['status_url']}/stream", params={"logs": 1})
    events = await read(data)
    lines = [line["message"] for event in events for line in event["logs"]]
    assert len(lines) == 1
    status = await web.get(taken["status_url"], params={"logs": 1})
    assert [line["message"] for line in status.json()["logs"]] == lines


async def test_silence_is_broken_by_comments_that_clients_leave_out(
    make_settings: MakeSettings, backend: FakeBackend, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.01)
    app = App(make_settings(), backend)
    async with run_harness(app, script, is_real=False) as harness:
        await backend.set_healthy(healthy=False)
        web = Web(harness)
        taken = await web.submit()
        async with web.stream("GET", f"{taken['status_url']}/stream") as response:
            lines = response.aiter_lines()
            while await anext(lines) != ": ping":
                pass
            await web.put(taken["cancel_url"])
            rest = [line async for line in lines]
        assert json.loads(rest[-2].removeprefix("data: "))["status"] == "COMPLETED"


async def test_what_fails_soon_and_before_the_first_text_is_answered_as_a_plain_call(web: Web) -> None:
    web.service.expect(Answer(failure=("FILE_UNDECODABLE", "images[0] is damaged", "images[0]")))
    response = await web.post(f"{RUN}/stream")
    assert (response.status_code, response.headers["content-type"]) == (422, "application/json")
    assert response.json()["detail"][0]["loc"] == ["body", "image_url"]


async def test_what_fails_after_it_is_told_as_the_last_event_and_broken_off(
    web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    web.service.expect(Answer(("A", " red"), is_lost=True))
    async with web.stream("POST", f"{RUN}/stream", json=BODY) as response:
        told = read_events(response)
        events = [await anext(told) for _ in range(3)]
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            await anext(told)
    assert events[:-1] == [{"delta": "A"}, {"delta": " red"}]
    assert (events[-1]["status_code"], events[-1]["reason"]) == (503, "BACKEND_UNAVAILABLE")
    assert events[-1]["detail"] == events[-1]["message"]
    assert not mistakes(caplog)


async def test_a_stream_whose_text_is_late_begins_without_it_and_with_comments(late: Late) -> None:
    late.web.service.expect(red_circle_answer())
    async with late.web.stream("POST", f"{RUN}/stream", json=BODY) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.aiter_lines()
        assert [await anext(lines) for _ in range(4)] == [": ping", ""] * 2
        late.gate.set()
        told = [line async for line in lines if line and line != ": ping"]
    events = [json.loads(line.removeprefix("data: ")) for line in told]
    assert events == [*({"delta": piece} for piece in RED_CIRCLE_PIECES), {"output": RED_CIRCLE}]


async def test_what_fails_after_the_head_is_told_as_the_last_event_even_where_no_text_came(
    late: Late, caplog: pytest.LogCaptureFixture
) -> None:
    late.web.service.expect(Answer(failure=("FILE_UNDECODABLE", "images[0] is damaged", "images[0]")))
    async with late.web.stream("POST", f"{RUN}/stream", json=BODY) as response:
        assert response.status_code == 200
        late.gate.set()
        told = read_events(response)
        event = await anext(told)
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            await anext(told)
    assert (event["status_code"], event["reason"]) == (422, "FILE_UNDECODABLE")
    assert event["detail"][0]["loc"] == ["body", "image_url"]
    assert not mistakes(caplog)


@pytest.mark.parametrize("tail", ["", f"{HEAD}\r\n"], ids=["", "another call"])
async def test_who_leaves_between_the_head_and_the_first_text_frees_the_work_once(
    late: Late, caplog: pytest.LogCaptureFixture, tail: str
) -> None:
    script = late.web.service.script
    script.add(Answer(holds=True))
    late.gate.set()
    reader, writer = await open_raw(late.web, "POST", f"{RUN}/stream", json.dumps(BODY).encode())
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await script.asked.wait()
    writer.write(tail.encode())
    writer.close()
    await wait_until_cancelled(script)
    get_metric = late.web.service.app.metrics.registry.get_sample_value
    await wait_until(lambda: get_metric("idefics2_open_calls") == 0)
    assert script.num_cancelled == 1
    assert not mistakes(caplog)


@pytest.mark.parametrize("header", ["Connection: keep-alive", "Connection: Upgrade\r\nUpgrade: h2c"])
@pytest.mark.parametrize("tail", ["", "\r\n", f"{HEAD}\r\n" * 3], ids=["", "a line break", "other calls"])
@pytest.mark.parametrize("path", [RUN, f"{RUN}/stream"])
async def test_who_leaves_before_the_first_text_frees_the_work(
    web: Web, caplog: pytest.LogCaptureFixture, path: str, tail: str, header: str
) -> None:
    script = web.service.script
    script.add(Answer(holds=True))
    _, writer = await open_raw(web, "POST", path, json.dumps(BODY).encode(), header)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await script.asked.wait()
    writer.write(tail.encode())
    writer.close()
    await wait_until_cancelled(script)
    assert script.num_cancelled == 1
    assert not mistakes(caplog)


async def test_who_leaves_in_the_middle_frees_the_work(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    script = web.service.script
    script.add(Answer(("x",), holds=True), red_circle_answer())
    async with (
        web.stream("POST", f"{RUN}/stream", json=BODY) as response,
        aclosing(response.aiter_lines()) as lines,
    ):
        await anext(lines)
    await wait_until_cancelled(script)
    assert script.num_cancelled == 1
    assert (await web.post(RUN)).status_code == 200
    assert not mistakes(caplog)


async def test_who_leaves_while_much_is_written_is_no_mistake(
    make_settings: MakeSettings, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_harness(App(make_settings(), Talker(script)), script, is_real=False) as harness:
        reader, writer = await open_raw(Web(harness), "POST", f"{RUN}/stream", json.dumps(BODY).encode())
        await reader.readexactly(100)
        writer.close()
        await wait_until_cancelled(script)
    assert not mistakes(caplog)


async def test_who_leaves_a_stream_of_statuses_cancels_nothing(web: Web) -> None:
    script = web.service.script
    script.add(Answer(("x",), holds=True))
    taken = await web.submit()
    async with web.stream("GET", f"{taken['status_url']}/stream", params={"text": 1}) as response:
        async for event in read_events(response):
            if "delta" in event:
                break
    assert (await web.get(taken["status_url"])).json()["status"] == "IN_PROGRESS"
    assert script.num_cancelled == 0
    await web.put(taken["cancel_url"])
    await web.read_stream("GET", f"{taken['status_url']}/stream")


async def test_who_takes_nothing_of_an_answer_is_given_up(
    make_settings: MakeSettings, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings(http__stall_timeout_seconds=0.2)
    async with run_harness(App(settings, Talker(script)), script, is_real=False) as harness:
        reader, writer = await open_raw(Web(harness), "POST", f"{RUN}/stream", json.dumps(BODY).encode())
        await wait_until_cancelled(script)
        got = await read_what_is_left(reader)
        assert len(got) > 10_000
        assert not got.endswith(b"0\r\n\r\n")  # it does not look like the whole
        writer.close()
        method = "POST /run/{owner}/{alias}/stream"
        assert f'idefics2_stalled_streams_total{{method="{method}"}} 1.0\n' in await read_metrics(harness)
    assert not mistakes(caplog)


async def test_who_takes_nothing_of_a_file_is_given_up_and_hardly_anything_was_read_for_it(
    make_settings: MakeSettings, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings(http__stall_timeout_seconds=1.0)
    async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
        web = Web(harness)
        content = red_circle().ljust(8_000_000, b"\0")
        url = (await web.post("/cdn/files/upload", content=content)).json()["access_url"]
        path = url.removeprefix(f"http://{harness.app.http_address}")
        reader, writer = await open_raw(web, "GET", path)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while 'idefics2_stalled_streams_total{method="GET /cdn/' not in await read_metrics(harness):
                pass
        assert "idefics2_held_bytes 0.0\n" in await read_metrics(harness)
        assert 10_000 < len(await read_what_is_left(reader)) < 500_000
        writer.close()
    assert not mistakes(caplog)


@contextmanager
def open_deaf(harness: Harness, words: str) -> Iterator[socket.socket]:
    """Say something, and take nothing of the answer; the system takes hardly any of it, too."""
    host, port = harness.app.http_address.split(":")
    with socket.socket() as deaf:
        deaf.settimeout(PATIENCE_SECONDS)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.connect((host, int(port)))
        deaf.sendall(words.encode())
        yield deaf


@asynccontextmanager
async def open_deaf_over_tls(
    make_settings: MakeSettings, backend: FakeBackend, script: Script, folder: Path
) -> AsyncIterator[tuple[Harness, ssl.SSLSocket, Protocol]]:
    """Ask over TLS for a stream that fails, take nothing, and go on when the service has said all."""
    root = Identity.make("root")
    certificate, key = Identity.make("service", root).write(folder)
    settings = make_settings(
        grpc__drain_timeout_seconds=0.05,
        http__drain_timeout_seconds=0.05,
        http__stall_timeout_seconds=300.0,
        http__tls_certificate_file=str(certificate),
        http__tls_key_file=str(key),
    )
    context = ssl.create_default_context(cadata=root.certificate_pem.decode())
    script.add(Answer(("x" * 60_000,), is_lost=True))
    async with run_harness(App(settings, backend), script, is_real=False) as harness:
        with open_deaf(harness, "") as plain:
            wrap = partial(context.wrap_socket, server_hostname=HOST, suppress_ragged_eofs=False)
            with await asyncio.to_thread(wrap, plain) as deaf:
                await wait_until(lambda: find_connection(harness, deaf) is not None)
                connection = find_connection(harness, deaf)
                assert connection is not None
                call = write_call(Web(harness), "POST", f"{RUN}/stream", body=json.dumps(BODY))
                deaf.sendall(call.encode())
                await wait_until(connection.transport.is_closing)
                yield harness, deaf, connection


async def take(deaf: socket.socket, num_bytes: int) -> bytes:
    """Take some of an answer, as soon as it is there."""
    return await asyncio.to_thread(deaf.recv, num_bytes, socket.MSG_WAITALL)


async def take_all(deaf: socket.socket) -> bytes:
    """Take what there is until the other side has closed or broken off."""
    got = b""
    with suppress(ConnectionResetError):
        while chunk := await asyncio.to_thread(deaf.recv, 100_000):
            got += chunk
    return got


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something is so that nothing tells of."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110  # see above
            await asyncio.sleep(0)


def find_connection(harness: Harness, caller: socket.socket) -> Protocol | None:
    """Find what answers a caller; None: nothing any more."""
    for connection in harness.app._http._server.server_state.connections:
        if isinstance(connection, Protocol) and connection.client == caller.getsockname():
            return connection
    return None


def write_call(web: Web, method: str, path: str, *headers: str, body: str = "") -> str:
    """Write a call as it is sent."""
    given = ["Host: x", f"Authorization: {web.headers['authorization']}", *headers]
    given += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *given, "", body])


async def test_what_fails_over_tls_is_told_to_who_reads_slowly_too(
    make_settings: MakeSettings, backend: FakeBackend, script: Script, tmp_path: Path
) -> None:
    async with open_deaf_over_tls(make_settings, backend, script, tmp_path) as (_, deaf, _):
        got = await take_all(deaf)
    assert b'"BACKEND_UNAVAILABLE"' in got.rpartition(b"data: ")[2]
    assert not got.endswith(b"0\r\n\r\n")  # it does not look like the whole


async def test_a_shutdown_does_not_wait_for_who_does_not_read_what_failed(
    make_settings: MakeSettings, backend: FakeBackend, script: Script, tmp_path: Path
) -> None:
    async with open_deaf_over_tls(make_settings, backend, script, tmp_path) as (harness, deaf, _):
        calls = harness.app._http._server.server_state.tasks.copy()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await harness.app.__aexit__(None, None, None)
            await asyncio.wait(calls)
        assert find_connection(harness, deaf) is None


@pytest.mark.parametrize("header", ["Connection: close", "Connection: keep-alive"])
@pytest.mark.parametrize("path", ["/openapi.json", RUN])
async def test_who_takes_nothing_of_an_answer_that_is_written_at_once_is_given_up(
    make_settings: MakeSettings, script: Script, caplog: pytest.LogCaptureFixture, path: str, header: str
) -> None:
    settings = make_settings(http__stall_timeout_seconds=0.2)
    script.add(Answer(("x" * 200_000,)))
    async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
        method, body = ("POST", json.dumps(BODY)) if path == RUN else ("GET", "")
        with open_deaf(harness, write_call(Web(harness), method, path, header, body=body)) as deaf:
            await wait_until(lambda: find_connection(harness, deaf) is not None)
            await wait_until(lambda: find_connection(harness, deaf) is None)
            head, _, content = (await take_all(deaf)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        (length,) = re.findall(rb"(?i)content-length: (\d+)", head)
        assert len(content) < int(length)
        assert f'idefics2_stalled_streams_total{{method="{method} ' in await read_metrics(harness)
    assert not mistakes(caplog)


async def test_an_answer_that_is_not_taken_keeps_its_place(
    make_settings: MakeSettings, backend: FakeBackend, script: Script
) -> None:
    script.add(Answer(("x" * 200_000,)))
    async with run_harness(App(make_settings(), backend), script, is_real=False) as harness:
        call = write_call(Web(harness), "POST", RUN, "Connection: close", body=json.dumps(BODY))
        get_metric = harness.app.metrics.registry.get_sample_value
        with open_deaf(harness, call) as deaf:
            got = await take(deaf, 1)
            assert get_metric("idefics2_open_calls") == 1
            got += await take_all(deaf)
            await wait_until(lambda: get_metric("idefics2_open_calls") == 0)
        assert json.loads(got.partition(b"\r\n\r\n")[2]) == {"output": "x" * 200_000}


async def test_who_takes_little_is_not_given_up_until_next_to_nothing_is_taken(
    make_settings: MakeSettings, backend: FakeBackend, script: Script
) -> None:
    script.add(Answer(("x" * 200_000,)))
    async with run_harness(App(make_settings(), backend), script, is_real=False) as harness:
        with open_deaf(harness, write_call(Web(harness), "POST", RUN, body=json.dumps(BODY))) as deaf:
            await take(deaf, 1)
            connection = find_connection(harness, deaf)
            assert connection is not None
            count = connection.transport.get_write_buffer_size
            before = count()
            while count() > before * 7 / 8:
                await take(deaf, 50_000)
            connection._end_looks()  # what follows is as if the patience were at its end
            connection._look_what_is_left(before)
            assert not connection.transport.is_closing()
            connection._look_what_is_left(count() + before // 16)
            assert len(await take_all(deaf)) < before - 100_000


async def test_who_asks_again_and_again_and_takes_nothing_is_given_up(
    make_settings: MakeSettings, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings(http__stall_timeout_seconds=0.2)
    asks = f"OPTIONS {RUN} HTTP/1.1\r\nHost: x\r\nOrigin: http://x\r\n"
    asks += "Access-Control-Request-Method: POST\r\n\r\n"
    async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
        with open_deaf(harness, asks * 500) as deaf:
            await wait_until(lambda: find_connection(harness, deaf) is not None)
            await wait_until(lambda: find_connection(harness, deaf) is None)
            assert (await take_all(deaf)).count(b"HTTP/1.1 200 ") < 500
    assert not mistakes(caplog)


async def read_metrics(harness: Harness) -> str:
    """Read what /metrics says, without a call: on a busy machine its own head may come too late."""
    await asyncio.sleep(0)
    return harness.app.metrics.render().decode()


@pytest.mark.parametrize("path", [RUN, f"{RUN}/stream", QUEUE, "/rest/storage/upload/initiate"])
async def test_who_stops_sending_is_told_so_and_gives_its_place_back(
    make_settings: MakeSettings, script: Script, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    settings = make_settings(http__stall_timeout_seconds=0.2)
    async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
        reader, writer = await open_raw(Web(harness), "POST", path, b"{}", num_missing_bytes=1)
        async with asyncio.timeout(PATIENCE_SECONDS):
            got = await read_what_is_left(reader)
        assert got.startswith(b"HTTP/1.1 408 ")
        assert b"nothing more of the body came for 0.2 s" in got
        writer.close()
        get_metric = harness.app.metrics.registry.get_sample_value
        await wait_until(lambda: get_metric("idefics2_open_calls") == 0)
    assert not mistakes(caplog)


@pytest.mark.parametrize("path", [RUN, f"/cdn/uploads/test/{'0' * 32}/complete"])
async def test_whose_body_drips_is_given_up_though_it_never_stops(
    make_settings: MakeSettings, script: Script, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    settings = make_settings(http__stall_timeout_seconds=PATIENCE_SECONDS, http__message_timeout_seconds=0.5)
    async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
        reader, writer = await open_raw(Web(harness), "POST", path, b"{", num_missing_bytes=2**20 - 1)

        async def drip() -> None:
            with suppress(ConnectionError):
                while True:
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(PATIENCE_SECONDS):
            got = await reader.readline()
            got += await reader.readuntil(b"in time")
        assert got.startswith(b"HTTP/1.1 408 ")
        dripping.cancel()
        writer.close()
        get_metric = harness.app.metrics.registry.get_sample_value
        await wait_until(lambda: get_metric("idefics2_open_calls") == get_metric("idefics2_held_bytes") == 0)
    assert not mistakes(caplog)


async def test_who_stops_sending_a_file_leaves_nothing_of_it_and_may_bring_it_again(
    make_settings: MakeSettings, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings(http__stall_timeout_seconds=1.0)
    async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
        web = Web(harness)
        url = (await web.post("/rest/storage/upload/initiate", json={})).json()["upload_url"]
        path = url.removeprefix(f"http://{harness.app.http_address}")
        reader, writer = await open_raw(web, "PUT", path, red_circle(), num_missing_bytes=1)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await read_what_is_left(reader)).startswith(b"HTTP/1.1 408 ")
        writer.close()
        assert (await web.put(url, content=red_circle())).status_code == 200
    assert not mistakes(caplog)


async def test_who_waits_longer_for_an_answer_than_a_body_may_take_is_answered(
    make_settings: MakeSettings, script: Script, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = backend.generate

    async def wait(request: Any) -> AsyncIterator[Any]:
        reader, writer = await asyncio.open_connection(*harness.app.http_address.split(":"))
        await reader.read()  # as long as a caller may be silent
        writer.close()
        async for event in generate(request):
            yield event

    monkeypatch.setattr(backend, "generate", wait)
    script.add(red_circle_answer())
    settings = make_settings(http__stall_timeout_seconds=0.1)
    async with run_harness(App(settings, backend), script, is_real=False) as harness:
        assert (await Web(harness).post(RUN)).json() == {"output": RED_CIRCLE}


@asynccontextmanager
async def connect_to_impatient(
    make_settings: MakeSettings, script: Script
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to a service that soon gives up who sends nothing."""
    settings = make_settings(http__stall_timeout_seconds=0.2)
    async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
        host, port = harness.app.http_address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield reader, writer
        writer.close()


# Who sends nothing after an answer is left to the server's own patience, which is longer.
@pytest.mark.parametrize(
    ("first", "head"),
    [("", ""), ("", HEAD), (f"{HEAD}\r\n", HEAD)],
    ids=["nothing", "half a head", "half a head after an answer"],
)
async def test_a_connection_on_which_no_call_comes_is_closed(
    make_settings: MakeSettings, script: Script, first: str, head: str
) -> None:
    async with connect_to_impatient(make_settings, script) as (reader, writer):
        if first:
            writer.write(first.encode())
            assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 ")
        writer.write(head.encode())
        assert await reader.read() == b""


async def test_a_connection_on_which_the_rest_of_a_refused_body_does_not_come_is_closed(
    make_settings: MakeSettings, script: Script
) -> None:
    async with connect_to_impatient(make_settings, script) as (reader, writer):
        writer.write(f"POST {RUN} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 ")
        writer.write(b"{")
        assert (await reader.read()).endswith(b"}")  # the refusal's, and then the end


@pytest.mark.parametrize("other", ["h2c", "websocket"])
async def test_an_offer_to_speak_another_protocol_is_passed_over_without_a_word(
    on_fake_backend: Harness, caplog: pytest.LogCaptureFixture, other: str
) -> None:
    headers = {"connection": "Upgrade, HTTP2-Settings", "upgrade": other, "http2-settings": ""}
    answer = await Web(on_fake_backend).get("/healthz/live", headers=headers)
    assert answer.text == "ok\n"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def call_until_closed(client: httpx.AsyncClient) -> None:
    """Call again and again, until the port is closed."""
    with suppress(httpx.TransportError):
        while True:
            await client.get("/healthz/live")


async def test_an_answer_on_its_way_is_finished_at_shutdown(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, script: Script
) -> None:
    begun, go_on, backend = asyncio.Barrier(3), asyncio.Event(), FakeBackend(script)
    generate = backend.generate

    async def pause(request: Any) -> AsyncIterator[Any]:
        await begun.wait()
        await go_on.wait()
        async for event in generate(request):
            yield event

    monkeypatch.setattr(backend, "generate", pause)
    script.add(red_circle_answer())
    async with AsyncExitStack() as stack:
        app = App(make_settings(), backend)
        await stack.enter_async_context(app)
        client = httpx.AsyncClient(
            base_url=f"http://{app.http_address}", headers={"authorization": f"Key {app.api_key}"}
        )
        async with client:
            running = asyncio.create_task(client.post(RUN, json=BODY))
            stream = asyncio.create_task(client.post(f"{RUN}/stream", json=BODY))
            async with asyncio.timeout(PATIENCE_SECONDS):
                await begun.wait()
            stopping = asyncio.create_task(stack.aclose())
            async with asyncio.timeout(PATIENCE_SECONDS):
                await call_until_closed(client)
            with pytest.raises(httpx.ConnectError):  # so that whoever balances asks another replica
                await client.post(RUN, json=BODY)
            script.add(red_circle_answer())
            go_on.set()
            assert (await running).json() == {"output": RED_CIRCLE}
            assert f'"output": "{RED_CIRCLE}"' in (await stream).text
            await stopping


async def test_what_never_ends_is_broken_off_at_shutdown(
    make_settings: MakeSettings, backend: FakeBackend, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings(grpc__drain_timeout_seconds=0.05, http__drain_timeout_seconds=0.05)
    client = httpx.AsyncClient()
    async with AsyncExitStack() as stack:
        harness = await stack.enter_async_context(run_harness(App(settings, backend), script, is_real=False))
        await backend.set_healthy(healthy=False)
        web = Web(harness)
        taken = await web.submit()
        request = client.build_request("GET", f"{taken['status_url']}/stream", headers=web.headers)
        response = await client.send(request, stream=True)
        lines = response.aiter_lines()
        assert '"IN_QUEUE"' in await anext(lines)
        slow = await open_raw(web, "POST", QUEUE, b"{}")
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        await read_lines(lines)
    await client.aclose()
    slow[1].close()
    assert not [line for line in mistakes(caplog) if "Cancel" not in line]


async def test_what_is_broken_off_is_reset_for_who_takes_an_end_for_the_whole(
    make_settings: MakeSettings, backend: FakeBackend, script: Script
) -> None:
    settings = make_settings(grpc__drain_timeout_seconds=0.05, http__drain_timeout_seconds=0.05)
    async with AsyncExitStack() as stack:
        harness = await stack.enter_async_context(run_harness(App(settings, backend), script, is_real=False))
        await backend.set_healthy(healthy=False)
        web = Web(harness)
        path = (await web.submit())["status_url"].removeprefix(f"http://{harness.app.http_address}")
        call = write_call(web, "GET", f"{path}/stream").replace("HTTP/1.1", "HTTP/1.0")
        host, port = harness.app.http_address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(call.encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert b"IN_QUEUE" in await reader.readuntil(b"\n\n")
        stopping = asyncio.create_task(harness.app.__aexit__(None, None, None))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        await stopping


async def test_a_stream_that_the_drain_does_not_wait_for_is_told_so_and_broken_off(
    make_settings: MakeSettings, backend: FakeBackend, script: Script
) -> None:
    settings = make_settings(grpc__drain_timeout_seconds=0.05)
    script.add(Answer(("x",), holds=True))
    async with AsyncExitStack() as stack, httpx.AsyncClient() as client:
        app = App(settings, backend)
        await stack.enter_async_context(app)
        headers = {"authorization": f"Key {app.api_key}"}
        url = f"http://{app.http_address}{RUN}/stream"
        async with client.stream("POST", url, json=BODY, headers=headers) as response:
            told = read_events(response)
            assert await anext(told) == {"delta": "x"}
            stopping = asyncio.create_task(stack.aclose())
            assert (await anext(told))["reason"] == "SERVICE_STOPPING"
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
                await anext(told)
            await stopping
