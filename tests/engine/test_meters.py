"""What an engine tells of itself is what happened, and bounded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from engine.conftest import MODEL_FOLDER
from fakes.engine import Told
from idefics2_engine.config import EngineConfig
from idefics2_engine.engine_process import EngineProcess
from idefics2_engine.engine_program import Reporter
from idefics2_engine.meters import Meters
from idefics2_engine.metrics import METRICS, PREFIX, SERIES
from idefics2_engine.requests import Request, SamplingParams
from pictures import NUM_PROMPT_TOKENS, RED_CIRCLE_PIECES, red_circle

if TYPE_CHECKING:
    from idefics2_engine.engine import Engine, Made

GREEDY = SamplingParams(temperature=0)
NUM_TOKENS = len(RED_CIRCLE_PIECES) + 1


@pytest.fixture(autouse=True)
def _zero(request: pytest.FixtureRequest) -> None:
    if "engine" in request.fixturenames:
        request.getfixturevalue("engine").meters.clear()


def read(values: tuple[float, ...]) -> dict[str, float]:
    """Name figures: `name`, or `name value-of-its-label`."""
    return {
        " ".join((series.name.removeprefix(PREFIX), *(value for _, value in series.labels))): figure
        for series, figure in zip(SERIES, values, strict=True)
    }


def answer(engine: Engine, *names: str, sampling: SamplingParams = GREEDY) -> None:
    """Ask about a red circle, and let the engine become idle."""
    for name in names:
        ask(engine, name, sampling)
    while not engine.is_idle:
        list(engine.step())


def ask(engine: Engine, name: str, sampling: SamplingParams = GREEDY) -> None:
    request = Request(name, "Describe the image.", (red_circle(),), sampling)
    engine.add(engine.processor.prepare(request))


def test_names_and_series_are_declared_once() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert len({(series.name, series.labels) for series in SERIES}) == len(SERIES) < 150


def test_buckets_count_what_is_at_most_their_bound() -> None:
    meters = Meters()
    for value, times in ((0.002, 1), (0.0021, 2), (100, 3)):
        meters.observe("step_seconds", value, times)
    figures = read(meters.read())
    assert figures["step_seconds_bucket 0.002"] == 1
    assert figures["step_seconds_bucket 0.005"] == 3
    assert figures["step_seconds_bucket 5"] == 3
    assert figures["step_seconds_bucket +Inf"] == figures["step_seconds_count"] == 6
    assert figures["step_seconds_sum"] == pytest.approx(0.002 + 0.0042 + 300)


def test_a_label_that_is_not_declared_is_refused() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        Meters().add("requests_failed_total", label="whatever")


def test_steps_and_tokens_are_counted(engine: Engine) -> None:
    answer(engine, "one", "two")
    figures = read(engine.measure())
    assert figures["prompt_tokens_total"] == 2 * NUM_PROMPT_TOKENS
    assert figures["generation_tokens_total"] == 2 * NUM_TOKENS
    assert figures["inter_token_latency_seconds_count"] == 2 * (NUM_TOKENS - 1)
    assert figures["step_seconds_count"] == figures["step_sequences_count"] == NUM_TOKENS
    assert figures["step_sequences_sum"] == 2 * NUM_TOKENS
    assert figures["iteration_tokens_sum"] == 2 * (NUM_PROMPT_TOKENS + NUM_TOKENS - 1)
    assert figures["step_patches_count"] == 1
    assert figures["last_step_time_seconds"] > 0
    assert figures["num_requests_running"] == figures["num_requests_waiting"] == 0


def test_what_the_caches_knew_is_counted(engine: Engine) -> None:
    answer(engine, "one")
    answer(engine, "again")
    figures = read(engine.measure())
    known = (NUM_PROMPT_TOKENS - 1) // 16 * 16
    assert (figures["mm_cache_queries_total"], figures["mm_cache_hits_total"]) == (2, 1)
    assert figures["prefix_cache_queries_total"] == 2 * NUM_PROMPT_TOKENS
    assert figures["prefix_cache_hits_total"] == known
    assert 0 < figures["image_cache_bytes"] <= figures["image_cache_max_bytes"]
    assert 0 < figures["prefix_cache_bytes"] <= figures["prefix_cache_max_bytes"]


def test_who_runs_fills_slots_and_who_waits_does_not(engine: Engine) -> None:
    endless = replace(GREEDY, min_new_tokens=500, max_new_tokens=500)
    for number in range(3):
        ask(engine, f"{number}", endless)
    assert read(engine.measure())["num_requests_waiting"] == 3
    list(engine.step())
    figures = read(engine.measure())
    used = 3 * NUM_PROMPT_TOKENS / (figures["kv_cache_slots"] * engine.runner.max_context_tokens)
    assert figures["num_requests_running"] == 3
    assert figures["kv_cache_usage_perc"] == pytest.approx(used)
    for number in range(3):
        engine.cancel(f"{number}")


def test_cancelling_saves_the_tokens_that_were_not_made_at_the_price_of_late(engine: Engine) -> None:
    answer(engine, "before")
    price = engine._step_meter._seconds / engine._step_meter._tokens
    endless = replace(GREEDY, min_new_tokens=500, max_new_tokens=500)
    ask(engine, "decoding", endless)
    for _ in range(2):
        list(engine.step())
    ask(engine, "waiting", replace(endless, max_new_tokens=100))
    assert engine.cancel("waiting")
    figures = read(engine.measure())
    assert figures["requests_cancelled_total waiting"] == 1
    assert figures["cancelled_tokens_total"] == 100
    assert price > 0
    assert engine.cancel("decoding")
    assert not engine.cancel("decoding")
    figures = read(engine.measure())
    assert figures["requests_cancelled_total decode"] == 1
    assert figures["cancelled_tokens_total"] == 100 + 498
    assert figures["cancelled_seconds_saved_total"] > 0


def test_a_step_that_breaks_and_who_breaks_it_are_counted(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = engine._compute

    def break_together(decoding: list[Any], reading: list[Any], made: Made) -> None:
        if len(decoding) + len(reading) > 1:
            raise torch.OutOfMemoryError
        compute(decoding, reading, made)

    monkeypatch.setattr(engine, "_compute", break_together)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    answer(engine, "one", "two")
    figures = read(engine.measure())
    assert figures["steps_replayed_total text"] == figures["out_of_memory_total"] == NUM_TOKENS
    assert figures["requests_failed_total step"] == 0
    monkeypatch.setattr(engine, "_compute", lambda *_: 1 / 0)
    answer(engine, "one")
    assert read(engine.measure())["requests_failed_total step"] == 1


def test_the_reporter_shows_the_last_figures_when_it_ends() -> None:
    meters = Meters()
    shown: list[tuple[float, ...]] = []
    reporter = Reporter(meters.read, shown.append)
    meters.add("out_of_memory_total")
    reporter.close()
    assert read(shown[-1])["out_of_memory_total"] == 1
    assert not reporter._thread.is_alive()


def test_figures_come_out_of_the_engines_process() -> None:

    told = Told()
    shown: list[tuple[float, ...]] = []
    process = EngineProcess(EngineConfig.read({}, {}, MODEL_FOLDER), told.emit, shown.append)
    process.submit(Request("one", "Describe the image.", (red_circle(),), GREEDY))
    told.wait_for_last("one")
    process.close()
    figures = read(shown[-1])
    assert figures["generation_tokens_total"] == NUM_TOKENS
    assert figures["start_time_seconds"] > 0
