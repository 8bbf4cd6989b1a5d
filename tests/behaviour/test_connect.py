"""The proxy for fal's host names: who trusts our authority calls us, and nobody is led elsewhere."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import struct
import time
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest
from certificates import Identity
from faces.web import BODY
from fakes.script import Answer, Script
from harness import Harness, MakeSettings, run_harness, run_on_fake_backend
from idefics2_service.app import App
from idefics2_service.rest.origins import FAL_HOSTS
from pictures import DESCRIBE, red_circle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fakes.backend import FakeBackend

APP = "fal-ai/idefics-2-8b"
PATIENCE_SECONDS = 30


@pytest.fixture
async def service(make_settings: MakeSettings) -> AsyncIterator[Harness]:
    async with run_on_fake_backend(make_settings(connect__port=0)) as harness:
        yield harness
        harness.check_script()


def trust(harness: Harness) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=harness.app._settings.data.folder / "connect" / "ca.pem")


def connect(harness: Harness, verify: ssl.SSLContext) -> httpx.AsyncClient:
    """Call through the proxy, as a program with HTTPS_PROXY does."""
    headers = {"authorization": f"Key {harness.app.api_key}"}
    return httpx.AsyncClient(
        proxy=f"http://{harness.app.connect_address}", verify=verify, headers=headers, timeout=30
    )


async def ask_proxy(harness: Harness, head: bytes) -> bytes:
    """Send a head of one's own, and return the whole answer."""
    host, port = str(harness.app.connect_address).rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head)
    answer = await reader.read()
    writer.close()
    return answer


async def test_calls_of_fals_hosts_are_answered_and_their_urls_work_the_same_way(service: Harness) -> None:
    service.expect(Answer(("A", "ö")), Answer(("B",)))
    body = {
        "image_url": "data:image/png;base64," + base64.b64encode(red_circle()).decode(),
        "prompt": DESCRIBE,
    }
    async with connect(service, trust(service)) as client:
        answer = await client.post(f"https://fal.run/{APP}", json=body)
        assert answer.json() == {"output": "Aö"}
        submitted = (await client.post(f"https://queue.fal.run/{APP}", json=body)).json()
        assert submitted["status_url"].startswith(f"https://queue.fal.run/{APP}/requests/")
        stream = await client.get(f"{submitted['status_url']}/stream")
        assert '"COMPLETED"' in stream.text
        assert (await client.get(submitted["response_url"])).json() == {"output": "B"}


async def test_the_certificate_is_good_for_each_of_fals_hosts(service: Harness) -> None:
    async with connect(service, trust(service)) as client:
        for host in FAL_HOSTS:
            assert (await client.get(f"https://{host}/x")).status_code == 404


async def test_who_does_not_trust_the_authority_is_not_served_and_the_next_is(service: Harness) -> None:
    async with connect(service, ssl.create_default_context()) as client:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get(f"https://fal.run/{APP}")
    async with connect(service, trust(service)) as client:
        assert (await client.get("https://fal.run/x")).status_code == 404


