"""The tables of figures, made from results/*.json: all in FIGURES.md, the most asked for in README."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.results import find_names, read

if TYPE_CHECKING:
    from bench.results import Machine, Results, Row

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
HEAD = "| what | measured | goal | met | command |\n|---|---|---|---|---|"
ALL = "tests/bench/FIGURES.md"
ALL_HEAD = """# Figures

All that benchmarks and long tests measured, made by `make fix` from `results/`: medians, and both sides of a
ratio from one run."""
OVERVIEW_HEAD = "| what | goals met | missed | when |\n|---|---|---|---|"
IN_README = ("engine", "load", "path", "fleet")
"""Whose tables stand in README as a whole; the others are a line each."""


class MarkersMissing(Exception):
    """There is no place for the tables."""


def main() -> int:
    """Run the command line; return its exit status: 1 where a file differs or has no place for tables."""
    arguments = _parse_arguments()
    results = {name: read(name) for name in find_names()}
    everything = render_all(results)
    if not (arguments.check or arguments.write):
        print(everything)
        return 0
    readme = ROOT / "README.md"
    try:
        wanted = {ROOT / ALL: everything, readme: put(readme.read_text(), render_choice(results))}
    except MarkersMissing as error:
        print(f"{readme}: {error}", file=sys.stderr)
        return 1
    stale = [file for file, text in wanted.items() if not file.exists() or file.read_text() != text]
    for file in stale:
        if arguments.write:
            file.write_text(wanted[file])
        else:
            print(f"{file}: the figures are not those of tests/bench/results/; `make fix`", file=sys.stderr)
    return 1 if stale and arguments.check else 0


def put(text: str, tables: str) -> str:
    """Return `text` with `tables` between the markers.

    Raises:
        MarkersMissing: the markers are not there.

    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise MarkersMissing(f"it needs a line {BEGIN} and, below it, a line {END}")
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def render_all(results: dict[str, Results]) -> str:
    """Write every run, under a heading each."""
    runs = (f"## {run.title}\n\n{_render_table(run)}" for run in results.values())
    return "\n\n".join((ALL_HEAD, *runs)) + "\n"


def render_choice(results: dict[str, Results]) -> str:
    """Write a line for every run, and below them the tables that are asked for most."""
    lines = "\n".join(_render_line(run) for run in results.values())
    return "\n\n".join((f"{OVERVIEW_HEAD}\n{lines}", *(render(results[name]) for name in IN_README)))


def render(results: Results) -> str:
    """Write one run as Markdown: its title, a table, and below it what it was measured on."""
    return f"**{results.title}**\n\n{_render_table(results)}"


def _render_table(results: Results) -> str:
    rows = "\n".join(_render_row(row) for row in results.rows)
    day = results.date.partition("T")[0]
    place = f"{results.how} on {_render_machine(results.machine)}; commit {results.commit}, {day}."
    return f"{HEAD}\n{rows}\n\n{place}"


def _render_line(results: Results) -> str:
    goals = [row for row in results.rows if row.goal_met is not None]
    met = f"{sum(bool(row.goal_met) for row in goals)} of {len(goals)}" if goals else "none set"
    missed = "; ".join(_render_miss(row) for row in goals if not row.goal_met)
    anchor = re.sub(r"[^\w -]", "", results.title.lower()).replace(" ", "-")
    day = results.date.partition("T")[0]
    return f"| [{results.title}]({ALL}#{anchor}) | {met} | {missed} | {day} |"


def _render_miss(row: Row) -> str:
    is_ratio = row.goal is not None and row.goal.endswith(" x")
    measured = f"{row.ratio:.2f} x" if is_ratio else f"{_round(row.value)} {row.unit}"
    return f"{row.name}: {measured} ({row.goal})"


def _render_row(row: Row) -> str:
    met = {None: "", True: "yes", False: "**no**"}[row.goal_met]
    return f"| {row.name} | {_render_value(row)} | {row.goal or ''} | {met} | `{row.command}` |"


def _render_value(row: Row) -> str:
    measured = f"{_round(row.value)} {row.unit}"
    if row.peer is None or row.ratio is None:
        return measured
    ratio = f"ratio {row.ratio:.2f}"
    if row.spread is not None:
        ratio += f", {row.spread[0]:.2f} to {row.spread[1]:.2f}"
    return f"{measured} (peer {_round(row.peer)} {row.unit}, {ratio})"


def _render_machine(machine: Machine) -> str:
    cores = "1 core" if machine.num_cores == 1 else f"{machine.num_cores} cores"
    hardware = f"{machine.cpu}, {cores}, {machine.memory_gib} GiB"
    return f"{hardware}, {machine.os}, Python {machine.python}, torch {machine.torch}"


def _round(value: float) -> str:
    """Write three digits, and all those before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="exit with 1 if a file has other figures")
    action.add_argument(
        "--write", action="store_true", help=f"write {ALL}, and README between {BEGIN} and {END}"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
