"""How many GPUs: `python -m bench.fleet size --requests-per-second 50 --p99-seconds 15`, for one."""

from __future__ import annotations

import argparse
import signal
import sys

from bench.fleet import check, plots, report
from bench.fleet.gpus import read_gpu_profile
from bench.fleet.mixes import MIXES
from bench.fleet.parts import find_largest_cell, find_parts, read_capacities
from bench.fleet.sizing import CannotBeKept, Setting, Wish, find_gpus
from bench.results import make_row, read, write
from bench.tables import render
from idefics2_service import logs
from idefics2_service.settings import LogSettings

CHECK_TITLE = "A fleet on paper, beside the real service on one machine with the embedded checkpoint"
KEPT_ROW = "what Valkey keeps in memory of a request that ended"
HOUR_PRICE = 2.5
"""Dollars for an hour of a GPU, where nothing else is said: an example."""


def main() -> int:
    """Run the command line; return its exit status."""
    logs.configure(LogSettings(level="warning"))
    # Ended from outside, we end what we started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = _parse_arguments()
    if arguments.command == "size":
        return print_size(arguments)
    if arguments.command in {"bench", "check"}:
        bench_check()
    if arguments.command in {"bench", "simulate"}:
        bench_fleets()
    return 0


def print_size(arguments: argparse.Namespace) -> int:
    """Answer how many GPUs it takes."""
    profile, mix = read_gpu_profile(), MIXES[arguments.mix]
    capacities = read_capacities(_read_kept_bytes())
    setting = Setting(profile.profile, mix, capacities.store_times, arguments.seed)
    wish, rate = Wish(arguments.p99_seconds, arguments.until), arguments.requests_per_second
    try:
        num_cells, cell = find_gpus(setting, rate, wish, arguments.max_cell)
        most = find_largest_cell(cell, mix, capacities)
        if cell.num_gpus > most:
            num_cells, cell = find_gpus(setting, rate, wish, most)
    except CannotBeKept as error:
        print(error, file=sys.stderr)
        return 1
    num_gpus, verdict = num_cells * cell.num_gpus, cell.verdict
    hours = 1000 / 3600 * num_gpus / rate
    print(f"{num_gpus} GPUs, cells: {num_cells}, GPUs in each: {cell.num_gpus}; {profile.title}")
    print(f"first token: p50 {verdict.first_token_p50:.2f} s, p99 {verdict.first_token_p99:.2f} s")
    print(f"answer: p50 {verdict.end_p50:.2f} s, p99 {verdict.end_p99:.2f} s")
    price = arguments.hour_price
    print(f"1,000 requests: {hours:.3f} GPU hours, {hours * price:.3f} at {price:g} an hour")
    for part in find_parts(cell, mix, capacities):
        print(f"in use in a cell: {100 * part.use:.0f} % of {part.name}")
    return 0


def bench_check() -> None:
    """Measure this machine, fit a profile to it, and compare."""
    kept = make_row(KEPT_ROW, check.measure_kept_bytes(), "bytes")
    trials = check.try_service()
    rows = check.make_check_rows(check.calibrate(trials), trials)
    rows.append(check.by_command(kept))
    print("\n" + render(write("fleet_check", CHECK_TITLE, tuple(rows))))


def bench_fleets() -> None:
    """Simulate fleets of GPUs, keep the figures and draw them."""
    profile = read_gpu_profile()
    capacities = read_capacities(_read_kept_bytes())
    sized, day = report.simulate_all(profile.profile, capacities)
    rows = report.make_rows(sized, day, capacities)
    title = f"A fleet on paper: {profile.title}"
    print("\n" + render(write("fleet", title, tuple(rows), how="Simulated")))
    curves = {
        f"{report.NAMES[mix]}, p99 of {report.WISHES[mix].p99_seconds:g} s": found.cells
        for mix, found in sized.items()
    }
    plots.plot_sizes(curves, profile.title)
    plots.plot_day(day, report.DAY, f"A day of {report.NAMES[report.SIZED]}: {profile.title}")


def _read_kept_bytes() -> float:
    return next(row.value for row in read("fleet_check").rows if row.name == KEPT_ROW)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.fleet", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    size = commands.add_parser("size", help="how many GPUs for this traffic at this p99")
    size.add_argument("--requests-per-second", type=float, required=True)
    size.add_argument("--p99-seconds", type=float, required=True)
    size.add_argument("--until", choices=("first-token", "end"), default="end", help="what the p99 is of")
    size.add_argument("--mix", choices=MIXES, default="documents")
    size.add_argument("--max-cell", type=int, default=20, help="most GPUs that may share a store")
    size.add_argument("--hour-price", type=float, default=HOUR_PRICE, help="of a GPU")
    size.add_argument("--seed", type=int, default=1)
    commands.add_parser("check", help="measure this machine, fit a profile to it, and compare")
    commands.add_parser("simulate", help="simulate fleets of GPUs, and draw them")
    commands.add_parser("bench", help="both")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
