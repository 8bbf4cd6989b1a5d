"""What stands somewhere in the engine, looked up when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idefics2_engine.memory import measure_used

if TYPE_CHECKING:
    from idefics2_engine.engine import Engine


def look(engine: Engine) -> None:
    """Put into the engine's meters what stands there now. May be called beside the engine's thread."""
    meters, memory = engine.meters, engine.runner.memory
    running = list(engine.scheduler.running)
    used, limit = measure_used()
    num_tokens = sum(sequence.num_read_tokens for sequence in running)
    for name, value in {
        "num_requests_running": len(running),
        "num_requests_waiting": len(engine.scheduler.waiting),
        "kv_cache_slots": memory.num_slots,
        "kv_cache_usage_perc": num_tokens / (memory.num_slots * engine.runner.max_context_tokens),
        "pixel_bytes": engine.processor.room.num_bytes,
        "pixel_max_bytes": engine.processor.room.max_bytes,
        "image_cache_bytes": engine.images.num_bytes,
        "image_cache_max_bytes": memory.image_cache,
        "prefix_cache_bytes": engine.prefixes.num_bytes,
        "prefix_cache_max_bytes": memory.prefix_cache,
        "memory_used_bytes": used,
        "memory_limit_bytes": limit,
    }.items():
        meters.set(name, value)
    for why, number in engine.processor.workers_killed.items():
        meters.set("image_workers_killed_total", number, why)
