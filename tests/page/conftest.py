"""A browser, the service that it looks at, and tabs that notice everything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from idefics2_service.app import App
from page.browser import AXE, find_program, run_browser
from page.spoken import SpokenBackend
from page.visitor import LISTEN, Visitor
from pictures import red_circle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from harness import MakeSettings
    from idefics2_service.settings import Settings
    from playwright.async_api import Browser, BrowserContext

MakeVisitor = Callable[..., Awaitable[Visitor]]
PATIENCE_MILLISECONDS = 20_000
FOLDER = Path(__file__).parent
SHORT = {"test_asking.py", "test_files.py", "test_key.py", "test_real.py"}
"""What is run among all other tests."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long ones to `make test-page`, which asks for this folder by its name."""
    if any(Path(arg.partition("::")[0]).resolve().is_relative_to(FOLDER) for arg in config.args):
        return
    long = [item for item in items if item.path.parent == FOLDER and item.path.name not in SHORT]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@dataclass
class Spoken:
    """A service whose answers a test speaks."""

    app: App
    backend: SpokenBackend
    settings: Settings

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{self.app.http_address}/"

    @property
    def key(self) -> str:
        """The API key."""
        assert self.app.api_key is not None
        return self.app.api_key


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Started once; without one, `make test` gets one."""
    program = find_program()
    if program is None:
        pytest.skip("there is no browser: `make test` gets one")
    async with run_browser(program) as started:
        yield started


@pytest.fixture
async def make_visitor(browser: Browser, spoken: Spoken) -> AsyncIterator[MakeVisitor]:
    """Opens a tab of its own, with options of the browser; at the end, all must have been well with it."""
    async with AsyncExitStack() as stack:
        visitors: list[Visitor] = []

        async def make(url: str = spoken.url, **options: Any) -> Visitor:
            context = await browser.new_context(**options)
            stack.push_async_callback(context.close)
            visitors.append(await open_tab(context, url))
            return visitors[-1]

        yield make
        for visitor in visitors:
            visitor.check()


async def open_tab(context: BrowserContext, url: str) -> Visitor:
    """Open one more tab."""
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    await context.add_init_script(LISTEN)
    return Visitor(await context.new_page(), url)


@pytest.fixture
async def visitor(make_visitor: MakeVisitor) -> Visitor:
    """Somebody who has come to the page."""
    made = await make_visitor()
    await made.come()
    return made


@pytest.fixture
async def spoken(make_settings: MakeSettings) -> AsyncIterator[Spoken]:
    """A service that answers one request at a time."""
    settings, backend = make_settings(queue__max_running=1, grpc__drain_timeout_seconds=0.1), SpokenBackend()
    async with App(settings, backend) as app:
        yield Spoken(app, backend, settings)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """The file of a red circle."""
    path = tmp_path / "red circle.png"
    path.write_bytes(red_circle())
    return path


@pytest.fixture
def axe() -> None:
    """Skip where the check of accessibility was not installed."""
    if not AXE.exists():
        pytest.skip("there is no axe-core: `make test` gets it")
