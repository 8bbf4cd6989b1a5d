"""The engine at the full shape of Idefics2-8B, beside what the device allows: `make bench-gpu`.

Weights are random: speed does not depend on the values. Limits are measured on the same device in the same
run: how fast it reads memory, and how fast it multiplies matrices.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from bench.rates import CHECKPOINT, serve
from bench.results import Goal, Row, make_row, write
from bench.tables import render
from bench.workloads import ask_alike, draw_pictures
from idefics2_engine.config import EngineConfig
from idefics2_engine.engine import Engine
from transformers import AutoConfig, Idefics2ForConditionalGeneration

if TYPE_CHECKING:
    from collections.abc import Callable

    from idefics2_engine.requests import Request

COMMAND = "make bench-gpu"
BATCHES = (1, 8, 32, 64, 128)
CONTEXT_TOKENS = 512
NUM_STEPS = 24
INPUTS = {"640x480": (640, 480), "980x980": (980, 980), "A4 scan 2480x3508": (2480, 3508)}
NUM_RATE_REQUESTS = 128
RATE_TOKENS = 128
NUM_REPEATS = 5


@dataclass(frozen=True)
class Shape:
    """How large the model is, and how large its pictures."""

    vision: dict[str, int]
    perceiver: dict[str, int]
    text: dict[str, int]
    shortest_edge: int
    longest_edge: int


FULL = Shape(
    vision={"hidden_size": 1152, "num_hidden_layers": 27, "num_attention_heads": 16,
            "intermediate_size": 4304, "image_size": 980, "patch_size": 14},
    perceiver={"hidden_size": 4096, "resampler_n_latents": 64, "resampler_depth": 3, "resampler_n_heads": 16,
               "resampler_head_dim": 96, "num_key_value_heads": 4},
    text={"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
          "head_dim": 128, "intermediate_size": 14336, "vocab_size": 32003, "max_position_embeddings": 32768,
          "sliding_window": 4096},
    shortest_edge=378,
    longest_edge=980,
)  # fmt: skip
SMALL = Shape(
    vision={"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 128, "image_size": 224, "patch_size": 14},
    perceiver={"hidden_size": 64, "resampler_n_latents": 64, "resampler_depth": 1, "resampler_n_heads": 4,
               "resampler_head_dim": 16, "num_key_value_heads": 4},
    text={"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
          "head_dim": 16, "intermediate_size": 128, "vocab_size": 2000, "max_position_embeddings": 2048,
          "sliding_window": 4096},
    shortest_edge=84,
    longest_edge=224,
)  # fmt: skip
"""Shows on any machine that the benchmark itself works."""


def main() -> int:
    """Measure everything, keep it, show it. A goal that is missed is a figure, not a failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="try the benchmark itself, on a CPU")
    is_small = parser.parse_args().small
    shape = SMALL if is_small else FULL
    if not (is_small or torch.cuda.is_available()):
        print("needs a GPU; --small tries the benchmark itself", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="idefics2-bench-") as folder:
        rows = tuple(replace(row, command=COMMAND) for row in measure(shape, Path(folder)))
    if is_small:
        for row in rows:
            print(f"{row.name}: {row.value} {row.unit}, limit {row.peer}")
        return 0
    title = f"Idefics2-8B with random weights on one {torch.cuda.get_device_name()}"
    print("\n" + render(write("gpu", title, rows)))
    return 0


def measure(shape: Shape, folder: Path) -> list[Row]:
    """Measure steps, images and whole requests, each beside its limit where it has one."""
    write_checkpoint(shape, folder)
    config = EngineConfig(checkpoint=str(folder), max_running=max(BATCHES), max_context_tokens=1024)
    engine = Engine.start(config, make_model)
    limits = Limits.measure(engine.runner.device)
    rows = [*measure_steps(engine, limits), *measure_vision(engine, limits), *measure_rates(engine)]
    engine.close()
    return rows


def write_checkpoint(shape: Shape, folder: Path) -> None:
    """Write what a checkpoint is without its weights, with the small one's tokenizer."""
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(CHECKPOINT / name, folder)
    config = json.loads((CHECKPOINT / "config.json").read_text())
    config["vision_config"] |= shape.vision
    config["perceiver_config"] |= shape.perceiver
    config["text_config"] |= shape.text
    (folder / "config.json").write_text(json.dumps(config))
    processor = json.loads((CHECKPOINT / "processor_config.json").read_text())
    processor["image_seq_len"] = shape.perceiver["resampler_n_latents"]
    edges = {"shortest_edge": shape.shortest_edge, "longest_edge": shape.longest_edge}
    processor["image_processor"]["size"] = edges
    (folder / "processor_config.json").write_text(json.dumps(processor))


def make_model(checkpoint: str, dtype: torch.dtype, device: torch.device) -> Any:
    """Make a model of random weights, directly on the device."""
    config = AutoConfig.from_pretrained(checkpoint)
    with torch.device("meta"):
        model = Idefics2ForConditionalGeneration(config)
    model = model.to(dtype).to_empty(device=device).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    rotary = model.model.text_model.rotary_emb  # its frequencies are no parameters
    frequencies, _ = rotary.compute_default_rope_parameters(rotary.config)
    rotary.inv_freq.copy_(frequencies)
    return model


