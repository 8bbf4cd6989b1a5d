"""Whoever comes and goes: slots have no holes, who came first is first, and steps are bounded."""

from __future__ import annotations

import math
import random
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from idefics2_engine.image_cache import SeenImage
from idefics2_engine.images import Crop
from idefics2_engine.prefix_cache import BLOCK_TOKENS
from idefics2_engine.processor import PreparedRequest
from idefics2_engine.requests import SamplingParams
from idefics2_engine.scheduler import BLOCKS_PER_TOKEN, Plan, Scheduler
from idefics2_engine.sequence import CropSpan, Sequence

if TYPE_CHECKING:
    from collections.abc import Iterable

NUM_LATENTS = 4


def make_image(*num_patches: int) -> SeenImage:
    """Make an image of crops that are decoded and have so many patches."""
    image = SeenImage(b"key", len(num_patches))
    image.decoding = Future()
    image.decoding.set_result([Crop((1, count), np.zeros((count, 3), np.uint8)) for count in num_patches])
    return image


def make_sequence(number: int, parts: Iterable[int | SeenImage], num_known: int = 0) -> Sequence:
    """Make a sequence whose prompt is made of so many words, or of an image's tokens."""
    num_tokens, spans = 0, []
    for part in parts:
        if isinstance(part, int):
            num_tokens += part
        else:
            for crop in range(len(part.hidden_states)):
                spans.append(CropSpan(part, crop, num_tokens))
                num_tokens += NUM_LATENTS
    prepared = PreparedRequest(
        request_id=f"{number}",
        sampling=SamplingParams(),
        token_ids=[7] * num_tokens,
        spans=tuple(spans),
        num_latents=NUM_LATENTS,
        num_image_tokens=0,
        num_cached_images=0,
        prefix_keys=[],
        seconds={},
    )
    nobody: Any = None  # no text is made here
    sequence = Sequence(prepared, number, nobody)
    sequence.num_read_tokens = num_known
    return sequence


def take_nothing_over(_: Sequence, __: int) -> int:
    """Know nothing of any prompt."""
    return 0


@dataclass
class Known:
    """What is known of prompts, and how much of it was taken over."""

    num_blocks: dict[Sequence, int] = field(default_factory=dict)
    num_taken: int = 0
    """Blocks, in this step."""
    num_tokens: int = 0
    """As which they count."""

    def take_over(self, sequence: Sequence, max_blocks: int) -> int:
        """As the engine does."""
        first = sequence.num_read_tokens // BLOCK_TOKENS
        num_taken = min(self.num_blocks.get(sequence, 0) - first, max_blocks)
        if num_taken <= 0:
            return 0
        sequence.num_read_tokens = (first + num_taken) * BLOCK_TOKENS
        self.num_taken += num_taken
        self.num_tokens += math.ceil(num_taken / BLOCKS_PER_TOKEN)
        return num_taken

    def plan(self, scheduler: Scheduler) -> Plan:
        """Plan a step."""
        self.num_taken = self.num_tokens = 0
        return scheduler.plan(self.take_over)


def admit(scheduler: Scheduler, *sequences: Sequence) -> None:
    """Let sequences join that have room."""
    for sequence in sequences:
        scheduler.add(sequence)
        assert scheduler.admit() is sequence


def do(plan: Plan) -> None:
    """Do a step as the engine does."""
    for span in plan.crops:
        span.image.add(span.number, torch.zeros(1))
    for sequence, count in [*((sequence, 1) for sequence in plan.decoding), *plan.reading]:
        sequence.num_read_tokens += count
        if sequence.is_decoding:
            sequence.token_ids.append(7)


def remove(scheduler: Scheduler, sequence: Sequence) -> None:
    """Let a sequence leave, as the engine does."""
    moved = scheduler.remove(sequence)
    if moved is not None:
        moved.slot = sequence.slot


