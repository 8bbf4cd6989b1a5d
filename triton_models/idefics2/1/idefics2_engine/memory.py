"""How a device's memory is shared out, before anything is taken."""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from idefics2_engine import container

if TYPE_CHECKING:
    from idefics2_engine.config import EngineConfig

_MARGIN = 0.05  # of what is free: other programs, and what allocators cannot use
HOST_SHARE = 0.5  # of a CPU's free memory: it belongs to others too
_IMAGE_SHARE, _MAX_IMAGE_BYTES = 0.05, 1 << 30
_PREFIX_SHARE, _MAX_PREFIX_BYTES = 0.15, 4 << 30

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes for each purpose, beside the weights, which are there already."""

    free: int
    workspace: int
    image_cache: int
    prefix_cache: int
    kv_cache: int
    num_slots: int

    def __str__(self) -> str:
        """Say it in one line, in MiB."""
        parts = {name: getattr(self, name) for name in
                 ("free", "workspace", "image_cache", "prefix_cache", "kv_cache")}  # fmt: skip
        return ", ".join(f"{name} {size / 2**20:,.0f} MiB" for name, size in parts.items()) + (
            f" for {self.num_slots} sequences"
        )


def plan_memory(config: EngineConfig, free: int, slot_bytes: int) -> MemoryPlan:
    """Share out `free` bytes: workspace and caches, then as many slots as are wanted and fit.

    Args:
        config: what the operator asks for; 0 leaves a cache's size to the plan.
        free: bytes.
        slot_bytes: what one sequence of the longest context takes.

    Raises:
        ValueError: there is no room for a single slot; the message says what takes how much.

    """
    left = max(0, free - config.workspace_bytes)
    images = config.max_image_cache_bytes or min(int(left * _IMAGE_SHARE), _MAX_IMAGE_BYTES)
    prefixes = config.max_prefix_cache_bytes or min(int(left * _PREFIX_SHARE), _MAX_PREFIX_BYTES)
    num_slots = min(config.max_running, (left - images - prefixes) // slot_bytes)
    plan = MemoryPlan(
        free, config.workspace_bytes, images, prefixes, max(num_slots, 0) * slot_bytes, max(num_slots, 0)
    )
    if num_slots < 1:
        message = (
            f"no room for one sequence, which takes {slot_bytes / 2**20:,.0f} MiB ({plan}); lower "
            "max_context_tokens, workspace_bytes or the caches, or use more memory"
        )
        raise ValueError(message)
    if num_slots < config.max_running:
        logger.warning("room for %d sequences instead of max_running %d", num_slots, config.max_running)
    return plan


def measure_free(device: torch.device) -> int:
    """Return the bytes that a device has left for us.

    What torch keeps of a GPU's memory, though nobody needs it any more, is given back before: the weights as
    they were loaded, of which joined ones were made since, are half as large as the model itself.
    """
    if device.type == "cuda":
        gc.collect()  # what is held by circles alone
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * (1 - _MARGIN))
    available = _read_machine("MemAvailable")
    if contained := container.read_memory():
        used, limit = contained
        available = min(available, max(0, limit - used))
    return int(available * HOST_SHARE)


def measure_used() -> tuple[int, int]:
    """Return the bytes of the container that cannot be given back, and what it may have.

    Of the machine where there is no container, or none with a limit: the kernel would look at nothing else.
    """
    total = _read_machine("MemTotal")
    return container.read_memory() or (total - _read_machine("MemAvailable"), total)


def _read_machine(name: str) -> int:
    """Return bytes of /proc/meminfo."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024
