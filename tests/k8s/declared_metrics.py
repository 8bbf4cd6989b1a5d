"""All metrics that there are, by the declarations; a test holds the running programs against them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idefics2_engine.metrics import METRICS as ENGINE_METRICS
from idefics2_engine.metrics import PREFIX as ENGINE_PREFIX
from idefics2_engine.metrics import SERIES
from idefics2_service.metrics import Metrics
from prometheus_client.metrics import MetricWrapperBase

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client import Metric

TARGET_LABELS = frozenset({"namespace", "pod", "instance", "job", "container", "endpoint"})
"""What Prometheus adds to whatever it scrapes."""
_PROMETHEUS_OWN = {"up": frozenset[str](), "ALERTS": frozenset({"alertname", "alertstate", "severity"})}
_TRITON_OWN = {  # docs/user_guide/metrics.md of NVIDIA's server; those of GPUs are there where one is
    "nv_gpu_utilization": frozenset({"gpu_uuid"}),
    "nv_gpu_memory_used_bytes": frozenset({"gpu_uuid"}),
    "nv_gpu_memory_total_bytes": frozenset({"gpu_uuid"}),
}


def find_declared() -> dict[str, frozenset[str]]:
    """Return the labels of each series' name."""
    engine = {s.name: frozenset({"engine", *(label for label, _ in s.labels)}) for s in SERIES}
    return {**_PROMETHEUS_OWN, **_TRITON_OWN, **engine, **dict(_find_front())}


def _find_front() -> Iterator[tuple[str, frozenset[str]]]:
    metrics = Metrics()
    labels = _find_labels(metrics)
    for family in metrics.registry.collect():
        for series in find_series([family]):
            bucket = {"le"} if series.endswith("_bucket") else set()
            yield series, frozenset(labels.get(family.name, ())) | bucket


def _find_labels(metrics: Metrics) -> dict[str, tuple[str, ...]]:
    """Return the labels of each metric by its name; the process's own have none."""
    ours = [m for m in vars(metrics).values() if isinstance(m, MetricWrapperBase)]
    return {metric._name: tuple(metric._labelnames) for metric in ours}


def find_series(families: Iterable[Metric]) -> Iterator[str]:
    """Yield the names of the series of metrics, of those without any too."""
    for family in families:
        if family.type == "histogram":
            yield from (f"{family.name}_{part}" for part in ("bucket", "sum", "count"))
        else:
            yield f"{family.name}_total" if family.type == "counter" else family.name


def describe() -> Iterator[tuple[str, str, str, str]]:
    """Yield name, kind, labels and meaning of each metric of ours: the front's, then the engine's."""
    metrics = Metrics()
    labels_of = _find_labels(metrics)
    for family in metrics.registry.collect():
        name = family.name + "_total" * (family.type == "counter")
        yield name, family.type, ", ".join(labels_of.get(family.name, ())), family.documentation
    for metric in ENGINE_METRICS:
        labels = ", ".join(filter(None, ("engine", metric.label)))
        yield ENGINE_PREFIX + metric.name, metric.kind, labels, metric.help


def add_recorded(known: Mapping[str, frozenset[str]], names: Iterable[str]) -> dict[str, frozenset[str]]:
    """Add what recording rules make."""
    return {**known, **{name: frozenset[str]() for name in names}}
