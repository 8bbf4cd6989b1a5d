"""Trains the checkpoint: first to see, then to answer."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from training import tokens
from training.batches import CHUNK, Batch, Seen, Writer
from training.model import Aids, grid_positions, make_model, point_latents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from training.pool import Pool

REPORT_STEPS = 50
SAVE_STEPS = 500
SPLIT_STEPS = 12
"""One in so many steps learns from split pictures."""


@dataclass(frozen=True)
class Plan:
    """How long is trained, and how fast is learned."""

    seeing_steps: int = 2_000
    answering_steps: int = 13_000
    chunks: int = 4
    matrix_rate: float = 0.008
    other_rate: float = 1e-3
    decay: float = 0.4
    """The last part of the steps, over which the rates sink to nothing."""
    seed: int = 0


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
            torch.optim.Muon(matrices, lr=plan.matrix_rate, weight_decay=0.0, momentum=0.95),
            torch.optim.AdamW(others, lr=plan.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self._state = folder / "state.pt"
        if self._state.exists():
            self._resume()

    @property
    def num_steps(self) -> int:
        """All steps, of seeing and of answering."""
        return self.plan.seeing_steps + self.plan.answering_steps

    def run(self) -> Iterator[dict[str, object]]:
        """Train to the end; yield a report every so many steps."""
        totals: dict[str, list[float]] = defaultdict(list)
        begun = time.monotonic()
        for batch in self._batches():
            if self.step == self.plan.seeing_steps:
                self._point_latents()
            self._set_rates()
            report = self._learn(batch)
            self.step += 1
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
            if self.step % SAVE_STEPS == 0 or self.step == self.num_steps:
                self.save()

    def save(self) -> None:
        """Write all that training needs to go on."""
        state = {
            "step": self.step, "model": self.model.state_dict(), "aids": self.aids.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }  # fmt: skip
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
        matrices, others = [], list(self.aids.parameters())
        for name, parameter in self.model.named_parameters():
            is_matrix = parameter.ndim == 2 and "embed" not in name and "latents" not in name and "lm_head" not in name
            (matrices if is_matrix else others).append(parameter)
        return matrices, others

    def _batches(self) -> Iterator[Batch | list[Seen]]:
        """Make what the coming steps learn from, one ahead."""
        per_epoch = len(self._pool.epoch(np.random.default_rng(0), CHUNK)) // self.plan.chunks
        chunks: list = []
        epoch = -1

        def make(step: int) -> Batch | list[Seen]:
            nonlocal chunks, epoch
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                chunks = self._pool.epoch(np.random.default_rng([self.plan.seed, 1, epoch]), CHUNK)
            first = step % per_epoch * self.plan.chunks
            chosen = chunks[first : first + self.plan.chunks]
            rng = np.random.default_rng([self.plan.seed, 2, step])
            if step < self.plan.seeing_steps:
                return self.writer.see(chosen, rng)
            return self.writer.write_splits(rng) if step % SPLIT_STEPS == 0 else self.writer.write(chosen, rng)

        with ThreadPoolExecutor(1) as ahead:
            waiting = ahead.submit(make, self.step)
            for step in range(self.step, self.num_steps):
                batch = waiting.result()
                if step + 1 < self.num_steps:
                    waiting = ahead.submit(make, step + 1)
                yield batch

    def _set_rates(self) -> None:
        plan, step = self.plan, self.step
        is_seeing = step < plan.seeing_steps
        start, length = (0, plan.seeing_steps) if is_seeing else (plan.seeing_steps, plan.answering_steps)
        done = (step - start) / length
        factor = min(1, (step - start + 1) / 100)
        if not is_seeing:
            factor = min(factor, max(0.0, (1 - done) / plan.decay))
        for optimizer, rate in zip(self.optimizers, (plan.matrix_rate, plan.other_rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    def _learn(self, batch: Batch | list[Seen]) -> dict[str, float]:
        with self._low_precision():
            loss, report = self._see(batch) if isinstance(batch, list) else self._answer(batch)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        report["norm"] = float(nn.utils.clip_grad_norm_(self.model.parameters(), 1.0))
        for optimizer in self.optimizers:
            optimizer.step()
        return report

    def _low_precision(self):  # noqa: ANN202  # a context
        fits = self.device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001  # no public name yet
        return torch.autocast(self.device.type, torch.bfloat16) if fits else nullcontext()

    def context(self, seen: Seen) -> Tensor:
        """Return [num_images, num_patches, hidden]: what the perceiver looks at."""
        pixels = seen.pixels.to(self.device).float() / 127.5 - 1
        hidden = self.model.model.vision_model(pixel_values=pixels).last_hidden_state
        return self.model.model.connector.modality_projection(hidden)

    def _see(self, batch: list[Seen]) -> tuple[Tensor, dict[str, float]]:
        losses = [self._patch_loss(seen, self.context(seen)) for seen in batch]
        loss = torch.stack(losses).mean()
        return loss, {"patches": loss.item()}

    def _patch_loss(self, seen: Seen, context: Tensor) -> Tensor:
        positions = grid_positions(*seen.grid).to(self.device)
        return self.aids.patch_loss(context, seen.patches.to(self.device), positions)

    def _answer(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        blocks, patch_losses, slot_losses = [], [], []
        for seen in batch.seen:
            context = self.context(seen)
            look = torch.ones(context.shape[:2], dtype=torch.bool, device=self.device)
            latents = self.model.model.connector.perceiver_resampler(context=context, attention_mask=look)
            latents = getattr(latents, "last_hidden_state", latents)
            blocks.append(latents)
            if len(seen.slots):
                patch_losses.append(self._patch_loss(seen, context))
                slot_losses.append(
                    self.aids.slot_loss(latents, seen.slots.to(self.device), seen.backgrounds.to(self.device))
                )
        ids = batch.input_ids.to(self.device)
        embedded = self.model.get_input_embeddings()(ids)
        images = torch.cat(blocks).float()[batch.images.to(self.device)].flatten(0, 1)
        embedded = embedded.masked_scatter((ids == tokens.NUM_PIECES + 1)[..., None], images.to(embedded.dtype))
        mask = torch.zeros(batch.mask.shape, device=self.device).masked_fill(~batch.mask.to(self.device), -1e9)
        hidden = self.model.model.text_model(
            inputs_embeds=embedded, attention_mask=mask, position_ids=batch.positions.to(self.device), use_cache=False
        ).last_hidden_state
        rows, places, numbers = batch.answers.to(self.device).unbind(1)
        logits = self.model.lm_head(hidden[rows, places - 1]).float()
        wanted = ids[rows, places]
        each = F.cross_entropy(logits, wanted, reduction="none")
        lengths = torch.bincount(numbers)
        weights = lengths[numbers].float().rsqrt()
        words = (each * weights).sum() / weights.sum()
        loss = words
        wrong = torch.zeros(len(batch.kinds), device=self.device)
        wrong.index_add_(0, numbers, (logits.argmax(-1) != wanted).float())
        report = {"words": words.item()}
        if slot_losses:
            patches, slots = torch.stack(patch_losses).mean(), torch.stack(slot_losses).mean()
            loss = words + 0.04 * patches + 0.08 * slots
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
