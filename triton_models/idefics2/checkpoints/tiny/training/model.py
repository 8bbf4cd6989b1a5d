"""The small Idefics2: its shape, its first weights, and the heads that only training has."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    Idefics2Config,
    Idefics2ForConditionalGeneration,
)
from transformers.masking_utils import sdpa_mask

from training import pool, tokens
from training.losses import cross_entropy, judge, judge_offsets, judge_places
from training.matching import NEARNESS, find_costs, match
from training.palette import COLORS

if TYPE_CHECKING:
    from pathlib import Path

ATTENTION = "sdpa_in_float32"
_HIDDEN = 128
_VISION_HIDDEN = 192
_OFFSETS_WEIGHT, _PLACES_WEIGHT = 0.25, 0.2
"""Of x or y, and of row or column, in the heads' losses: what is seen weighs 1 each."""


def configure() -> Idefics2Config:
    """Return the shape of the model: 4.5 million parameters."""
    return Idefics2Config(
        vision_config={
            "hidden_size": _VISION_HIDDEN,
            "num_hidden_layers": 6,
            "num_attention_heads": 6,
            "intermediate_size": 512,
            "image_size": pool.LONGEST,
            "patch_size": pool.PATCH,
        },
        perceiver_config={
            "hidden_size": _HIDDEN,
            "resampler_n_latents": pool.SIDE**2,
            "resampler_depth": 3,
            "resampler_n_heads": 4,
            "resampler_head_dim": 32,
            "num_key_value_heads": 4,
            "rms_norm_eps": 1e-5,
        },
        text_config={
            "model_type": "mistral",
            "hidden_size": _HIDDEN,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "intermediate_size": 384,
            "vocab_size": tokens.NUM_PIECES + 3,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5,
            "sliding_window": None,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        },
        image_token_id=tokens.NUM_PIECES + 1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )


