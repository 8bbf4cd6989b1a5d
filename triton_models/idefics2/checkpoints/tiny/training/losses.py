"""How wrong a reading is. All shapes are known beforehand: what counts is chosen by weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

_PENALTY = 1.2


def judge(read: Tensor, wanted: Tensor) -> Tensor:
    """Return the cross-entropy where something is, and half of that where nothing is.

    Taken together, the many places where nothing is would drown the others.

    Args:
        read: [..., num_classes].
        wanted: [...] int64, 0 for nothing.

    """
    each, is_something = cross_entropy(read, wanted), wanted > 0
    return 0.5 * average(each, ~is_something) + average(each, is_something)


def judge_offsets(read: Tensor, wanted: Tensor, is_something: Tensor) -> Tensor:
    """Return how far off x and y are where something is, added up; 0 where nothing is at all.

    Args:
        read: [num_images, num_patches, 2], in patches.
        wanted: [num_images, num_patches, 2].
        is_something: [num_images, num_patches] bool.

    """
    # Linear beyond a quarter of a patch: with squares, the few that are far from their centers would rule.
    each = F.smooth_l1_loss(read.float(), wanted, reduction="none", beta=0.25)
    return average(each.sum(-1), is_something)


def judge_places(read: tuple[Tensor, Tensor], positions: Tensor) -> Tensor:
    """Return the cross-entropy of rows and columns, added up; positions are [num_places, 2]."""
    judged = [
        cross_entropy(r, wanted.expand(len(r), -1)).mean()
        for r, wanted in zip(read, positions.T, strict=True)
    ]
    return torch.stack(judged).sum()


def cross_entropy(read: Tensor, wanted: Tensor) -> Tensor:
    """Return the cross-entropy of each, [...]; `read` is [..., num_classes]."""
    return F.cross_entropy(read.flatten(0, -2), wanted.flatten(), reduction="none").view(wanted.shape)


def average(each: Tensor, counts: Tensor) -> Tensor:
    """Average those that count; 0 where none does. Both are [...], `counts` is bool."""
    return (each * counts).sum() / counts.sum().clamp(min=1)


def penalize(logits: Tensor, ids: Tensor, looks: Tensor) -> Tensor:
    """Make what was read already less likely, as the API's repetition penalty does.

    Args:
        logits: [num_tokens, vocab_size].
        ids: [num_tokens, length], what stands in the row of each token.
        looks: [num_tokens, length], true where it may look.

    Source: N. S. Keskar et al., CTRL: a conditional transformer language model (2019).

    """
    counts = torch.zeros_like(logits).scatter_add_(1, ids, looks.to(logits.dtype))
    lowered = torch.where(logits > 0, logits / _PENALTY, logits * _PENALTY)
    return torch.where(counts > 0, lowered, logits)
