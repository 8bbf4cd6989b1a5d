"""First weights that have learned already: of a model of this shape, or of fewer layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from training.learner import Learner

_HEADS = "heads."
_OUTPUTS = ("o_proj", "out_proj", "fc2", "down_proj")
"""What a layer adds to the stream comes from one of these."""


def keep_weights(state: Path, file: Path) -> None:
    """Write the model's weights and those of the heads, in float16, out of what training needs to go on."""
    kept = torch.load(state, map_location="cpu", weights_only=True)
    heads = {_HEADS + name: weight for name, weight in kept["heads"].items()}
    save_file({name: weight.half().contiguous() for name, weight in (kept["model"] | heads).items()}, file)


def begin_with(file: Path, learner: Learner) -> list[str]:
    """Put the weights of a file into a learner that has not learned yet.

    A layer that the file lacks begins as one that adds nothing. What has another shape stays as it was.

    Args:
        file: safetensors, a checkpoint's or what `keep_weights` wrote; its vocabulary is that of the learner.
        learner: what is to begin with them.

    Returns:
        The names of what stays as it was.

    """
    weights = load_file(file)
    heads = {
        name.removeprefix(_HEADS): weights.pop(name) for name in list(weights) if name.startswith(_HEADS)
    }
    return _copy(weights, learner.model) + [_HEADS + name for name in _copy(heads, learner.heads)]


@torch.no_grad()
def _copy(weights: dict[str, Tensor], module: nn.Module) -> list[str]:
    left = []
    for name, parameter in module.named_parameters():
        weight = weights.get(name)
        if weight is not None and weight.shape == parameter.shape:
            parameter.copy_(weight)
        elif weight is None and ".layers." in name and name.rsplit(".", 2)[-2] in _OUTPUTS:
            parameter.zero_()
        else:
            left.append(name)
    return left
