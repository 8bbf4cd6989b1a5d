"""Trains the checkpoint: first to see, then to answer."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from training import pool, tokens
from training.batches import Batch, Seen, Writer
from training.model import AuxiliaryHeads, grid_positions, make_model, point_latents
from training.muon import Muon
from training.plan import Lesson, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from training.pool import Level, Pool

REPORT_STEPS = 50
SAVE_STEPS = 500
SPLIT_STEPS = 12
"""One in so many steps learns from split pictures."""


_NUM_POINTING = 400
"""Pictures by which the latents learn where to look."""
# Muon's for matrices, AdamW's for all else.
_SEEING_RATES = (0.016, 1e-3)
_RATES = {Lesson.ANSWERS: (0.01, 1e-3), Lesson.TOGETHER: (0.004, 4e-4)}
_PENALTY = 1.2
_WARM_UP_STEPS = 50
_DECAYS = {Lesson.PLACES: (0.4, 0.1), Lesson.ANSWERS: (0.4, 0.4), Lesson.TOGETHER: (1.0, 0.0)}
"""Over which last part of a lesson the rates sink, and to what: it is worth more than longer learning."""


class Trainer:
    """A model that learns, and all that is needed to go on after a break."""

    def __init__(self, plan: Plan, examples: Pool, folder: Path) -> None:
        """Start anew, or where `folder` says that training stopped."""
        torch.manual_seed(plan.seed)
        self.plan, self.folder, self.step = plan, folder, 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = make_model().to(self.device)
        self.heads = AuxiliaryHeads().to(self.device)
        self.writer = Writer(examples, tokens.load(folder / "tokenizer"))
        self._pool = examples
        self._memory: Tensor | None = None
        matrices, others = self._sort_parameters()
        self.optimizers = [
            Muon(matrices, momentum=0.95),
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
            is_last = self.step == self.plan.num_steps
            if is_last or self.step % REPORT_STEPS == 0:
                means = {name: round(float(np.mean(values)), 4) for name, values in sorted(totals.items())}
                line = {"step": self.step, "seconds": round((time.monotonic() - begun), 1), **means}
                with (self.folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps(line) + "\n")
                totals.clear()
                begun = time.monotonic()
                yield line
            if is_last or self.step % SAVE_STEPS == 0:
                self.save()

    def save(self) -> None:
        """Write all that training needs to go on."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        unfinished = self._state.with_suffix(".new")
        torch.save(state, unfinished)
        unfinished.rename(self._state)

    def _resume(self) -> None:
        state = torch.load(self._state, map_location=self.device, weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def _sort_parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        matrices: list[nn.Parameter] = []
        others = list(self.heads.parameters())
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
            shows = lesson is not Lesson.ANSWERS
            if lesson.asks and number % SPLIT_STEPS == SPLIT_STEPS - 1:
                yield self.writer.write_splits(rng, shows=shows)
                continue
            level, num_chunks = lesson.level, 1 if lesson.asks else self.plan.chunks
            epoch, first = divmod(number * num_chunks, self._pool.count_chunks(self.plan.chunk, level))
            if (level, epoch) not in chunks:
                shuffle = np.random.default_rng([self.plan.seed, 1, level, epoch])
                chunks = {(level, epoch): self._pool.epoch(shuffle, self.plan.chunk, level)}
            chosen = chunks[level, epoch][first : first + num_chunks]
            yield self.writer.write(chosen, rng, shows=shows) if lesson.asks else self.writer.see(chosen, rng)

    def _set_rates(self) -> None:
        lesson, step, steps = self.plan.find(self.step)
        factor = scale_rates(lesson, step, steps)
        for optimizer, rate in zip(self.optimizers, _RATES.get(lesson, _SEEING_RATES), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    def learn(self, batch: Batch | list[Seen]) -> dict[str, float]:
        """Take one step; return its losses and the shares of right answers."""
        lesson, number, _ = self.plan.find(self.step)
        if lesson is Lesson.PLACES and number == 0:
            self._point_latents()
        if lesson is Lesson.ANSWERS and (number == 0 or self._memory is None):
            self._memory = self._remember(again=number == 0)
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
        judged = [
            self._slot_loss(seen, self.latents(context))
            for seen, context in zip(batch, contexts, strict=True)
        ]
        slots, report = self._sum_up(judged)
        return 0.3 * patches + slots, {"patches": patches.item(), **report}

    def _patch_loss(self, seen: Seen, context: Tensor) -> Tensor:
        positions = grid_positions(*seen.grid).to(self.device)
        labels, offsets = seen.patches.to(self.device), seen.offsets.to(self.device)
        return self.heads.patch_loss(context, labels, offsets, positions)

    def latents(self, context: Tensor) -> Tensor:
        """Return [num_images, num_slots, hidden]: what the text model reads."""
        everywhere = torch.ones(context.shape[:2], dtype=torch.bool, device=self.device)
        made = self.model.model.connector.perceiver_resampler(context=context, attention_mask=everywhere)
        latents: Tensor = getattr(made, "last_hidden_state", made)
        return latents

    def _slot_loss(self, seen: Seen, latents: Tensor) -> tuple[Tensor, Tensor]:
        return self.heads.slot_loss(latents, seen.slots.to(self.device), seen.backgrounds.to(self.device))

    def _answer(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        blocks, of_patches, of_slots = [], [], []
        if not batch.seen:
            assert self._memory is not None  # noqa: S101  # it was filled when the lesson began
            blocks.append(self._memory[batch.pictures].to(self.device))
        for seen in batch.seen:
            context = self.context(seen)
            blocks.append(self.latents(context))
            if len(seen.slots):
                of_patches.append(self._patch_loss(seen, context))
                of_slots.append(self._slot_loss(seen, blocks[-1]))
        logits, wanted = self._predict(batch, torch.cat(blocks))
        numbers = batch.answers[:, 2].to(self.device)
        loss = _mean_per_answer(F.cross_entropy(logits, wanted, reduction="none"), numbers)
        report = {"words": loss.item(), **_count_right(batch.kinds, logits.argmax(-1) == wanted, numbers)}
        if of_patches:  # split pictures have no labels
            patches = torch.stack(of_patches).mean()
            slots, of_report = self._sum_up(of_slots)
            loss = loss + 0.05 * patches + 0.1 * slots
            report |= {"patches": patches.item(), **of_report}
        return loss, report

    @staticmethod
    def _sum_up(judged: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, dict[str, float]]:
        """Average the losses of slots, and report the share of things of which all is read right."""
        loss = torch.stack([loss for loss, _ in judged]).mean()
        is_right = torch.cat([is_right for _, is_right in judged])
        report = {"slots": loss.item()}
        if len(is_right):
            report["things"] = is_right.float().mean().item()
        return loss, report

    def _predict(self, batch: Batch, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits before each token of an answer, [num_tokens, vocab_size], and the tokens."""
        ids, mask = batch.input_ids.to(self.device), batch.mask.to(self.device)
        embedded = self.model.get_input_embeddings()(ids)
        images = latents.float()[batch.images.to(self.device)].flatten(0, 1)
        is_image = (ids == tokens.NUM_PIECES + 1)[..., None]
        hidden = self.model.model.text_model(
            inputs_embeds=embedded.masked_scatter(is_image, images.to(embedded.dtype)),
            attention_mask=torch.zeros(mask.shape, device=self.device).masked_fill(~mask, -1e9),
            position_ids=batch.positions.to(self.device),
            use_cache=False,
        ).last_hidden_state
        rows, places, numbers = batch.answers.to(self.device).unbind(1)
        logits = self.model.lm_head(hidden[rows, places - 1]).float()
        # Half of the answers stand the API's default penalty, which also counts the question's words.
        penalized = penalize(logits, ids[rows], mask[rows, 0, places - 1])
        return torch.where((numbers % 2 == 0)[:, None], penalized, logits), ids[rows, places]

    def _remember(self, *, again: bool) -> Tensor:
        """Return [num_pictures, num_slots, hidden] float16: what the latents say of each picture of the pool.

        Args:
            again: look at them, though there is a file that was kept.

        """
        file = self.folder / "memory.npy"
        if again or not file.exists():
            kept = np.zeros(
                (self._pool.num_pictures, pool.SLOTS**2, self.heads.of_slots.in_features), np.float16
            )
            with torch.no_grad(), self._low_precision():
                for numbers, seen in self.writer.show_all(np.random.default_rng([self.plan.seed, 4])):
                    kept[numbers] = self.latents(self.context(seen)).cpu().numpy()
            unfinished = file.with_suffix(".new.npy")
            np.save(unfinished, kept)
            unfinished.rename(file)
        return torch.from_numpy(np.load(file))

    def _point_latents(self) -> None:
        """Let the latents look at their cells, by what the vision tower tells of some pictures."""
        rng, size = np.random.default_rng([self.plan.seed, 3]), self.plan.chunk
        chunks = self._pool.epoch(rng, size)[: -(-_NUM_POINTING // size)]
        seen = self.writer.see(chunks, np.random.default_rng(self.plan.seed))
        with torch.no_grad():
            contexts = [(self.context(part).cpu(), grid_positions(*part.grid)) for part in seen]
        self.model.cpu()
        explained = point_latents(self.model, contexts)
        self.model.to(self.device)
        print(f"latents point at their cells; keys explain {explained:.2f} of the place", flush=True)  # noqa: T201


def scale_rates(lesson: Lesson, step: int, steps: int) -> float:
    """Return by what the rates of a lesson's step are multiplied, 0 to 1: they rise, stay, and sink."""
    part, last = _DECAYS.get(lesson, (1.0, 1.0))
    return min(1, (step + 1) / _WARM_UP_STEPS, last + (1 - last) * (1 - step / steps) / part)


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


def _mean_per_answer(losses: Tensor, numbers: Tensor) -> Tensor:
    """Average the losses of tokens; those of an answer weigh together as the root of their number."""
    weights = torch.bincount(numbers)[numbers].float().rsqrt()
    return (losses * weights).sum() / weights.sum()


def _count_right(kinds: list[str], is_right: Tensor, numbers: Tensor) -> dict[str, float]:
    """Return the share of answers of which every token is right, by kind of question and of all."""
    num_wrong = torch.zeros(len(kinds), device=is_right.device).index_add_(0, numbers, (~is_right).float())
    right: dict[str, list[bool]] = defaultdict(list)
    for kind, whole in zip(kinds, (num_wrong == 0).tolist(), strict=True):
        right[f"right {kind}"].append(whole)
        right["right all"].append(whole)
    return {name: float(np.mean(values)) for name, values in right.items()}
