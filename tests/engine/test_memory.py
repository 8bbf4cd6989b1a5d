"""Memory is shared out before any is taken, never more than there is, and a lack of it is said in numbers."""

from __future__ import annotations

import dataclasses
import logging
import random
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from idefics2_engine.config import EngineConfig
from idefics2_engine.memory import MemoryPlan, measure_free, measure_used, plan_memory
from idefics2_engine.runner import Runner, load_model

MODEL_FOLDER = Path(__file__).parents[2] / "triton_models/idefics2"
MIB = 1 << 20
GIB = 1 << 30


def plan(free: int, slot_bytes: int, **settings: int) -> MemoryPlan:
    """Plan with a workspace of 1 GiB and some settings."""
    config = EngineConfig(**{"max_running": 64, "workspace_bytes": GIB, **settings})  # type: ignore[arg-type]
    return plan_memory(config, free, slot_bytes)


def test_whatever_is_free_no_more_than_that_is_shared_out() -> None:
    draw = random.Random(6)  # noqa: S311  # not a secret
    num_plans = 0
    for _ in range(3000):
        free, slot_bytes = int(10 ** draw.uniform(6, 12)), int(10 ** draw.uniform(4, 10))
        settings = {
            "max_running": draw.choice((1, 8, 64, 1000)),
            "workspace_bytes": int(10 ** draw.uniform(5, 10)),
            "max_image_cache_bytes": draw.choice((0, 0, int(10 ** draw.uniform(5, 10)))),
            "max_prefix_cache_bytes": draw.choice((0, 0, int(10 ** draw.uniform(5, 10)))),
        }
        try:
            made = plan(free, slot_bytes, **settings)
        except ValueError:
            continue
        num_plans += 1
        assert made.workspace + made.image_cache + made.prefix_cache + made.kv_cache <= made.free == free
        assert made.kv_cache == made.num_slots * slot_bytes
        assert 1 <= made.num_slots <= settings["max_running"]
        assert made.workspace == settings["workspace_bytes"]
        assert made.image_cache == settings["max_image_cache_bytes"] or not settings["max_image_cache_bytes"]
        assert (
            made.prefix_cache == settings["max_prefix_cache_bytes"] or not settings["max_prefix_cache_bytes"]
        )
    assert num_plans > 500


def test_no_more_slots_are_planned_than_may_run() -> None:
    assert plan(100 * GIB, 10 * MIB, max_running=7).num_slots == 7


def test_where_memory_is_short_there_are_as_many_slots_as_fit_and_the_operator_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    caches = {"max_image_cache_bytes": MIB, "max_prefix_cache_bytes": MIB}
    assert plan(GIB + 2 * MIB + 35 * MIB, 10 * MIB, **caches).num_slots == 3
    assert "room for 3 sequences instead of max_running 64" in caplog.text


def test_caches_take_a_share_of_what_is_left_up_to_a_bound() -> None:
    small = plan(GIB + 1000 * MIB, MIB)
    assert (small.image_cache, small.prefix_cache) == (50 * MIB, 150 * MIB)
    large = plan(1000 * GIB, MIB)
    assert (large.image_cache, large.prefix_cache) == (GIB, 4 * GIB)


def test_a_cache_of_a_size_that_was_asked_for_has_this_size() -> None:
    made = plan(100 * GIB, MIB, max_image_cache_bytes=5 * GIB, max_prefix_cache_bytes=3)
    assert (made.image_cache, made.prefix_cache) == (5 * GIB, 3)


@pytest.mark.parametrize(
    ("free", "settings"),
    [
        (0, {}),
        (GIB, {}),
        (GIB + 500 * MIB, {}),
        (9 * GIB, {"workspace_bytes": 10 * GIB}),
        (9 * GIB, {"max_image_cache_bytes": 20 * GIB}),
        (9 * GIB, {"max_prefix_cache_bytes": 8 * GIB}),
    ],
)
def test_where_not_a_single_slot_fits_it_is_said_what_takes_how_much(
    free: int, settings: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match="no room for one sequence, which takes 512 MiB") as caught:
        plan(free, 512 * MIB, **settings)
    assert f"free {free // MIB:,} MiB" in str(caught.value)
    for name, size in settings.items():
        said = name.removeprefix("max_").removesuffix("_bytes")
        assert f"{said} {size // MIB:,} MiB" in str(caught.value)
    assert "max_context_tokens" in str(caught.value)


