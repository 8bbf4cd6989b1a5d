"""From patches to what the text model reads: a fixed number of rows for each crop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from idefics2_engine.model.fused import Fused
from idefics2_engine.model.linear import fuse
from idefics2_engine.model.vision import split_equal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from idefics2_engine.model.vision import Lengths


class Connector:
    """Projection and perceiver, over the modules of transformers' `Idefics2Connector`, without padding."""

    def __init__(self, connector: Any) -> None:
        """Join what reads the same input."""
        projection, resampler = connector.modality_projection, connector.perceiver_resampler
        self._up = fuse([projection.gate_proj, projection.up_proj])
        self._down: nn.Module = projection.down_proj
        self.fused = Fused(projection.act_fn)
        self._latents: Tensor = resampler.latents
        self._layers = [PerceiverLayer(layer) for layer in resampler.layers]
        self._norm: nn.Module = resampler.norm

    def __call__(self, x: Tensor, lengths: Lengths) -> Tensor:
        """Turn [num_patches, vision_hidden] into [num_crops, num_latents, hidden]."""
        projected = self._down(self.fused.gate(self._up(x)))
        groups = split_equal(projected, lengths)
        parts = [self._resample(part.view(count, -1, part.shape[-1])) for part, count in groups]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _resample(self, context: Tensor) -> Tensor:
        latents = self._latents.expand(len(context), -1, -1)
        for layer in self._layers:
            latents = layer(latents, context)
        normed: Tensor = self._norm(latents)
        return normed


class PerceiverLayer:
    """One layer, over the modules of transformers' `Idefics2PerceiverLayer`."""

    def __init__(self, layer: Any) -> None:
        """Join what reads the same input."""
        attention = layer.self_attn
        self._latents_norm: Any = layer.input_latents_norm
        self._context_norm: Any = layer.input_context_norm
        self._q: nn.Module = attention.q_proj
        self._kv = fuse([attention.k_proj, attention.v_proj])
        self._out: nn.Module = attention.o_proj
        self._num_kv_heads: int = attention.num_key_value_heads
        self._head_dim: int = attention.head_dim
        self._mlp_norm: nn.Module = layer.post_attention_layernorm
        self._mlp: nn.Module = layer.mlp

    def __call__(self, latents: Tensor, context: Tensor) -> Tensor:
        """Let latents look at a context and at each other.

        Args:
            latents: [num_crops, num_latents, hidden].
            context: [num_crops, num_patches, hidden].

        Returns:
            [num_crops, num_latents, hidden].

        """
        normed = _normed(self._latents_norm, latents)
        # What each says is put together, and not the wider context.
        kv = torch.cat([self._kv(_normed(self._context_norm, context)), self._kv(normed)], 1)
        k, v = kv.view(*kv.shape[:2], 2, self._num_kv_heads, self._head_dim).permute(2, 0, 3, 1, 4)
        q = self._q(normed).view(*normed.shape[:2], self._num_kv_heads, -1, self._head_dim)
        num_crops, num_latents, num_kv_heads, group, size = q.shape
        # The heads that share keys stand where more latents would: nothing has to be repeated.
        grouped = q.permute(0, 2, 3, 1, 4).reshape(num_crops, num_kv_heads, group * num_latents, size)
        attended = F.scaled_dot_product_attention(grouped, k, v)
        attended = attended.view(num_crops, num_kv_heads, group, num_latents, size).permute(0, 3, 1, 2, 4)
        latents = latents + self._out(attended.flatten(2))
        changed: Tensor = latents + self._mlp(self._mlp_norm(latents))
        return changed


def _normed(norm: Any, x: Tensor) -> Tensor:
    """Do what transformers' RMSNorm modules do, by one kernel."""
    return F.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)
