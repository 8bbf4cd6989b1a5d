"""Pictures that are drawn once and learned from many times, with what is true of each."""

from __future__ import annotations

import multiprocessing
import pickle
from collections import defaultdict
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from training import drawing, lettering, scenes
from training.palette import COLORS
from training.scenes import LETTERS, SHAPES, Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PATCH = 16
LONGEST, SHORTEST = 128, 64
SIDE = LONGEST // PATCH
"""Patches on the longest side of a picture. The perceiver has a latent for each patch of the full grid."""
CHARACTERS = "0123456789" + LETTERS
WRITTEN = len(SHAPES) + 1
"""The class of a patch on which something is written."""
SHARD = 2_000
Split = tuple[Scene, "NDArray[np.uint8]"]
_FARTHEST = 4
"""Patches: no thing reaches farther from its center, and offsets beyond are clipped."""
_MIDDLES = np.stack(np.meshgrid(*[np.arange(SIDE) + 0.5] * 2), -1)
"""[8, 8, 2]: x and y of the middle of each patch, in patches."""
_REACH = 1.0
"""Patches: wherever a center lies, the middles of some two patches are nearer."""
_REACH_OF_RADIUS = 0.5
"""Of a shape that is larger: where its center lies is the harder to tell."""
_OFFSET_STEPS = 127
"""On either side of 0."""
_LARGE = 0.2
"""The radius of a large shape, as a part of the picture's shorter side."""
_MIX = {
    "shapes": 0.38,
    "number": 0.09,
    "word": 0.08,
    "handwritten": 0.08,
    "photograph": 0.03,
    "plain": 0.02,
    "crowd": 0.18,
    "page": 0.1,
    "sheet": 0.04,
}
_SHEET = (2, 6)
"""Digits of many hands at least and at most."""


@dataclass(frozen=True)
class Example:
    """A picture as the vision tower gets it, and its labels."""

    scene: Scene
    pixels: NDArray[np.uint8]
    """[height, width, 3], after the processor's resizing."""
    patches: NDArray[np.uint8]
    """[8, 8, 5]: class, color and character of each patch, and the encoded offset x and y from its center to
    that of the thing that covers it; 0 for none."""
    things: NDArray[np.uint8]
    """[num_things, 3]: class, color and character of each thing, or of each character."""
    places: NDArray[np.float32]
    """[num_things, 3]: x and y of each one's center, and how far from it the patch of a latent may lie that
    tells of it, all in patches."""


class Level(IntEnum):
    """How hard pictures are to see."""

    LARGE = 0
    """One large shape."""
    SHAPES = 1
    """Shapes."""
    ALL = 2
    """Text, and all else that is asked about."""
    CROWDS = 3
    """And what is only seen."""


def level_of(scene: Scene) -> Level:
    """Tell how hard a scene is to see."""
    if scene.kind in scenes.CROWDS:
        return Level.CROWDS
    if scene.kind != "shapes":
        return Level.ALL
    return Level.LARGE if len(scene.things) == 1 and scene.things[0].radius > _LARGE else Level.SHAPES


def resized(picture: Image.Image) -> Image.Image:
    """Resize as Idefics2's processor does."""
    width, height = picture.size
    ratio = width / height
    if width >= height and width > LONGEST:
        width, height = LONGEST, int(LONGEST / ratio)
    elif height > width and height > LONGEST:
        width, height = int(LONGEST * ratio), LONGEST
    return picture.resize((max(width, SHORTEST), max(height, SHORTEST)), Image.Resampling.BILINEAR)


def sample_scene(
    rng: np.random.Generator, kind: str, *, held_out: bool = False
) -> tuple[Scene, list[Image.Image]]:
    """Draw a scene of a kind, with the handwritten digits that belong to it."""
    if kind in _SAMPLERS:
        return _SAMPLERS[kind](rng), []
    count = 1 if kind == "handwritten" else int(rng.integers(_SHEET[0], _SHEET[1] + 1))
    indices = rng.integers(lettering.num_digits(held_out=held_out), size=count)
    images, labels = zip(*(lettering.handwritten(int(i), held_out=held_out) for i in indices), strict=True)
    if kind == "handwritten":
        return scenes.sample_handwritten(rng, labels[0]), list(images)
    return scenes.sample_sheet(rng, "".join(map(str, labels))), list(images)


