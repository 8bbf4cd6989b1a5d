"""What layers compute between their products: each a few kernels of torch's, or a single one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)


class Fused:
    """The steps between two products; compiled ones are made when they are used first."""

    def __init__(self, activate: Callable[[Tensor], Tensor]) -> None:
        """Take the activation of the layers' gates."""
        self._activate = activate
        self._use_plain()

    def compile(self, run: Callable[[], object]) -> None:
        """Make single kernels, where there is a compiler for them.

        Args:
            run: uses all that will be used, for all that kernels depend on.

        """
        self._use(torch.compile, turn)
        try:
            run()
        except Exception as error:  # noqa: BLE001  # whatever a compiler may lack
            logger.warning("steps are slower than they could be: kernels cannot be compiled: %s", error)
            self._use_plain()

    def _use_plain(self) -> None:
        self._use(lambda function: function, turn_in_place)

    def _use(self, make: Callable[..., Callable[..., Any]], turn: Callable[..., Tensor]) -> None:
        activate = self._activate

        def gate(x: Tensor) -> Tensor:
            opened, up = x.chunk(2, -1)
            return activate(opened).mul_(up)  # of a step of patches, each tensor takes 281 MB

        self.add_rms_norm: Callable[..., tuple[Tensor, Tensor]] = make(add_rms_norm)
        self.add_layer_norm: Callable[..., tuple[Tensor, Tensor]] = make(add_layer_norm)
        self.turn: Callable[..., Tensor] = make(turn)
        self.gate: Callable[[Tensor], Tensor] = make(gate)


def add_rms_norm(x: Tensor, change: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Add, and do what transformers' RMSNorm modules do.

    Returns:
        The sum, and the same normed: both [num_tokens, hidden].

    """
    x = x + change
    return x, F.rms_norm(x, x.shape[-1:], weight, epsilon)


def add_layer_norm(
    x: Tensor, change: Tensor, weight: Tensor, bias: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Add, and do what torch's LayerNorm does; returns as `add_rms_norm`."""
    x = x + change
    return x, F.layer_norm(x, x.shape[-1:], weight, bias, epsilon)


def turn(heads: Tensor, cos: Tensor, sin: Tensor, num_turned: int) -> Tensor:
    """Turn queries and keys by their positions.

    Args:
        heads: [num_tokens, num_heads, head_dim], those of queries, keys and values.
        cos: [num_tokens, 1, head_dim].
        sin: as cos, its first half negative.
        num_turned: how many heads there are of queries and keys.

    Returns:
        The same shape, values as they were.

    """
    swapped = heads.unflatten(-1, (2, -1)).flip(-2).flatten(-2)
    is_turned = torch.arange(heads.shape[1], device=heads.device)[:, None] < num_turned
    return torch.where(is_turned, heads * cos + swapped * sin, heads)


def turn_in_place(heads: Tensor, cos: Tensor, sin: Tensor, num_turned: int) -> Tensor:
    """Do the same as `turn` by fewer kernels of torch's, into `heads`."""
    turned = heads[:, :num_turned]
    first, second = turned.chunk(2, -1)
    turned.copy_((turned * cos).addcmul_(torch.cat([second, first], -1), sin))
    return heads
