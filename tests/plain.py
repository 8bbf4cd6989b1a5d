"""Pictures decoded and cut with a copy of the whole for each step: what the engine's strips must equal."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from idefics2_engine.images import Crop, plan_crops
from idefics2_engine.pictures import halve_depth
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from idefics2_engine.images import Sizing

MIN_SIDE = 2


def decode_plainly(data: bytes) -> Image.Image:
    """Decode the first frame, upright, RGB, transparent parts white, at least 2 pixels wide and high."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode in {"I;16", "I;16B", "I;16L", "I"}:
        image = halve_depth(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    if min(image.size) < MIN_SIDE:
        width, height = (max(side, MIN_SIDE) for side in image.size)
        image = image.resize((width, height), Image.Resampling.NEAREST)
    return image


def cut_plainly(image: Image.Image, sizing: Sizing, *, split: bool) -> list[Crop]:
    """Crop, resize, and list the patches."""
    return [_cut_patches(image.crop(box).resize(size, Image.Resampling(sizing.resample)), sizing.patch_size)
            for box, size in plan_crops(*image.size, sizing, split=split)]  # fmt: skip


def _cut_patches(image: Image.Image, patch: int) -> Crop:
    rows, columns = image.height // patch, image.width // patch
    pixels = np.asarray(image)[: rows * patch, : columns * patch]
    patches = pixels.reshape(rows, patch, columns, patch, 3).transpose(0, 2, 4, 1, 3)
    return Crop((rows, columns), patches.reshape(rows * columns, 3 * patch * patch))
