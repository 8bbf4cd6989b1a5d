"""What the program promises as a process."""

from __future__ import annotations

import asyncio
import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest
from fakes.backend import FakeBackend
from fakes.script import Script
from fakes.triton import FakeTriton
from idefics2_service.app import App
from processes import PATIENCE_SECONDS, Service, running_service
from structlog.testing import capture_logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness import MakeSettings

USUAL_LIMIT = 1_024


@contextmanager
def usual_limit() -> Iterator[int]:
    """Let what is started have as many files open as systems usually allow; yield how many it may ask for."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL_LIMIT, before[1]))
    try:
        yield before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_as_many_files_may_be_open_as_the_system_allows(tmp_path: Path) -> None:
    async with FakeTriton(Script()) as triton:
        with usual_limit() as most, running_service(tmp_path, "--triton-url", triton.url) as service:
            await asyncio.to_thread(service.wait_until_ready)
            assert psutil.Process(service.process.pid).rlimit(psutil.RLIMIT_NOFILE) == (most, most)
            assert await asyncio.to_thread(service.stop) == 0


def test_a_ready_file_that_cannot_be_written_ends_the_start_at_once_and_in_one_line(tmp_path: Path) -> None:
    service = Service(tmp_path, "--ready-file", "/proc/ready.json")
    assert service.process.wait(PATIENCE_SECONDS) == 1
    assert (
        service.log.read_text()
        == "idefics2-service: --ready-file /proc/ready.json: No such file or directory\n"
    )


@pytest.mark.parametrize("url", ["foo", "http://host", "redis://host?colour=red"])
def test_the_url_of_a_store_that_cannot_be_read_is_a_bad_setting_and_ends_with_2(
    tmp_path: Path, url: str
) -> None:
    service = Service(tmp_path, IDEFICS2_STORE_URL=url)
    assert service.process.wait(PATIENCE_SECONDS) == 2
    form = "redis[s]://[user:password@]host[:port][/database][?options]"
    assert service.log.read_text() == f"idefics2-service: IDEFICS2_STORE_URL must be {form}\n"


@pytest.mark.parametrize("is_elsewhere", [True, False])
async def test_settings_of_the_engine_beside_a_triton_that_runs_elsewhere_are_told_to_do_nothing(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, *, is_elsewhere: bool
) -> None:
    for name in ("IDEFICS2_MODEL_MAX_RUNNING", "IDEFICS2_MODEL_CHECKPOINT"):
        monkeypatch.setenv(name, "7")
    script = Script()
    async with FakeTriton(script) as triton:
        settings = make_settings(triton__url=triton.url if is_elsewhere else "")
        with capture_logs() as lines:
            async with App(settings, None if is_elsewhere else FakeBackend(script)):
                pass
    told = [line["names"] for line in lines if "no engine hears" in line["event"]]
    assert told == ([["IDEFICS2_MODEL_CHECKPOINT", "IDEFICS2_MODEL_MAX_RUNNING"]] if is_elsewhere else [])
