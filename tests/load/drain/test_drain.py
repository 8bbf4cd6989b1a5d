"""Fronts end and begin again under load, and no caller feels it. The long run: `make test-drain`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from load.drain.judge import judge
from load.drain.trial import Plan, run_trial

if TYPE_CHECKING:
    from pathlib import Path

PLAN = Plan(num_rounds=1, rate=15, delay_seconds=1.0, drain_seconds=3.0)


@pytest.mark.timeout(240)
async def test_a_rolling_restart_under_load_fails_no_call_and_hands_back_what_runs(tmp_path: Path) -> None:
    verdict = judge(await run_trial(PLAN, tmp_path))
    assert not verdict.faults
    assert verdict.num_handed_back
    assert verdict.num_resumed
