"""What the embedded checkpoint costs on one core, in the engine alone: `make bench`."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.results import Goal, Row, make_row, write
from bench.tables import render
from idefics2_engine.config import EngineConfig
from idefics2_engine.engine import Engine
from idefics2_engine.requests import Request, SamplingParams
from pictures import DESCRIBE, red_circle

TITLE = "The embedded checkpoint on one core, in float32"
NUM_LOADS = 7
NUM_WARM_UPS = 10
NUM_ANSWERS = 100
NUM_NEW_PROCESSES = 3

CONFIG = EngineConfig(
    checkpoint=str(Path(__file__).parents[2] / "triton_models/idefics2/checkpoints/tiny"), num_threads=1
)
LOAD_IN_NEW_PROCESS = (sys.executable, "-c", "from bench import checkpoint; checkpoint.load()")


def main() -> int:
    """Measure everything, keep it, show it. A goal that is missed is a figure, not a failure."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print("\n" + render(write("checkpoint", TITLE, make_rows())))
    return 0


def make_rows() -> tuple[Row, ...]:
    """Make medians of what is measured."""
    new = statistics.median(load_in_new_process() for _ in range(NUM_NEW_PROCESSES))
    load_again = statistics.median([load() for _ in range(NUM_LOADS)][1:])
    first_token, token = (statistics.median(times) for times in measure_answers(Engine(CONFIG)))
    return (
        make_row("loading it, libraries imported before", load_again, "s", goal=Goal(below=0.5)),
        make_row("loading it in a new process, torch and transformers too", new, "s"),
        make_row("from the image file to the first token", first_token, "ms", goal=Goal(below=20)),
        make_row("each token after it", token, "ms", goal=Goal(below=6)),
    )


def load() -> float:
    """Load weights and processor; return the seconds it took."""
    started = time.perf_counter()
    Engine(CONFIG)
    return time.perf_counter() - started


def load_in_new_process() -> float:
    """Return the seconds that a process lives that does nothing else."""
    started = time.perf_counter()
    subprocess.run(LOAD_IN_NEW_PROCESS, check=True, capture_output=True)
    return time.perf_counter() - started


def measure_answers(engine: Engine) -> tuple[list[float], list[float]]:
    """Answer one question again and again; return milliseconds to the first token, and for each after it."""
    first_tokens, tokens = [], []
    for _ in range(NUM_WARM_UPS + NUM_ANSWERS):
        engine.images.clear()  # as if nobody had shown the picture before
        engine.prefixes.clear()
        started = time.perf_counter()
        sampling = SamplingParams(max_new_tokens=64, temperature=0)
        engine.add(engine.processor.prepare(Request("bench", DESCRIBE, (red_circle(),), sampling)))
        list(engine.step())
        first = time.perf_counter()
        steps = 0
        while not engine.is_idle:
            list(engine.step())
            steps += 1
        first_tokens.append((first - started) * 1000)
        tokens.append((time.perf_counter() - first) * 1000 / steps)
    return first_tokens[NUM_WARM_UPS:], tokens[NUM_WARM_UPS:]


if __name__ == "__main__":
    sys.exit(main())
