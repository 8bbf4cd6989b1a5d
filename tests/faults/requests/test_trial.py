"""Nothing that was acknowledged is lost or untold, whatever is killed. The long run: `make test-faults`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faults.requests.judge import judge
from faults.requests.trial import Plan, run_trial

if TYPE_CHECKING:
    from pathlib import Path

SEED, SECONDS, QUIET_SECONDS = 1, 6.0, 40.0


@pytest.mark.parametrize("engine", ["sqlite", "valkey"])
async def test_what_was_acknowledged_comes_to_its_end_and_is_told_while_everything_is_killed(
    engine: str, tmp_path: Path
) -> None:
    verdict = judge(await run_trial(Plan(engine, SEED, SECONDS, QUIET_SECONDS), tmp_path))
    assert not verdict.faults
    assert verdict.is_valid, verdict
    assert verdict.num_acknowledged == verdict.num_requests
    assert verdict.num_webhooks
