"""What is promised of the page's files as they are served."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import aiohttp
import pytest
from idefics2_service.app import App
from idefics2_service.rest.page import FOLDER
from page.spoken import SpokenBackend
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from harness import MakeSettings

NAMES = ["", *(f"page/{path.name}" for path in FOLDER.iterdir() if path.name != "index.html")]


@pytest.fixture
async def session(make_settings: MakeSettings) -> AsyncIterator[aiohttp.ClientSession]:
    """Calls of a service that calls itself otherwise."""
    settings = make_settings(api__app="our-team/looks.at-2", limits__max_new_tokens=300)
    async with (
        App(settings, SpokenBackend()) as app,
        aiohttp.ClientSession(f"http://{app.http_address}/") as session,
    ):
        yield session


@pytest.mark.parametrize("name", NAMES)
async def test_each_file_is_strict_and_asked_for_again_only_when_it_changed(
    session: aiohttp.ClientSession, name: str
) -> None:
    async with session.get(name) as answer:
        assert answer.status == 200
        headers = answer.headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-cache"
        assert "set-cookie" not in headers
    async with session.get(name, headers={"If-None-Match": headers["etag"]}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    async with session.head(name) as answer:
        assert (answer.status, answer.headers["etag"]) == (200, headers["etag"])


async def test_the_page_says_the_names_and_bounds_of_its_service(session: aiohttp.ClientSession) -> None:
    async with session.get("") as answer:
        text = await answer.text()
    assert 'data-app="our-team/looks.at-2"' in text
    assert re.search('id="max_new_tokens"[^>]* max="300"\\s+value="300"', text)
    assert "$" not in text


async def test_nothing_is_named_that_lies_elsewhere_or_is_not_there(session: aiohttp.ClientSession) -> None:
    async with session.get("") as answer:
        text = await answer.text()
    named = re.findall('(?:src|href)="([^"]+)"', text)
    for path in FOLDER.glob("*.js"):
        named += [f"page/{name}" for name in re.findall(r'from "\./([^"]+)"', path.read_text())]
    assert {"page/page.js", "page/page.css"} <= set(named)
    assert set(named) <= set(NAMES)


@pytest.mark.parametrize("path", ["page/nothing.js", "page/index.html", "page/..%2Fpage.py", "page"])
async def test_nothing_else_is_served(session: aiohttp.ClientSession, path: str) -> None:
    async with session.get(URL(path, encoded=True)) as answer:
        assert answer.status == 404
