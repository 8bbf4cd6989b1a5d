"""README's tables of figures, made from results/*.json: print them, write them, or check them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.results import find_names, read

if TYPE_CHECKING:
    from bench.results import Machine, Results, Row

BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
HEAD = "| what | measured | goal | met | command |\n|---|---|---|---|---|"


class MarkersMissing(Exception):
    """There is no place for the tables."""


def main() -> int:
    """Run the command line; return its exit status: 1 where the file differs or has no place for tables."""
    arguments = _parse_arguments()
    tables = "\n\n".join(render(read(name)) for name in find_names())
    file: Path | None = arguments.check or arguments.write
    if file is None:
        print(tables)
        return 0
    try:
        wanted = put(file.read_text(), tables)
    except MarkersMissing as error:
        print(f"{file}: {error}", file=sys.stderr)
        return 1
    if arguments.write:
        file.write_text(wanted)
    elif wanted != file.read_text():
        print(f"{file}: the figures are not those of tests/bench/results/;", file=sys.stderr)
        print(f"mend it with: python tests/bench/tables.py --write {file}", file=sys.stderr)
        return 1
    return 0


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


def render(results: Results) -> str:
    """Write one run as Markdown: its title, a table, and below it what it was measured on."""
    rows = "\n".join(_render_row(row) for row in results.rows)
    day = results.date.partition("T")[0]
    place = f"{results.how} on {_render_machine(results.machine)}; commit {results.commit}, {day}."
    return f"**{results.title}**\n\n{HEAD}\n{rows}\n\n{place}"


def _render_row(row: Row) -> str:
    met = {None: "", True: "yes", False: "**no**"}[row.goal_met]
    return f"| {row.name} | {_render_value(row)} | {row.goal or ''} | {met} | `{row.command}` |"


def _render_value(row: Row) -> str:
    measured = f"{_round(row.value)} {row.unit}"
    if row.peer is None or row.ratio is None:
        return measured
    return f"{measured} (peer {_round(row.peer)} {row.unit}, ratio {row.ratio:.2f})"


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
    action.add_argument("--check", type=Path, metavar="FILE", help="exit with 1 if FILE has other tables")
    action.add_argument("--write", type=Path, metavar="FILE", help=f"put them between {BEGIN} and {END}")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
