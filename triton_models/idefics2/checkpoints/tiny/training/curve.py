"""The picture of how training went."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

_SHOWN = (
    *("color", "shape", "existence", "count", "background", "caption", "quadrant", "relation", "read"),
    *("two pictures", "off-topic"),
)


def draw_curve(log: Path, file: Path) -> None:
    """Draw the share of right answers of each kind over the steps that `log` tells of."""
    reports = {
        line["step"]: line for line in map(json.loads, log.read_text().splitlines())
    }  # a resumed step counts once
    answering = [
        report for report in sorted(reports.values(), key=lambda r: r["step"]) if "right all" in report
    ]
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for name in (*_SHOWN, "all"):
        points = [
            (report["step"], report[f"right {name}"]) for report in answering if f"right {name}" in report
        ]
        style = {"linewidth": 2.5, "color": "black"} if name == "all" else {"linewidth": 1}
        axes.plot([step for step, _ in points], [share for _, share in points], label=name, **style)
    axes.set(xlabel="step", ylabel="answers right to the letter, in training", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(ncols=2, loc="lower right", fontsize="small")
    figure.savefig(file, dpi=100)
