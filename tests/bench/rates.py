"""Whole loads on a bare engine, and how they go."""

from __future__ import annotations

import gc
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idefics2_engine.engine_program import MAX_SECONDS_TO_WAIT_FOR_PYTHON
from idefics2_engine.loop import EngineLoop
from idefics2_engine.requests import Failed, StageEntered, is_last

if TYPE_CHECKING:
    from idefics2_engine.engine import Engine
    from idefics2_engine.requests import Event, Request

CHECKPOINT = Path(__file__).parents[2] / "triton_models/idefics2/checkpoints/tiny"


@dataclass(frozen=True)
class Rate:
    """How a load of requests went."""

    requests_per_second: float
    first_token_seconds: float
    """Median, from the beginning of the load."""


def serve(engine: Engine, requests: list[Request]) -> Rate:
    """Answer a load that arrives at once, as the model's process does, nothing of it known before.

    Raises:
        RuntimeError: a request failed.

    """
    engine.images.clear()
    engine.prefixes.clear()
    gc.collect()
    firsts: dict[str, float] = {}
    lasts: dict[str, float] = {}
    failed: list[Failed] = []
    all_done = threading.Event()

    def tell(request_id: str, event: Event) -> None:
        if isinstance(event, Failed):
            failed.append(event)
        if is_last(event):
            lasts[request_id] = time.perf_counter() - started
        elif isinstance(event, StageEntered) and event.stage == "DECODE":  # by its first token
            firsts[request_id] = time.perf_counter() - started
        if len(lasts) == len(requests):
            all_done.set()

    waited = sys.getswitchinterval()
    sys.setswitchinterval(MAX_SECONDS_TO_WAIT_FOR_PYTHON)
    loop = EngineLoop(engine, tell)
    started = time.perf_counter()
    for request in requests:
        loop.submit(request)
    all_done.wait()
    loop.close()
    sys.setswitchinterval(waited)
    if failed:  # a rate of failures would be no rate
        raise RuntimeError(f"{len(failed)} of {len(requests)} requests failed, the first one so: {failed[0]}")
    return Rate(len(requests) / max(lasts.values()), statistics.median(firsts.values()))
