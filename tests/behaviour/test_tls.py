"""What is promised of TLS: who can connect, and that certificates are replaced without a restart."""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from certificates import HOST, Identity
from fakes.backend import FakeBackend
from fakes.script import Script
from harness import PATIENCE_SECONDS
from idefics2.v1 import requests_pb2, requests_pb2_grpc
from idefics2_service import tls
from idefics2_service.app import App
from idefics2_service.errors import SettingInvalid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from harness import MakeSettings

FILES = ("certificate.pem", "key.pem")
ROOT, OTHER_ROOT = Identity.make("root"), Identity.make("other root")


@pytest.fixture(autouse=True)
def files_are_looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody waits for long."""
    monkeypatch.setattr(tls, "LOOK_AGAIN_SECONDS", 0.01)


@asynccontextmanager
async def serve(make_settings: MakeSettings, folder: Path, **fields: Any) -> AsyncIterator[App]:
    """Run a service whose ports have the certificate of `folder`."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    files = {"tls_certificate_file": str(certificate), "tls_key_file": str(key), **fields}
    given = {f"{face}__{name}": value for face in ("grpc", "http") for name, value in files.items()}
    async with App(make_settings(**given), FakeBackend(Script())) as app:
        yield app


async def call(app: App, root: Identity, caller: Identity | None = None) -> None:
    """Call over a new connection that trusts `root` alone.

    Raises:
        TimeoutError, grpc.aio.AioRpcError: none came about.

    """
    shown = (caller.key_pem, caller.certificate_pem) if caller else (None, None)
    credentials = grpc.ssl_channel_credentials(root.certificate_pem, *shown)
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.secure_channel(app.grpc_address, credentials, options) as channel:
        stub: Any = requests_pb2_grpc.RequestServiceStub(channel)
        metadata = (("authorization", f"Key {app.api_key}"),)
        await stub.ListRequests(requests_pb2.ListRequestsRequest(), metadata=metadata)


async def get(app: App, root: Identity, files: tuple[Path, Path] | None = None) -> bytes:
    """GET whether the service lives, over a new connection that trusts `root` alone.

    Raises:
        ssl.SSLError, ConnectionError: none came about.

    """
    context = ssl.create_default_context(cadata=root.certificate_pem.decode())
    if files is not None:
        context.load_cert_chain(*files)
    host, _, port = app.http_address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        writer.write(b"GET /healthz/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        if not answer:
            raise ConnectionResetError("there was no answer")
        return answer.partition(b"\r\n")[0]
    finally:
        writer.close()


async def wait_until_shown(app: App, root: Identity, folder: Path | None = None, **caller: Identity) -> None:
    """Call both ports until they can be used by who trusts `root`, and shows the certificate in `folder`."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(grpc.aio.AioRpcError, ssl.SSLError, ConnectionError):
                await call(app, root, **caller)
                await get(app, root, None if folder is None else (folder / FILES[0], folder / FILES[1]))
                return


async def wait_until_refused(app: App, root: Identity) -> None:
    """Call both ports, which can be used all the while, until their files are found bad."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while any(pair.is_current for pair in app._certificates.values()):
            await call(app, root)
            assert await get(app, root) == b"HTTP/1.1 200 OK"


async def refuse(app: App, root: Identity) -> None:
    """Expect that neither port can be used by who trusts `root`, or shows no certificate."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(app, root)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await get(app, root)


async def test_calls_and_health_come_over_tls(make_settings: MakeSettings, tmp_path: Path) -> None:
    Identity.make("service", ROOT).write(tmp_path)
    async with serve(make_settings, tmp_path) as app:
        await call(app, ROOT)
        assert await get(app, ROOT) == b"HTTP/1.1 200 OK"
        await refuse(app, OTHER_ROOT)
        async with grpc.aio.insecure_channel(app.grpc_address) as channel:
            stub: Any = requests_pb2_grpc.RequestServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ListRequests(requests_pb2.ListRequestsRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_is_replaced_without_a_restart(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    Identity.make("service", ROOT).write(tmp_path)
    async with serve(make_settings, tmp_path) as app:
        await call(app, ROOT)
        Identity.make("service", OTHER_ROOT).write(tmp_path)
        await wait_until_shown(app, OTHER_ROOT)
        await refuse(app, ROOT)
        (tmp_path / "key.pem").write_bytes(b"half a ke")
        await wait_until_refused(app, OTHER_ROOT)
        await call(app, OTHER_ROOT)
        assert await get(app, OTHER_ROOT) == b"HTTP/1.1 200 OK"


async def test_a_certificate_on_a_disk_that_hangs_holds_up_nobody(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    Identity.make("service", ROOT).write(tmp_path)
    async with serve(make_settings, tmp_path) as app:
        (tmp_path / "key.pem").unlink()
        os.mkfifo(tmp_path / "key.pem")
        writing = await asyncio.to_thread(os.open, tmp_path / "key.pem", os.O_WRONLY)  # once it is read
        await call(app, ROOT)
        assert await get(app, ROOT) == b"HTTP/1.1 200 OK"
    os.close(writing)


async def test_an_open_connection_outlives_its_certificate(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    Identity.make("service", ROOT).write(tmp_path)
    credentials = grpc.ssl_channel_credentials(ROOT.certificate_pem)
    async with (
        serve(make_settings, tmp_path) as app,
        grpc.aio.secure_channel(app.grpc_address, credentials) as channel,
    ):
        stub: Any = requests_pb2_grpc.RequestServiceStub(channel)
        for root in (OTHER_ROOT, ROOT):
            metadata = (("authorization", f"Key {app.api_key}"),)
            await stub.ListRequests(requests_pb2.ListRequestsRequest(), metadata=metadata)
            Identity.make("service", root).write(tmp_path)
            await wait_until_shown(app, root)


async def test_who_shows_no_certificate_is_refused_where_one_is_asked_for(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    Identity.make("service", ROOT).write(tmp_path)
    vouching, caller, stranger = Identity.make("vouching"), tmp_path / "caller", tmp_path / "stranger"
    ca = tmp_path / "ca.pem"
    ca.write_bytes(vouching.certificate_pem)
    known, unknown = Identity.make("caller", vouching), Identity.make("stranger", OTHER_ROOT)
    for folder, identity in ((caller, known), (stranger, unknown)):
        folder.mkdir()
        identity.write(folder)
    async with serve(make_settings, tmp_path, tls_client_ca_file=str(ca)) as app:
        await call(app, ROOT, known)
        files = caller / "certificate.pem", caller / "key.pem"
        assert await get(app, ROOT, files) == b"HTTP/1.1 200 OK"
        await refuse(app, ROOT)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(app, ROOT, unknown)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await get(app, ROOT, (stranger / "certificate.pem", stranger / "key.pem"))
        ca.write_bytes(OTHER_ROOT.certificate_pem)
        await wait_until_shown(app, ROOT, stranger, caller=unknown)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(app, ROOT, known)


async def test_an_address_that_others_reach_is_refused_without_tls(make_settings: MakeSettings) -> None:
    with pytest.raises(SettingInvalid, match="IDEFICS2_GRPC_ALLOW_INSECURE"):
        App(make_settings(grpc__host="0.0.0.0"), FakeBackend(Script()))  # noqa: S104  # it is refused
    app = App(make_settings(grpc__host="0.0.0.0", grpc__allow_insecure=True), FakeBackend(Script()))  # noqa: S104  # asked for by name
    async with app:
        assert not app.grpc_address.startswith(HOST)