_SAMPLERS = {
    "shapes": scenes.sample_shapes,
    "number": scenes.sample_number,
    "word": scenes.sample_word,
    "photograph": scenes.sample_photograph,
    "plain": scenes.sample_plain,
    "crowd": scenes.sample_crowd,
    "page": scenes.sample_page,
}


def make_example(rng: np.random.Generator) -> Example:
    """Draw one picture with its labels."""
    kind = scenes.choose_by_weight(rng, tuple(_MIX), tuple(_MIX.values()))
    scene, digits = sample_scene(rng, kind)
    drawn = drawing.draw(scene, rng, digits=digits)
    pixels = np.asarray(resized(drawn.picture))
    height, width = pixels.shape[:2]
    rows, columns = height // PATCH, width // PATCH
    looks = _looks(scene)
    patches = np.zeros((SIDE, SIDE, 5), np.uint8)
    things, places = np.zeros((len(looks), 3), np.uint8), np.zeros((len(looks), 3), np.float32)
    if looks:
        labels = np.asarray(drawn.labels.resize((width, height), Image.Resampling.NEAREST))
        centers = np.array(drawn.places) * (width / PATCH, height / PATCH)
        things[:], places[:, :2] = looks, centers
        places[:, 2] = _REACH
        if scene.things:
            radii = np.array([thing.radius for thing in scene.things]) * min(width, height) / PATCH
            places[:, 2] = np.maximum(_REACH, radii * _REACH_OF_RADIUS)
        patches[:rows, :columns] = _label_patches(labels[: rows * PATCH, : columns * PATCH], looks, centers)
    return Example(scene, pixels, patches, things, places)


