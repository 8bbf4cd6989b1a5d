from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from clients.python.callers import KINDS, make_caller
from fakes.file_server import FileServer
from idefics2_client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from idefics2_client import AsyncClient, Idefics2Error

VARIABLES = (
    *("IDEFICS2_API_KEY", "FAL_KEY", "FAL_KEY_ID", "FAL_KEY_SECRET", "IDEFICS2_CLIENT_TARGET"),
    *(f"IDEFICS2_CLIENT_{name}" for name in ("TLS", "CA_FILE", "CERTIFICATE_FILE", "KEY_FILE")),
)


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as server:
        yield server


@pytest.fixture
def client(server: FileServer) -> Iterator[Client]:
    with Client(server.target, "local.key") as client:
        yield client


@pytest.fixture
def losses() -> list[Idefics2Error]:
    """Return what `caller` will have been told of lost connections."""
    return []


@pytest.fixture(params=KINDS)
async def caller(
    request: pytest.FixtureRequest, server: FileServer, losses: list[Idefics2Error]
) -> AsyncIterator[AsyncClient]:
    """Return the blocking client in the dress of the asyncio one, then that one itself."""
    async with make_caller(request.param, server.target, losses.append) as caller:
        yield caller


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Return a file whose bytes are as good as a picture's to a client, which never looks inside."""
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG picture")
    return path
