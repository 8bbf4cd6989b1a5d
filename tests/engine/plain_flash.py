"""What the flash kernels compute, in a few lines that run anywhere."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

if TYPE_CHECKING:
    from idefics2_engine.model.flash import Lookback


def attend(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, lookback: Lookback) -> torch.Tensor:
    """As `idefics2_engine.model.flash.attend`."""
    parts = []
    begins, counts = lookback.begins.tolist(), lookback.counts.tolist()
    for (first, end), begin, count in zip(pairwise(lookback.ends.tolist()), begins, counts, strict=False):
        assert end - first <= lookback.longest_query
        assert count <= lookback.longest_part
        back = torch.arange(count - (end - first), count, device=q.device)[:, None] - torch.arange(
            count, device=q.device
        )
        mask = (back >= 0) & (back < (lookback.window or count + 1))
        part = slice(begin, begin + count)
        attended = F.scaled_dot_product_attention(
            q[first:end].transpose(0, 1)[None],
            keys[part].transpose(0, 1)[None],
            values[part].transpose(0, 1)[None],
            mask,
            enable_gqa=True,
        )
        parts.append(attended[0].transpose(0, 1))
    return torch.cat(parts)
