"""What an engine tells of itself, read where its Triton shows it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from idefics2_engine.metrics import PREFIX

if TYPE_CHECKING:
    import httpx

PATIENCE_SECONDS = 30
_LOOK_SECONDS = 0.05


class EngineFigures:
    """The metrics of one engine; they are a second old at most."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        """Read them by `http` from the `url` of Triton's metrics."""
        self._http = http
        self._url = url

    async def read_names(self) -> set[str]:
        """List all that are shown."""
        return {name for name, _ in await self._read_lines()}

    async def read(self, name: str) -> float:
        """Add up all series of a metric, which is named as in `metrics.METRICS`."""
        return sum(value for shown, value in await self._read_lines() if shown == PREFIX + name)

    async def wait_for(self, name: str, least: float) -> None:
        """Return when a metric is at `least` or above, and all others that were told with it are shown."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.read(name) < least:  # noqa: ASYNC110  # nothing tells of another process's figures
                await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.sleep(_LOOK_SECONDS)  # Triton takes them one by one

    async def catch_up(self) -> None:
        """Return when what is shown is of now; the engine must be at work."""
        await self.wait_for("last_step_time_seconds", time.time())

    async def _read_lines(self) -> list[tuple[str, float]]:
        lines = (await self._http.get(self._url)).text.splitlines()
        series = (line for line in lines if line.startswith(PREFIX))
        return [(line.partition("{")[0], float(line.rpartition(" ")[2])) for line in series]
