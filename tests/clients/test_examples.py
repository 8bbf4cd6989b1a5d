"""Commands that README and clients/examples show for calling the service without a client."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shlex
import sys
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from clients.languages import ROOT, Language, find_selected
from faults.requests.programs import Program
from harness import Harness, red_circle_answer, run_on_fake_backend
from pictures import RED_CIRCLE, red_circle
from ports import HOST, free_port, wait_for_port
from processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from harness import MakeSettings

_TYPESCRIPT = [language for language in find_selected() if language.name == "typescript"]
TARGET, HTTP_TARGET, PICTURE = "127.0.0.1:50051", "127.0.0.1:8080", "cat.png"
PROGRAMS = Path(sys.executable).parent
METHOD = "/idefics2.v1.GenerationService/CountTokens"


@pytest.fixture
async def service(make_settings: MakeSettings) -> AsyncIterator[Harness]:
    """The service, which is asked once."""
    async with run_on_fake_backend(make_settings()) as service:
        yield service


@asynccontextmanager
async def run_envoy(service: Harness, folder: Path) -> AsyncIterator[str]:
    """Run Envoy as the example configures it, but for ports; yield where it listens."""
    config, port = folder / "envoy.yaml", free_port()
    written = (ROOT / "clients/examples/browser/envoy.yaml").read_text(encoding="utf-8")
    for usual, here in (("8081", str(port)), ("50051", service.app.grpc_address.rpartition(":")[2])):
        assert f"port_value: {usual}" in written
        written = written.replace(f"port_value: {usual}", f"port_value: {here}")
    config.write_text(written, encoding="utf-8")
    command = [str(PROGRAMS / "envoy"), "--config-path", str(config)]
    options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
    async with Program(
        "envoy", [*command, *options], folder / "envoy.log", lambda: wait_for_port(port), {}
    ) as program:
        await program.wait_until_up()
        yield f"{HOST}:{port}"


def find_command(readme: str, beginning: str = "buf curl ") -> str:
    """Find the one call that a document shows and that begins so."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    block = rf"^```(?:sh)?\n({re.escape(beginning)}.*?)^```"
    (command,) = re.findall(block, text, re.MULTILINE | re.DOTALL)
    assert isinstance(command, str)
    return command


async def run(command: str, service: Harness, **variables: str) -> str:
    """Run a command of a document; return what it prints."""
    environment = {
        **clean_environment(),
        "PATH": f"{PROGRAMS}:/usr/bin:/bin",
        "IDEFICS2_API_KEY": str(service.app.api_key),
        **variables,
    }
    process = await asyncio.create_subprocess_shell(command, cwd=ROOT, env=environment, stdout=PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_the_service_is_called_by_hand(service: Harness, tmp_path: Path) -> None:
    (tmp_path / PICTURE).write_bytes(red_circle())
    command = find_command("README.md").replace(TARGET, service.app.grpc_address)
    service.expect(red_circle_answer())
    assert f'"output": "{RED_CIRCLE}"' in await run(
        command.replace(PICTURE, str(tmp_path / PICTURE)), service
    )
    service.check_script()


@pytest.mark.parametrize("beginning", ["curl http://", "curl --connect-to "])
async def test_it_is_called_over_http_by_hand(service: Harness, tmp_path: Path, beginning: str) -> None:
    (tmp_path / PICTURE).write_bytes(red_circle())
    command = find_command("README.md", beginning).replace(HTTP_TARGET, service.app.http_address)
    service.expect(red_circle_answer())
    told = await run(command.replace(PICTURE, str(tmp_path / PICTURE)), service)
    assert json.loads(told) == {"output": RED_CIRCLE}
    service.check_script()


async def test_it_is_called_over_grpc_web(service: Harness, tmp_path: Path) -> None:
    service.expect(red_circle_answer())
    async with run_envoy(service, tmp_path) as envoy:
        events = await run(find_command("clients/examples/README.md"), service, ENVOY=envoy)
        async with httpx.AsyncClient(base_url=f"http://{envoy}") as browser:
            await check_origins(browser)
            assert (await browser.post("/grpc.health.v1.Health/Check")).status_code == httpx.codes.NOT_FOUND
    assert '"textDelta"' in events
    assert RED_CIRCLE in events
    service.check_script()


@pytest.mark.parametrize("language", _TYPESCRIPT, ids=lambda language: language.name)
async def test_a_page_calls_it_over_grpc_web(language: Language, service: Harness, tmp_path: Path) -> None:
    picture = f"data:image/png;base64,{base64.b64encode(red_circle()).decode()}"
    service.expect(red_circle_answer())
    async with run_envoy(service, tmp_path) as envoy:
        command = shlex.join((language.program[0], "build/examples/web.js", f"http://{envoy}", picture))
        assert await run(f"cd {language.folder} && {command}", service) == RED_CIRCLE
    service.check_script()


async def check_origins(browser: httpx.AsyncClient) -> None:
    """Ask as a browser asks before a page calls."""
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    for origin, is_allowed in (("https://app.example", True), ("https://other.example", False)):
        answer = await browser.options(METHOD, headers={"origin": origin, **asked})
        assert (answer.headers.get("access-control-allow-origin") == origin) is is_allowed
