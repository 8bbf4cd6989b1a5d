"""The hosted endpoint's own clients, unmodified, against this service.

One way of pointing for each client; with `--long`, all.
"""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import fastapi.routing
import pytest
from fakes.hook import Hook, run_hook
from fal.clients import Client, run_client
from fal.node import Node, NodeMissing
from fal.services import Fake, Real, run_fake, run_real, write_certificate
from fal.ways import TLS, USUAL_WAYS, WAYS, Way
from fal.workplaces import prepare
from fastapi.sse import KEEPALIVE_COMMENT
from idefics2_service.rest import answers
from idefics2_service.rest.presence import Presence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from harness import MakeSettings
    from starlette.types import Message


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark."""
    config.addinivalue_line("markers", "where(*facts): only for ways of which these are true")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `way` its values."""
    if "way" in metafunc.fixturenames:
        ways = WAYS if metafunc.config.getoption("--long") else USUAL_WAYS
        facts = [fact for mark in metafunc.definition.iter_markers("where") for fact in mark.args]
        able = [way for way in ways if all(getattr(way, fact) for fact in facts)]
        metafunc.parametrize("way", able, ids=str, scope="session")


@pytest.fixture(scope="session")
def node() -> Node:
    """Node with fal's clients installed."""
    try:
        node = Node.find()
    except NodeMissing as error:
        pytest.fail(str(error), pytrace=False)
    node.install()
    return node


@pytest.fixture(scope="session")
async def hook() -> AsyncIterator[Hook]:
    """A host of somebody else's: it has a picture, and is told of webhooks."""
    async with run_hook() as hook:
        yield hook


@pytest.fixture(scope="session")
async def fakes(make_settings: MakeSettings, hook: Hook) -> AsyncIterator[dict[bool, Fake]]:
    """Services with fake models, by whether they have TLS."""
    given = {
        "connect__port": 0,
        "fetch__allowed_networks": "127.0.0.0/8",
        "fetch__ports": str(hook.port),
        "file__max_file_bytes": 200 * 2**20,
        "file__max_key_bytes": 4 * 2**30,
    }
    plain = make_settings(**given)
    with_tls = make_settings(**given)
    files = write_certificate(with_tls.data.folder)
    with_tls = make_settings(
        **given,
        data__folder=str(with_tls.data.folder),
        **{f"http__{name}": path for name, path in files.items()},
    )
    async with run_fake(plain) as one, run_fake(with_tls) as other:
        yield {False: one, True: other}
    for settings in (plain, with_tls):
        shutil.rmtree(settings.data.folder)  # large files


@pytest.fixture
async def fake(way: Way, fakes: dict[bool, Fake]) -> AsyncIterator[Fake]:
    """The service with a fake model that `client` calls."""
    fake = fakes[way.door == TLS]
    fake.harness.script._answers.clear()  # of a test that failed
    yield fake
    await fake.clear()
    fake.harness.check_script()


@pytest.fixture
def hushed(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Let the model be late with its first text; set once a stream without it was begun and kept open."""
    hushed, send = asyncio.Event(), Presence.send

    async def listen(presence: Presence, message: Message) -> None:
        await send(presence, message)
        if message.get("body") == KEEPALIVE_COMMENT:
            hushed.set()

    monkeypatch.setattr(answers, "HEAD_SECONDS", 0.01)
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.01)
    monkeypatch.setattr(Presence, "send", listen)
    fake.hold_answers()
    return hushed


@pytest.fixture(scope="session")
async def client(way: Way, node: Node, fakes: dict[bool, Fake]) -> AsyncIterator[Client]:
    """One of fal's clients that calls `fake`."""
    door = fakes[way.door == TLS].find_door(way.door)
    with prepare(node, way, door) as workplace:
        async with run_client(workplace) as client:
            yield client


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """A service with a real model; started once."""
    with run_real(tmp_path_factory.mktemp("real")) as real:
        yield real
