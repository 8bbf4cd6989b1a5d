"""Metrics: what is counted under which name, and never without end."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from idefics2_service.blobs.directory import DirectoryBlobs
from idefics2_service.errors import FileStoreUnavailable, StoreUnavailable
from idefics2_service.key_labels import OTHER, KeyLabels
from idefics2_service.keys.credentials import Credentials
from idefics2_service.measured import measure_blobs, measure_store
from idefics2_service.metrics import ATTACHED, SUBMITTED, Metrics
from idefics2_service.requests import FinishReason, GenerateOutput, Usage
from idefics2_service.settings import MetricsSettings
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from pathlib import Path

    from idefics2_service.store.interface import RequestStore

MAX_KEYS = 3
STAGES = {"resolving": 0.1, "queued": 0.2, "prefill": 0.3, "decode": 0.9, "total": 1.5}
OUTPUT = GenerateOutput("A red circle", FinishReason.END_OF_TURN, Usage(49, 38, 10), STAGES, "one", 0)


@pytest.fixture
def metrics() -> Metrics:
    """Those of a front on which three keys have series of their own."""
    return Metrics(MetricsSettings(max_keys=MAX_KEYS))


def count_series(metrics: Metrics) -> int:
    """Count the lines that Prometheus would keep."""
    return sum(not line.startswith(b"#") for line in metrics.render().splitlines())


def read(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Read one series; None where there is none."""
    return metrics.registry.get_sample_value(name, labels)


def test_keys_without_end_have_no_more_series_than_are_allowed(metrics: Metrics) -> None:
    draw = random.Random(1)  # noqa: S311  # not a secret
    ends = ("OK", "REQUEST_CANCELLED", "INTERNAL_ERROR", "QUEUE_FULL")
    for _ in range(2_000):
        metrics.record_key(f"key-{draw.randrange(1_000)}", draw.choice(ends), OUTPUT.usage)
    lines = [line for line in metrics.render().decode().splitlines() if line.startswith("idefics2_key_")]
    assert len({line.split('key="')[1].split('"')[0] for line in lines}) == MAX_KEYS + 1
    assert len(lines) <= (MAX_KEYS + 1) * (3 + 2)


def test_nothing_that_keys_did_is_left_out(metrics: Metrics) -> None:
    for number in range(10):
        metrics.record_key(f"key-{number}", "OK", OUTPUT.usage)
    named = {f"key-{number}" for number in range(MAX_KEYS)} | {OTHER}
    counts = {key: read(metrics, "idefics2_key_requests_total", key=key, end="answered") for key in named}
    assert counts == {"key-0": 1, "key-1": 1, "key-2": 1, OTHER: 7}
    assert read(metrics, "idefics2_key_tokens_total", key=OTHER, kind="generation") == 70


def test_a_key_that_is_used_much_more_takes_the_series_of_the_least_used(metrics: Metrics) -> None:
    for key, times in (("a", 9), ("b", 2), ("c", 9), ("late", 5)):
        for _ in range(times):
            metrics.record_key(key, "OK")
    assert read(metrics, "idefics2_key_requests_total", key="b", end="answered") is None
    assert read(metrics, "idefics2_key_requests_total", key=OTHER, end="answered") == 4
    assert read(metrics, "idefics2_key_requests_total", key="late", end="answered") == 1


def test_two_keys_that_are_used_alike_do_not_take_turns() -> None:
    forgotten: list[str] = []
    labels = KeyLabels(1, forgotten.append)
    names = [labels.use(key) for _ in range(100) for key in ("first", "second")]
    assert names == ["first", OTHER] * 100
    assert not forgotten


def test_no_key_has_the_name_under_which_all_others_are_counted(metrics: Metrics) -> None:
    assert Credentials.parse("other.0123456789abcdef") is not None
    assert Credentials.parse(f"{OTHER}.0123456789abcdef") is None
    for key in ("other", "a", "a", "b", "b", "c", "late", "late", "late"):  # the last takes a series
        metrics.record_key(key, "OK")
    assert read(metrics, "idefics2_key_requests_total", key="other", end="answered") is None
    assert read(metrics, "idefics2_key_requests_total", key=OTHER, end="answered") == 3


