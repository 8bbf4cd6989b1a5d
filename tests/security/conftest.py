"""A service between a canary inside and a host outside, and a name server that lies to it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from fakes.backend import FakeBackend
from fakes.script import Script
from harness import Harness, MakeSettings, run_harness
from idefics2_service.app import App
from security.canary import OUTSIDE, Canary, Speaker
from security.names import NameServer
from security.payloads import ZONE
from security.target import Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="module")
async def canary() -> AsyncIterator[Canary]:
    """Somebody inside."""
    async with Canary() as canary:
        yield canary


@pytest.fixture(scope="module")
async def outside() -> AsyncIterator[Speaker]:
    """Somebody outside."""
    async with Speaker() as speaker:
        yield speaker


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    """Who tells what names mean."""
    with NameServer() as server:
        for name, addresses in ZONE.items():
            server.set(name, addresses)
        yield server


@pytest.fixture(scope="module")
async def target(
    make_settings: MakeSettings, canary: Canary, outside: Speaker, names: NameServer
) -> AsyncIterator[Target]:
    """A service that may dial `OUTSIDE` alone, and both of their ports."""
    async with run_target(make_settings, canary, outside, names) as target:
        yield target


@asynccontextmanager
async def run_target(
    make_settings: MakeSettings, canary: Canary, outside: Speaker, names: NameServer, **more: Any
) -> AsyncIterator[Target]:
    """Run one; `more` overrules its settings."""
    given = {
        "fetch__allowed_networks": f"{OUTSIDE}/32",
        "fetch__ports": f"{canary.port},{outside.port}",
        "webhook__first_retry_seconds": 0.01,
        "webhook__max_attempts": 2,
    }
    app = App(make_settings(**{**given, **more}), FakeBackend(script := Script()))
    app._image_fetcher._look_up = app._webhook_fetcher._look_up = names.look_up
    async with run_harness(app, script, is_real=False) as harness:
        yield Target(harness, canary, outside, names)


@pytest.fixture(scope="session")
def real_service(on_real_triton: Harness) -> Harness:
    """The whole service with the real model."""
    return on_real_triton
