"""What many trials showed: as tables for whoever waits, and as rows of figures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bench.results import NO_GOAL, Goal, Row, make_row
from faults.requests.judge import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from faults.requests.judge import Verdict

COMMAND = "make test-faults"
_STRUCK = ("front", "triton", "store", "stopped")
_COLUMNS = (
    *("engine", "seed", "requests", "acknowledged", *_STRUCK, *(kind.value for kind in Kind)),
    *("webhooks", "told again", "rate /s", "worst recovery s"),
)
HEAD = f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|"
_NONE = Goal(below=1)
_WHAT = {
    Kind.LOST: "lost",
    Kind.STALE: "written to by a stale attempt",
    Kind.HUNG: "without an end",
    Kind.WRONG: "ended otherwise than they should",
    Kind.UNTOLD: "ended without a word to their webhook",
    Kind.MISTOLD: "whose webhook was told something else, or without a signature",
}


def render_line(engine: str, seed: int, verdict: Verdict) -> str:
    """Write a trial as a line of the table."""
    cells = (
        *(engine, seed, verdict.num_requests, verdict.num_acknowledged),
        *(verdict.num_strikes.get(kind, 0) for kind in _STRUCK),
        *(verdict.count(kind) for kind in Kind),
        *(verdict.num_webhooks, verdict.num_told_again),
        *(f"{verdict.rate:.1f}", f"{verdict.worst_recovery_seconds:.1f}"),
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def make_engine_rows(engine: str, verdicts: Sequence[Verdict], least_rate: float) -> tuple[Row, ...]:
    """Sum up the trials of an engine."""
    num_struck = sum(sum(verdict.num_strikes.values()) for verdict in verdicts)
    num_acknowledged = sum(verdict.num_acknowledged for verdict in verdicts)
    num_webhooks = sum(verdict.num_webhooks for verdict in verdicts)
    num_told_again = sum(verdict.num_told_again for verdict in verdicts)
    rate = min(verdict.rate for verdict in verdicts)
    seconds = max(verdict.worst_recovery_seconds for verdict in verdicts)
    return (
        _row(
            f"{engine}: acknowledged while {num_struck} processes were killed", num_acknowledged, "requests"
        ),
        _row(f"{engine}: load meanwhile", rate, "requests/s", Goal(above=least_rate)),
        *(
            _row(f"{engine}: {what}", sum(verdict.count(kind) for verdict in verdicts), "of them", _NONE)
            for kind, what in _WHAT.items()
        ),
        _row(
            f"{engine}: whose webhook was told again, of {num_webhooks} with one", num_told_again, "of them"
        ),
        _row(f"{engine}: longest time in which nothing was acknowledged", seconds, "s"),
    )


def make_recovery_rows(seconds: Mapping[str, Sequence[float]], goals: Mapping[str, float]) -> tuple[Row, ...]:
    """Show the worst of each recovery, with its goal in seconds."""
    return tuple(
        _row(f"{what} (worst of {len(times)})", max(times), "s", Goal(below=goals[what]))
        for what, times in seconds.items()
    )


def _row(name: str, value: float, unit: str, goal: Goal = NO_GOAL) -> Row:
    return replace(make_row(name, value, unit, goal=goal), command=COMMAND)
