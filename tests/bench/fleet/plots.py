"""Pictures of what was simulated, beside the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from bench.fleet.days import HOUR_SECONDS, LOSS_AT, ROLLOUT_AT
from bench.fleet.traffic import DAY_SECONDS
from bench.results import FOLDER
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.fleet.days import Day
    from bench.fleet.fleet import Run
    from bench.fleet.sizing import Cell

MARKS = {LOSS_AT: " a GPU is lost", ROLLOUT_AT: " rollout"}
MAX_POINTS = 400
"""Of a line: more would only make the file larger."""


def plot_sizes(curves: Mapping[str, Sequence[Cell]], title: str) -> Path:
    """Draw GPUs over traffic, a line for each kind of it."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, cells in curves.items():
        axes.plot([cell.rate for cell in cells], [cell.num_gpus for cell in cells], marker="o", label=name)
    axes.set(title=title, xlabel="requests a second", ylabel="GPUs", xlim=(0, None), ylim=(0, None))
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return _save(figure, "fleet_sizes")


def plot_day(run: Run, day: Day, title: str) -> Path:
    """Draw a day: what came, how many GPUs were wanted and ready, and how long the first in line waited."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    traffic, replicas, age = figure.subplots(3, 1, sharex=True)
    traffic.hist([job.ask.time / HOUR_SECONDS for job in run.jobs], bins=96,
                 weights=[96 / day.seconds] * len(run.jobs), histtype="step")  # fmt: skip
    traffic.set(title=title, ylabel="requests a second")
    width, share = max(1, len(run.samples) // MAX_POINTS), day.seconds / DAY_SECONDS
    samples = run.samples[::width]
    hours = [sample.time / HOUR_SECONDS for sample in samples]
    replicas.step(hours, [sample.num_wanted for sample in samples], label="wanted", where="post")
    replicas.step(hours, [sample.num_ready for sample in samples], label="ready", where="post")
    replicas.set(ylabel="GPUs", ylim=(0, day.max_gpus + 0.5))
    replicas.legend(loc="upper left")
    worst = [
        max(sample.queue_age for sample in run.samples[begin : begin + width])
        for begin in range(0, len(run.samples), width)
    ]
    age.plot(hours, worst)
    age.set(ylabel="queue age, seconds", xlabel="hour")
    for axes in (traffic, replicas, age):
        axes.grid(visible=True, alpha=0.3)
        for at in MARKS:
            axes.axvline(at / HOUR_SECONDS * share, color="gray", linestyle=":")
    for at, what in MARKS.items():
        replicas.text(at / HOUR_SECONDS * share, 0.3, what, fontsize=8)
    return _save(figure, "fleet_day")


def _save(figure: Figure, name: str) -> Path:
    """Write an SVG that is the same for the same figures."""
    path = FOLDER / f"{name}.svg"
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})
    return path