async def test_callers_must_show_a_certificate_where_that_is_asked_for(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    root = Identity.make("root")
    client_ca, _ = root.write(tmp_path)
    (tmp_path / "caller").mkdir()
    files = Identity.make("caller", root).write(tmp_path / "caller")
    settings = make_settings(connect__port=0, connect__tls_client_ca_file=str(client_ca))
    async with run_on_fake_backend(settings) as harness:
        async with connect(harness, trust(harness)) as client:
            with pytest.raises(httpx.TransportError):
                await client.get("https://fal.run/x")
        known = trust(harness)
        known.load_cert_chain(*files)
        async with connect(harness, known) as client:
            assert (await client.get("https://fal.run/x")).status_code == 404


async def test_who_asks_and_is_gone_leaves_nothing_behind(service: Harness) -> None:
    host, port = str(service.app.connect_address).rsplit(":", 1)
    for _ in range(10):
        with socket.create_connection((host, int(port))) as caller:
            caller.sendall(b"CONNECT fal.run:443 HTTP/1.1\r\n\r\n")
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    assert (await ask_proxy(service, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    upgrades = [task for task in asyncio.all_tasks() if "_hand_on" in repr(task.get_coro())]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*upgrades)


@pytest.mark.parametrize(
    "target",
    [
        *("example.com:443", "127.0.0.1:443", "queue.fal.run.example.com:443", "fal.run:80"),
        pytest.param(f"fal.run:{'4' * 5000}", id="a port of more digits than Python counts"),
    ],
)
async def test_the_proxy_leads_nowhere_else(service: Harness, target: str) -> None:
    answer = await ask_proxy(service, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"queue.fal.run" in answer


@pytest.mark.parametrize(
    "head",
    [b"GET http://fal.run/ HTTP/1.1\r\n\r\n", b"CONNECT fal.run HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 3000],
    ids=["another method", "no port", "something else"],
)
async def test_what_is_no_connect_is_refused(service: Harness, head: bytes) -> None:
    assert (await ask_proxy(service, head)).startswith(b"HTTP/1.1 400 ")


async def test_a_connection_through_the_proxy_on_which_no_call_comes_is_closed(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings(connect__port=0, http__stall_timeout_seconds=0.2)
    async with run_on_fake_backend(settings) as harness:
        host, port = str(harness.app.connect_address).rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"CONNECT fal.run:443 HTTP/1.1\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await writer.start_tls(trust(harness), server_hostname="fal.run")
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()


async def test_at_shutdown_what_was_begun_through_the_proxy_is_finished_and_nothing_is_taken(
    make_settings: MakeSettings, backend: FakeBackend, pieces: asyncio.Semaphore, script: Script
) -> None:
    script.add(Answer(("A", "B")))
    async with AsyncExitStack() as stack:
        app = App(make_settings(connect__port=0), backend)
        harness = await stack.enter_async_context(run_harness(app, script, is_real=False))
        host, port = str(app.connect_address).rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        client = await stack.enter_async_context(connect(harness, trust(harness)))
        asked = client.stream("POST", f"https://fal.run/{APP}/stream", json=BODY)
        async with asyncio.timeout(30), asked as response:
            lines = response.aiter_lines()
            assert "A" in await anext(lines)
            stopping = asyncio.create_task(app.__aexit__(None, None, None))
            await wait_until_refused(host, int(port))
            writer.write(b"CONNECT fal.run:443 HTTP/1.1\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            await writer.start_tls(trust(harness), server_hostname="fal.run")
            writer.write(b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.read() == b""
            writer.close()
            pieces.release()
            pieces.release()
            assert '"output": "AB"' in "".join([line async for line in lines])
            await stopping


async def wait_until_refused(host: str, port: int) -> None:
    """Connect again and again, until nobody listens."""
    with suppress(ConnectionRefusedError):
        while True:
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            await writer.wait_closed()


async def test_operators_see_when_the_certificate_of_the_proxy_ends(service: Harness) -> None:
    of_proxy = partial(service.app.metrics.registry.get_sample_value, labels={"port": "connect"})
    assert of_proxy("idefics2_certificates_current") == 1
    assert (of_proxy("idefics2_certificate_expires_timestamp_seconds") or 0) > time.time() + 86_400


async def test_connections_whose_machine_is_gone_are_found_out(service: Harness) -> None:
    assert service.app._connect is not None
    for listening in (service.app._connect._socket, service.app._http._socket):
        assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_the_authority_is_the_same_after_a_restart(make_settings: MakeSettings) -> None:
    settings = make_settings(connect__port=0)
    pems = []
    for _ in range(2):
        async with run_on_fake_backend(settings) as harness, connect(harness, trust(harness)) as client:
            assert (await client.get("https://fal.run/x")).status_code == 404
        pems.append((settings.data.folder / "connect" / "ca.pem").read_bytes())
    assert pems[0] == pems[1]


async def test_there_is_no_proxy_where_none_is_asked_for(make_settings: MakeSettings) -> None:
    async with run_on_fake_backend(make_settings()) as harness:
        assert harness.app.connect_address is None
