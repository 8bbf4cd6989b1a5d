"""The recipe's pictures show what their scenes say."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from training import drawing, lettering, palette, photographs, pool, scenes
from training.palette import COLORS
from training.plan import Lesson
from training.scenes import KINDS, SHAPES, Scene, Thing

if TYPE_CHECKING:
    from collections.abc import Callable

# The middle of what people call so; a shade must be nearer to its own than to those of other names.
PURE = {
    "red": (220, 30, 30),
    "orange": (255, 150, 20),
    "yellow": (250, 225, 40),
    "green": (40, 160, 60),
    "blue": (50, 100, 220),
    "purple": (130, 40, 170),
    "pink": (255, 130, 190),
    "gray": (145, 145, 145),
    "black": (10, 10, 10),
    "white": (252, 252, 252),
}


def test_the_same_seed_draws_the_same_example() -> None:
    first, second = (pool.make_example(np.random.default_rng(7)) for _ in range(2))
    assert first.scene == second.scene
    assert (first.pixels == second.pixels).all()
    assert (first.things == second.things).all()
    assert (first.places == second.places).all()


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("sample", [scenes.sample_shapes, scenes.sample_crowd])
def test_things_lie_inside_and_apart(sample: Callable[[np.random.Generator], Scene], seed: int) -> None:
    scene = sample(np.random.default_rng(seed))
    is_crowd = sample == scenes.sample_crowd
    assert 1 <= len(scene.things) <= (scenes.MAX_THINGS if is_crowd else scenes.MAX_OBJECTS)
    short = min(scene.width, scene.height)
    circles = [(t.x * scene.width, t.y * scene.height, t.radius * short) for t in scene.things]
    for x, y, radius in circles:
        assert radius - 1 <= x <= scene.width - radius + 1
        assert radius - 1 <= y <= scene.height - radius + 1
    for (x1, y1, r1), (x2, y2, r2) in combinations(circles, 2):
        assert math.hypot(x1 - x2, y1 - y2) >= r1 + r2


def test_nothing_is_too_small_to_see() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        scene = scenes.sample_shapes(rng)
        short, long = sorted((scene.width, scene.height))
        smallest = min(scenes.MIN_RADIUS, 0.3 * short / long)
        assert all(thing.radius * short / long > smallest - 1e-9 for thing in scene.things)


@pytest.mark.parametrize("text", ["36", "4021", "CAFES"])
def test_no_text_is_too_narrow_to_read(text: str) -> None:
    rng = np.random.default_rng(4)
    for _ in range(40):
        scene = replace(scenes.sample_number(rng), text=text)
        drawn = drawing.draw(scene, rng)
        size = np.array(drawn.picture.size)
        first, last = (np.array(drawn.places[n]) * size for n in (0, -1))
        pitch = np.linalg.norm(last - first) / (len(text) - 1)
        assert pitch > 0.85 * drawing.MIN_PITCH * max(size)  # letters differ in width


@pytest.mark.parametrize("shape", SHAPES)
def test_a_thing_is_drawn_in_its_color_where_its_label_is(shape: str) -> None:
    scene = Scene("shapes", 200, 160, "white", (Thing(shape, "blue", 0.4, 0.5, 0.3),))
    for seed in range(12):
        drawn = drawing.draw(scene, np.random.default_rng(seed))
        pixels, labels = np.asarray(drawn.picture).astype(int), np.asarray(drawn.labels)
        inside, outside = np.median(pixels[labels == 1], 0), np.median(pixels[labels == 0], 0)
        assert outside.min() > 200
        assert inside[2] > inside[0] or (inside > 200).all()  # blue, or the paper inside of a hollow one
        rows, columns = np.nonzero(labels)
        assert abs(columns.mean() - 80) < 20
        assert abs(rows.mean() - 80) < 20


@pytest.mark.parametrize("name", COLORS)
def test_a_shade_is_nearest_to_its_own_name(name: str) -> None:
    rng = np.random.default_rng(1)
    shades = np.array([palette.sample(name, rng) for _ in range(200)])
    distances = {other: np.abs(shades - np.array(pure)).sum(1) for other, pure in PURE.items()}
    nearest = np.array(list(distances))[np.stack(list(distances.values())).argmin(0)]
    assert (nearest == name).mean() > 0.6, np.unique(nearest, return_counts=True)


def test_no_digit_of_the_evaluation_is_learned() -> None:
    learned = {lettering.handwritten(i, held_out=False)[0].tobytes() for i in range(1400)}
    kept = {lettering.handwritten(i, held_out=True)[0].tobytes() for i in range(397)}
    assert lettering.num_digits(held_out=False) == 1400
    assert lettering.num_digits(held_out=True) == 397
    assert not learned & kept


def test_handwritten_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits  # noqa: PLC0415  # slow

    theirs = load_digits()
    for index in (0, 700, 1399):
        image, label = lettering.handwritten(index, held_out=False)
        assert (np.asarray(image) == (theirs.images[index] * 15.9375).astype(np.uint8)).all()
        assert label == theirs.target[index]


def test_no_photograph_of_the_evaluation_is_learned() -> None:
    learned, kept = (photographs.photographs(held_out=held_out) for held_out in (False, True))
    assert len(learned) >= 10
    assert len(kept) == 4
    assert not {p.tobytes() for p in learned} & {p.tobytes() for p in kept}


def test_there_are_fonts_of_every_package() -> None:
    assert len(lettering.font_files()) >= 50


@pytest.mark.parametrize("kind", ["number", "word", "handwritten", "page", "sheet"])
def test_labels_tell_which_character_is_where(kind: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(8):
        scene, digits = pool.sample_scene(rng, kind)
        drawn = drawing.draw(scene, rng, digits=digits)
        labels = np.asarray(drawn.labels)
        characters = scene.text.replace("\n", "")
        assert len(drawn.places) == len(characters) <= scenes.MAX_THINGS
        assert set(np.unique(labels)) == set(range(len(characters) + 1))
        for number, (x, y) in enumerate(drawn.places, 1):
            rows, columns = np.nonzero(labels == number)
            middle = np.array([columns.mean() / labels.shape[1], rows.mean() / labels.shape[0]])
            assert np.abs(middle - (x, y)).max() < 0.12


def test_nothing_is_asked_about_crowds() -> None:
    levels = {kind: pool.level_of(Scene(kind, 100, 100, "white")) for kind in (*KINDS, *scenes.CROWDS)}
    assert {kind for kind, level in levels.items() if level > pool.Level.ALL} == set(scenes.CROWDS)
    assert {lesson for lesson in Lesson if lesson.level is pool.Level.CROWDS} == {Lesson.ALL, Lesson.PLACES}


def test_the_middles_of_two_patches_are_near_enough_to_tell_of_a_thing() -> None:
    rng = np.random.default_rng(6)
    side = np.arange(pool.SIDE) + 0.5
    for example in (pool.make_example(rng) for _ in range(60)):
        rows, columns = (size // pool.PATCH for size in example.pixels.shape[:2])
        x, y = side * columns / pool.SIDE, side * rows / pool.SIDE
        for center_x, center_y, reach in example.places:
            distances = np.hypot(x[None] - min(center_x, columns), y[:, None] - min(center_y, rows))
            assert (distances <= reach).sum() >= 2


def test_offsets_survive_being_written_in_a_byte() -> None:
    offsets = np.linspace(-4, 4, 1001)
    encoded = pool.encode_offsets(offsets)
    assert encoded.min() == 1  # 0 is for where nothing is
    np.testing.assert_allclose(pool.decode_offsets(encoded), offsets, atol=0.016)
    assert pool.decode_offsets(pool.encode_offsets(np.array([0.0, -9.0, 9.0]))).tolist() == [0, -4, 4]


@pytest.mark.parametrize("seed", range(10))
def test_every_patch_of_a_thing_points_at_its_center(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    things = (Thing("circle", "red", 0.25, 0.3, 0.2), Thing("star", "blue", 0.7, 0.6, 0.35))
    scene = Scene("shapes", 400, 300, "white", things)
    monkeypatch.setattr(pool, "sample_scene", lambda *_: (scene, []))
    example = pool.make_example(np.random.default_rng(seed))
    height, width = example.pixels.shape[:2]
    for thing in things:
        rows, columns = np.nonzero(example.patches[..., 0] == SHAPES.index(thing.shape) + 1)
        offsets = pool.decode_offsets(example.patches[rows, columns, 3:])
        assert len(offsets) > 3
        centers = (np.stack([columns, rows], -1) + 0.5 + offsets) * pool.PATCH
        np.testing.assert_allclose(centers, [(thing.x * width, thing.y * height)] * len(centers), atol=0.3)
    assert not example.patches[example.patches[..., 0] == 0].any()


def test_every_kind_of_scene_is_drawn() -> None:
    rng = np.random.default_rng(2)
    assert {pool.make_example(rng).scene.kind for _ in range(150)} == {*KINDS, *scenes.CROWDS}


@pytest.mark.parametrize("size", [(8, 8), (64, 48), (480, 360), (300, 100), (90, 270), (129, 128)])
def test_resizing_is_that_of_the_processor(size: tuple[int, int]) -> None:
    from transformers.models.idefics2.image_processing_pil_idefics2 import (  # noqa: PLC0415  # slow
        Idefics2ImageProcessorPil,
    )

    sizes = {"longest_edge": pool.LONGEST, "shortest_edge": pool.SHORTEST}
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    processor = Idefics2ImageProcessorPil(
        size=sizes, do_rescale=False, do_normalize=False, do_pad=False, do_image_splitting=False
    )
    theirs = processor([[Image.fromarray(noise)]], return_tensors="np")["pixel_values"]
    ours = np.asarray(pool.resized(Image.fromarray(noise)))
    assert (np.asarray(theirs).reshape(3, *ours.shape[:2]).transpose(1, 2, 0) == ours).all()
