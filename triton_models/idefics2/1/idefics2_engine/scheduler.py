"""Who does what in the next step."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idefics2_engine.sequence import CropSpan, Sequence

BLOCKS_PER_TOKEN = 2
"""Known blocks that are copied sooner than one token is read, even into memory that was never touched."""

TakeOver = Callable[["Sequence", int], int]
"""Copies up to so many known blocks of a sequence's prompt into its slot, and returns how many it did."""


@dataclass
class Plan:
    """One step: crops to look at, parts of prompts to read, tokens to make."""

    crops: list[CropSpan] = field(default_factory=list)
    decoding: list[Sequence] = field(default_factory=list)
    """In the order of their slots."""
    reading: list[tuple[Sequence, int]] = field(default_factory=list)
    """Sequences and how many more tokens of its prompt each reads, 1 or more."""


class Scheduler:
    """First come, first served: `running[i]` owns slot i, and who runs makes a token in every step.

    What a step does beside that is bounded, so that a long prompt or a large image holds up running answers
    for no longer than one step: `max_step_tokens` of prompts and `max_step_patches` of images, but always
    at least one crop. What is taken over counts as tokens, too, `BLOCKS_PER_TOKEN` as one.
    """

    def __init__(self, num_slots: int, max_step_tokens: int, max_step_patches: int) -> None:
        """Begin with nobody."""
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._num_slots = num_slots
        self._max_step_tokens, self._max_step_patches = max_step_tokens, max_step_patches

    def add(self, sequence: Sequence) -> None:
        """Let `sequence` wait."""
        self.waiting.append(sequence)

    def admit(self) -> Sequence | None:
        """Give a free slot to who waits longest; None if there is no slot, or nobody waits."""
        if not self.waiting or len(self.running) == self._num_slots:
            return None
        sequence = self.waiting.popleft()
        sequence.slot = len(self.running)
        self.running.append(sequence)
        return sequence

    def plan(self, take_over: TakeOver) -> Plan:
        """Plan a step: all who decode do; prompts are read in the order in which they came.

        What is known of a prompt is taken over now, when its turn comes: the plan is made for the rest.
        """
        plan = Plan(decoding=[sequence for sequence in self.running if sequence.is_decoding])
        tokens, patches = self._max_step_tokens, self._max_step_patches
        reading = [sequence for sequence in self.running if not sequence.is_decoding]
        for sequence in sorted(reading, key=lambda sequence: sequence.number):
            tokens -= math.ceil(take_over(sequence, tokens * BLOCKS_PER_TOKEN) / BLOCKS_PER_TOKEN)
            if not tokens:
                break
            end = min(sequence.num_prompt_tokens, sequence.num_read_tokens + tokens)
            for span in sequence.find_unseen(end):
                if span not in plan.crops:  # two sequences may show the same image
                    if plan.crops and span.num_patches > patches:
                        end = span.start
                        break
                    plan.crops.append(span)
                    patches -= span.num_patches
            if end > sequence.num_read_tokens:
                plan.reading.append((sequence, end - sequence.num_read_tokens))
                tokens -= end - sequence.num_read_tokens
        return plan

    def remove(self, sequence: Sequence) -> Sequence | None:
        """Forget a sequence; return the one that has to move into its slot, if one has to."""
        if sequence in self.waiting:
            self.waiting.remove(sequence)
            return None
        last = self.running.pop()
        if last is sequence:
            return None
        self.running[sequence.slot] = last
        return last

    def find(self, request_id: str) -> Sequence | None:
        """Find a sequence, wherever it stands."""
        everybody = (*self.running, *self.waiting)
        return next((sequence for sequence in everybody if sequence.request_id == request_id), None)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.waiting and not self.running
