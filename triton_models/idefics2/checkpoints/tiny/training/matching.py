"""Which latent is to tell of which thing: of those near enough, whichever does so at the least cost."""

from __future__ import annotations

import torch
from torch import Tensor

NEARNESS = 0.5
"""What each patch of distance costs: else chance would rule while nothing is told yet."""


def match(costs: Tensor, may: Tensor) -> Tensor:
    """Give each thing a place of its own, the cheapest pairs first.

    The number of rounds is that of the things, whatever they cost: a recorded step knows no other.

    Args:
        costs: [num_images, num_things, num_places].
        may: [num_images, num_things, num_places] bool, whether the place may have the thing.

    Returns:
        [num_images, num_places] int64, which thing each place has; num_things where it has none.

    """
    num_things, num_places = costs.shape[1:]
    left = costs.detach().masked_fill(~may, torch.inf)
    things = torch.arange(num_things, device=costs.device)
    places = torch.arange(num_places, device=costs.device)
    owned = torch.full((len(costs), num_places), num_things, device=costs.device)
    for _ in range(num_things):
        cheapest, pair = left.flatten(1).min(1, keepdim=True)  # [num_images, 1]
        thing, place = pair // num_places, pair % num_places
        is_thing, is_place = things == thing, places == place
        owned = torch.where(is_place & cheapest.isfinite(), thing, owned)
        left = left.masked_fill(is_thing[:, :, None] | is_place[:, None, :], torch.inf)
    return owned


def find_costs(told: list[Tensor], wanted: Tensor) -> Tensor:
    """Return what it costs each place more to tell of a thing than to tell that nothing is there.

    Args:
        told: logits of each look, [num_images, num_places, num_classes]; 0 is nothing.
        wanted: [num_images, num_things, num_looks] int64.

    Returns:
        [num_images, num_things, num_places].

    """
    costs = []
    for number, logits in enumerate(told):
        chances = logits.detach().float().log_softmax(-1)
        labels = wanted[:, None, :, number].expand(-1, chances.shape[1], -1)
        costs.append(chances[..., :1] - chances.gather(2, labels))
    return torch.stack(costs).sum(0).transpose(1, 2)
