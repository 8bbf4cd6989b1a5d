"""What all tests share: settings that touch nothing outside, and the service under test."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fakes.script import Script
from harness import Harness, MakeSettings, run_harness
from idefics2_service import logs
from idefics2_service.app import App
from idefics2_service.settings import LogSettings, Settings
from ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Nothing of the machine's own settings reaches a test.
for _name in [name for name in os.environ if name.startswith("IDEFICS2_") or name == "FAL_KEY"]:
    del os.environ[_name]

logs.configure(LogSettings(level="info", format="json"))
logging.getLogger("httpx").setLevel(logging.WARNING)  # it has a line for each call

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
    "page",
    "fal",
    "security",
    "golden",
    "k8s",
    "integration",
    "load",
    "faults",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a target ask for what takes minutes."""
    parser.addoption("--long", action="store_true", help="run the tests that are marked `long`, too")
    parser.addoption("--seeds", type=int, default=20, help="how many seeds a fuzzer takes in a long run")


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark."""
    config.addinivalue_line("markers", "long: takes minutes; runs with --long alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is long, unless it is wanted, and sort by folder."""
    if not config.getoption("--long"):
        items[:] = [item for item in items if item.get_closest_marker("long") is None]

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
    app = App(make_settings(triton__metrics_port=free_port()))
    async with run_harness(app, Script(), is_real=True) as harness:
        yield harness
