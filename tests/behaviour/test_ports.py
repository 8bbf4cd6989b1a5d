"""Every port listens where it is told, at addresses of IPv6, too; where it cannot, the setting is named."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from fakes.backend import FakeBackend
from fakes.script import Script
from grpc_health.v1 import health_pb2, health_pb2_grpc
from idefics2_service.app import App
from idefics2_service.errors import StartFailed
from idefics2_service.rest.ports import bind
from idefics2_service.settings import PortSettings

if TYPE_CHECKING:
    from harness import MakeSettings

FACES = ("grpc", "http", "connect")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="the machine has no IPv6")
@pytest.mark.parametrize(
    ("host", "dialled"), [("::1", ["[::1]"]), ("[::1]", ["[::1]"]), ("::", ["[::1]", "127.0.0.1"])]
)
async def test_an_address_of_ipv6_is_listened_on(
    make_settings: MakeSettings, host: str, dialled: list[str]
) -> None:
    given = {f"{face}__{name}": value for face in FACES for name, value in (("host", host), ("port", 0))}
    allowed = {f"{face}__allow_insecure": True for face in FACES}
    app = App(make_settings(**given, **allowed), FakeBackend(Script()))
    async with app, httpx.AsyncClient() as http:
        await app.wait_until_serving()
        assert app.http_address.startswith(f"[{host.strip('[]')}]:")
        http_port, grpc_port, connect_port = (
            str(address).rpartition(":")[2]
            for address in (app.http_address, app.grpc_address, app.connect_address)
        )
        for place in dialled:
            assert (await http.get(f"http://{place}:{http_port}/healthz/live")).status_code == 200
            assert (await http.get(f"http://{place}:{connect_port}/")).status_code == 400  # it takes CONNECT
            async with grpc.aio.insecure_channel(f"{place}:{grpc_port}") as channel:
                stub: Any = health_pb2_grpc.HealthStub(channel)
                await stub.Check(health_pb2.HealthCheckRequest())


@pytest.mark.parametrize("face", ["http", "connect"])
def test_the_setting_that_is_at_fault_is_named(face: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartFailed, match=rf"^IDEFICS2_{face.upper()}_PORT: .* 127.0.0.1:{port}: "):
            bind(face, PortSettings(port=port))
    for host in ("192.0.2.1", "nobody.invalid"):
        with pytest.raises(StartFailed, match=rf"^IDEFICS2_{face.upper()}_HOST: .* {host}:0: "):
            bind(face, PortSettings(host=host))
