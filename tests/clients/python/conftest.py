from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fakes.generation_server import GenerationServer
from idefics2_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VARIABLES = ("IDEFICS2_CLIENT_TARGET", "IDEFICS2_API_KEY", "FAL_KEY")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[GenerationServer]:
    with GenerationServer() as server:
        yield server


@pytest.fixture
def client(server: GenerationServer) -> Iterator[Client]:
    with Client(server.target, "local.key") as client:
        yield client


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Return a file whose bytes are as good as a picture's to a client, which never looks inside."""
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG picture")
    return path
