"""An engine's program in which a device seems to compute.

`top_k` requests start together and take `max_new_tokens` steps; a seed of 1 says that only the last of them
are told.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from typing import TYPE_CHECKING, Any

from idefics2_engine import engine_program
from idefics2_engine.draft import Draft
from idefics2_engine.metrics import SERIES
from idefics2_engine.pixel_room import PixelRoom
from idefics2_engine.processor import PreparedRequest
from idefics2_engine.requests import Finished, TextDelta
from idefics2_engine.sequence import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_engine.requests import Event, Request

STEP_SECONDS = 0.02
NUM_FIRST_STEPS = 10  # in which all streams begin


class PacedEngine:
    """Waits as long as a device would compute, then makes a token for everybody."""

    def __init__(self) -> None:
        self.processor = self
        self.room = PixelRoom(0)
        self._waiting: list[PreparedRequest] = []
        self._running: list[PreparedRequest] = []
        self._num_steps = 0
        self._starts: list[float] = []
        self._num_reports = 0

    @classmethod
    def start(cls, _: Any) -> PacedEngine:
        """As Engine.start."""
        return cls()

    def close(self) -> None:
        """As Engine.close."""

    def measure(self) -> tuple[float, ...]:
        """As Engine.measure: as dear as can be, with no figure as it was before."""
        self._num_reports += 1
        return (float(self._num_reports),) * len(SERIES)

    def draft(self, request: Request) -> Draft:
        """As Processor.draft, of a request that shows nothing."""
        prepared = PreparedRequest(
            request_id=request.request_id,
            sampling=request.sampling,
            token_ids=[],
            spans=(),
            num_latents=0,
            num_image_tokens=0,
            num_cached_images=0,
            prefix_keys=[],
            seconds={},
        )
        return Draft(prepared, (), 0, Clock({}), request.share)

    def add(self, prepared: PreparedRequest) -> None:
        """As Engine.add: nobody runs before all are there."""
        self._waiting.append(prepared)
        if len(self._waiting) == prepared.sampling.top_k:
            self._running, self._waiting = self._waiting, []
            self._num_steps, self._starts = 0, []

    def cancel(self, _: str) -> bool:
        """As Engine.cancel."""
        return False

    def step(self) -> Iterator[tuple[str, Event]]:
        """As Engine.step; a delta's text is the time at which it was made."""
        self._starts.append(time.monotonic())
        time.sleep(STEP_SECONDS)
        self._num_steps += 1
        is_last = self._num_steps == self._running[0].sampling.max_new_tokens
        told, self._running = self._running, [] if is_last else self._running
        for request in told:
            if is_last:
                yield request.request_id, TextDelta(self._report(), self._num_steps)
                yield request.request_id, Finished("LENGTH", 1, 1, self._num_steps)
            elif request.sampling.seed != 1:
                yield request.request_id, TextDelta(f"{time.monotonic()} ", self._num_steps)

    @property
    def is_idle(self) -> bool:
        """As Engine.is_idle."""
        return not self._running

    def _report(self) -> str:
        starts = self._starts[NUM_FIRST_STEPS:]
        gaps = [after - before for before, after in itertools.pairwise(starts)]
        return json.dumps({"step_seconds": statistics.median(gaps)})


if __name__ == "__main__":
    engine_program.main(PacedEngine.start)  # type: ignore[arg-type]  # as much of an engine as is asked for
