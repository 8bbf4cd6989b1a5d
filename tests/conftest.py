"""What all tests share: settings that touch nothing outside, and the service under test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fakes.script import Script
from harness import Harness, MakeSettings, run_harness
from idefics2_service import logs
from idefics2_service.app import App
from idefics2_service.settings import LogSettings, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Nothing of the machine's own settings reaches a test.
for _name in [name for name in os.environ if name.startswith("IDEFICS2_") or name == "FAL_KEY"]:
    del os.environ[_name]

logs.configure(LogSettings(level="info", format="json"))

API_KEY = "test.0123456789abcdef0123456789abcdef"

# Fast ones first: a broken rule shows before a server is started.
_ORDER = (
    "documents",
    "unit",
    "store",
    "blobs",
    "clients",
    "training",
    "engine",
    "behaviour",
    "golden",
    "integration",
    "faults",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by folder."""

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        return _ORDER.index(folder)

    items.sort(key=rank)


@pytest.fixture(scope="session")
def make_settings(tmp_path_factory: pytest.TempPathFactory) -> MakeSettings:
    """Settings on free ports and in a folder of their own; arguments overrule, as `section__field`."""

    def make(**overrides: object) -> Settings:
        given = {
            "grpc.port": 0,
            "http.port": 0,
            "api.key": API_KEY,
            "data.folder": str(tmp_path_factory.mktemp("data")),
            **{name.replace("__", "."): value for name, value in overrides.items()},
        }
        return Settings.read({}, given)

    return make


@pytest.fixture(scope="session")
async def on_real_triton(make_settings: MakeSettings) -> AsyncIterator[Harness]:
    """The whole service, with a real Triton and the embedded checkpoint; started once."""
    async with run_harness(App(make_settings()), Script(), is_real=True) as harness:
        yield harness
