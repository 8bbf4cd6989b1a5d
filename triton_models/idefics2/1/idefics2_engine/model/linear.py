"""Linear layers that read the same input, as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def fuse(layers: list[nn.Module]) -> Callable[[Tensor], Tensor]:
    """Return a function that gives the layers' outputs side by side, by one product where that can be.

    Plain layers then share one weight, of which each keeps a view, so that nothing is held twice; others
    (quantized ones, say) are called one after the other.
    """
    plain = [layer for layer in layers if type(layer) is nn.Linear]
    if len(plain) < len(layers):
        return lambda x: torch.cat([layer(x) for layer in layers], -1)
    weight = _join([layer.weight for layer in plain])
    bias = None if plain[0].bias is None else _join([layer.bias for layer in plain])
    return lambda x: F.linear(x, weight, bias)


def _join(parts: Sequence[Tensor]) -> Tensor:
    joined = torch.cat([part.data for part in parts])
    for part, view in zip(parts, joined.split([len(part) for part in parts]), strict=True):
        part.data = view
    return joined
