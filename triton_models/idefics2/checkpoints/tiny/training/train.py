"""Trains the checkpoint: first to see, then to answer."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from training import tokens
from training.batches import CHUNK, Batch, Seen, Writer
from training.model import Aids, grid_positions, make_model, point_latents
from training.pool import Level

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from training.pool import Pool

REPORT_STEPS = 50
SAVE_STEPS = 500
SPLIT_STEPS = 12
"""One in so many steps learns from split pictures."""


class Lesson(StrEnum):
    """What is learned at a time; each lesson builds on those before it."""

    LARGE = "sees large shapes"
    SHAPES = "sees shapes"
    ALL = "sees everything"
    PLACES = "sees what is where"
    ANSWERS = "answers"


@dataclass(frozen=True)
class Plan:
    """How long is trained, and how fast is learned."""

    steps: tuple[tuple[Lesson, int], ...] = (
        (Lesson.LARGE, 500),
        (Lesson.SHAPES, 1_500),
        (Lesson.ALL, 4_000),
        (Lesson.PLACES, 1_500),
        (Lesson.ANSWERS, 7_500),
    )
    chunks: int = 4
    seed: int = 0

    @property
    def num_steps(self) -> int:
        """All steps."""
        return sum(steps for _, steps in self.steps)

    def find(self, step: int) -> tuple[Lesson, int, int]:
        """Return the lesson of a step, which step it is of that lesson, and how many there are."""
        for lesson, steps in self.steps:
            if step < steps:
                return lesson, step, steps
            step -= steps
        raise IndexError(f"there are {self.num_steps} steps")


_LEVELS = {Lesson.LARGE: Level.LARGE, Lesson.SHAPES: Level.SHAPES}
# Muon's for matrices, AdamW's for all else.
_SEEING_RATES, _ANSWERING_RATES = (0.016, 1e-3), (0.01, 1e-3)
_PENALTY = 1.2
_WARM_UP_STEPS = 50
_DECAY = 0.4
"""The last part of a lesson, over which the rates sink: it is worth more than longer learning."""
_LAST_FACTOR = 0.1
"""To what the rates sink where another lesson follows."""


class Trainer:
    """A model that learns, and all that is needed to go on after a break."""

    def __init__(self, plan: Plan, examples: Pool, folder: Path) -> None:
        """Start anew, or where `folder` says that training stopped."""
        torch.manual_seed(plan.seed)
        self.plan, self.folder, self.step = plan, folder, 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = make_model().to(self.device)
        self.aids = Aids().to(self.device)
        self.writer = Writer(examples, tokens.load(folder / "tokenizer"))
        self._pool = examples
        matrices, others = self._sort_parameters()
        self.optimizers = [
            torch.optim.Muon(matrices, weight_decay=0.0, momentum=0.95),
            torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self._state = folder / "state.pt"
        if self._state.exists():
            self._resume()

    def run(self) -> Iterator[dict[str, float]]:
        """Train to the end; yield a report every so many steps."""
        totals: dict[str, list[float]] = defaultdict(list)
        begun = time.monotonic()
        for batch in self.batches():
            report = self.learn(batch)
            for name, value in report.items():
                totals[name].append(value)
            if self.step % REPORT_STEPS == 0:
                means = {name: round(float(np.mean(values)), 4) for name, values in sorted(totals.items())}
                line = {"step": self.step, "seconds": round((time.monotonic() - begun), 1), **means}
                with (self.folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps(line) + "\n")
                totals.clear()
                begun = time.monotonic()
                yield line
            if self.step % SAVE_STEPS == 0 or self.step == self.plan.num_steps:
                self.save()

    def save(self) -> None:
        """Write all that training needs to go on."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "aids": self.aids.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        unfinished = self._state.with_suffix(".new")
        torch.save(state, unfinished)
        unfinished.rename(self._state)

    def _resume(self) -> None:
        state = torch.load(self._state, map_location=self.device, weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.aids.load_state_dict(state["aids"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def _sort_parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        matrices: list[nn.Parameter] = []
        others = list(self.aids.parameters())
        for name, parameter in self.model.named_parameters():
            is_matrix = (
                parameter.ndim == 2
                and "embed" not in name
                and "latents" not in name
                and "lm_head" not in name
            )
            (matrices if is_matrix else others).append(parameter)
        return matrices, others

    def batches(self) -> Iterator[Batch | list[Seen]]:
        """Make what the coming steps learn from."""
        chunks: dict[tuple[Level, int], list[NDArray[np.int64]]] = {}
        for step in range(self.step, self.plan.num_steps):
            lesson, number, _ = self.plan.find(step)
            rng = np.random.default_rng([self.plan.seed, 2, step])
            if lesson is Lesson.ANSWERS and number % SPLIT_STEPS == SPLIT_STEPS - 1:
                yield self.writer.write_splits(rng)
                continue
            level = _LEVELS.get(lesson, Level.ALL)
            epoch, first = divmod(number * self.plan.chunks, self._pool.count_chunks(CHUNK, level))
            if (level, epoch) not in chunks:
                shuffle = np.random.default_rng([self.plan.seed, 1, level, epoch])
                chunks = {(level, epoch): self._pool.epoch(shuffle, CHUNK, level)}
            chosen = chunks[level, epoch][first : first + self.plan.chunks]
            yield self.writer.write(chosen, rng) if lesson is Lesson.ANSWERS else self.writer.see(chosen, rng)

    def _set_rates(self) -> None:
        lesson, step, steps = self.plan.find(self.step)
        last = 0 if lesson is Lesson.ANSWERS else _LAST_FACTOR
        factor = min(1, (step + 1) / _WARM_UP_STEPS, last + (1 - last) * (1 - step / steps) / _DECAY)
        rates = _ANSWERING_RATES if lesson is Lesson.ANSWERS else _SEEING_RATES
        for optimizer, rate in zip(self.optimizers, rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    def learn(self, batch: Batch | list[Seen]) -> dict[str, float]:
        """Take one step; return its losses and the shares of right answers."""
        if self.plan.find(self.step)[:2] == (Lesson.PLACES, 0):
            self._point_latents()
        self._set_rates()
        with self._low_precision():
            loss, report = self._see(batch) if isinstance(batch, list) else self._answer(batch)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        report["norm"] = float(nn.utils.clip_grad_norm_(self.model.parameters(), 1.0))
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        return report

    def _low_precision(self) -> AbstractContextManager[object]:
        fits = self.device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001  # no public name yet
        return torch.autocast(self.device.type, torch.bfloat16) if fits else nullcontext()

    def context(self, seen: Seen) -> Tensor:
        """Return [num_images, num_patches, hidden]: what the perceiver looks at."""
        pixels = seen.pixels.to(self.device).float() / 127.5 - 1
        hidden = self.model.model.vision_model(pixel_values=pixels).last_hidden_state
        projected: Tensor = self.model.model.connector.modality_projection(hidden)
        return projected

    def _see(self, batch: list[Seen]) -> tuple[Tensor, dict[str, float]]:
        contexts = [self.context(seen) for seen in batch]
        patches = torch.stack([self._patch_loss(*pair) for pair in zip(batch, contexts, strict=True)]).mean()
        if self.plan.find(self.step)[0] is not Lesson.PLACES:
            return patches, {"patches": patches.item()}
        slots = [
            self._slot_loss(seen, self.latents(context))
            for seen, context in zip(batch, contexts, strict=True)
        ]
        places = torch.stack(slots).mean()
        return 0.3 * patches + places, {"patches": patches.item(), "slots": places.item()}

    def _patch_loss(self, seen: Seen, context: Tensor) -> Tensor:
        positions = grid_positions(*seen.grid).to(self.device)
        return self.aids.patch_loss(context, seen.patches.to(self.device), positions)

    def latents(self, context: Tensor) -> Tensor:
        """Return [num_images, num_slots, hidden]: what the text model reads."""
        everywhere = torch.ones(context.shape[:2], dtype=torch.bool, device=self.device)
        made = self.model.model.connector.perceiver_resampler(context=context, attention_mask=everywhere)
        latents: Tensor = getattr(made, "last_hidden_state", made)
        return latents

    def _slot_loss(self, seen: Seen, latents: Tensor) -> Tensor:
        return self.aids.slot_loss(latents, seen.slots.to(self.device), seen.backgrounds.to(self.device))

    def _answer(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        blocks, aids = [], []
        for seen in batch.seen:
            context = self.context(seen)
            blocks.append(self.latents(context))
            if len(seen.slots):
                aids.append(torch.stack([self._patch_loss(seen, context), self._slot_loss(seen, blocks[-1])]))
        ids = batch.input_ids.to(self.device)
        embedded = self.model.get_input_embeddings()(ids)
        images = torch.cat(blocks).float()[batch.images.to(self.device)].flatten(0, 1)
        embedded = embedded.masked_scatter(
            (ids == tokens.NUM_PIECES + 1)[..., None], images.to(embedded.dtype)
        )
        mask = torch.zeros(batch.mask.shape, device=self.device).masked_fill(
            ~batch.mask.to(self.device), -1e9
        )
        hidden = self.model.model.text_model(
            inputs_embeds=embedded,
            attention_mask=mask,
            position_ids=batch.positions.to(self.device),
            use_cache=False,
        ).last_hidden_state
        rows, places, numbers = batch.answers.to(self.device).unbind(1)
        logits = self.model.lm_head(hidden[rows, places - 1]).float()
        # Half of the answers stand the API's default penalty, which also counts the question's words.
        looks = batch.mask.to(self.device)[rows, 0, places - 1]
        logits = torch.where((numbers % 2 == 0)[:, None], penalize(logits, ids[rows], looks), logits)
        wanted = ids[rows, places]
        each = F.cross_entropy(logits, wanted, reduction="none")
        lengths = torch.bincount(numbers)
        weights = lengths[numbers].float().rsqrt()
        words = (each * weights).sum() / weights.sum()
        loss = words
        wrong = torch.zeros(len(batch.kinds), device=self.device)
        wrong.index_add_(0, numbers, (logits.argmax(-1) != wanted).float())
        report = {"words": words.item()}
        if aids:
            patches, slots = torch.stack(aids).mean(0)
            loss = words + 0.03 * patches + 0.1 * slots
            report |= {"patches": patches.item(), "slots": slots.item()}
        right: dict[str, list[bool]] = defaultdict(list)
        for kind, is_right in zip(batch.kinds, (wrong == 0).tolist(), strict=True):
            right[kind].append(is_right)
            right["all"].append(is_right)
        return loss, report | {f"right {kind}": float(np.mean(values)) for kind, values in right.items()}

    def _point_latents(self) -> None:
        """Let the latents look at their cells, by what the vision tower tells of 400 pictures."""
        chunks = self._pool.epoch(np.random.default_rng([self.plan.seed, 3]), CHUNK)[:25]
        seen = self.writer.see(chunks, np.random.default_rng(self.plan.seed))
        with torch.no_grad():
            contexts = [(self.context(part).cpu(), grid_positions(*part.grid)) for part in seen]
        self.model.cpu()
        explained = point_latents(self.model, contexts)
        self.model.to(self.device)
        print(f"latents point at their cells; keys explain {explained:.2f} of the place", flush=True)  # noqa: T201


def penalize(logits: Tensor, ids: Tensor, looks: Tensor) -> Tensor:
    """Make what was read already less likely, as the API's repetition penalty does.

    Args:
        logits: [num_tokens, vocab_size].
        ids: [num_tokens, length], what stands in the row of each token.
        looks: [num_tokens, length], true where it may look.

    Source: N. S. Keskar et al., CTRL: a conditional transformer language model (2019).

    """
    counts = torch.zeros_like(logits).scatter_add_(1, ids, looks.to(logits.dtype))
    lowered = torch.where(logits > 0, logits / _PENALTY, logits * _PENALTY)
    return torch.where(counts > 0, lowered, logits)
