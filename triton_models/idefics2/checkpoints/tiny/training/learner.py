"""What a step learns: the losses of each part of it, and how much was right."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from training.batches import KINDS, Batch, Seen
from training.losses import penalize
from training.model import AuxiliaryHeads, grid_positions, look, make_model, resample
from training.plan import Lesson

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUM_SHAPES = 64
"""Of grids and batches that each compiled part may meet."""
Part = Seen | Batch
_OF_KINDS = [f"right {kind}" for kind in KINDS]
FIGURES = ("patches", "slots", "things", "pictures", "words", "norm", "right all", *_OF_KINDS)
"""Losses, the shares of things and of pictures of which all is told right, the gradient's norm, and shares of
answers."""


class Kind(StrEnum):
    """What a part of a step is; parts of a kind move the same parameters."""

    PATCHES = "pictures, of which patches are judged"
    PLACES = "pictures, of which patches and latents are judged"
    REMEMBERED = "questions about remembered pictures"
    ASKED = "pictures and questions about them"
    SPLIT = "split pictures and questions about them"

    @classmethod
    def of(cls, lesson: Lesson, part: Part) -> Kind:
        """Tell what a part of a step of a lesson is."""
        if isinstance(part, Seen):
            return cls.PLACES if lesson is Lesson.PLACES else cls.PATCHES
        if not part.seen:
            return cls.REMEMBERED
        return cls.ASKED if len(part.seen[0].things) else cls.SPLIT


class Figures:
    """Sums and weights of what a step tells; they stay on the device, and in one place."""

    def __init__(self, device: torch.device) -> None:
        """Begin with nothing."""
        self._sums, self._weights = torch.zeros(2, len(FIGURES), device=device)
        self.means = torch.zeros(len(FIGURES), device=device)

    def add(self, name: str, value: Tensor, weight: Tensor | float = 1.0) -> None:
        """Add to a figure, whose mean is the values over the weights."""
        index = FIGURES.index(name)
        self._sums[index] += value.detach()
        self._weights[index] += weight

    def add_kinds(self, right: Tensor, asked: Tensor) -> None:
        """Add answers that are right, and all; both are [len(KINDS)]."""
        first = FIGURES.index(_OF_KINDS[0])
        self._sums[first:] += right
        self._weights[first:] += asked
        self.add("right all", right.sum(), asked.sum())

    def close(self) -> None:
        """Leave the means in `means`, nan where nothing was added, and begin anew."""
        torch.div(self._sums, self._weights, out=self.means)
        self._sums.zero_()
        self._weights.zero_()


def describe(means: Sequence[Tensor]) -> dict[str, float]:
    """Return the means of several steps' figures, without those that no step tells."""
    of_steps = torch.stack(list(means)).nanmean(0).tolist()
    return {name: value for name, value in zip(FIGURES, of_steps, strict=True) if value == value}  # noqa: PLR0124  # not nan


