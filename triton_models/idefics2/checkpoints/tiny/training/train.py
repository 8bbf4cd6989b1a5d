"""Trains the checkpoint: first to see, then to answer."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from training import pool, tokens
from training.batches import Batch, Seen, Writer
from training.descent import Descent, GraphedDescent
from training.feed import Looks, Steps, count_workers, feed
from training.first import begin_with
from training.learner import Kind, Learner, describe
from training.model import grid_positions, point_latents
from training.plan import Lesson, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from training.pool import Pool

REPORT_STEPS = 50
SAVE_STEPS = 500
_NUM_POINTING = 400
"""Pictures by which the latents learn where to look."""
# Muon's for matrices, AdamW's for all else.
_SEEING_RATES = (0.016, 1e-3)
_RATES = {
    Lesson.ANSWERS: (0.01, 1e-3),
    Lesson.TOGETHER: (0.004, 4e-4),
    Lesson.LONGER: (0.006, 6e-4),
    Lesson.RELATIONS: (0.006, 6e-4),
    Lesson.AGAIN: (0.006, 6e-4),
}
_WARM_UP_STEPS = 50
_LATENTS = "model.connector.perceiver_resampler.latents"
_DECAYS = {
    Lesson.PLACES: (0.4, 0.1),
    Lesson.ANSWERS: (0.4, 0.4),
    Lesson.TOGETHER: (1.0, 0.0),
    Lesson.LONGER: (1.0, 0.0),
    Lesson.AGAIN: (0.8, 0.0),
}
"""Over which last part of a lesson the rates sink, and to what: it is worth more than longer learning."""


class Trainer:
    """A model that learns, and all that is needed to go on after a break."""

    def __init__(self, plan: Plan, examples: Pool, folder: Path, first: Path | None = None) -> None:
        """Start where `folder` says that training stopped; or anew, with the weights of `first` if given."""
        torch.manual_seed(plan.seed)
        self.plan, self.folder = plan, folder
        self._pool = examples
        self.writer = Writer(examples, tokens.load(folder / "tokenizer"))
        self._file = folder / "state.pt"
        state = torch.load(self._file, map_location="cpu", weights_only=True) if self._file.exists() else {}
        self.step: int = state.get("step", 0)
        on_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda" if on_gpu else "cpu")
        self.workers = count_workers() if on_gpu else 0
        # Before anything is on the GPU: its driver's memory is nothing to share.
        steps = Steps(plan, examples, self.writer)
        self._batches = feed(steps, range(self.step, plan.num_steps), self.workers)
        self.learner = Learner(self.device)
        self.descent = GraphedDescent(self.learner) if on_gpu else Descent(self.learner)
        if on_gpu:
            torch.backends.cuda.enable_cudnn_sdp(enabled=False)  # it would build a kernel for each shape
        if state:
            self.learner.model.load_state_dict(state["model"])
            self.learner.heads.load_state_dict(state["heads"])
            self.descent.load_state_dict(state["optimizers"])
        left: list[str] = [_LATENTS]
        if first and not state:
            left = begin_with(first, self.learner)
            print(f"begins with {first.name}" + (f", but for {', '.join(left)}" if left else ""), flush=True)  # noqa: T201
        self._knows_cells = _LATENTS not in left

    def describe_device(self) -> str:
        """Tell where it trains."""
        if self.device.type == "cpu":
            return f"the CPU, in {torch.get_num_threads()} threads"
        return f"{torch.cuda.get_device_name()}, for which {self.workers} processes write"

    def run(self) -> Iterator[dict[str, float]]:
        """Train to the end; yield a report every so many steps."""
        told: list[Tensor] = []
        begun = time.monotonic()
        for batch in self.batches():
            told.append(self.learn(batch))
            is_last = self.step == self.plan.num_steps
            if is_last or self.step % REPORT_STEPS == 0:
                means = {name: round(value, 4) for name, value in sorted(describe(told).items())}
                line = {"step": self.step, "seconds": round((time.monotonic() - begun), 1), **means}
                with (self.folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps(line) + "\n")
                told.clear()
                begun = time.monotonic()
                yield line
            if is_last or self.step % SAVE_STEPS == 0:
                self.save()

    def save(self) -> None:
        """Write all that training needs to go on."""
        state = {
            "step": self.step,
            "model": self.learner.model.state_dict(),
            "heads": self.learner.heads.state_dict(),
            "optimizers": self.descent.state_dict(),
        }
        unfinished = self._file.with_suffix(".new")
        torch.save(state, unfinished)
        unfinished.rename(self._file)

    def batches(self) -> Iterator[Batch | list[Seen]]:
        """Return what the coming steps learn from, each once."""
        return self._batches

    def learn(self, batch: Batch | list[Seen]) -> Tensor:
        """Take one step; return [num_figures], what it tells, as `describe` reads it."""
        lesson, number, steps = self.plan.find(self.step)
        if lesson is Lesson.PLACES and number == 0 and not self._knows_cells:
            self._point_latents()
        if lesson.remembers and (number == 0 or self.learner.memory is None):
            looks_anew = number == 0 and not (self.step and self.plan.find(self.step - 1)[0].remembers)
            self._remember(again=looks_anew)
        factor = scale_rates(lesson, number, steps)
        self.descent.set_rates([rate * factor for rate in _RATES.get(lesson, _SEEING_RATES)])
        parts = batch if isinstance(batch, list) else [batch]
        figures = self.descent.take(Kind.of(lesson, parts[0]), parts)
        self.step += 1
        return figures

    def _remember(self, *, again: bool) -> None:
        """Keep what the latents say of each picture of the pool, as the learner's memory.

        Args:
            again: look at them, though there is a file that was kept.

        """
        file = self.folder / "memory.npy"
        if again or not file.exists():
            self._look_at_all(file)
        kept = torch.from_numpy(np.load(file))
        if self.learner.memory is None:
            self.learner.memory = kept.to(self.device)
        else:
            self.learner.memory.copy_(kept)  # in its place: recorded steps know no other

    def _look_at_all(self, file: Path) -> None:
        """Write [num_pictures, num_slots, hidden] float16."""
        size = (self._pool.num_pictures, pool.SIDE**2, self.learner.heads.of_slots.in_features)
        kept = torch.zeros(size, dtype=torch.float16, device=self.device)
        looks = Looks(self.plan.seed, self._pool, self.writer)
        with torch.no_grad(), self.learner.low_precision():
            for numbers, pixels in feed(looks, range(len(looks)), self.workers):
                seen = self.learner.context(pixels.to(self.device, non_blocking=True))
                kept[numbers.to(self.device, non_blocking=True)] = self.learner.latents(seen).half()
        unfinished = file.with_suffix(".new.npy")
        np.save(unfinished, kept.cpu().numpy())
        unfinished.rename(file)

    def _point_latents(self) -> None:
        """Let the latents look at their cells, by what the vision tower tells of some pictures."""
        rng, size = np.random.default_rng([self.plan.seed, 3]), self.plan.chunk
        chunks = self._pool.epoch(rng, size)[: -(-_NUM_POINTING // size)]
        seen = self.writer.see(chunks, np.random.default_rng(self.plan.seed))
        with torch.no_grad():
            contexts = [
                (
                    self.learner.context(part.pixels.to(self.device)).cpu(),
                    grid_positions(*Seen.count_patches(part.pixels)),
                )
                for part in seen
            ]
        explained = point_latents(self.learner.model, contexts)
        print(f"latents point at their cells; keys explain {explained:.2f} of the place", flush=True)  # noqa: T201


def scale_rates(lesson: Lesson, step: int, steps: int) -> float:
    """Return by what the rates of a lesson's step are multiplied, 0 to 1: they rise, stay, and sink."""
    part, last = _DECAYS.get(lesson, (1.0, 1.0))
    return min(1, (step + 1) / _WARM_UP_STEPS, last + (1 - last) * (1 - step / steps) / part)
