"""Running an engine by hand, and looking whether anything is left of it."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import torch
from idefics2_engine.kv_cache import KVCache, KVShape
from idefics2_engine.requests import TextDelta

if TYPE_CHECKING:
    from idefics2_engine.engine import Engine
    from idefics2_engine.requests import Event, Request
    from idefics2_engine.sequence import Sequence


def run(engine: Engine, *requests: Request) -> dict[str, list[Event]]:
    """Answer requests that all arrive before the first step."""
    for request in requests:
        engine.add(engine.processor.prepare(request))
    events: dict[str, list[Event]] = {request.request_id: [] for request in requests}
    while not engine.is_idle:
        for request_id, event in engine.step():
            events[request_id].append(event)
    return events


def run_tokens(engine: Engine, *requests: Request) -> dict[str, list[int]]:
    """Answer requests that all arrive before the first step; return the tokens of each answer."""
    for request in requests:
        engine.add(engine.processor.prepare(request))
    sequences: list[Sequence] = list(engine.scheduler.waiting)
    while not engine.is_idle:
        list(engine.step())
    return {s.request_id: s.token_ids[s.num_prompt_tokens :] for s in sequences}


def text_of(events: list[Event]) -> str:
    """Join the deltas."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def check_nothing_is_left(engine: Engine) -> None:
    """Every slot is free, and every byte of the caches belongs to something that is kept."""
    assert engine.is_idle
    assert not engine.scheduler.running
    assert not engine.scheduler.waiting
    gc.collect()
    kept = engine.images._kept.values()
    assert engine.images.num_bytes == sum(image.num_bytes for image in kept)
    assert engine.images.num_bytes <= engine.runner.memory.image_cache
    assert set(engine.images._shown) == set(engine.images._kept)  # no request holds any other
    assert all(image.decoding is None for image in kept)  # no pixels are held
    assert engine.processor.room.num_bytes == 0
    blocks = engine.prefixes._blocks.values()
    assert engine.prefixes.num_bytes == sum(block.nbytes for block in blocks)
    assert engine.prefixes.num_bytes <= engine.runner.memory.prefix_cache


def make_used_cache(shape: KVShape, num_slots: int, max_tokens: int, *, by_token: bool = False) -> KVCache:
    """Make a cache full of what sequences left, all of it different."""
    torch.manual_seed(1)
    made = KVCache(shape, num_slots, max_tokens, torch.device("cpu"), by_token=by_token)
    for layer in (*made.keys, *made.values):
        layer.normal_()
    return made
