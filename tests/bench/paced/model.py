"""Our model with an engine in which a device seems to compute: only the way of the tokens is real.

Triton loads this file in the place of triton_models/idefics2/1/model.py, whose class it takes over. `top_k`
requests start together and take `max_new_tokens` steps; a seed of 1 says that all but the last are not told.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

REAL = Path(os.environ["IDEFICS2_BENCH_MODEL"])  # the folder of the model that is measured
sys.path.insert(0, str(REAL))

from idefics2_engine.requests import Finished, Request, TextDelta  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_engine.requests import Event

STEP_SECONDS = 0.02
NUM_FIRST_STEPS = 10  # in which all streams begin

_specification = importlib.util.spec_from_file_location("served", REAL / "model.py")
assert _specification is not None  # the file is there
assert _specification.loader is not None
_served: Any = importlib.util.module_from_spec(_specification)
sys.modules["served"] = _served  # where its dataclasses look for themselves
_specification.loader.exec_module(_served)


@dataclass(frozen=True)
class Prepared:
    """As PreparedRequest."""

    request: Request


class PacedEngine:
    """Waits as long as a device would compute, then makes a token for everybody."""

    def __init__(self) -> None:
        self.processor = self
        self._waiting: list[Request] = []
        self._running: list[Request] = []
        self._num_steps = 0
        self._starts: list[float] = []

    @classmethod
    def start(cls, _: Any) -> PacedEngine:
        """As Engine.start."""
        return cls()

    def close(self) -> None:
        """As Engine.close."""

    def prepare(self, request: Request, _: Any) -> Prepared:
        """As Processor.prepare."""
        return Prepared(request)

    def add(self, prepared: Prepared) -> None:
        """As Engine.add: nobody runs before all are there."""
        self._waiting.append(prepared.request)
        if len(self._waiting) == prepared.request.sampling.top_k:
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


_served.Engine = PacedEngine
TritonPythonModel = _served.TritonPythonModel
