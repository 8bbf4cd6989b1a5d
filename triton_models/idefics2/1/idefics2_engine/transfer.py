"""Numbers on their way to the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


def send(values: list[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Make a tensor on a device without waiting for what that still does.

    From memory that is not pinned, torch would copy only after all that was asked for before.
    """
    made = torch.tensor(values, dtype=dtype, pin_memory=device.type == "cuda")
    return made.to(device, non_blocking=True)
