"""An answer outlives the process that writes it, before the eyes of who asked."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fakes.script import Answer, Script
from fakes.triton import FakeTriton
from harness import red_circle_answer
from page.conftest import open_tab
from pictures import RED_CIRCLE
from playwright.async_api import expect
from ports import free_port
from processes import PATIENCE_SECONDS, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.async_api import Browser
    from processes import Service

KEY = "test.0123456789abcdef0123456789abcdef"


@contextmanager
def start(folder: Path, name: str, triton_url: str, port: int) -> Iterator[Service]:
    """Run a front of its own name, on the one data folder."""
    (folder / name).mkdir()
    variables = {
        "IDEFICS2_API_KEY": KEY,
        "IDEFICS2_DATA_FOLDER": str(folder / "data"),
        "IDEFICS2_STORE_LEASE_SECONDS": "2",
        "IDEFICS2_STORE_RENEW_SECONDS": "0.5",
    }
    options = ("--triton-url", triton_url, "--http-port", str(port))
    with running_service(folder / name, *options, **variables) as service:
        yield service


async def test_an_answer_goes_on_after_the_service_was_killed_and_started_again(
    browser: Browser, tmp_path: Path, picture: Path
) -> None:
    script, port = Script(), free_port()
    script.add(Answer(("A", " red"), holds=True), red_circle_answer())
    context = await browser.new_context()
    visitor = await open_tab(context, f"http://127.0.0.1:{port}/")
    visitor.may_fail = True  # nobody answers for a while
    async with FakeTriton(script) as triton:
        with start(tmp_path, "first", triton.url, port) as first:
            await asyncio.to_thread(first.wait_until_ready)
            await visitor.come()
            await visitor.choose(picture, KEY)
            await visitor.ask("What is this?")
            await visitor.see_text("A red")
            first.process.kill()
            await asyncio.to_thread(first.process.wait, PATIENCE_SECONDS)
            await expect(visitor.at("#state")).to_contain_text("The connection was lost.")
            await visitor.see_text("A red")
        with start(tmp_path, "second", triton.url, port) as second:
            await asyncio.to_thread(second.wait_until_ready)
            await expect(visitor.at("#answer")).to_have_attribute("data-state", "done", timeout=20_000)
            await visitor.see_text(RED_CIRCLE)
    await context.close()
    visitor.check()
    script.check_used_up()
