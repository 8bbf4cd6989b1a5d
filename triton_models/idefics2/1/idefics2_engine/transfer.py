"""Numbers on their way to the device, which is not waited for.

From memory that is not pinned, torch would copy only after all that was asked for before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


def send(values: list[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Make a tensor of numbers on a device."""
    made = torch.tensor(values, dtype=dtype, pin_memory=device.type == "cuda")
    return made.to(device, non_blocking=True)


def send_joined(parts: list[Tensor], device: torch.device) -> Tensor:
    """Put tensors one behind the other, on a device; they differ in their first dimension alone."""
    if device.type != "cuda":
        return torch.cat(parts).to(device)
    size = sum(map(len, parts)), *parts[0].shape[1:]
    joined = torch.empty(size, dtype=parts[0].dtype, pin_memory=True)
    return torch.cat(parts, out=joined).to(device, non_blocking=True)
