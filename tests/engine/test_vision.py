"""Crops of any sizes, packed together, are seen as transformers' own tower and connector see each alone."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from idefics2_engine.images import Crop
from idefics2_engine.model.connector import Connector
from idefics2_engine.model.vision import Normalization, VisionTower, find_positions, split_equal
from transformers.models.idefics2.modeling_idefics2 import Idefics2VisionEmbeddings

if TYPE_CHECKING:
    from reference import Reference

CPU = torch.device("cpu")
PATCH = 16
TINY_GRIDS = [(rows, columns) for rows in range(1, 11) for columns in range(1, 11)]
draw = random.Random(8)  # noqa: S311  # not a secret
LARGE_GRIDS = [(1, 1), (70, 70), (1, 70), (70, 1), (27, 70),
               *((draw.randint(1, 70), draw.randint(1, 70)) for _ in range(60))]  # fmt: skip
MIX = [(4, 8), (8, 8), (8, 8), (1, 1), (5, 7), (7, 5), (8, 4), (8, 4), (4, 4), (2, 8)]


def look_up_positions(side: int, rows: int, columns: int, padding: int = 0) -> list[int]:
    """Have transformers look up the positions of a grid that stands in a larger, padded one."""
    embeddings = Idefics2VisionEmbeddings(
        SimpleNamespace(hidden_size=1, image_size=side, patch_size=1, num_channels=1)
    )
    embeddings.patch_embedding.weight.data.zero_()
    embeddings.patch_embedding.bias.data.zero_()
    embeddings.position_embedding.weight.data = torch.arange(side * side, dtype=torch.float64)[:, None]
    mask = torch.zeros(1, rows + padding, columns + padding, dtype=torch.bool)
    mask[:, :rows, :columns] = True
    with torch.inference_mode():
        numbers = embeddings(torch.zeros(1, 1, *mask.shape[1:]), mask)
    return numbers.view(mask.shape)[mask].long().tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("side", "grids"), [(8, TINY_GRIDS), (10, TINY_GRIDS), (70, LARGE_GRIDS)], ids=["8", "10", "70"]
)
def test_each_patch_has_the_position_that_transformers_gives_it(
    side: int, grids: list[tuple[int, int]]
) -> None:
    for rows, columns in grids:
        positions = find_positions(rows, columns, side).tolist()
        assert positions == look_up_positions(side, rows, columns), (rows, columns)
        assert positions == look_up_positions(side, rows, columns, padding=3), (rows, columns)


def test_on_every_length_of_a_side_positions_are_those_of_transformers() -> None:
    for length in range(1, 71):
        assert find_positions(length, 1, 70).tolist() == look_up_positions(70, length, 1), length


@pytest.fixture(scope="module")
def tower(reference: Reference) -> VisionTower:
    """Ours, over the weights of transformers' model."""
    return VisionTower(reference.model.model.vision_model)


@pytest.fixture(scope="module")
def normalize(reference: Reference) -> Normalization:
    """The checkpoint's."""
    return Normalization(reference.image_processor, CPU)


@pytest.fixture(scope="module")
def connector(reference: Reference) -> Connector:
    """Ours, over the weights of transformers' model."""
    return Connector(reference.model.model.connector)


def make_crop(rows: int, columns: int) -> Crop:
    """Make a crop of noise."""
    noise = np.random.default_rng(rows * 100 + columns)
    return Crop((rows, columns), noise.integers(0, 256, (rows * columns, 3 * PATCH * PATCH), np.uint8))


def join_pixels(crop: Crop, normalize: Normalization) -> torch.Tensor:
    """Put a crop's patches together again: [1, 3, height, width] float32."""
    rows, columns = crop.grid
    patches = normalize(torch.from_numpy(crop.patches)).view(rows, columns, 3, PATCH, PATCH)
    return patches.permute(2, 0, 3, 1, 4).reshape(1, 3, rows * PATCH, columns * PATCH)


@torch.inference_mode()
def test_crops_of_all_sizes_together_are_seen_as_transformers_sees_each_alone(
    reference: Reference, tower: VisionTower, connector: Connector, normalize: Normalization
) -> None:
    inner: Any = reference.model.model
    crops = [make_crop(*grid) for grid in MIX]
    lengths = [len(crop.patches) for crop in crops]
    patches = tower(crops, normalize)
    states = connector(patches, lengths)
    assert len(states) == len(crops)
    for crop, seen, state in zip(crops, torch.split(patches, lengths), states, strict=True):
        pixels = join_pixels(crop, normalize)
        mask = torch.ones(1, *crop.grid, dtype=torch.bool)
        expected = inner.vision_model(pixel_values=pixels, patch_attention_mask=mask).last_hidden_state
        torch.testing.assert_close(seen, expected[0], atol=1e-4, rtol=0)
        expected = inner.connector(expected, attention_mask=mask.flatten(1))
        torch.testing.assert_close(state, expected[0], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_what_is_seen_in_a_crop_does_not_depend_on_who_is_beside_it(
    tower: VisionTower, connector: Connector, normalize: Normalization
) -> None:
    crops = [make_crop(*grid) for grid in MIX]
    for order in (range(len(MIX)), reversed(range(len(MIX)))):
        chosen = [crops[number] for number in order]
        states = connector(tower(chosen, normalize), [len(crop.patches) for crop in chosen])
        for crop, state in zip(chosen, states, strict=True):
            alone = connector(tower([crop], normalize), [len(crop.patches)])
            torch.testing.assert_close(state, alone[0], atol=1e-4, rtol=0)


def test_rescaling_and_normalizing_can_be_left_out() -> None:
    settings = {"rescale_factor": 0.5, "image_mean": [1.0, 2.0, 3.0], "image_std": [2.0, 4.0, 8.0]}
    patches = torch.tensor([[2, 2, 8, 8, 6, 6]], dtype=torch.uint8)
    for rescales, normalizes, expected in (
        (False, False, [2, 2, 8, 8, 6, 6]),
        (True, False, [1, 1, 4, 4, 3, 3]),
        (False, True, [0.5, 0.5, 1.5, 1.5, 0.375, 0.375]),
        (True, True, [0, 0, 0.5, 0.5, 0, 0]),
    ):
        processor = SimpleNamespace(do_rescale=rescales, do_normalize=normalizes, **settings)
        assert Normalization(processor, CPU)(patches).tolist() == [expected]


def test_neighbours_of_equal_length_are_split_off_together() -> None:
    parts = split_equal(torch.arange(12), [2, 2, 3, 2, 3])
    assert [(part.tolist(), count) for part, count in parts] == [
        ([0, 1, 2, 3], 2),
        ([4, 5, 6], 1),
        ([7, 8], 1),
        ([9, 10, 11], 1),
    ]
