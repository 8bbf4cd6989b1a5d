"""Fronts end and begin again under load, and no caller feels it. The long run: `make test-drain`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from blobs.servers import run_s3
from idefics2_service.blobs.s3 import S3Blobs
from load.drain.judge import judge
from load.drain.trial import Plan, run_trial

if TYPE_CHECKING:
    from pathlib import Path

PLAN = Plan(num_rounds=1, rate=15, delay_seconds=1.0, drain_seconds=3.0)
URL = "s3://drain/files"


@pytest.mark.timeout(240)
async def test_a_rolling_restart_under_load_fails_no_call_and_hands_back_what_runs(tmp_path: Path) -> None:
    verdict = judge(await run_trial(PLAN, tmp_path))
    assert not verdict.faults
    assert verdict.num_handed_back
    assert verdict.num_resumed


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_files_in_s3_are_brought_and_read_through_a_rolling_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_s3() as place:
        for name, value in place.items():
            monkeypatch.setenv(name, value)  # the fronts', too
        await S3Blobs(URL).put("made", b"")  # SeaweedFS makes a bucket for the first thing that is put
        verdict = judge(await run_trial(PLAN, tmp_path, {"IDEFICS2_BLOB_URL": URL}))
    assert not verdict.faults
    assert verdict.num_handed_back
    assert verdict.num_resumed
