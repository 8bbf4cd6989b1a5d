"""The vision tower over the patches of many crops, packed one behind the other."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from idefics2_engine.model.fused import Fused
from idefics2_engine.model.linear import fuse, join_activation
from idefics2_engine.transfer import send_joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from idefics2_engine.images import Crop

Lengths = list[int]
"""How many patches each crop has, in their order."""


class VisionTower:
    """SigLIP as Idefics2 uses it: any size, aspect ratio kept. No patch is ever padding."""

    def __init__(self, vision: Any) -> None:
        """Take the modules of transformers' `Idefics2VisionTransformer`."""
        embeddings, config = vision.embeddings, vision.config
        self._kernel: Tensor = embeddings.patch_embedding.weight.flatten(1)  # [hidden, 3 * patch * patch]
        self._bias: Tensor = embeddings.patch_embedding.bias
        self._positions: nn.Embedding = embeddings.position_embedding
        self._side: int = embeddings.num_patches_per_side
        self.num_heads: int = config.num_attention_heads
        self.hidden_size: int = config.hidden_size
        self._layers = [VisionLayer(layer) for layer in vision.encoder.layers]
        self._last_norm: nn.LayerNorm = vision.post_layernorm
        self.fused = Fused(F.silu)  # there are no gates here

    def __call__(self, crops: Sequence[Crop], normalize: Normalization) -> Tensor:
        """Return [num_patches, hidden]: what is in each patch of all crops.

        Crops of equal size attend together if they are neighbours: sort them.
        """
        device = self._kernel.device
        pixels = send_joined([torch.from_numpy(crop.patches) for crop in crops], device)
        positions = send_joined([find_positions(*crop.grid, self._side) for crop in crops], device)
        x = F.linear(normalize(pixels).to(self._kernel.dtype), self._kernel, self._bias)
        x = x + self._positions(positions)  # [num_patches, hidden]
        return self.read(x, [len(crop.patches) for crop in crops])

    def read(self, x: Tensor, lengths: Lengths) -> Tensor:
        """Let the patches of each crop look at each other: [num_patches, hidden], embedded before."""
        change = torch.zeros_like(x)
        for layer in self._layers:
            x, change = layer(x, change, lengths, self)
        norm = self._last_norm
        return self.fused.add_layer_norm(x, change, norm.weight, norm.bias, norm.eps)[1]


class VisionLayer:
    """One layer, over the modules of transformers' `Idefics2EncoderLayer`."""

    def __init__(self, layer: Any) -> None:
        """Join what reads the same input."""
        attention = layer.self_attn
        self._norm: nn.LayerNorm = layer.layer_norm1
        self._project = fuse([attention.q_proj, attention.k_proj, attention.v_proj])
        self._out: nn.Module = attention.out_proj
        self._mlp_norm: nn.LayerNorm = layer.layer_norm2
        self._mlp = join_activation(layer.mlp.fc1, layer.mlp.activation_fn)
        self._last: nn.Module = layer.mlp.fc2

    def __call__(
        self, x: Tensor, change: Tensor, lengths: Lengths, tower: VisionTower
    ) -> tuple[Tensor, Tensor]:
        """Read [num_patches, hidden], the sum of x and change; return the same as such a sum."""
        norm, mlp_norm, add_norm = self._norm, self._mlp_norm, tower.fused.add_layer_norm
        x, normed = add_norm(x, change, norm.weight, norm.bias, norm.eps)
        qkv = self._project(normed).view(len(x), 3, tower.num_heads, -1)
        parts = [_attend(part, count) for part, count in split_equal(qkv, lengths)]
        change = self._out(torch.cat(parts) if len(parts) > 1 else parts[0])
        x, normed = add_norm(x, change, mlp_norm.weight, mlp_norm.bias, mlp_norm.eps)
        changed: Tensor = self._last(self._mlp(normed))
        return x, changed


class Normalization:
    """From bytes to the numbers that the tower was trained on, in the steps of transformers' processor."""

    def __init__(self, image_processor: Any, device: torch.device) -> None:
        """Read scale, mean and deviation of the checkpoint."""
        self._scale = float(image_processor.rescale_factor) if image_processor.do_rescale else 1.0
        mean, std = ([0.0] * 3, [1.0] * 3)
        if image_processor.do_normalize:
            mean, std = image_processor.image_mean, image_processor.image_std
        self._mean, self._std = (torch.tensor(v, device=device).view(1, 3, 1) for v in (mean, std))

    def __call__(self, patches: Tensor) -> Tensor:
        """Turn uint8 [num_patches, 3 * patch * patch] into float32 of the same shape."""
        scaled = (patches.double() * self._scale).float().view(len(patches), 3, -1)
        return ((scaled - self._mean) / self._std).flatten(1)


@lru_cache(maxsize=256)
def find_positions(rows: int, columns: int, side: int) -> Tensor:
    """Return [rows * columns]: which of the tower's side * side learned positions each patch has.

    A grid smaller than the tower's own is stretched over it.
    Source: transformers' `Idefics2VisionEmbeddings`, whose roundings these are.
    """
    bounds = torch.arange(1 / side, 1.0, 1 / side)
    row, column = (
        torch.bucketize((torch.arange(n, dtype=torch.float32) * (1.0 / torch.tensor(n))).clamp(max=1 - 1e-6),
                        bounds, right=True)
        for n in (rows, columns)
    )  # fmt: skip
    return (row[:, None] * side + column[None, :]).flatten()


def split_equal(x: Tensor, lengths: Lengths) -> list[tuple[Tensor, int]]:
    """Split [num_patches, ...] where the length changes; return each part with its number of crops."""
    runs: list[list[int]] = []
    for length in lengths:
        if runs and runs[-1][0] == length:
            runs[-1][1] += 1
        else:
            runs.append([length, 1])
    parts = x.split([length * count for length, count in runs])
    return [(part, count) for part, (_, count) in zip(parts, runs, strict=True)]


def _attend(qkv: Tensor, num_crops: int) -> Tensor:
    """Let the patches of each crop look at each other; [num_patches, 3, heads, size] to [.., hidden]."""
    q, k, v = qkv.view(num_crops, -1, *qkv.shape[1:]).permute(2, 0, 3, 1, 4)  # [crops, heads, patches, size]
    attended = F.scaled_dot_product_attention(q, k, v)
    return attended.transpose(1, 2).reshape(len(qkv), -1)
