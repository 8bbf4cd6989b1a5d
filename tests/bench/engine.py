"""The engine beside transformers' `generate` and beside vLLM, with the embedded checkpoint: `make bench`.

All sides get the same questions, in the same process settings, one after the other in one run. vLLM runs in
an environment of its own, which `make bench-peers` installs; without it its figures are missing.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from bench.calls import WrongAnswer
from bench.rates import CHECKPOINT, Rate, serve
from bench.results import NO_GOAL, Goal, Row, make_row, write
from bench.tables import render
from bench.workloads import NUM_MIXED, ask_alike, ask_mixed, draw_pictures, open_pictures
from idefics2_engine.config import EngineConfig
from idefics2_engine.container import count_cores
from idefics2_engine.engine import Engine
from pictures import RED_CIRCLE, red_circle
from reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from idefics2_engine.requests import Request

Measured = TypeVar("Measured")

TITLE = "The engine on the embedded checkpoint"
ROOT = Path(__file__).parents[2]
PEER_PYTHON = ROOT / ".cache/peers/vllm/bin/python"
PEER_PROGRAM = Path(__file__).parent / "peers/vllm_steps.py"
PEER_ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "KMP_BLOCKTIME": "0",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
BATCHES = (1, 8, 32, 64)
NUM_STEPS = 64
NUM_RUNS = 3
STATIC_BATCHES = (8, 16, 64)
"""What a dynamic batcher might form; the best of them counts."""


def main() -> int:
    """Measure everything, keep it, show it. A goal that is missed is a figure, not a failure."""
    rows = [*measure_steps(), *measure_rates()]
    print("\n" + render(write("engine", TITLE, tuple(rows))))
    return 0


def in_thread(measure: Callable[[], Measured]) -> Measured:
    """Measure in a thread that ends with it: OpenMP's workers of one side must not be there for the other."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(measure).result()


def measure_steps() -> list[Row]:
    """Compare one step of a batch: ours, and vLLM's; both sides run again and again, in turns."""
    ours: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    theirs: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    engine = make_engine(count_cores())
    for run in range(NUM_RUNS):
        for batch in BATCHES:
            ours[batch].append(in_thread(partial(time_steps, engine, batch)))
        for batch, seconds in time_peer().items():
            theirs[batch].append(seconds)
        print(f"steps, run {run + 1}: ours {last(ours)}, vLLM {last(theirs)}", flush=True)
    engine.close()
    rows = []
    for batch in BATCHES:
        value, peers = statistics.median(ours[batch]) * 1000, [s * 1000 for s in theirs[batch]]
        name = f"a step of {batch} sequences, beside vLLM's" if peers else f"a step of {batch} sequences"
        peer = statistics.median(peers) if peers else None
        rows.append(make_row(name, value, "ms", peer=peer, goal=Goal(most_ratio=1.0) if peers else NO_GOAL))
        rows.append(make_row(f"tokens a second of {batch} sequences", batch * 1000 / value, "tokens/s"))
    return rows


def last(times: dict[int, list[float]]) -> str:
    """Show the newest figure of each batch."""
    return " / ".join(f"{seconds[-1] * 1000:.2f}" for seconds in times.values() if seconds) or "not there"


def make_engine(num_threads: int = 0) -> Engine:
    """Make one as it is deployed, or with so many threads."""
    return Engine.start(EngineConfig(checkpoint=str(CHECKPOINT), num_threads=num_threads))


def time_steps(engine: Engine, batch: int) -> float:
    """Return the median seconds of a step in which so many sequences make a token each."""
    for request in ask_alike(draw_pictures(batch), NUM_STEPS):
        engine.add(engine.processor.prepare(request))
    seconds = []
    while not engine.is_idle:
        all_decode = len(engine.scheduler.running) == batch and all(
            sequence.is_decoding for sequence in engine.scheduler.running
        )
        started = time.perf_counter()
        list(engine.step())
        if all_decode:
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def time_peer() -> dict[int, float]:
    """Return what vLLM takes, by batch; nothing where it is not installed."""
    if not PEER_PYTHON.exists():
        return {}
    environment = {**os.environ, **PEER_ENVIRONMENT}
    environment.pop("PYTHONPATH", None)
    with tempfile.NamedTemporaryFile(suffix=".png") as picture:
        picture.write(red_circle())
        picture.flush()
        arguments = (CHECKPOINT, picture.name, NUM_STEPS, *BATCHES)
        command = [str(PEER_PYTHON), str(PEER_PROGRAM), *map(str, arguments)]
        told = subprocess.check_output(command, env=environment, text=True, stderr=subprocess.DEVNULL)
    figures = json.loads(told.splitlines()[-1])
    if figures["answer"] != RED_CIRCLE:
        raise WrongAnswer(f"vLLM said {figures['answer']!r}")
    return {int(batch): seconds for batch, seconds in figures["seconds"].items()}


