"""The outlines of the six shapes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TURNS = np.arange(48) * math.pi / 24
_CIRCLE = np.stack([np.cos(_TURNS), np.sin(_TURNS)], 1)
Outline = "NDArray[np.float64]"


def sample_outlines(shape: str, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Draw the outlines of a shape that fits into a circle of radius 1.

    Returns:
        One array [num_points, 2] of x and y (down), and a second one where there is a hole.

    """
    outlines = _SAMPLERS[shape](rng)
    turn = _sample_turn(shape, rng)
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    outlines = [outline @ rotation for outline in outlines]
    if rng.random() < 0.18:
        outlines = [_wobble(outline, rng) for outline in outlines]
    return [outline.clip(-1, 1) for outline in outlines]


def _circle(rng: np.random.Generator) -> list[NDArray[np.float64]]:
    return [_ellipse(1, rng.uniform(0.86, 1) if rng.random() < 0.3 else 1)]


def _ring(rng: np.random.Generator) -> list[NDArray[np.float64]]:
    squeeze = rng.uniform(0.86, 1) if rng.random() < 0.3 else 1
    hole = rng.uniform(0.42, 0.85)
    return [_ellipse(1, squeeze), _ellipse(hole, squeeze * hole)]


def _square(rng: np.random.Generator) -> list[NDArray[np.float64]]:
    ratio = rng.uniform(0.85, 1.18) if rng.random() < 0.3 else 1
    angle = math.atan(ratio)
    x, y = math.cos(angle), math.sin(angle)
    return [np.array([(-x, -y), (x, -y), (x, y), (-x, y)])]


def _triangle(rng: np.random.Generator) -> list[NDArray[np.float64]]:
    how = rng.random()
    if how < 0.55:  # equal sides
        turns = np.array([0, 2, 4]) * math.pi / 3
    elif how < 0.85:  # two equal sides
        half = rng.uniform(0.8, 1.3)
        turns = np.array([0, math.pi - half, math.pi + half])
    else:  # a right angle
        split = rng.uniform(0.7, 1.3)
        turns = np.array([0, 2 * split, math.pi])
    return [np.stack([np.sin(turns), -np.cos(turns)], 1)]


def _star(rng: np.random.Generator) -> list[NDArray[np.float64]]:
    tips = (5, 5, 5, 5, 6, 4)[rng.integers(6)]
    inner = rng.uniform(0.33, 0.52) if tips > 4 else rng.uniform(0.28, 0.38)
    turns = np.arange(2 * tips) * math.pi / tips
    radii = np.where(np.arange(2 * tips) % 2 == 0, 1, inner)
    return [np.stack([radii * np.sin(turns), -radii * np.cos(turns)], 1)]


def _cross(rng: np.random.Generator) -> list[NDArray[np.float64]]:
    arm = rng.uniform(0.16, 0.38)
    reach = math.sqrt(1 - arm * arm)
    quarter = [(arm, -reach), (arm, -arm), (reach, -arm)]
    corners = [_turn_quarters(point, quarters) for quarters in range(4) for point in quarter]
    return [np.array(corners)]


def _turn_quarters(point: tuple[float, float], quarters: int) -> tuple[float, float]:
    x, y = point
    return ((x, y), (-y, x), (-x, -y), (y, -x))[quarters]


def _ellipse(a: float, b: float) -> NDArray[np.float64]:
    ellipse: NDArray[np.float64] = _CIRCLE * (a, b)
    return ellipse


def _sample_turn(shape: str, rng: np.random.Generator) -> float:
    """Draw a rotation in radians: mostly upright, often a little turned, sometimes anyhow."""
    how = rng.random()
    if shape in {"circle", "ring"} or how < 0.3:
        return 0 if how < 0.7 else float(rng.uniform(0, math.tau))
    if how < 0.65:
        return math.radians(rng.uniform(-14, 14))
    if shape == "triangle" and how < 0.75:
        return math.pi
    return float(rng.uniform(0, math.tau))


def _wobble(outline: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Redraw an outline with a hand that is not steady."""
    steps = max(1, 36 // len(outline))
    ends = np.roll(outline, -1, 0)
    parts = np.arange(steps)[:, None, None] / steps
    points = (outline + parts * (ends - outline)).transpose(1, 0, 2).reshape(-1, 2)
    noise = rng.normal(0, 1, points.shape)
    around = np.concatenate([noise[-2:], noise, noise[:2]])
    smooth: NDArray[np.float64] = sum(around[4 - back : len(around) - back] for back in range(5)) / 5
    return points * 0.97 + smooth * rng.uniform(0.02, 0.07)


_SAMPLERS = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
}
