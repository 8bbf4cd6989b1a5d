"""Our engine, step by step: its own rules say who does what, a profile how long it takes.

Steps in which nothing but decoding happens are counted together, up to the next end of an answer: they
take a fraction of the time to simulate and give the same figures.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.fleet.caches import BLOCK_TOKENS, ImageCache, PrefixCache
from bench.fleet.pictures import count_crops, count_image_tokens, place_crops
from idefics2_engine.scheduler import BLOCKS_PER_TOKEN

if TYPE_CHECKING:
    from bench.fleet.caches import SeenImage
    from bench.fleet.profile import Profile
    from bench.fleet.traffic import Ask


@dataclass(eq=False, slots=True)
class Sequence:
    """One request on its way through the engine."""

    ask: Ask
    image: SeenImage
    starts: tuple[int, ...]
    """Where each crop begins in the prompt."""
    num_image_tokens: int
    """With what stands before them."""
    num_prompt_tokens: int
    num_read: int = 0

    @property
    def is_read(self) -> bool:
        """Whether it makes a token in every step."""
        return self.num_read >= self.num_prompt_tokens


@dataclass(frozen=True, slots=True)
class Stretch:
    """One step, or many alike."""

    num_steps: int
    seconds: float
    first_seconds: float
    """Of the first step."""
    growth: float
    """How much longer each further step takes than the one before."""

    def cut(self, elapsed: float) -> Stretch:
        """Shorten it to the end of the step that runs after so many seconds."""
        # Seconds of n steps: n * first + growth * n (n - 1) / 2.
        half = self.growth / 2
        linear = self.first_seconds - half
        n = (
            elapsed / linear
            if half == 0
            else (math.sqrt(linear**2 + 4 * half * elapsed) - linear) / (2 * half)
        )
        return self.shorten(min(self.num_steps, max(1, math.ceil(n - 1e-9))))

    def shorten(self, num_steps: int) -> Stretch:
        """Return its first steps."""
        seconds = num_steps * self.first_seconds + self.growth * num_steps * (num_steps - 1) / 2
        return Stretch(num_steps, seconds, self.first_seconds, self.growth)


@dataclass(frozen=True)
class Progress:
    """What a stretch brought about."""

    begun: list[Sequence]
    """Had their first token."""
    ended: list[Sequence]


class Engine:
    """`plan` a stretch, wait for it, `finish` it; in between, requests may be added."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self.images = ImageCache(profile.image_cache_crops)
        self._prefixes = PrefixCache(profile.prefix_cache_tokens)
        self.waiting: deque[Sequence] = deque()
        self._reading: list[Sequence] = []
        self._decoding: list[tuple[int, int, Sequence]] = []
        """A heap: by the step in which each makes its last token."""
        self._step = 0
        self._context = 0
        """Tokens that all who decode look back at."""
        self._parts: list[tuple[Sequence, int]] = []
        """Of prompts, that the stretch reads."""

    def prepare(self, ask: Ask) -> Sequence:
        """Make of a request what joins the engine."""
        profile = self._profile
        crops = count_crops(ask.picture, profile.sizing)
        starts = place_crops(len(crops), profile.num_latents)
        num_image_tokens = count_image_tokens(len(crops), profile.num_latents)
        image = self.images.find(ask, crops)
        before = starts[0] - 1
        return Sequence(ask, image, starts, before + num_image_tokens, num_image_tokens + ask.num_text_tokens)

    def add(self, sequence: Sequence) -> None:
        """Let a request wait for a slot."""
        self.waiting.append(sequence)

    @property
    def num_decoding(self) -> int:
        """Sequences that make a token in every step."""
        return len(self._decoding)

    @property
    def num_running(self) -> int:
        """Slots that are taken."""
        return len(self._reading) + len(self._decoding)

    @property
    def is_idle(self) -> bool:
        """Whether a step would do nothing."""
        return not self.waiting and not self.num_running

    def plan(self) -> tuple[Stretch, list[Sequence]]:
        """Admit who fits, and plan what is next; return it with those who were admitted."""
        admitted = self._admit()
        crops = self._plan_reading()
        num_decoding = len(self._decoding)
        if self._parts:
            num_tokens = num_decoding + sum(count for _, count in self._parts)
            seconds = self._profile.step_seconds(num_tokens, self._context, reads=True)
            seconds += self._profile.seconds_to_look(crops)
            return Stretch(1, seconds, seconds, 0.0), admitted
        first = self._profile.step_seconds(num_decoding, self._context)
        growth = num_decoding * self._profile.context_seconds
        return Stretch(1, first, first, growth).shorten(self._decoding[0][0] - self._step), admitted

    def finish(self, stretch: Stretch) -> Progress:
        """Count a stretch as done."""
        self._step += stretch.num_steps
        self._context += len(self._decoding) * stretch.num_steps
        ended = self._end_answers()
        for sequence, count in self._parts:
            sequence.num_read += count
        begun = [sequence for sequence, _ in self._parts if sequence.is_read]
        for sequence in begun:
            ended += self._begin_answer(sequence)
        self._parts = []
        return Progress(begun, ended)

    def _admit(self) -> list[Sequence]:
        admitted = []
        while self.waiting and self.num_running < self._profile.num_slots:
            sequence = self.waiting.popleft()
            self._reading.append(sequence)
            admitted.append(sequence)
        return admitted

    def _take_over(self, sequence: Sequence, max_blocks: int) -> int:
        """Count as read what is known of a prompt, up to so many blocks; return how many."""
        known = self._prefixes.count(sequence.ask, sequence.num_image_tokens, sequence.num_prompt_tokens)
        first = sequence.num_read // BLOCK_TOKENS
        num_blocks = min(known // BLOCK_TOKENS - first, max_blocks)
        if num_blocks <= 0:
            return 0
        sequence.num_read = (first + num_blocks) * BLOCK_TOKENS
        return num_blocks

    def _plan_reading(self) -> list[int]:
        """Share out the step's budgets, first come, first served; return the patches of crops to look at."""
        tokens, patches = self._profile.max_step_tokens, self._profile.max_step_patches
        looked: list[int] = []
        for sequence in self._reading:
            tokens -= math.ceil(self._take_over(sequence, tokens * BLOCKS_PER_TOKEN) / BLOCKS_PER_TOKEN)
            if not tokens:
                break
            end = min(sequence.num_prompt_tokens, sequence.num_read + tokens)
            image = sequence.image
            while not image.is_encoded and (start := sequence.starts[image.num_seen]) < end:
                if start + self._profile.num_latents > sequence.num_read:
                    crop = image.crops[image.num_seen]
                    if looked and crop > patches:
                        end = start
                        break
                    looked.append(crop)
                    patches -= crop
                image.num_seen += 1
            if end > sequence.num_read:
                self._parts.append((sequence, end - sequence.num_read))
                tokens -= end - sequence.num_read
        return looked

    def _begin_answer(self, sequence: Sequence) -> list[Sequence]:
        """Count the first token; return the sequence if it is the last one, too."""
        self._prefixes.store(sequence.ask, sequence.num_image_tokens, sequence.num_prompt_tokens)
        self._reading.remove(sequence)
        if sequence.ask.num_new_tokens == 1:
            return [sequence]
        last_step = self._step + sequence.ask.num_new_tokens - 1
        heapq.heappush(self._decoding, (last_step, sequence.ask.number, sequence))
        self._context += sequence.num_prompt_tokens + 1
        return []

    def _end_answers(self) -> list[Sequence]:
        ended = []
        while self._decoding and self._decoding[0][0] <= self._step:
            sequence = heapq.heappop(self._decoding)[2]
            self._context -= sequence.num_prompt_tokens + sequence.ask.num_new_tokens
            ended.append(sequence)
        return ended
