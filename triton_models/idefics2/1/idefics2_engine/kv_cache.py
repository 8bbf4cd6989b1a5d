"""Keys and values of all running sequences: a slot for each, as long as a context may be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class KVShape:
    """What one token leaves behind."""

    num_layers: int
    num_heads: int
    head_dim: int
    dtype: torch.dtype

    @property
    def bytes_per_token(self) -> int:
        """Keys and values of all layers."""
        return 2 * self.num_layers * self.num_heads * self.head_dim * self.dtype.itemsize


class KVCache:
    """Slots that hold no hole: who leaves is replaced by the last one."""

    def __init__(
        self, shape: KVShape, num_slots: int, max_tokens: int, device: torch.device, *, by_token: bool = False
    ) -> None:
        """Reserve the memory: num_slots * max_tokens * bytes_per_token.

        Args:
            shape: what a token takes.
            num_slots: how many sequences there may be.
            max_tokens: how long each may be.
            device: where.
            by_token: keep together what a token leaves, which flash kernels read; or else what a head has.

        """
        self.num_slots, self.max_tokens = num_slots, max_tokens
        self.rows: list[Tensor] = []
        """By token, one for each layer: [num_slots * max_tokens, 2 * kv_heads, head_dim], first the keys."""
        if by_token:
            size = (shape.num_layers, num_slots, max_tokens, 2, shape.num_heads, shape.head_dim)
            data = _make_zeros(size, shape.dtype, device)
            self.rows = list(data.flatten(3, 4).flatten(1, 2))
            self._data = data.permute(0, 3, 1, 4, 2, 5)
        else:
            size = (shape.num_layers, 2, num_slots, shape.num_heads, max_tokens, shape.head_dim)
            self._data = _make_zeros(size, shape.dtype, device)
        self.keys: list[Tensor] = list(self._data[:, 0])
        """One for each layer: [num_slots, kv_heads, max_tokens, head_dim]."""
        self.values: list[Tensor] = list(self._data[:, 1])

    def move(self, source: int, target: int, num_tokens: int) -> None:
        """Copy a slot's first tokens to another slot."""
        self.write(target, 0, self.read(source, 0, num_tokens))

    def read(self, slot: int, start: int, end: int) -> Tensor:
        """Return a view: [num_layers, 2, kv_heads, end - start, head_dim]."""
        return self._data[:, :, slot, :, start:end]

    def write(self, slot: int, start: int, tokens: Tensor) -> None:
        """Store what `read` returned."""
        self._data[:, :, slot, :, start : start + tokens.shape[3]] = tokens

    def clear(self, slot: int, num_tokens: int) -> None:
        """Forget a slot's first tokens: what is not a number spoils a sum even where a mask hides it."""
        self._data[:, :, slot, :, :num_tokens] = 0


def _make_zeros(size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(size, dtype=dtype, device=device)
    # The system gives numpy zeros without touching them: a slot costs memory when it is used first.
    num_bytes = int(np.prod(size)) * dtype.itemsize
    return torch.from_numpy(np.zeros(num_bytes, np.uint8)).view(dtype).view(size)
