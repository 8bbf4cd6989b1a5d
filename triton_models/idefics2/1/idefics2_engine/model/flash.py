"""Attention by flash kernels, which read of each slot what is used of it, and nothing else.

They are torch's own and come with it; they run on GPUs since Ampere, in 16 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from idefics2_engine.transfer import send

if TYPE_CHECKING:
    from torch import Tensor

    from idefics2_engine.kv_cache import KVCache
    from idefics2_engine.model.text import Stretch

_LEAST_CAPABILITY = (8, 0)
_MAX_HEAD_DIM, _HEAD_DIM_UNIT = 256, 8


def can_run(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Tell whether the kernels take what a model has."""
    return (
        device.type == "cuda"
        and dtype in (torch.bfloat16, torch.float16)
        and head_dim <= _MAX_HEAD_DIM
        and head_dim % _HEAD_DIM_UNIT == 0
        and torch.cuda.get_device_capability(device) >= _LEAST_CAPABILITY
    )


@dataclass(frozen=True)
class Lookback:
    """Who looks at which part of the cache. A part lies in one slot; all int32."""

    ends: Tensor
    """[num_parts + 1], 0 and then where the queries of each part end."""
    begins: Tensor
    """[num_parts + 1], the row of the first token that each part has; the last number says nothing."""
    counts: Tensor
    """[num_parts], how many tokens each part has."""
    longest_query: int
    longest_part: int
    """At least the longest."""
    window: int | None = None
    """How far back a query looks; None for its whole part."""


class FlashAttention:
    """Stores what is new, and looks back."""

    def __init__(self, cache: KVCache, rows: Tensor, lookback: Lookback) -> None:
        """Take what is the same for all layers; `rows` [num_tokens] is where the tokens are stored."""
        self._cache, self._rows, self._lookback = cache, rows, lookback

    def __call__(self, layer: int, q: Tensor, kv: Tensor) -> Tensor:
        """As Attention."""
        stored = self._cache.rows[layer]
        stored[self._rows] = kv
        keys, values = stored.chunk(2, 1)
        return attend(q, keys, values, self._lookback).flatten(1)


def look_back_from_one(
    cache: KVCache, slots: Tensor, positions: Tensor, window: int | None
) -> FlashAttention:
    """Let one token of each slot look back, without waiting for the device.

    Args:
        cache: where keys and values are.
        slots: [num_tokens] int64.
        positions: [num_tokens] int64, where each token stands in its sequence.
        window: how far back a token looks; None for all the way.

    """
    rows = slots * cache.max_tokens + positions
    counts = positions + 1
    if window:
        counts = counts.clamp(max=window)
    begins = torch.nn.functional.pad(rows + 1 - counts, (0, 1))
    ends = torch.arange(len(slots) + 1, device=slots.device, dtype=torch.int32)
    longest = min(cache.max_tokens, window or cache.max_tokens)
    return FlashAttention(cache, rows, Lookback(ends, begins.int(), counts.int(), 1, longest))


def look_back_from_stretches(
    cache: KVCache, stretches: list[Stretch], window: int | None
) -> tuple[FlashAttention, Tensor]:
    """Let neighbouring tokens of prompts look back.

    Returns:
        The attention, and [num_tokens] int64: the position of each token in its sequence.

    """
    device = cache.rows[0].device
    positions = [p for s in stretches for p in range(s.start, s.start + s.length)]
    begins = [s.slot * cache.max_tokens for s in stretches]
    rows = [begin + s.start + n for s, begin in zip(stretches, begins, strict=True) for n in range(s.length)]
    counts = [s.start + s.length for s in stretches]
    lengths = [s.length for s in stretches]
    places = send([positions, rows], torch.int64, device)
    lookback = Lookback(
        send(list(accumulate(lengths, initial=0)), torch.int32, device),
        send([*begins, 0], torch.int32, device),
        send(counts, torch.int32, device),
        max(lengths),
        max(counts),
        window,
    )
    return FlashAttention(cache, places[1], lookback), places[0]


def attend(q: Tensor, keys: Tensor, values: Tensor, lookback: Lookback) -> Tensor:
    """Let queries look at what stands before them, and at themselves.

    Args:
        q: [num_queries, heads, head_dim]; those of a part are its last tokens.
        keys: [num_rows, kv_heads, head_dim].
        values: as keys.
        lookback: who looks at what.

    Returns:
        [num_queries, heads, head_dim].

    """
    # The public `torch.nn.attention.varlen` cannot yet be told the counts in every torch that we run on.
    attended: Tensor = torch.ops.aten._flash_attention_forward(  # noqa: SLF001
        q,
        keys,
        values,
        lookback.ends,
        lookback.begins,
        lookback.longest_query,
        lookback.longest_part,
        0.0,
        lookback.longest_query > 1,
        False,  # noqa: FBT003  # no mask for debugging
        window_size_left=lookback.window - 1 if lookback.window else None,
        window_size_right=0 if lookback.window else None,
        seqused_k=lookback.counts,
    )[0]
    return attended