def test_no_count_ever_falls(metrics: Metrics) -> None:
    draw = random.Random(2)  # noqa: S311  # not a secret
    before: dict[str, float] = {}
    for _ in range(500):
        metrics.record_key(f"key-{draw.randrange(8)}", "OK")
        (family,) = (f for f in metrics.registry.collect() if f.name == "idefics2_key_requests")
        now = {sample.labels["key"]: sample.value for sample in family.samples}
        assert all(value <= now.get(key, value) for key, value in before.items())
        before = now


def test_an_answer_is_measured_by_its_kind_and_its_tokens(metrics: Metrics) -> None:
    metrics.record_output(OUTPUT, ATTACHED, 1.5)
    metrics.record_output(OUTPUT, SUBMITTED, 61.5)
    assert read(metrics, "idefics2_e2e_request_latency_seconds_sum", kind=ATTACHED) == 1.5
    assert read(metrics, "idefics2_e2e_request_latency_seconds_sum", kind=SUBMITTED) == 61.5
    assert read(metrics, "idefics2_request_time_per_output_token_seconds_sum") == pytest.approx(0.2)


def test_an_answer_of_one_token_has_no_time_between_tokens(metrics: Metrics) -> None:
    metrics.record_output(
        GenerateOutput("A", FinishReason.LENGTH, Usage(49, 38, 1), STAGES, "one", 0), ATTACHED, 1
    )
    assert read(metrics, "idefics2_request_time_per_output_token_seconds_count") == 0


def test_what_is_written_is_what_prometheus_own_client_writes(metrics: Metrics) -> None:
    metrics.record_key('a\\b"c\nd', "OK", OUTPUT.usage)
    metrics.record_output(OUTPUT, ATTACHED, 1.5)
    metrics.data_free_bytes.set(float("nan"))
    metrics.data_size_bytes.set(float("inf"))
    metrics.tasks.set_function(lambda: 7)
    metrics.render()  # what was written before is written anew
    metrics.record_output(OUTPUT, ATTACHED, 60)
    metrics.refused.labels("RATE_LIMITED").inc(1e-7)
    ours, theirs = (read_all(text) for text in (metrics.render(), generate_latest(metrics.registry)))
    assert ours == theirs
    assert len(ours) > 200


def read_all(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], str]:
    """Read what is written for Prometheus, but for the process's own, which never stands still."""
    samples = [s for family in text_string_to_metric_families(text.decode()) for s in family.samples]
    ours = [sample for sample in samples if not sample.name.startswith("process_")]
    return {(sample.name, frozenset(sample.labels.items())): str(sample.value) for sample in ours}


class BrokenStore:
    """Answers once."""

    def __init__(self) -> None:
        self.is_there = True
        self.topic = "work"

    def __getattr__(self, name: str) -> Any:
        async def answer(*_: object, **__: object) -> str:
            if not self.is_there:
                raise StoreUnavailable("it is away")
            return name

        return answer


async def test_operations_of_a_store_are_timed_and_their_failures_counted(metrics: Metrics) -> None:
    broken = BrokenStore()
    store: RequestStore = measure_store(broken, metrics)
    assert str(await store.claim()) == "claim"
    broken.is_there = False
    with pytest.raises(StoreUnavailable):
        await store.statistics()
    assert read(metrics, "idefics2_store_seconds_count", operation="claim") == 1
    assert read(metrics, "idefics2_store_errors_total", operation="claim") == 0
    assert read(metrics, "idefics2_store_errors_total", operation="statistics") == 1
    assert getattr(store, "topic", "") == "work"  # what is no operation is passed on


async def test_operations_of_a_store_of_files_are_timed_and_their_failures_counted(
    metrics: Metrics, tmp_path: Path
) -> None:
    blobs = measure_blobs(DirectoryBlobs(tmp_path / "files"), metrics)
    assert read(metrics, "idefics2_file_store_errors_total", operation="put") == 0
    await blobs.start()
    await blobs.put("one/piece", b"bytes")
    assert await blobs.get("one/piece") == b"bytes"
    assert blobs.max_writing == 2
    (tmp_path / "files/two").write_bytes(b"in the way")
    with pytest.raises(FileStoreUnavailable):
        await blobs.put("two/piece", b"bytes")
    await blobs.close()
    assert read(metrics, "idefics2_file_store_seconds_count", operation="put") == 2
    assert read(metrics, "idefics2_file_store_errors_total", operation="put") == 1
    assert read(metrics, "idefics2_file_store_errors_total", operation="get") == 0
