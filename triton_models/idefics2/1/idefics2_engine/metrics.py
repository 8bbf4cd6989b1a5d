"""What an engine tells of itself, as plain data: each metric is declared here, once, with all its series.

Names are vLLM's where it has one. A histogram is spelled out as the counters that it is made of: they are
added up here, and whoever shows them need not know that they belong together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "idefics2_engine_"
_STEP_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5)
_SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128)
_TOKENS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048)
_PATCHES = (256, 1024, 2048, 4096, 8192, 16384)
_PREPROCESS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@dataclass(frozen=True)
class Metric:
    """One metric; `values` are all that its label may have, so that its series are bounded."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    label: str = ""
    values: tuple[str, ...] = ("",)
    bounds: tuple[float, ...] = ()
    """Upper ones, of a histogram's buckets."""


@dataclass(frozen=True)
class Series:
    """One figure of a metric, as Prometheus knows it."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[tuple[str, str], ...] = ()


METRICS = (
    Metric("start_time_seconds", "gauge", "When the engine was ready, as seconds since the epoch."),
    Metric("last_step_time_seconds", "gauge", "When the last step ended, in seconds since the epoch."),
    Metric("num_requests_running", "gauge", "Requests that have a slot."),
    Metric("num_requests_waiting", "gauge", "Requests that are prepared and wait for a slot."),
    Metric("kv_cache_slots", "gauge", "Slots of the KV cache, a request each."),
    Metric("kv_cache_usage_perc", "gauge", "Share of the KV cache's tokens that hold something, 0 to 1."),
    Metric("pixel_bytes", "gauge", "What decoded images may take that the model has not looked at."),
    Metric("pixel_max_bytes", "gauge", "What they may take together; whose images need more wait in line."),
    Metric("image_cache_bytes", "gauge", "What is kept of images that no running request shows."),
    Metric("image_cache_max_bytes", "gauge", "What may be kept of images."),
    Metric("prefix_cache_bytes", "gauge", "Keys and values that are kept of prompts."),
    Metric("prefix_cache_max_bytes", "gauge", "What may be kept of prompts."),
    Metric("memory_used_bytes", "gauge", "Memory of the container, or machine, that is needed."),
    Metric("memory_limit_bytes", "gauge", "What the container, or the machine, has."),
    Metric("step_seconds", "histogram", "How long a step took.", bounds=_STEP_SECONDS),
    Metric("inter_token_latency_seconds", "histogram", "From a token of an answer to the next.",
           bounds=_STEP_SECONDS),
    Metric("step_sequences", "histogram", "Requests that took part in a step.", bounds=_SEQUENCES),
    Metric("iteration_tokens", "histogram", "Tokens that a step read or made.", bounds=_TOKENS),
    Metric("step_patches", "histogram", "Patches of images that a step looked at, where it looked at any.",
           bounds=_PATCHES),
    Metric("preprocess_seconds", "histogram", "How long a request's prompt and images took to prepare.",
           bounds=_PREPROCESS_SECONDS),
    Metric("prompt_tokens_total", "counter", "Tokens of prompts that were read."),
    Metric("generation_tokens_total", "counter", "Tokens that were made."),
    Metric("prefix_cache_queries_total", "counter", "Tokens of prompts that were looked up."),
    Metric("prefix_cache_hits_total", "counter", "Tokens of prompts that had been read before."),
    Metric("mm_cache_queries_total", "counter", "Images that were shown."),
    Metric("mm_cache_hits_total", "counter", "Images that were shown and known already."),
    Metric("requests_cancelled_total", "counter", "Requests that were cancelled, by where they stood.",
           "stage", ("waiting", "prefill", "decode")),
    Metric("cancelled_tokens_total", "counter", "Tokens that cancelled requests might have had still, up to "
           "max_new_tokens: the most that was saved."),
    Metric("cancelled_seconds_saved_total", "counter", "The most engine time that cancelling saved: "
           "cancelled_tokens_total, each counted as a step's seconds by its sequences, of late. Answers "
           "might have ended before max_new_tokens."),
    Metric("steps_replayed_total", "counter", "Steps that failed, so that each request was tried alone.",
           "part", ("vision", "text")),
    Metric("requests_failed_total", "counter", "Requests that the engine failed, by why.",
           "why", ("image", "step", "not_finite", "token")),
    Metric("out_of_memory_total", "counter", "How often memory was full and caches were emptied."),
    Metric("image_workers_killed_total", "counter", "Decoders of images that were replaced, by why.",
           "why", ("time", "processor_time", "died", "cancelled")),
)  # fmt: skip


def spell_out(metric: Metric) -> Iterator[Series]:
    """Yield all series of a metric: of a histogram its buckets in order, then sum and count."""
    name = PREFIX + metric.name
    if metric.kind == "histogram":
        for bound in (*(f"{bound:g}" for bound in metric.bounds), "+Inf"):
            yield Series(f"{name}_bucket", "counter", metric.help, (("le", bound),))
        yield Series(f"{name}_sum", "counter", metric.help)
        yield Series(f"{name}_count", "counter", metric.help)
        return
    for value in metric.values:
        yield Series(name, metric.kind, metric.help, ((metric.label, value),) if metric.label else ())


SERIES = tuple(series for metric in METRICS for series in spell_out(metric))
"""In the order in which figures are told."""