def measure_rates() -> list[Row]:
    """Compare whole loads: ours, `generate` in static batches, and `generate` one by one."""
    reference, engine = Reference(str(CHECKPOINT)), make_engine(count_cores())
    pictures = draw_pictures(NUM_MIXED)
    mixed = ask_mixed(pictures)
    sides: dict[str, list[Rate]] = {}
    for run in range(NUM_RUNS):
        sides.setdefault("ours", []).append(serve(engine, mixed))
        for size in STATIC_BATCHES:
            static = in_thread(partial(generate, reference, mixed, size))
            sides.setdefault(f"static {size}", []).append(static)
        if not run:
            sides["one by one"] = [in_thread(partial(generate, reference, mixed, 1))]
        sides.setdefault("unique", []).append(serve(engine, ask_alike(pictures, 8)))
        sides.setdefault("repeated", []).append(serve(engine, ask_alike(pictures[:1] * NUM_MIXED, 8)))
        rates = ", ".join(f"{name} {all_[-1].requests_per_second:.1f}/s" for name, all_ in sides.items())
        print(f"rates, run {run + 1}: {rates}", flush=True)
    engine.close()
    middle = {
        name: Rate(
            statistics.median(rate.requests_per_second for rate in rates),
            statistics.median(rate.first_token_seconds for rate in rates),
        )
        for name, rates in sides.items()
    }
    best = max((middle[f"static {size}"] for size in STATIC_BATCHES), key=lambda r: r.requests_per_second)
    load = f"{NUM_MIXED} requests of mixed lengths"
    ours = middle["ours"]
    return [
        make_row(f"{load}, beside `generate` in the best static batches", ours.requests_per_second,
                 "requests/s", peer=best.requests_per_second, goal=Goal(least_ratio=5)),
        make_row(f"{load}, beside `generate` one by one", ours.requests_per_second, "requests/s",
                 peer=middle["one by one"].requests_per_second),
        make_row(f"median time to the first token of {load}, beside those batches",
                 ours.first_token_seconds * 1000, "ms", peer=best.first_token_seconds * 1000),
        make_row(f"{NUM_MIXED} requests that show one image, beside as many that show different ones",
                 middle["repeated"].requests_per_second, "requests/s",
                 peer=middle["unique"].requests_per_second, goal=Goal(least_ratio=2)),
    ]  # fmt: skip


def generate(reference: Reference, requests: list[Request], size: int) -> Rate:
    """Answer the same load by `generate`, in batches of `size`, each as long as its longest answer."""
    started = time.perf_counter()
    firsts = []
    for begin in range(0, len(requests), size):
        batch = requests[begin : begin + size]
        inputs = prepare_batch(reference, batch)
        with torch.inference_mode():
            length = max(request.sampling.max_new_tokens for request in batch)
            reference.model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=length,
                min_new_tokens=length,
                repetition_penalty=1.2,
            )
        # Nothing is shown before the batch is done.
        firsts += [time.perf_counter() - started] * len(batch)
    return Rate(len(requests) / (time.perf_counter() - started), statistics.median(firsts))


def prepare_batch(reference: Reference, requests: list[Request]) -> dict[str, Any]:
    """Make transformers' inputs of several requests, padded on the left."""
    processor = reference.processor
    processor.tokenizer.padding_side = "left"
    texts = [
        processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": request.prompt}]}],
            add_generation_prompt=True,
        )
        for request in requests
    ]
    images = [[picture] for picture in open_pictures(requests)]
    return dict(processor(text=texts, images=images, return_tensors="pt", padding=True))


if __name__ == "__main__":
    sys.exit(main())