@dataclass(frozen=True)
class Limits:
    """What the device can do at best."""

    bytes_per_second: float
    products_per_second: float

    @classmethod
    def measure(cls, device: torch.device) -> Limits:
        """Copy much memory and multiply large matrices, in the dtype of the model."""
        is_gpu = device.type == "cuda"
        dtype, side = (torch.bfloat16, 8192) if is_gpu else (torch.float32, 512)
        block = torch.empty(side * side * (16 if is_gpu else 1), dtype=dtype, device=device)
        target = torch.empty_like(block)
        copying = time_it(lambda: target.copy_(block), device)
        matrix = torch.randn(side, side, device=device).to(dtype)
        multiplying = time_it(lambda: matrix @ matrix, device)
        return cls(2 * block.nbytes / copying, 2 * side**3 / multiplying)


def time_it(action: Callable[[], object], device: torch.device) -> float:
    """Return the median seconds of an action, its work on the device included."""
    seconds = []
    for _ in range(NUM_REPEATS + 2):
        wait(device)
        started = time.perf_counter()
        action()
        wait(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[2:])


def wait(device: torch.device) -> None:
    """Return when the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_steps(engine: Engine, limits: Limits) -> list[Row]:
    """Time steps that decode, beside reading all weights and all keys and values once."""
    text = [*engine.runner.model.model.text_model.parameters(), *engine.runner.model.lm_head.parameters()]
    embedding = engine.runner.model.get_input_embeddings().weight
    weights = sum(parameter.nbytes for parameter in text) - embedding.nbytes
    slot = engine.runner.cache.read(0, 0, 1).nbytes
    rows = []
    for batch in BATCHES:
        seconds = time_steps(engine, batch)
        limit = (weights + batch * CONTEXT_TOKENS * slot) / limits.bytes_per_second
        rows.append(make_row(f"a step of {batch} sequences at {CONTEXT_TOKENS} tokens, beside its limit",
                             seconds * 1000, "ms", peer=limit * 1000, goal=Goal(most_ratio=1.2)))  # fmt: skip
    return rows


def time_steps(engine: Engine, batch: int) -> float:
    """Return the median seconds of steps around the middle of the context."""
    words = " word" * (CONTEXT_TOKENS // 2)
    for request in ask_alike(draw_pictures(1) * batch, NUM_STEPS):
        longer = replace(request, prompt=request.prompt + words)
        prepared = engine.processor.prepare(longer)
        missing = CONTEXT_TOKENS - NUM_STEPS // 2 - prepared.num_prompt_tokens
        words_left = " word" * max(0, missing // 2)  # the small tokenizer has no word for it
        engine.add(engine.processor.prepare(replace(longer, prompt=longer.prompt + words_left)))
    seconds = []
    while not engine.is_idle:
        running = engine.scheduler.running
        all_decode = len(running) == batch and all(sequence.is_decoding for sequence in running)
        started = time.perf_counter()
        list(engine.step())
        if all_decode:
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def measure_vision(engine: Engine, limits: Limits) -> list[Row]:
    """Time the vision tower and the connector, beside the products they cannot do without."""
    rows = []
    for name, size in INPUTS.items():
        for split in (False, True):
            engine.images.clear()
            request = replace(ask_alike(draw_pictures(1, size), 1)[0], split_images=split)
            spans = engine.processor.prepare(request).spans
            crops = [span.crop for span in spans]
            lengths = [len(crop.patches) for crop in crops]
            seconds = time_it(lambda crops=crops: engine.runner.look(crops), engine.runner.device)  # type: ignore[misc]  # bound at once
            limit = count_products(engine.runner.model, lengths) / limits.products_per_second
            goal = Goal(below=32) if (name, split) == ("980x980", True) else Goal()
            what = "split" if split else "whole"
            rows.append(make_row(f"{name}, {what}: {sum(lengths)} patches, beside its limit", seconds * 1000,
                                 "ms", peer=limit * 1000, goal=goal))  # fmt: skip
    return rows


def count_products(model: Any, lengths: list[int]) -> float:
    """Count the operations of vision tower and projection for crops of so many patches."""
    vision, projection = model.model.vision_model, model.model.connector.modality_projection
    per_patch = 2 * sum(p.numel() for module in (vision.encoder, projection) for p in module.parameters())
    width, layers = vision.config.hidden_size, vision.config.num_hidden_layers
    return float(sum(per_patch * n + 4 * width * layers * n * n for n in lengths))


def measure_rates(engine: Engine) -> list[Row]:
    """Time whole requests about pictures of 980 pixels, split: all different, and all the same."""
    pictures = draw_pictures(NUM_RATE_REQUESTS, (980, 980))
    unique = load(engine, pictures)
    repeated = load(engine, pictures[:1] * NUM_RATE_REQUESTS)
    name = f"whole requests, 980x980 split, {RATE_TOKENS} tokens out"
    return [
        make_row(f"{name}, all pictures different", unique, "requests/s", goal=Goal(above=17)),
        make_row(f"{name}, all the same", repeated, "requests/s", goal=Goal(above=60)),
    ]


def load(engine: Engine, pictures: list[bytes]) -> float:
    """Return requests a second of a load that arrives at once."""
    requests: list[Request] = [
        replace(request, split_images=True) for request in ask_alike(pictures, RATE_TOKENS)
    ]
    return serve(engine, requests).requests_per_second


if __name__ == "__main__":
    sys.exit(main())