def is_held_up(sequence: Sequence, count: int, plan: Plan, max_patches: int) -> bool:
    """Tell whether a sequence reads up to a crop for which this step has no room."""
    left = max_patches - sum(span.num_patches for span in plan.crops)
    spans = sequence.find_unseen(sequence.num_read_tokens + count + 1)
    return any(span not in plan.crops and span.num_patches > left for span in spans)


@dataclass
class Crowd:
    """Sequences that come and go, and the checks of every plan that is made for them."""

    draw: random.Random
    max_tokens: int
    max_patches: int
    num_slots: int
    scheduler: Scheduler = field(init=False)
    images: list[SeenImage] = field(default_factory=list)
    known: Known = field(default_factory=Known)
    num_made: int = 0
    admitted: list[int] = field(default_factory=list)
    left_waiting: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Begin with nobody."""
        self.scheduler = Scheduler(self.num_slots, self.max_tokens, self.max_patches)

    def come(self) -> None:
        """Let somebody come, with images of his own or those of others, some of it read before, or known."""
        draw = self.draw
        parts: list[int | SeenImage] = [draw.randint(1, 5)]
        for _ in range(draw.choice((0, 1, 1, 3))):
            if not self.images or draw.random() < 0.6:
                self.images.append(make_image(*draw.choices((1, 10, 49, 50, 51, 200), k=draw.choice((1, 5)))))
            parts += [draw.choice(self.images[-5:]), draw.randint(0, 9)]
        sequence = make_sequence(self.num_made, [*parts, draw.choice((1, 1, 30, 100))])
        sequence.num_read_tokens = draw.choice((0, 0, draw.randrange(sequence.num_prompt_tokens)))
        self.known.num_blocks[sequence] = draw.choice((0, (sequence.num_prompt_tokens - 1) // BLOCK_TOKENS))
        self.num_made += 1
        self.scheduler.add(sequence)

    def leave(self) -> None:
        """Let somebody leave, wherever he stands."""
        sequence = self.draw.choice([*self.scheduler.running, *self.scheduler.waiting])
        if sequence in self.scheduler.waiting:
            self.left_waiting.add(sequence.number)
        remove(self.scheduler, sequence)
        assert self.scheduler.find(sequence.request_id) is None

    def step(self) -> None:
        """Admit, plan, check, do."""
        while (sequence := self.scheduler.admit()) is not None:
            self.admitted.append(sequence.number)
        assert [each.slot for each in self.scheduler.running] == list(range(len(self.scheduler.running)))
        assert not self.scheduler.waiting or len(self.scheduler.running) == self.num_slots
        plan = self.known.plan(self.scheduler)
        self.check_bounds(plan)
        self.check_order(plan)
        do(plan)

    def check_bounds(self, plan: Plan) -> None:
        assert self.known.num_tokens + sum(count for _, count in plan.reading) <= self.max_tokens
        patches = [span.num_patches for span in plan.crops]
        assert sum(patches) <= self.max_patches or len(patches) == 1
        assert len(set(plan.crops)) == len(plan.crops)
        assert not any(span.is_seen for span in plan.crops)

    def check_order(self, plan: Plan) -> None:
        running = self.scheduler.running
        assert plan.decoding == [sequence for sequence in running if sequence.is_decoding]
        in_line = sorted((s for s in running if not s.is_decoding), key=lambda s: s.number)
        counts = {sequence: count for sequence, count in plan.reading}  # noqa: C416  # by identity
        tokens_are_left = self.known.num_tokens + sum(counts.values()) < self.max_tokens
        if in_line and (counts or tokens_are_left):
            assert plan.reading[0][0] is in_line[0]  # so nobody waits for ever
        for sequence, count in plan.reading:
            end = sequence.num_read_tokens + count
            assert 1 <= count <= sequence.num_prompt_tokens - sequence.num_read_tokens
            assert all(span.is_seen or span in plan.crops for span in sequence.find_shown(end))
        for sequence in in_line:
            count = counts.get(sequence, 0)
            is_read = sequence.num_read_tokens + count == sequence.num_prompt_tokens
            assert is_read or not tokens_are_left or is_held_up(sequence, count, plan, self.max_patches)


@pytest.mark.parametrize("max_tokens", [1, 7, 64, 1000])
@pytest.mark.parametrize("max_patches", [1, 50, 120])
def test_whoever_comes_and_goes_every_step_is_bounded_and_just(max_tokens: int, max_patches: int) -> None:
    draw = random.Random(max_tokens * max_patches)  # noqa: S311  # not a secret
    crowd = Crowd(draw, max_tokens, max_patches, num_slots=6)
    for _ in range(400):
        if draw.random() < 0.3:
            crowd.come()
        if draw.random() < 0.2 and not crowd.scheduler.is_idle:
            crowd.leave()
        crowd.step()
    while not crowd.scheduler.is_idle:
        for sequence in [each for each in crowd.scheduler.running if each.is_decoding]:
            remove(crowd.scheduler, sequence)
        crowd.step()
    assert crowd.admitted == [n for n in range(crowd.num_made) if n not in crowd.left_waiting]
    assert crowd.num_made > 80


def test_who_waits_gets_a_slot_in_the_order_of_coming_and_only_if_one_is_free() -> None:
    scheduler = Scheduler(2, 100, 100)
    sequences = [make_sequence(number, [5]) for number in range(4)]
    for sequence in sequences:
        scheduler.add(sequence)
    assert [scheduler.admit() for _ in range(3)] == [*sequences[:2], None]
    remove(scheduler, sequences[0])
    assert sequences[1].slot == 0
    assert scheduler.admit() is sequences[2]
    assert scheduler.running == sequences[1:3]
    assert [sequence.slot for sequence in scheduler.running] == [0, 1]


def test_a_prompt_is_read_in_stretches_while_the_others_go_on_decoding() -> None:
    scheduler = Scheduler(8, 10, 100)
    decoding, long = make_sequence(0, [1]), make_sequence(1, [25])
    admit(scheduler, decoding, long)
    counts = []
    while not long.is_decoding:
        plan = scheduler.plan(take_nothing_over)
        assert plan.decoding == ([decoding] if decoding.is_decoding else [])
        counts += [count for sequence, count in plan.reading if sequence is long]
        do(plan)
    assert counts == [9, 10, 6]
    assert scheduler.plan(take_nothing_over) == Plan(decoding=[decoding, long])


def test_tokens_go_to_who_came_first_and_the_rest_to_who_came_next() -> None:
    scheduler = Scheduler(8, 10, 100)
    sequences = [make_sequence(number, [6]) for number in range(3)]
    admit(scheduler, *sequences)
    assert scheduler.plan(take_nothing_over).reading == [(sequences[0], 6), (sequences[1], 4)]


def test_what_is_known_is_taken_over_in_its_turn_and_counts_as_tokens_that_are_read() -> None:
    scheduler = Scheduler(8, 10, 100)
    first, second, third = (make_sequence(number, [8 * BLOCK_TOKENS + 3]) for number in range(3))
    known = Known({first: 8, second: 8, third: 8})
    admit(scheduler, first, second, third)
    taken, read = [], []
    while not third.is_decoding:
        plan = known.plan(scheduler)
        taken.append(known.num_taken)
        read.append([(sequence.number, count) for sequence, count in plan.reading])
        do(plan)
    assert taken == [8 + 6, 2 + 8, 0]  # 4 tokens, 3 to read, 3 tokens; 1, 3 to read, 4, 2 to read
    assert read == [[(0, 3)], [(1, 3), (2, 2)], [(2, 1)]]


def test_a_crop_is_not_looked_at_in_a_step_that_takes_over_what_stands_before_it() -> None:
    scheduler = Scheduler(8, 1, 100)
    sequence = make_sequence(0, [2 * BLOCK_TOKENS - 1, make_image(5), 3])
    known = Known({sequence: 2})
    admit(scheduler, sequence)
    assert known.plan(scheduler) == Plan()
    assert [span.start for span in known.plan(scheduler).crops] == [2 * BLOCK_TOKENS - 1]


def test_who_came_first_is_first_in_whatever_slot() -> None:
    scheduler = Scheduler(3, 10, 100)
    sequences = [make_sequence(number, [20]) for number in range(4)]
    admit(scheduler, *sequences[:3])
    remove(scheduler, sequences[0])  # the third one moves before the second
    admit(scheduler, sequences[3])
    assert [sequence.number for sequence in scheduler.running] == [2, 1, 3]
    assert scheduler.plan(take_nothing_over).reading == [(sequences[1], 10)]


def test_a_crop_larger_than_a_step_is_looked_at_alone() -> None:
    scheduler = Scheduler(8, 1000, 50)
    sequence = make_sequence(0, [2, make_image(500, 500), 3])
    admit(scheduler, sequence)
    crops, counts = [], []
    while not sequence.is_decoding:
        plan = scheduler.plan(take_nothing_over)
        crops.append([span.number for span in plan.crops])
        counts += [count for _, count in plan.reading]
        do(plan)
    assert crops == [[0], [1]]
    assert counts == [2 + NUM_LATENTS, NUM_LATENTS + 3]


def test_who_waits_for_a_large_crop_lets_those_pass_who_need_none() -> None:
    scheduler = Scheduler(8, 1000, 50)
    seen = make_image(10)
    first, second = make_sequence(0, [1, make_image(50), 1]), make_sequence(1, [2, make_image(50), 3])
    third, fourth = make_sequence(2, [8]), make_sequence(3, [1, seen, 1])
    do(Plan(crops=list(fourth.spans)))
    admit(scheduler, first, second, third, fourth)
    plan = scheduler.plan(take_nothing_over)
    assert plan.crops == list(first.spans)
    assert [count for _, count in plan.reading] == [first.num_prompt_tokens, 2, 8, fourth.num_prompt_tokens]


def test_crops_are_looked_at_when_their_tokens_are_read_and_not_before() -> None:
    scheduler = Scheduler(8, 10, 1000)
    sequence = make_sequence(0, [10, make_image(5), 3, make_image(5, 5), 3])
    admit(scheduler, sequence)
    crops = []
    while not sequence.is_decoding:
        plan = scheduler.plan(take_nothing_over)
        crops.append([span.start for span in plan.crops])
        do(plan)
    assert crops == [[], [10, 17], [21]]


def test_a_crop_that_several_show_is_looked_at_once() -> None:
    scheduler = Scheduler(8, 1000, 100)
    image = make_image(60, 40)
    sequences = [make_sequence(number, [1 + number, image, 3]) for number in range(3)]
    admit(scheduler, *sequences, make_sequence(3, [1, image, image, 1]))
    plan = scheduler.plan(take_nothing_over)
    assert [(span.image, span.number) for span in plan.crops] == [(image, 0), (image, 1)]
    assert [sequence for sequence, _ in plan.reading] == scheduler.running
    do(plan)
    assert all(sequence.is_decoding for sequence in scheduler.running)
    assert scheduler.plan(take_nothing_over).crops == []


def test_only_the_crops_after_what_is_known_are_looked_at() -> None:
    scheduler = Scheduler(8, 1000, 100)
    image = make_image(1, 1, 1)
    sequence = make_sequence(0, [2, image, 2], num_known=2 + NUM_LATENTS + 1)  # within the second
    admit(scheduler, sequence)
    assert [span.number for span in scheduler.plan(take_nothing_over).crops] == [1, 2]


def test_who_is_asked_for_is_found_wherever_he_stands() -> None:
    scheduler = Scheduler(1, 10, 10)
    runs, waits = make_sequence(0, [1]), make_sequence(1, [1])
    admit(scheduler, runs)
    scheduler.add(waits)
    assert [scheduler.find(name) for name in ("0", "1", "2")] == [runs, waits, None]
    assert scheduler.remove(waits) is None
    assert not scheduler.is_idle
    assert scheduler.remove(runs) is None
    assert scheduler.is_idle
