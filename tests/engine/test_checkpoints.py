"""Checkpoints of other kinds than the embedded one are served, too."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bench.rates import CHECKPOINT
from engine.answers import run_tokens
from idefics2_engine.config import EngineConfig
from idefics2_engine.engine import Engine
from idefics2_engine.requests import Request, SamplingParams
from idefics2_engine.runner import load_model
from pictures import red_circle
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TURN_END_ID = 1023


@pytest.fixture
def base_engine(tmp_path: Path) -> Iterator[Engine]:
    """Another one, on a checkpoint as Idefics2-8B-base: without turns, and without a token for their end."""
    folder = tmp_path / "base"
    shutil.copytree(CHECKPOINT, folder, ignore=shutil.ignore_patterns("chat_template.jinja", "training"))
    change(folder / "tokenizer.json", lambda made: made["added_tokens"].pop())
    change(folder / "tokenizer_config.json", lambda made: made.update(extra_special_tokens=[]))
    change(folder / "config.json", lambda made: made["text_config"].update(vocab_size=TURN_END_ID))
    change(folder / "generation_config.json", lambda made: made.update(eos_token_id=2))
    weights = load_file(folder / "model.safetensors")
    for name in ("model.text_model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][:TURN_END_ID].contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    made = Engine(EngineConfig(checkpoint=str(folder), max_running=2, max_context_tokens=600))
    yield made
    made.close()


def change(file: Path, how: Callable[[Any], object]) -> None:
    """Change a file of JSON."""
    made = json.loads(file.read_text())
    how(made)
    file.write_text(json.dumps(made))


def test_a_base_checkpoint_which_knows_no_end_of_a_turn_goes_on_for_as_long_as_it_must(
    base_engine: Engine,
) -> None:
    # Transformers' processor has given the tokenizer what the model has no row for.
    tokenizer = base_engine.processor.tokenizer
    assert tokenizer.convert_tokens_to_ids("<end_of_utterance>") == base_engine.runner.vocab_size
    sampling = SamplingParams(max_new_tokens=8, min_new_tokens=8)
    tokens = run_tokens(base_engine, Request("any", "A red", (red_circle(),), sampling))
    assert len(tokens["any"]) == sampling.max_new_tokens


def test_keys_and_values_are_of_the_type_in_which_a_checkpoint_computes_whatever_was_asked_for() -> None:
    """On a GPU, transformers makes float16 of bfloat16 where weights are quantized by AWQ."""
    config = EngineConfig(checkpoint=str(CHECKPOINT), dtype="bfloat16", max_running=2)
    engine = Engine(config, lambda checkpoint, _, device: load_model(checkpoint, torch.float32, device))
    tokens = run_tokens(engine, Request("any", "Hello", (red_circle(),), SamplingParams(max_new_tokens=8)))
    engine.close()
    assert tokens["any"]
    assert engine.runner.cache.keys[0].dtype == torch.float32
