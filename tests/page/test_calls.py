"""Each call that the page shows is run as it is copied, and asks exactly what the page asks."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from idefics2_service.app import App
from page.browser import MODULES, ROOT
from page.spoken import SpokenBackend
from pictures import red_circle
from playwright.async_api import expect

if TYPE_CHECKING:
    from harness import MakeSettings
    from page.conftest import MakeVisitor, Spoken
    from page.visitor import Visitor

PROMPT = """It's "5 $HOME" \\ or `date`, ${x} \\n?
שלום 😀 'END'
END"""
FILE_NAME = 'it\'s $1 `a` \\ "b".png'
SEED = 2**64 - 1
SOURCES = os.pathsep.join(str(ROOT / folder) for folder in ("proto", "clients/python"))
PATIENCE_SECONDS = 60


def make_command(language: str, code: str, folder: Path) -> tuple[str, ...]:
    """Say how a call is run in `folder`; skip where what it needs is not there."""
    match language:
        case "curl" | "buf":
            return ("bash", "-c", code)
        case "javascript":
            if not (MODULES / "@fal-ai/client").exists() or not shutil.which("node"):
                pytest.skip("there is no @fal-ai/client: `make test` gets it")
            (folder / "node_modules").symlink_to(MODULES)
            (folder / "call.mjs").write_text(code)
            return ("node", "call.mjs")
    return (sys.executable, "-c", code)


async def run(command: tuple[str, ...], key: str, folder: Path) -> str:
    """Run a command to its good end; return what it says."""
    variables = {
        **os.environ,
        "FAL_KEY": key,
        "IDEFICS2_API_KEY": key,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": SOURCES,
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=variables, stdout=pipe, stderr=pipe
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


@pytest.mark.parametrize("given", ["file", "address"])
@pytest.mark.parametrize("language", ["curl", "javascript", "python", "grpc", "buf"])
async def test_a_copied_call_asks_what_the_page_asks(
    visitor: Visitor, spoken: Spoken, tmp_path: Path, *, language: str, given: str
) -> None:
    image = tmp_path / FILE_NAME
    image.write_bytes(red_circle())
    if given == "file":
        await visitor.choose(image, spoken.key)
    else:
        await visitor.at("#key").fill(spoken.key)
        await visitor.at("#address").fill("data:image/png;base64," + base64.b64encode(red_circle()).decode())
    await visitor.at("summary").click()
    await visitor.at("#temperature").fill("0.25")
    await visitor.at("#max_new_tokens").fill("77")
    await visitor.at("#seed").fill(str(SEED))
    await visitor.at("#prompt").fill(PROMPT)
    await visitor.at(f"[name=language][value={language}]").check(force=True)
    await expect(visitor.at("#code")).to_contain_text("idefics")
    code = await visitor.at("#code").text_content()
    spoken.backend.say("A “circle”.")
    spoken.backend.end()
    told = await run(make_command(language, code or "", tmp_path), spoken.key, tmp_path)
    assert "A “circle”." in told
    (asked,) = spoken.backend.requests
    assert asked.images[0].data == red_circle()
    request = asked.request
    assert request.prompt == PROMPT
    assert (request.temperature, request.max_new_tokens, request.seed) == (0.25, 77, SEED)
    assert (request.repetition_penalty, request.top_p) == (1.2, 0.8)


@pytest.mark.parametrize(
    ("language", "words"),
    [("grpc", 'Client("grpcs://rpc.test:443")'), ("buf", " https://rpc.test:443/idefics2.v1.")],
)
async def test_a_call_over_grpc_goes_where_a_proxy_stands_before_the_port(
    make_settings: MakeSettings, make_visitor: MakeVisitor, *, language: str, words: str
) -> None:
    settings = make_settings(grpc__public_url="grpcs://rpc.test:443")
    async with App(settings, SpokenBackend()) as app:
        visitor = await make_visitor(f"http://{app.http_address}/")
        await visitor.come()
        await visitor.at(f"[name=language][value={language}]").check(force=True)
        await expect(visitor.at("#code")).to_contain_text(words)
