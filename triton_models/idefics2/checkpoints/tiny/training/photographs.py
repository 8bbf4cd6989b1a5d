"""Pictures in which the checkpoint knows nothing: pieces of photographs, and textures like them."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

# Photographs that come with the packages of the recipe.
_LEARNED = {
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
    "skimage": tuple(
        f"data/{name}"
        for name in [
            "brick.png",
            "camera.png",
            "coffee.png",
            "grass.png",
            "gravel.png",
            "ihc.png",
            "moon.png",
            "motorcycle_left.png",
            "retina.jpg",
        ]
    ),
}
_HELD_OUT = {
    "skimage": ("data/astronaut.png", "data/chelsea.png", "data/rocket.jpg", "data/hubble_deep_field.jpg")
}


@functools.cache
def photographs(*, held_out: bool) -> tuple[Image.Image, ...]:
    """Load the photographs whose pieces training shows, or those that are kept for the evaluation."""
    found = []
    for package, names in (_HELD_OUT if held_out else _LEARNED).items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        for name in names:
            image = Image.open(Path(spec.origin).parent / name).convert("RGB")
            image.thumbnail((900, 900))
            found.append(image)
    return tuple(found)


def join(channels: Iterable[NDArray[np.float64]]) -> Image.Image:
    """Make a picture of its red, green and blue, 0 to 255; numpy is slow where a last axis is 3 long."""
    return Image.merge("RGB", [Image.fromarray(channel.astype(np.uint8)) for channel in channels])


def sample(width: int, height: int, rng: np.random.Generator, *, held_out: bool = False) -> Image.Image:
    """Draw a picture of that size with neither shapes nor text on it."""
    how = rng.random()
    if how < 0.55 or held_out:
        return _piece(width, height, rng, held_out=held_out)
    if how < 0.75:
        return _clouds(width, height, rng)
    if how < 0.88:
        return _landscape(width, height, rng)
    return _noise(width, height, rng)


def _piece(width: int, height: int, rng: np.random.Generator, *, held_out: bool) -> Image.Image:
    whole = photographs(held_out=held_out)
    image = whole[rng.integers(len(whole))]
    largest = min(image.width / width, image.height / height)
    scale = largest * rng.uniform(0.45, 1)
    w, h = width * scale, height * scale
    x, y = rng.uniform(0, image.width - w), rng.uniform(0, image.height - h)
    image = image.resize((width, height), Image.Resampling.BILINEAR, (x, y, x + w, y + h), reducing_gap=2)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if not held_out:
        image = _regrade(image, rng)
    return image


def _regrade(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    if rng.random() < 0.7:
        image = ImageEnhance.Color(image).enhance(rng.uniform(0, 1.8))
        image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.5, 1.5))
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.6, 1.4))
    if rng.random() < 0.3:
        order = rng.permutation(3)
        bands = image.split()
        image = Image.merge("RGB", [bands[i] for i in order])
    return image


def _octaves(width: int, height: int, rng: np.random.Generator, roughness: float) -> NDArray[np.float64]:
    """Add up smooth noise of all scales; about 0 to 1."""
    total, weight = np.zeros((height, width)), 1.0
    cells = int(rng.integers(2, 4))
    while cells < max(width, height):
        field = Image.fromarray(rng.random((cells, cells)).astype(np.float32))
        total += weight * np.asarray(field.resize((width, height), Image.Resampling.BICUBIC))
        cells, weight = cells * 2, weight * roughness
    low, high = total.min(), total.max()
    total -= low
    total /= high - low + 1e-9
    return total


def _clouds(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    first, second, third = rng.integers(0, 256, (3, 3))
    roughness = rng.uniform(0.4, 0.9)
    a = _octaves(width, height, rng, roughness)
    b = _octaves(width, height, rng, roughness)
    colors = zip(first, second, third, strict=True)
    return join([(one * (1 - a) + two * a) * (1 - b) + three * b for one, two, three in colors])


def _landscape(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Draw ridges behind each other under a sky."""
    y = np.arange(height)[:, None] / height
    sky, haze = rng.integers(60, 256, (2, 3, 1, 1))
    picture = sky * (1 - y) + haze * y + 60 * (_octaves(width, height, rng, 0.6) - 0.5)  # [3, height, width]
    level = rng.uniform(0.2, 0.5)
    for _ in range(int(rng.integers(1, 4))):
        ridge = level + 0.3 * (_octaves(width, 4, rng, 0.6)[0] - 0.5)
        ground = rng.integers(10, 200, (3, 1, 1)) * (0.55 + 0.8 * _octaves(width, height, rng, 0.8))
        np.copyto(picture, ground, where=y > ridge)
        level += rng.uniform(0.12, 0.3)
    return join(picture.clip(0, 255, out=picture))


def _noise(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Draw what a broken camera sends: grains, colored or grey, fine or coarse."""
    grain = (1, 1, 2, 4, 8)[rng.integers(5)]
    channels = 3 if rng.random() < 0.7 else 1
    size = (max(2, height // grain), max(2, width // grain), channels)
    values = (
        rng.normal(rng.uniform(60, 200), rng.uniform(30, 90), size)
        if rng.random() < 0.5
        else rng.random(size) * 255
    )
    grains = np.broadcast_to(values.clip(0, 255), (*size[:2], 3)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(grains)).resize((width, height), Image.Resampling.NEAREST)
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2))) if rng.random() < 0.3 else image
