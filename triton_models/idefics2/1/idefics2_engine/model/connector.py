"""From patches to what the text model reads: a fixed number of rows for each crop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from idefics2_engine.model.vision import split_equal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from idefics2_engine.model.vision import Lengths


class Connector:
    """Transformers' projection and perceiver, without padding."""

    def __init__(self, connector: Any) -> None:
        """Take the modules of transformers' `Idefics2Connector`."""
        self._project: nn.Module = connector.modality_projection
        self._resampler = connector.perceiver_resampler

    def __call__(self, x: Tensor, lengths: Lengths) -> Tensor:
        """Turn [num_patches, vision_hidden] into [num_crops, num_latents, hidden]."""
        groups = split_equal(self._project(x), lengths)
        return torch.cat([self._resample(part.view(count, -1, part.shape[-1])) for part, count in groups])

    def _resample(self, context: Tensor) -> Tensor:
        latents = self._resampler.latents.expand(len(context), -1, -1)
        for layer in self._resampler.layers:
            latents = layer(latents, context)
        normed: Tensor = self._resampler.norm(latents)
        return normed
