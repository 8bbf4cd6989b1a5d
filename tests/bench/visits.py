"""How soon the page is there, how much it is, and how soon an answer is seen on it: `make test-page`.

A browser without a window, from loopback, each time with an empty cache; the real service behind.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from bench.programs import run_service
from bench.results import Goal, Row, make_row, write
from bench.tables import render
from page.browser import AXE, ROOT, find_program, run_browser
from page.visitor import LISTEN, Visitor

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext
    from processes import Ready

COMMAND = "make test-page"
TITLE = "The page in a browser"
NUM = 7
MAX_SECONDS = 170.0
PICTURE = ROOT / "clients/examples/images/stars.png"
PAINT = """() => new Promise((resolve) => {
  const take = (list) => {
    const paint = list.getEntries().find(({ name }) => name === "first-contentful-paint");
    if (paint) resolve(paint.startTime);
  };
  new PerformanceObserver(take).observe({ type: "paint", buffered: true });
})"""
BYTES = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .reduce((sum, { transferSize }) => sum + transferSize, 0)"""


class BrowserMissing(Exception):
    """There is nothing to measure with."""


@dataclass(frozen=True)
class Visit:
    """What one visit was like."""

    paint_milliseconds: float
    """From the beginning of the navigation to the first text that is seen."""
    num_bytes: float
    first_text_milliseconds: float
    """From the key that asks to the first text of the answer."""
    shift: float
    """How far things moved by themselves, as browsers measure it."""
    num_barriers: int


def main() -> int:
    """Measure, keep it, show it. A goal that is missed is a figure, not a failure."""
    visits = asyncio.run(measure())
    print("\n" + render(write("page", TITLE, tuple(make_rows(visits)))))
    return 0


async def measure() -> list[Visit]:
    """Visit the page NUM times, under both schemes of colours in turn.

    Raises:
        BrowserMissing: there is no browser, or no axe-core.

    """
    program = find_program()
    if program is None or not AXE.exists():
        raise BrowserMissing(f"`{COMMAND}` gets a browser and axe-core")
    async with asyncio.timeout(MAX_SECONDS), run_service() as started, run_browser(program) as browser:
        await visit(browser, started.ready, "light")  # warms the browser and the model
        return [await visit(browser, started.ready, "dark" if n % 2 else "light") for n in range(NUM)]


async def visit(browser: Browser, ready: Ready, scheme: str) -> Visit:
    """Come, ask, look, leave."""
    context = await browser.new_context(color_scheme="dark" if scheme == "dark" else "light")
    try:
        return await look(context, ready)
    finally:
        await context.close()


async def look(context: BrowserContext, ready: Ready) -> Visit:
    """Ask one question on a new page, and see what is to be seen."""
    await context.add_init_script(LISTEN)
    visitor = Visitor(await context.new_page(), f"http://{ready.http}/")
    await visitor.come(f"#key={ready.api_key}")
    paint = await visitor.page.evaluate(PAINT)
    num_bytes = await visitor.page.evaluate(BYTES)
    await visitor.at("#image_url").set_input_files(PICTURE)
    await visitor.at("#prompt").fill("How many stars are there?")
    asked = time.perf_counter()
    await visitor.at("#prompt").press("Enter")
    await visitor.at("#text:not(:empty)").wait_for()
    seen = time.perf_counter() - asked
    await visitor.wait_for("done")
    shift = sum(value for value, _ in await visitor.list_shifts())
    return Visit(paint, num_bytes, seen * 1000, shift, len(await visitor.find_barriers()))


def make_rows(visits: list[Visit]) -> list[Row]:
    """Write medians; of what must never be, the most."""
    rows = [
        make_row(
            "first contentful paint, nothing cached",
            median(v.paint_milliseconds for v in visits),
            "ms",
            goal=Goal(below=1000),
        ),
        make_row("all its files", median(v.num_bytes for v in visits) / 1024, "KiB", goal=Goal(below=100)),
        make_row(
            "from the key that asks to the first text of the answer",
            median(v.first_text_milliseconds for v in visits),
            "ms",
        ),
        make_row("cumulative layout shift", max(v.shift for v in visits), "", goal=Goal(below=0.001)),
        make_row("violations that axe finds", max(v.num_barriers for v in visits), "", goal=Goal(below=1)),
    ]
    return [replace(row, command=COMMAND) for row in rows]


if __name__ == "__main__":
    sys.exit(main())
