"""Prometheus' text format, written faster than by its client: a scrape holds up the event loop.

The client makes several objects of each series each time. Here its metrics are asked for their values alone,
and the names of their series with their labels are written once. That goes past its interface, so its version
is pinned.
"""

# ruff: noqa: SLF001  # why: above

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.samples import Sample

_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Registry(CollectorRegistry):
    """Metrics, and their text: counters, gauges and histograms of buckets from 0 up."""

    def __init__(self) -> None:
        """Begin without any."""
        super().__init__()
        self._collectors: list[Collector] = []
        self._names: WeakKeyDictionary[MetricWrapperBase, list[str]] = WeakKeyDictionary()
        """Of each series of a metric with its labels; forgotten with it."""

    def register(self, collector: Collector) -> None:
        """Have its metrics written, too."""
        super().register(collector)
        self._collectors.append(collector)

    def render(self) -> bytes:
        """Write all metrics, as text format 0.0.4."""
        return "".join(part for collector in self._collectors for part in self._write(collector)).encode()

    def _write(self, collector: Collector) -> Iterator[str]:
        """Yield lines, several at a time."""
        if isinstance(collector, MetricWrapperBase):
            (family,) = collector.describe()
            yield _write_head(family.name, family.type, family.documentation)
            for metric in _find_observed(collector):
                yield "".join(map("{} {}\n".format, self._name_all(metric), _read_values(metric)))
        else:
            for family in collector.collect():
                yield _write_head(family.name, family.type, family.documentation)
                yield from (f"{_write_name('', sample)} {sample.value}\n" for sample in family.samples)

    def _name_all(self, metric: MetricWrapperBase) -> list[str]:
        """Return the names of a metric's series, in the order of their values."""
        names = self._names.get(metric)
        if names is None:
            labels = dict(zip(metric._labelnames, metric._labelvalues, strict=True))
            names = [_write_name(metric._name, sample, labels) for sample in metric._child_samples()]
            self._names[metric] = names
        return names


class UnsureGauge(Collector):
    """A gauge without a series while nobody knows its value: to those who reckon, NaN would be one."""

    def __init__(self, name: str, documentation: str, registry: Registry) -> None:
        """Begin without a value."""
        self._name, self._documentation = name, documentation
        self._value: float | None = None
        registry.register(self)

    def set(self, value: float | None) -> None:
        """Know the value, or know it no more."""
        self._value = None if value is None else float(value)  # as all gauges write it

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge, as of any collector."""
        yield GaugeMetricFamily(self._name, self._documentation, value=self._value)


def _find_observed(metric: MetricWrapperBase) -> Iterable[MetricWrapperBase]:
    """Return those that have values: a metric itself, or where it has labels, one for all that came."""
    return list(metric._metrics.values()) if metric._labelnames else (metric,)


def _read_values(metric: Any) -> Iterable[float]:  # Any: what each kind has inside is untyped
    """Return the values of a metric's series, in the client's order."""
    if type(metric) is Counter:
        return (metric._value.get(),)
    if type(metric) is Gauge:  # which may have to be asked
        return (sample.value for sample in metric._child_samples())
    counts = list(accumulate(bucket.get() for bucket in metric._buckets))
    return (*counts, counts[-1], metric._sum.get())


def _write_head(name: str, kind: str, documentation: str) -> str:
    name = f"{name}_total" if kind == "counter" else name
    return f"# HELP {name} {documentation}\n# TYPE {name} {kind}\n"


def _write_name(prefix: str, sample: Sample, labels: dict[str, str] | None = None) -> str:
    """Write a series' name with its labels."""
    both = sorted({**(labels or {}), **sample.labels}.items())
    written = ",".join(f'{label}="{value.translate(_ESCAPED)}"' for label, value in both)
    return f"{prefix}{sample.name}{{{written}}}" if written else f"{prefix}{sample.name}"
