"""What `serve` says of the page: to a person at a terminal, and to nobody else."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from fakes.script import Script
from fakes.triton import FakeTriton
from page.conftest import open_tab
from playwright.async_api import expect
from processes import PATIENCE_SECONDS, clean_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from playwright.async_api import Browser

KEY = "test.0123456789abcdef0123456789abcdef"


@pytest.fixture
async def triton() -> AsyncIterator[FakeTriton]:
    """What a front stands before."""
    async with FakeTriton(Script()) as fake:
        yield fake


@contextmanager
def serve(folder: Path, triton: FakeTriton, output: int) -> Iterator[None]:
    """Run `serve`, which writes to `output`."""
    command = [
        *(sys.executable, "-m", "idefics2_service", "serve", "--triton-url", triton.url),
        *("--grpc-port", "0", "--http-port", "0"),
    ]
    variables = {"IDEFICS2_API_KEY": KEY, "IDEFICS2_DATA_FOLDER": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=output, stderr=log, env={**clean_environment(), **variables}
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def read_until(reader: int, words: str) -> str:
    """Read what is written until `words` are there, and the line's end."""
    text = ""
    while words not in text or not text.endswith("\n"):
        text += os.read(reader, 4096).decode()
    return text


async def test_a_person_at_a_terminal_is_told_where_the_page_is_with_the_key_in_it(
    browser: Browser, triton: FakeTriton, tmp_path: Path
) -> None:
    reader, terminal = os.openpty()
    with serve(tmp_path, triton, terminal):
        text = await asyncio.to_thread(read_until, reader, "page ")
        url = text.rpartition("page ")[2].strip()
        assert url.endswith(f"/#key={KEY}")
        context = await browser.new_context()
        visitor = await open_tab(context, url)
        await visitor.come()
        await expect(visitor.at("#key")).to_have_value(KEY)
        assert "#" not in visitor.page.url
        await context.close()
    os.close(terminal)
    os.close(reader)
    assert "#key" not in (tmp_path / "log").read_text()


async def test_a_program_is_told_neither_the_page_nor_a_key_that_was_given(
    triton: FakeTriton, tmp_path: Path
) -> None:
    reader, pipe = os.pipe()
    with serve(tmp_path, triton, pipe):
        os.close(pipe)
        text = await asyncio.to_thread(read_until, reader, "IDEFICS2_API_KEY")
    rest = await asyncio.to_thread(os.read, reader, 4096)
    os.close(reader)
    assert "page" not in text + rest.decode()
    assert KEY not in text
