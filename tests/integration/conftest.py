"""One service as a process, for all that only looks at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pictures import red_circle
from processes import Started, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """Started once."""
    with running_service(tmp_path_factory.mktemp("service")) as service:
        yield Started(service, service.wait_until_ready())


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """The file of a red circle."""
    path = tmp_path / "red circle.png"
    path.write_bytes(red_circle())
    return path
