"""The engine's figures as Triton's metrics: on the port on which Triton shows its own."""

from __future__ import annotations

import logging
import threading
from typing import Any

import triton_python_backend_utils as pb_utils
from idefics2_engine.metrics import SERIES, Series

logger = logging.getLogger(__name__)


class TritonMetrics:
    """Shows the newest figures, from a thread of its own: each one that changed is a round trip to Triton.

    Nobody else may touch them: two threads on one metric end the whole server.
    """

    def __init__(self, engine: str) -> None:
        """Declare them all; `engine` names this engine beside others of the same Triton."""
        names = dict.fromkeys((series.name, series.kind, series.help) for series in SERIES)
        # Held as long as their metrics: these are lost with them.
        self._families = {name: _make_family(name, kind, text) for name, kind, text in names}
        self._metrics = [
            self._families[s.name].Metric(labels={"engine": engine, **dict(s.labels)}) for s in SERIES
        ]
        self._shown = [0.0] * len(SERIES)
        self._newest: tuple[float, ...] | None = None
        self._is_closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def show(self, values: tuple[float, ...]) -> None:
        """Have figures shown, in the order of SERIES. Does not wait: newer ones may take their place."""
        with self._changed:
            self._newest = values
            self._changed.notify()

    def close(self) -> None:
        """Show no more."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (values := self._take()) is not None:
            try:
                self._write(values)
            except Exception:  # shared memory is full, say: the next figures come in a second
                logger.exception("the engine's figures could not be shown")

    def _write(self, values: tuple[float, ...]) -> None:
        for place, (series, value) in enumerate(zip(SERIES, values, strict=True)):
            if value != self._shown[place]:
                _write(self._metrics[place], series, value, self._shown[place])
                self._shown[place] = value

    def _take(self) -> tuple[float, ...] | None:
        with self._changed:
            while self._newest is None and not self._is_closing:
                self._changed.wait()
            values, self._newest = self._newest, None
            return None if self._is_closing else values


def _make_family(name: str, kind: str, text: str) -> Any:  # Triton is untyped
    kinds = {"counter": pb_utils.MetricFamily.COUNTER, "gauge": pb_utils.MetricFamily.GAUGE}
    return pb_utils.MetricFamily(name=name, description=text, kind=kinds[kind])


def _write(metric: Any, series: Series, value: float, shown: float) -> None:
    if series.kind == "gauge":
        metric.set(value)
    else:
        metric.increment(value - shown)