def test_a_plan_says_itself_in_one_line() -> None:
    said = str(MemoryPlan(5 * GIB, GIB, 20 * MIB, 30 * MIB, 640 * MIB, 64))
    assert said == (
        "free 5,120 MiB, workspace 1,024 MiB, image_cache 20 MiB, prefix_cache 30 MiB, "
        "kv_cache 640 MiB for 64 sequences"
    )


def test_on_a_cpu_no_more_than_half_of_the_machine_counts_as_free() -> None:
    memory = psutil.virtual_memory()
    assert 0 < measure_free(torch.device("cpu")) <= memory.total // 2


def test_on_a_gpu_what_nobody_needs_any_more_is_given_back_before_it_is_asked_what_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unneeded = {"in circles": 3 * GIB, "kept by torch": 0}

    def collect() -> None:
        unneeded["kept by torch"] += unneeded.pop("in circles", 0)

    monkeypatch.setattr("idefics2_engine.memory.gc.collect", collect)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: unneeded.pop("kept by torch", None))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10 * GIB - sum(unneeded.values()), 20 * GIB))
    assert measure_free(torch.device("cuda")) == int(10 * GIB * 0.95)


def test_it_is_asked_what_is_free_once_all_weights_are_where_they_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models: list[Any] = []

    def make_model(*how: Any) -> Any:
        models.append(load_model(*how))
        return models[-1]

    def measure(_: torch.device) -> int:
        (inner,) = (model.model for model in models)
        for layers in (inner.text_model.layers, inner.vision_model.encoder.layers):
            for attention in (layer.self_attn for layer in layers):
                parts = attention.q_proj, attention.k_proj, attention.v_proj
                assert len({part.weight.untyped_storage().data_ptr() for part in parts}) == 1
        return GIB

    monkeypatch.setattr("idefics2_engine.runner.measure_free", measure)
    config = EngineConfig.read({}, {}, MODEL_FOLDER)
    assert Runner(dataclasses.replace(config, workspace_bytes=MIB), make_model).memory.free == GIB


def be_in_a_container(folder: Path, monkeypatch: pytest.MonkeyPatch, limit: str, **figures: int) -> None:
    """Let the kernel tell of a container what it would."""
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{figures.pop('current')}\n")
    lines = {"anon": 30 * MIB, "file": 50 * MIB, "inactive_file": 0, "active_file": 0, **figures}
    (folder / "memory.stat").write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
    monkeypatch.setattr("idefics2_engine.container._CONTAINER", folder)


def test_files_that_the_kernel_keeps_for_a_container_count_as_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"inactive_file": 60 * MIB, "active_file": 10 * MIB}
    be_in_a_container(tmp_path, monkeypatch, str(100 * MIB), current=99 * MIB, **files)
    assert measure_used() == (29 * MIB, 100 * MIB)
    assert measure_free(torch.device("cpu")) == 71 * MIB // 2


def test_a_container_with_more_in_it_than_its_limit_has_nothing_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_in_a_container(tmp_path, monkeypatch, str(100 * MIB), current=101 * MIB)
    assert measure_free(torch.device("cpu")) == 0


@pytest.mark.parametrize("page_bytes", [4 << 10, 64 << 10])
def test_a_container_counts_where_the_kernel_tells_of_it_in_the_old_way_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page_bytes: int
) -> None:
    none = (2**63 // page_bytes - 1) * page_bytes
    told, limit = tmp_path / "memory", tmp_path / "memory/memory.limit_in_bytes"
    told.mkdir()
    limit.write_text(f"{100 * MIB}\n")
    (told / "memory.usage_in_bytes").write_text(f"{99 * MIB}\n")
    own = f"inactive_file {5 * MIB}\nactive_file 0\n"  # without those of groups within
    (told / "memory.stat").write_text(f"{own}total_inactive_file {60 * MIB}\ntotal_active_file {10 * MIB}\n")
    monkeypatch.setattr("idefics2_engine.container._CONTAINER", tmp_path)
    assert measure_used() == (29 * MIB, 100 * MIB)
    assert measure_free(torch.device("cpu")) == 71 * MIB // 2
    limit.write_text(f"{none}\n")
    assert measure_used()[1] == psutil.virtual_memory().total


def test_where_a_container_has_no_limit_the_machine_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_in_a_container(tmp_path, monkeypatch, "max", current=0)
    assert measure_used()[1] == psutil.virtual_memory().total
    assert measure_free(torch.device("cpu")) > 0
