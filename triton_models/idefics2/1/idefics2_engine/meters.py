"""The figures behind the metrics, added up where things happen."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from idefics2_engine.metrics import METRICS, Metric, spell_out

if TYPE_CHECKING:
    from idefics2_engine.scheduler import Plan
    from idefics2_engine.sequence import Sequence

_REMEMBERED = 0.98  # of what a token cost, from one step to the next


class Meters:
    """One figure for each series. Safe to use from several threads."""

    def __init__(self) -> None:
        """Begin at 0."""
        self._lock = threading.Lock()
        self._metrics: dict[str, Metric] = {metric.name: metric for metric in METRICS}
        sizes = [len(list(spell_out(metric))) for metric in METRICS]
        self._places = dict(zip(self._metrics, accumulate(sizes, initial=0), strict=False))
        self._values = [0.0] * sum(sizes)

    def add(self, name: str, amount: float = 1, label: str = "") -> None:
        """Add to a counter; `label` is one of the metric's values."""
        place = self._find(name, label)
        with self._lock:
            self._values[place] += amount

    def set(self, name: str, value: float, label: str = "") -> None:
        """Say what a gauge is, or what a counter that is kept elsewhere has come to."""
        place = self._find(name, label)
        with self._lock:
            self._values[place] = value

    def observe(self, name: str, value: float, times: int = 1) -> None:
        """Add so many observations of `value` to a histogram."""
        bounds, begin = self._metrics[name].bounds, self._places[name]
        end = begin + len(bounds) + 1  # of the buckets, the last of which has no bound
        with self._lock:
            for place in range(begin + bisect_left(bounds, value), end):
                self._values[place] += times
            self._values[end] += value * times
            self._values[end + 1] += times

    def clear(self) -> None:
        """Begin again at 0."""
        with self._lock:
            self._values = [0.0] * len(self._values)

    def read(self) -> tuple[float, ...]:
        """Return all figures, in the order of SERIES."""
        with self._lock:
            return tuple(self._values)

    def _find(self, name: str, label: str) -> int:
        return self._places[name] + self._metrics[name].values.index(label)


class StepMeter:
    """Measures the engine's steps. Used by the engine's thread alone."""

    def __init__(self, meters: Meters) -> None:
        """Write to `meters`."""
        self._meters = meters
        self._ended = time.monotonic()
        self._seconds = self._tokens = 0.0
        """Of late: of steps that made tokens, and how many they made."""
        self._num_patches = 0

    def begin(self, plan: Plan) -> None:
        """Note what a step is going to look at, which nobody can tell afterwards."""
        self._num_patches = sum(span.num_patches for span in plan.crops)

    def end(self, plan: Plan, begun: float) -> None:
        """Count a step that was planned so and began, with its planning, then."""
        now, meters = time.monotonic(), self._meters
        num_decoding, num_read = len(plan.decoding), sum(count for _, count in plan.reading)
        num_begun = sum(sequence.is_decoding for sequence, _ in plan.reading)  # with a first token
        meters.set("last_step_time_seconds", time.time())
        meters.observe("step_seconds", now - begun)
        meters.observe("step_sequences", num_decoding + len(plan.reading))
        meters.observe("iteration_tokens", num_decoding + num_read)
        if self._num_patches:
            meters.observe("step_patches", self._num_patches)
        if num_decoding:
            meters.observe("inter_token_latency_seconds", now - self._ended, num_decoding)
            self._seconds = self._seconds * _REMEMBERED + now - begun
            self._tokens = self._tokens * _REMEMBERED + num_decoding
        meters.add("prompt_tokens_total", num_read)
        meters.add("generation_tokens_total", num_decoding + num_begun)
        self._ended = now

    def cancel(self, sequence: Sequence) -> None:
        """Count a request that is cancelled, and what it would have cost."""
        is_waiting = sequence.slot < 0
        stage = "waiting" if is_waiting else "decode" if sequence.is_decoding else "prefill"
        tokens = sequence.sampling.max_new_tokens - sequence.num_generated_tokens
        self._meters.add("requests_cancelled_total", label=stage)
        self._meters.add("cancelled_tokens_total", tokens)
        if self._tokens:
            saved = tokens * self._seconds / self._tokens
            self._meters.add("cancelled_seconds_saved_total", saved)
