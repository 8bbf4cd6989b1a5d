"""Metrics are there whatever callers send, and whatever the disk does."""

from __future__ import annotations

import asyncio
import errno
import random
import shutil
import string
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import grpc
import pytest
from fakes.backend import FakeBackend
from fakes.script import Script
from harness import (
    PATIENCE_SECONDS,
    Harness,
    MakeSettings,
    describe_red_circle,
    red_circle_answer,
    run_harness,
)
from idefics2_service import vitals
from idefics2_service.app import App
from idefics2_service.keys.changes import create
from idefics2_service.keys.file import KeyFile

if TYPE_CHECKING:
    from pathlib import Path

NUM_CALLS = 60
MAX_KEYS = 5
MAX_SERIES = 2_000
FOLDERS = ("", "run/", "queue/", "fal-ai/", "storage/", "cdn/files/", "rest/", ".well-known/", "healthz/")


async def count_series(service: Harness) -> int:
    """Count the lines of /metrics that Prometheus would keep."""
    text = (await service.http.get("/metrics")).text
    return sum(not line.startswith("#") for line in text.splitlines())


async def flood(service: Harness, draw: random.Random) -> None:
    """Call with made-up methods, paths, hosts, keys, ids and fields over both faces."""

    def word() -> str:
        return "".join(draw.choices(string.ascii_letters + string.digits, k=12))

    for _ in range(NUM_CALLS):
        key = f"Key {word()}.{word()}"
        headers = {"authorization": key, "host": f"{word()}.example", "x-request-id": word()}
        method = draw.choice(("GET", "POST", "PUT", "DELETE", "PURGE", "REPORT", word().upper()))
        await service.http.request(method, f"/{draw.choice(FOLDERS)}{word()}/{word()}", headers=headers)
        call = service.channel.unary_unary(
            f"/idefics2.v1.{draw.choice((word(), 'FileService'))}/{word()}", None, None
        )
        with pytest.raises(grpc.aio.AioRpcError):
            await call(b"", metadata=(("authorization", key),))
        url = f"{draw.choice(('ftp', 'data', word()))}:{word()}"
        with pytest.raises(grpc.aio.AioRpcError):
            await service.generate(describe_red_circle(images=[{"url": url}]))


async def test_what_callers_make_up_makes_no_series(make_settings: MakeSettings) -> None:
    script = Script()
    async with run_harness(App(make_settings(), FakeBackend(script)), script, is_real=False) as service:
        for seed in (1, 2, 3):  # until every bounded thing has happened
            await flood(service, random.Random(seed))  # noqa: S311  # not a secret
        before = await count_series(service)
        for seed in (4, 5):
            await flood(service, random.Random(seed))  # noqa: S311  # not a secret
        assert await count_series(service) <= before + 17 * 4  # a route and a method that had not met before
        assert before < MAX_SERIES


async def test_more_keys_than_may_be_named_share_a_series(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    file = KeyFile(tmp_path / "keys.json")
    keys = [create(file, f"key{number}", datetime.now(UTC)).text for number in range(2 * MAX_KEYS)]
    settings = make_settings(
        api__key=None, api__keys_file=str(tmp_path / "keys.json"), metrics__max_keys=MAX_KEYS
    )
    script = Script()
    async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as service:
        script.add(*[red_circle_answer()] * len(keys))
        for key in keys:
            await service.generate(describe_red_circle(), metadata=(("authorization", f"Key {key}"),))
        (family,) = (f for f in service.app.metrics.registry.collect() if f.name == "idefics2_key_requests")
        counts = {sample.labels["key"]: sample.value for sample in family.samples}
        assert counts == {**{f"key{n}": 1 for n in range(MAX_KEYS)}, "(other)": MAX_KEYS}


async def test_a_disk_that_hangs_holds_up_nobody(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_asked, answers = threading.Event(), threading.Event()

    def hang(_: Path) -> None:
        is_asked.set()
        answers.wait()
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(shutil, "disk_usage", hang)
    script = Script()
    async with run_harness(App(make_settings(), FakeBackend(script)), script, is_real=False) as service:
        assert await asyncio.to_thread(is_asked.wait, PATIENCE_SECONDS)
        assert (await service.http.get("/healthz/live")).text == "ok\n"
        assert "idefics2_data_free_bytes nan\n" in (await service.http.get("/metrics")).text
        assert (await service.http.get("/healthz/ready")).text == "ok\n"
    assert not answers.is_set()  # nor does it hold up the end
    answers.set()


async def test_a_disk_that_fails_takes_no_other_metric_with_it(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_failed = threading.Event()

    class Disk(vitals.Disk):
        """One that says when it was looked at."""

        def look(self) -> None:
            super().look()
            has_failed.set()

    def fail(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", fail)
    monkeypatch.setattr(vitals, "Disk", Disk)
    script = Script()
    async with run_harness(App(make_settings(), FakeBackend(script)), script, is_real=False) as service:
        assert await asyncio.to_thread(has_failed.wait, PATIENCE_SECONDS)
        answer = await service.http.get("/metrics")
        assert answer.status_code == 200
        assert "idefics2_data_free_bytes nan\n" in answer.text
        assert "idefics2_tasks " in answer.text
