"""What a layer computes between its products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

if TYPE_CHECKING:
    from collections.abc import Callable


class Fused:
    """The steps between two products: each a few kernels of torch's, or a single one that was compiled."""

    def __init__(self, activate: Callable[[Tensor], Tensor], *, compiles: bool = False) -> None:
        """Take the activation of the layers' gates, and whether to compile at the first use."""

        def gate(x: Tensor) -> Tensor:
            opened, up = x.chunk(2, -1)
            return activate(opened) * up

        make = torch.compile if compiles else lambda function: function
        self.add_norm = make(add_norm)
        self.turn = make(turn)
        self.gate: Callable[[Tensor], Tensor] = make(gate)


def add_norm(x: Tensor, change: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Add, and do what transformers' RMSNorm modules do.

    Returns:
        The sum, and the same normed: both [num_tokens, hidden].

    """
    x = x + change
    return x, F.rms_norm(x, x.shape[-1:], weight, epsilon)


def turn(heads: Tensor, cos: Tensor, sin: Tensor, num_turned: int) -> Tensor:
    """Turn queries and keys by their positions.

    Args:
        heads: [num_tokens, num_heads, head_dim], those of queries, keys and values.
        cos: [num_tokens, 1, head_dim].
        sin: as cos.
        num_turned: how many heads there are of queries and keys.

    Returns:
        The same shape, values as they were.

    """
    turned = heads[:, :num_turned]
    first, second = turned.chunk(2, -1)
    return torch.cat([turned * cos + torch.cat([-second, first], -1) * sin, heads[:, num_turned:]], 1)
