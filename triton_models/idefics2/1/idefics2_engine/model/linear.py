"""Linear layers that read the same input, as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it
from transformers.activations import ACT2FN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ROWS_UNIT = 64


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


def join_activation(layer: nn.Module, activate: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a function that gives what an activation makes of a layer's output, by one kernel on a GPU.

    cuBLAS has one for GELU by tanh, which is what SigLIP has; torch has no public name for it.
    """
    is_known = type(activate) is type(ACT2FN["gelu_pytorch_tanh"])
    if type(layer) is not nn.Linear or layer.bias is None or not (is_known and layer.weight.is_cuda):
        return lambda x: activate(layer(x))
    weight, bias = layer.weight.data.mT, layer.bias.data
    return lambda x: torch._addmm_activation(bias, x, weight, use_gelu=True)  # noqa: SLF001


def pad_rows(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a function that gives a layer's output, by a product of a size that kernels are made for.

    With 32,003 rows, as Idefics2's vocabulary has, cuBLAS takes a kernel that is four times as slow.
    """
    if type(layer) is not nn.Linear or not len(layer.weight) % _ROWS_UNIT or layer.bias is not None:
        return layer
    num_rows, width = layer.weight.shape
    padded = layer.weight.new_zeros(num_rows + -num_rows % _ROWS_UNIT, width)
    padded[:num_rows] = layer.weight.data
    layer.weight.data = padded[:num_rows]
    return lambda x: F.linear(x, padded)[..., :num_rows]


def _join(parts: Sequence[Tensor]) -> Tensor:
    joined = torch.cat([part.data for part in parts])
    for part, view in zip(parts, joined.split([len(part) for part in parts]), strict=True):
        part.data = view
    return joined