def _label_patches(
    labels: NDArray[np.uint8], looks: list[tuple[int, int, int]], centers: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Label each patch by the thing that covers most of it, where that is more than an eighth or so.

    Args:
        labels: [rows * 16, columns * 16], the number of the thing that each pixel shows, 0 for none.
        looks: class, color and character of each thing.
        centers: [num_things, 2], x and y of each thing's center in patches.

    Returns:
        [rows, columns, 5], as in `Example.patches`.

    """
    rows, columns = (side // PATCH for side in labels.shape)
    numbers = np.arange(1, len(looks) + 1, dtype=np.uint8)[:, None, None, None]
    shown = labels.reshape(rows, PATCH, columns * PATCH) == numbers
    in_columns = shown.view(np.uint8).sum(2, dtype=np.uint8)  # bytes, since these are added many at once
    covered = in_columns.reshape(len(looks), rows, columns, PATCH).sum(-1)  # pixels
    best, is_something = covered.argmax(0), covered.max(0) > 0.12 * PATCH**2
    offsets = centers[best] - _MIDDLES[:rows, :columns]  # [rows, columns, 2]
    found: NDArray[np.uint8] = np.concatenate([np.array(looks, np.uint8)[best], encode_offsets(offsets)], -1)
    found[~is_something] = 0
    return found


def encode_offsets(offsets: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Write offsets in patches, clipped to -4 to 4, as 1 to 255; 128 is no offset, and 0 stays free."""
    steps = np.rint(offsets.clip(-_FARTHEST, _FARTHEST) / _FARTHEST * _OFFSET_STEPS)
    encoded: NDArray[np.uint8] = (steps + _OFFSET_STEPS + 1).astype(np.uint8)
    return encoded


def decode_offsets(encoded: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Read what `encode_offsets` wrote: offsets in patches, to a 60th of one or so."""
    return (encoded.astype(np.float32) - (_OFFSET_STEPS + 1)) * np.float32(_FARTHEST / _OFFSET_STEPS)


def make_split(rng: np.random.Generator) -> tuple[Scene, NDArray[np.uint8]] | None:
    """Draw a picture as image splitting shows it: four quarters, the whole; None where sizes differ.

    Returns:
        The scene, and [5, height, width, 3].

    """
    kind = scenes.choose(rng, ("shapes", "shapes", "shapes", "number", "handwritten"))
    scene, digits = sample_scene(rng, kind)
    width, height = scenes.choose(rng, ((256, 256), (256, 192), (384, 256), (256, 128), (192, 256)))
    scene = replace(scene, width=width, height=height)
    picture = drawing.draw(scene, rng, digits=digits).picture
    x, y = width // 2, height // 2
    corners = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    crops = [np.asarray(resized(crop)) for crop in (*(picture.crop(corner) for corner in corners), picture)]
    return (scene, np.stack(crops)) if len({crop.shape for crop in crops}) == 1 else None


def _looks(scene: Scene) -> list[tuple[int, int, int]]:
    """List class, color and character of each thing, in the order of their labels."""
    if scene.things:
        return [(SHAPES.index(t.shape) + 1, COLORS.index(t.color) + 1, 0) for t in scene.things]
    color = COLORS.index(scene.text_color) + 1 if scene.text_color else 0
    characters = scene.text.replace("\n", "")
    return [(WRITTEN, color, CHARACTERS.index(character) + 1) for character in characters]


def make_shard(task: tuple[str, int, int]) -> None:
    """Draw and keep a shard; `task` is the folder, the seed and the shard's number."""
    folder, seed, number = task
    rng = np.random.default_rng([seed, number])
    examples = [make_example(rng) for _ in range(SHARD)]
    splits = [split for _ in range(SHARD // 25) if (split := make_split(rng))]
    write_shard(Path(folder), number, examples, splits)


def write_shard(folder: Path, number: int, examples: list[Example], splits: list[Split]) -> None:
    """Keep examples, whole or not at all."""
    path = folder / f"{number:04}.pickle"
    unfinished = path.with_suffix(".new")
    with unfinished.open("wb") as file:
        pickle.dump((examples, splits), file, protocol=5)
    unfinished.rename(path)


def draw_pool(folder: Path, num_shards: int, seed: int, workers: int) -> Iterator[int]:
    """Draw what is not drawn yet; yield how many shards there are."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [(str(folder), seed, n) for n in range(num_shards) if not (folder / f"{n:04}.pickle").exists()]
    done = num_shards - len(tasks)
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for _ in pool.imap_unordered(make_shard, tasks):
            done += 1
            yield done


class Pool:
    """All examples, by the grid of patches that they fill."""

    def __init__(self, folder: Path, num_shards: int) -> None:
        """Load the shards into memory: some 35 KB for each example."""
        self.examples: list[Example] = []
        self.splits: list[Split] = []
        for number in range(num_shards):
            with (folder / f"{number:04}.pickle").open("rb") as file:
                examples, splits = pickle.load(file)  # noqa: S301  # our own
            self.examples += examples
            self.splits += splits
        self._levels = np.array([level_of(example.scene) for example in self.examples])
        grids: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, example in enumerate(self.examples):
            grids[example.pixels.shape[0] // PATCH, example.pixels.shape[1] // PATCH].append(index)
        self._grids = {grid: np.array(members) for grid, members in sorted(grids.items())}
        shapes: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, (_, crops) in enumerate(self.splits):
            shapes[crops.shape].append(index)
        self.split_groups = [np.array(members) for _, members in sorted(shapes.items()) if len(members) >= 3]

    def epoch(
        self, rng: np.random.Generator, chunk: int, level: Level = Level.ALL
    ) -> list[NDArray[np.int64]]:
        """Shuffle the examples of a level and below into chunks of one grid each."""
        chunks: list[NDArray[np.int64]] = []
        for grid in self._grids.values():
            members = grid[self._levels[grid] <= level]
            shuffled = rng.permutation(members)
            chunks += [shuffled[start : start + chunk] for start in range(0, len(members) - chunk + 1, chunk)]
        return [chunks[i] for i in rng.permutation(len(chunks))]

    def group(self, chunk: int, level: Level) -> Iterator[NDArray[np.int64]]:
        """Yield all examples of a level and below, in chunks of one grid each."""
        for grid in self._grids.values():
            members = grid[self._levels[grid] <= level]
            yield from (members[start : start + chunk] for start in range(0, len(members), chunk))

    @property
    def num_pictures(self) -> int:
        """How many there are: an example is one, and a split picture five, numbered behind all examples."""
        return len(self.examples) + 5 * len(self.splits)

    def number_crops(self, splits: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the pictures of split ones: [5 * num_splits]."""
        numbers: NDArray[np.int64] = len(self.examples) + 5 * splits[:, None] + np.arange(5)
        return numbers.ravel()

    def count_chunks(self, chunk: int, level: Level) -> int:
        """Count the chunks of an epoch."""
        return sum(int((self._levels[grid] <= level).sum()) // chunk for grid in self._grids.values())