def write_settings(folder: Path) -> None:
    """Write the files that transformers reads beside the weights: processor and generation settings."""
    end = tokens.NUM_PIECES + 2
    processor = {
        "image_processor": {
            "do_convert_rgb": True,
            "do_image_splitting": False,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
            "resample": 2,
            "rescale_factor": 1 / 255,
            "image_processor_type": "Idefics2ImageProcessor",
            "size": {"longest_edge": pool.LONGEST, "shortest_edge": pool.SHORTEST},
        },
        "image_seq_len": pool.SIDE**2,
        "processor_class": "Idefics2Processor",
    }
    generation = {
        "bad_words_ids": [[end - 2], [end - 1]],
        "bos_token_id": 1,
        "do_sample": False,
        "eos_token_id": [2, end],
        "max_new_tokens": 64,
        "pad_token_id": 0,
    }
    for name, settings in (("processor_config.json", processor), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def make_model() -> Idefics2ForConditionalGeneration:
    """Make a model with first weights that learn quickly at this size."""
    model = Idefics2ForConditionalGeneration(configure())
    model.set_attn_implementation(ATTENTION)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "embed" not in name and "latents" not in name:
            nn.init.normal_(parameter, std=1 / math.sqrt(parameter.shape[1]))
            if (
                name.endswith(("o_proj.weight", "out_proj.weight", "fc2.weight", "down_proj.weight"))
                and ".layers." in name
            ):
                parameter.data /= math.sqrt(8)
    nn.init.normal_(model.get_input_embeddings().weight, std=0.5)
    vision = model.model.vision_model.embeddings
    vision.position_embedding.weight.data = _waves(pool.SIDE, _VISION_HIDDEN)
    for layer in model.model.vision_model.encoder.layers:  # to look first at what is alike, and near
        layer.self_attn.k_proj.weight.data.copy_(layer.self_attn.q_proj.weight)
    nn.init.normal_(vision.patch_embedding.weight, std=1 / math.sqrt(3 * pool.PATCH**2))
    # transformers starts all latents alike, and alike they would stay for ever.
    latents = model.model.connector.perceiver_resampler.latents
    latents.data = nn.init.orthogonal_(torch.empty_like(latents)) * math.sqrt(latents.shape[1])
    return model


def _waves(side: int, hidden: int) -> Tensor:
    """Return [side * side, hidden]: positions as waves over rows and columns, turned at random."""
    angles = torch.arange(side)[:, None] / side * math.pi * (torch.arange(8) + 1) / 2
    line = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = line[:, None].expand(-1, side, -1), line[None].expand(side, -1, -1)
    waves = torch.cat([rows, columns], -1).flatten(0, 1)
    turned = waves @ nn.init.orthogonal_(torch.empty(waves.shape[1], hidden))
    return turned / turned.std() * 0.5


class AuxiliaryHeads(nn.Module):
    """What makes the vision tower and the latents learn early; the checkpoint does not keep it."""

    def __init__(self) -> None:
        """Make the linear readers of patches and latents."""
        super().__init__()
        self.classes = (pool.WRITTEN + 1, len(COLORS) + 1, len(pool.CHARACTERS) + 1)
        self._of_patch = (*self.classes, pool.SIDE, pool.SIDE, 2)
        self._of_slot = (*self.classes, len(COLORS) + 1, pool.SIDE, pool.SIDE)
        self.of_patches = nn.Linear(_HIDDEN, sum(self._of_patch))
        self.of_slots = nn.Linear(_HIDDEN, sum(self._of_slot))
        self._cells: Tensor
        cells = torch.cartesian_prod(torch.arange(pool.SIDE), torch.arange(pool.SIDE))  # [64, 2]
        self.register_buffer("_cells", cells, persistent=False)

    def patch_loss(self, context: Tensor, labels: Tensor, offsets: Tensor, positions: Tensor) -> Tensor:
        """Judge how well each patch tells what covers it, where that has its center, and its own place.

        Args:
            context: [num_images, num_patches, hidden], what the perceiver looks at.
            labels: [num_images, num_patches, 3], class, color and character.
            offsets: [num_images, num_patches, 2], in patches.
            positions: [num_patches, 2], rows and columns.

        """
        *looks, row, column, offset = self.of_patches(context.float()).split(self._of_patch, -1)
        losses = [judge(r, labels[..., n]) for n, r in enumerate(looks)]
        losses.append(_OFFSETS_WEIGHT * judge_offsets(offset, offsets, labels[..., 0] > 0))
        losses.append(_PLACES_WEIGHT * judge_places((row, column), positions))
        return torch.stack(losses).sum()

    def slot_loss(
        self, latents: Tensor, things: Tensor, places: Tensor, backgrounds: Tensor, grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Judge how well each latent knows its cell, and whether one near each thing tells of it, no other.

        Where a center lies near the edge of two patches it cannot be seen on which side: whichever tells of
        it is right.

        Args:
            latents: [num_images, num_slots, hidden], what the text model reads.
            things: [num_images, num_things, 3], class, color and character, 0 for none.
            places: [num_images, num_things, 3], x, y and reach in patches, as of `Example.places`.
            backgrounds: [num_images], 0 for none.
            grid: the rows and columns of patches of the pictures.

        Returns:
            The loss; and two of [num_images, num_slots] bool: whether a latent is right, and whether it is
            to tell of a thing.

        """
        *looks, background, row, column = self.of_slots(latents.float()).split(self._of_slot, -1)
        y, x = (
            (self._cells[:, axis] + 0.5) * side / pool.SIDE for axis, side in enumerate(grid)
        )  # of middles
        distances = torch.hypot(
            places[..., :1] - x, places[..., 1:2] - y
        )  # [num_images, num_things, num_slots]
        may = (distances <= places[..., 2:]) & (things[..., :1] > 0)
        owned = match(find_costs(looks, things) + NEARNESS * distances, may)
        nothing = torch.zeros_like(things[:, :1])
        labels = torch.cat([things, nothing], 1).gather(1, owned[..., None].expand(-1, -1, things.shape[-1]))
        losses = [judge(r, labels[..., n]) for n, r in enumerate(looks)]
        losses.append(cross_entropy(background, backgrounds[:, None].expand(labels.shape[:2])).mean())
        losses.append(_PLACES_WEIGHT * judge_places((row, column), self._cells))
        is_right = (torch.stack([r.argmax(-1) for r in looks], -1) == labels).all(-1)
        return torch.stack(losses).sum(), is_right, labels[..., 0] > 0


def grid_positions(rows: int, columns: int) -> Tensor:
    """Return [rows * columns, 2]: the row and column of the vision tower's position of each patch."""
    row, column = (
        ((torch.arange(n) / n * pool.SIDE + 1e-4).long()).clamp(max=pool.SIDE - 1) for n in (rows, columns)
    )
    return torch.stack(torch.meshgrid(row, column, indexing="ij"), -1).flatten(0, 1)


def look(model: Idefics2ForConditionalGeneration, pixels: Tensor, positions: Tensor) -> Tensor:
    """Return [num_images, rows * columns, hidden]: what the perceiver is shown of whole pictures.

    What transformers' vision tower computes, without asking the device what each picture's mask covers, and
    without a convolution, whose kernel a GPU would have to choose for each grid.

    Args:
        model: the model.
        pixels: [num_images, 3, rows * 16, columns * 16], -1 to 1.
        positions: [rows * columns, 2], as of `grid_positions`.

    """
    tower, (rows, columns) = model.model.vision_model, (side // pool.PATCH for side in pixels.shape[2:])
    patches = pixels.view(-1, 3, rows, pool.PATCH, columns, pool.PATCH).permute(0, 2, 4, 1, 3, 5)
    embedding = tower.embeddings.patch_embedding
    embedded = F.linear(
        patches.reshape(-1, rows * columns, 3 * pool.PATCH**2), embedding.weight.flatten(1), embedding.bias
    )
    embedded = embedded + tower.embeddings.position_embedding(positions[:, 0] * pool.SIDE + positions[:, 1])
    seen = tower.post_layernorm(tower.encoder(inputs_embeds=embedded).last_hidden_state)
    projected: Tensor = model.model.connector.modality_projection(seen)
    return projected


def resample(model: Idefics2ForConditionalGeneration, context: Tensor) -> Tensor:
    """Return [num_images, num_slots, hidden]: what the text model reads of what `look` returned.

    What transformers' perceiver computes, without asking the device whether its mask hides anything.
    """
    resampler = model.model.connector.perceiver_resampler
    latents: Tensor = resampler.latents.expand(len(context), -1, -1)
    for layer in resampler.layers:
        latents = layer(latents, context)
    normed: Tensor = resampler.norm(latents)
    return normed


@torch.no_grad()
def point_latents(model: Idefics2ForConditionalGeneration, contexts: list[tuple[Tensor, Tensor]]) -> float:
    """Let each latent look at its own cell from the start.

    Keys are fitted by ridge regression to tell a patch's row and column, and queries to ask for those near
    the cell.

    Args:
        model: the model, whose vision tower has learned already.
        contexts: pairs of [num_images, num_patches, hidden] and [num_patches, 2], rows and columns, on the
            CPU.

    Returns:
        Which part of the position's variance the keys explain.

    """
    resampler = model.model.connector.perceiver_resampler
    side = pool.SIDE
    features = torch.cat([context.flatten(0, 1) for context, _ in contexts]).float()
    positions = torch.cat([place.repeat(len(context), 1) for context, place in contexts])
    features = F.rms_norm(features, features.shape[-1:], eps=1e-5)
    wanted = torch.cat([F.one_hot(positions[:, 0], side), F.one_hot(positions[:, 1], side)], 1).float()
    gram = features.T @ features + 1e-3 * len(features) * torch.eye(features.shape[1])
    keys = torch.linalg.solve(gram, features.T @ wanted).T  # [2 * side, hidden]
    explained = 1 - ((features @ keys.T - wanted) ** 2).sum() / ((wanted - wanted.mean(0)) ** 2).sum()
    nearness = (-((torch.arange(side) - torch.arange(side)[:, None]) ** 2) / (2 * 0.75**2)).clamp(min=-6)
    asked = torch.cat(
        [nearness[:, None].expand(-1, side, -1), nearness[None].expand(side, -1, -1)], -1
    ).reshape(side**2, 2 * side)
    latents = F.rms_norm(resampler.latents.cpu(), resampler.latents.shape[-1:], eps=1e-5)
    queries = (torch.linalg.pinv(latents) @ asked).T * math.sqrt(32)  # [2 * side, hidden]
    for layer, num_heads in zip(resampler.layers, (3, 1, 1), strict=True):
        for head in range(num_heads):
            layer.self_attn.k_proj.weight[32 * head : 32 * head + 2 * side].copy_(keys)
            layer.self_attn.q_proj.weight[32 * head : 32 * head + 2 * side].copy_(queries)
            layer.self_attn.q_proj.weight[32 * head + 2 * side : 32 * (head + 1)] = 0
    return float(explained)


def _attend(
    _: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: float
) -> tuple[Tensor, None]:
    """Attend; on a CPU in float32 even where all else is in bfloat16: that is four times as fast."""
    scale = options["scaling"]
    if mask is not None and not query.is_cuda:
        return _attend_plainly(query, key, value, mask, scale).transpose(1, 2), None
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (part[:, :, None].expand(-1, -1, groups, -1, -1).flatten(1, 2) for part in (key, value))
    if query.is_cuda:
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
        return attended.transpose(1, 2), None
    with torch.autocast(query.device.type, enabled=False):
        attended = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), scale=scale)
    return attended.transpose(1, 2).to(query.dtype), None


def _attend_plainly(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Attend as two products with a softmax between: of masks torch's own way back on a CPU makes no use.

    No slower as it is, and three times as fast when compiled.

    Args:
        query: [num_rows, num_heads, length, width].
        key: [num_rows, num_groups, length, width], each of which `num_heads / num_groups` heads share.
        value: as `key`.
        mask: [num_rows, 1, length, length], to add.
        scale: of the products.

    Returns:
        [num_rows, num_heads, length, width].

    """
    rows, heads, length, width = query.shape
    groups = key.shape[1]
    grouped = query.reshape(rows, groups, heads // groups * length, width)
    scores = (grouped @ key.mT).view(rows, groups, heads // groups, length, length).float()
    weights = torch.softmax(scores * scale + mask[:, :, None], -1).to(value.dtype)
    return (weights.view(rows, groups, -1, length) @ value).view(rows, heads, length, width)


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