class Learner(nn.Module):
    """The model, with the heads that only training has."""

    def __init__(self, device: torch.device) -> None:
        """Make it with first weights."""
        super().__init__()
        self.model = make_model()
        self.heads = AuxiliaryHeads()
        self.to(device)
        self.device, self.figures = device, Figures(device)
        self.memory: Tensor | None = None
        """[num_pictures, num_slots, hidden] float16: what the latents said of each picture of the pool."""
        self._positions: dict[tuple[int, int], Tensor] = {}
        self._look, self._resample = look, resample

    def compile_parts(self, backend: str = "inductor") -> None:
        """Compile what a step computes most of, when it first comes; torch's own backend needs g++."""
        torch._dynamo.config.recompile_limit = _NUM_SHAPES  # noqa: SLF001  # it has no public name
        self._look, self._resample = (torch.compile(part, backend=backend) for part in (look, resample))
        for layer in self.model.model.text_model.layers:
            layer.compile(backend=backend)

    @property
    def precision(self) -> torch.dtype:
        """What matrices are multiplied in: bfloat16 where that is quicker."""
        on_gpu = self.device.type == "cuda"
        # No public name yet.
        is_quick = on_gpu or torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001
        return torch.bfloat16 if is_quick else torch.float32

    def low_precision(self) -> AbstractContextManager[object]:
        """Compute in `precision`, but for what would lose by it."""
        if self.precision is torch.float32:
            return nullcontext()
        holds = self.device.type == "cpu"  # a recorded graph holds no cache
        return torch.autocast(self.device.type, self.precision, cache_enabled=holds)

    def judge(self, kind: Kind, part: Part) -> Tensor:
        """Return the loss of a part of a step; what else there is to tell goes into `figures`."""
        with self.low_precision():
            if isinstance(part, Batch):
                return self._judge_answers(part)
            context = self.context(part.pixels)
            patches = self._judge_patches(part, context)
            self.figures.add("patches", patches)
            if kind is not Kind.PLACES:
                return patches
            return 0.3 * patches + self._judge_slots([part], [self.latents(context)])

    def context(self, pixels: Tensor) -> Tensor:
        """Return [num_images, num_patches, hidden], what the perceiver looks at; see `Seen.pixels`."""
        return self._look(self.model, pixels.float() / 127.5 - 1, self._place(pixels))

    def latents(self, context: Tensor) -> Tensor:
        """Return [num_images, num_slots, hidden]: what the text model reads."""
        return self._resample(self.model, context)

    def _place(self, pixels: Tensor) -> Tensor:
        """Return the positions of a grid, which come to the device only once."""
        grid = Seen.count_patches(pixels)
        if grid not in self._positions:
            self._positions[grid] = grid_positions(*grid).to(self.device)
        return self._positions[grid]

    def _judge_patches(self, seen: Seen, context: Tensor) -> Tensor:
        return self.heads.patch_loss(context, seen.patches, seen.offsets, self._place(seen.pixels))

    def _judge_slots(self, seen: list[Seen], latents: list[Tensor]) -> Tensor:
        judged = [
            self.heads.slot_loss(
                read, part.things, part.places, part.backgrounds, Seen.count_patches(part.pixels)
            )
            for part, read in zip(seen, latents, strict=True)
        ]
        loss = torch.stack([loss for loss, _, _ in judged]).mean()
        self.figures.add("slots", loss)
        for part, (_, is_right, is_thing) in zip(seen, judged, strict=True):
            self.figures.add("things", (is_right & is_thing).sum(), (part.things[..., 0] > 0).sum())
            self.figures.add("pictures", is_right.all(-1).sum(), len(is_right))
        return loss

    def _judge_answers(self, batch: Batch) -> Tensor:
        if batch.seen:
            contexts = [self.context(seen.pixels) for seen in batch.seen]
            latents = [self.latents(context) for context in contexts]
        else:
            assert self.memory is not None  # noqa: S101  # it was filled when the lesson began
            contexts, latents = [], [self.memory.index_select(0, batch.pictures).float()]
        logits, wanted = self._predict(batch, torch.cat(latents))
        each = F.cross_entropy(logits, wanted, reduction="none")
        loss = (each * batch.weights).sum() / batch.weights.sum()
        self.figures.add("words", loss)
        self._count_right(batch, logits.argmax(-1) == wanted)
        if contexts and len(batch.seen[0].things):  # split pictures have no labels
            judged = [self._judge_patches(*pair) for pair in zip(batch.seen, contexts, strict=True)]
            patches = torch.stack(judged).mean()
            self.figures.add("patches", patches)
            loss = loss + 0.05 * patches + 0.1 * self._judge_slots(batch.seen, latents)
        return loss

    def _predict(self, batch: Batch, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits before each token of an answer, [num_tokens, vocab_size], and the tokens."""
        ids, mask = batch.input_ids, batch.mask
        embedded = self.model.get_input_embeddings()(ids)
        images = latents.to(embedded.dtype).index_select(0, batch.images).flatten(0, 1)
        hidden = self.model.model.text_model(
            inputs_embeds=embedded.flatten(0, 1).index_copy(0, batch.places, images).view_as(embedded),
            attention_mask=torch.zeros(mask.shape, device=self.device).masked_fill(~mask, -1e9),
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        rows, places, numbers = batch.answers.unbind(1)
        wanted = rows * ids.shape[1] + places  # counted through all rows
        logits = self.model.lm_head(hidden.flatten(0, 1).index_select(0, wanted - 1)).float()
        # Half of the answers stand the API's default penalty, which also counts the question's words.
        looks = mask.flatten(0, 2).index_select(0, wanted - 1)
        penalized = penalize(logits, ids.index_select(0, rows), looks)
        penalized = torch.where((numbers % 2 == 0)[:, None], penalized, logits)
        return penalized, ids.flatten().index_select(0, wanted)

    def _count_right(self, batch: Batch, is_right: Tensor) -> None:
        """Count the answers of which every token is right, by kind of question."""
        num_wrong = torch.zeros(len(batch.kinds), device=self.device)
        num_wrong.index_add_(0, batch.answers[:, 2], (~is_right).float())
        counted = torch.zeros(2, len(KINDS) + 1, device=self.device)  # the last is of no kind
        whole = (num_wrong == 0).float()
        counted.index_add_(1, batch.kinds, torch.stack([whole, torch.ones_like(whole)]))
        self.figures.add_kinds(*counted[:, :-1])
