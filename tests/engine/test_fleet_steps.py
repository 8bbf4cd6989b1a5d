"""The simulated engine of tests/bench/fleet does in each step what the real one does."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from bench.fleet.callers import DESCRIBE_TOKENS, write_question
from bench.fleet.engine import Engine as SimulatedEngine
from bench.fleet.pictures import Picture
from bench.fleet.profile import read_profile
from bench.fleet.traffic import Ask
from idefics2_engine.requests import Request, SamplingParams
from pictures import encode
from PIL import Image

if TYPE_CHECKING:
    from idefics2_engine.engine import Engine
    from idefics2_engine.scheduler import Plan, TakeOver

Step = tuple[int, int, tuple[int, ...]]
"""Sequences that decode, tokens of prompts that are read, and patches of each crop that is looked at."""
WHOLE = Picture(200, 150, split=False, num_bytes=0)
SPLIT = Picture(300, 100, split=True, num_bytes=0)


def ask(number: int, picture: Picture, image: int, question: int, num_text: int, num_new: int) -> Ask:
    """Ask at once."""
    return Ask(number, 0.0, picture, image, question, num_text, num_new)


CROWD = [
    ask(0, SPLIT, 0, 0, 40, 9),
    ask(1, SPLIT, 1, 1, 200, 1),
    ask(2, WHOLE, 2, 2, 30, 30),
    ask(3, WHOLE, 2, 3, 64, 5),
    ask(4, SPLIT, 4, 4, 300, 12),
    ask(5, WHOLE, 2, 2, 30, 7),
    ask(6, SPLIT, 6, 5, 90, 3),
]
AGAIN = [
    ask(7, SPLIT, 1, 1, 200, 4),
    ask(8, WHOLE, 2, 6, 50, 4),
    ask(9, SPLIT, 9, 9, 20, 4),
]


@pytest.mark.parametrize("max_patches", [9_800, 100])
def test_each_step_looks_at_reads_and_makes_as_much(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, max_patches: int
) -> None:
    monkeypatch.setattr(engine.scheduler, "_max_step_patches", max_patches)
    profile = dataclasses.replace(read_profile("tiny_guess").profile, max_step_patches=max_patches)
    simulated = SimulatedEngine(profile)
    for asks in (CROWD, AGAIN):
        assert simulate_steps(simulated, asks) == record_steps(engine, monkeypatch, asks)


def record_steps(engine: Engine, monkeypatch: pytest.MonkeyPatch, asks: list[Ask]) -> list[Step]:
    """Let the real engine answer, and write down what each step was planned to do."""
    steps: list[Step] = []
    plan = type(engine.scheduler).plan

    def record(take_over: TakeOver) -> Plan:
        made = plan(engine.scheduler, take_over)
        patches = tuple(sorted(span.num_patches for span in made.crops))
        steps.append((len(made.decoding), sum(count for _, count in made.reading), patches))
        return made

    monkeypatch.setattr(engine.scheduler, "plan", record)
    for one in asks:
        engine.add(engine.processor.prepare(write_request(one)))
    while not engine.is_idle:
        list(engine.step())
    return steps


def write_request(one: Ask) -> Request:
    """Write what the real engine takes."""
    size = one.picture.width, one.picture.height
    picture = encode(Image.new("RGB", size, (one.image * 20, 80, 90)))
    sampling = SamplingParams(
        max_new_tokens=one.num_new_tokens, min_new_tokens=one.num_new_tokens, temperature=0
    )
    words = write_question(one.question, one.num_text_tokens)
    return Request(f"{one.number}", words, (picture,), sampling, split_images=one.picture.split)


def simulate_steps(simulated: SimulatedEngine, asks: list[Ask]) -> list[Step]:
    """Let the simulated engine answer."""
    steps: list[Step] = []
    for one in asks:
        simulated.add(simulated.prepare(one))
    while not simulated.is_idle:
        seen = {id(image): image.num_seen for image in simulated.images.all}
        stretch, _ = simulated.plan()
        looked = [
            patches
            for image in simulated.images.all
            for patches in image.crops[seen[id(image)] : image.num_seen]
        ]
        num_read = sum(count for _, count in simulated._parts)
        step = (len(simulated._decoding), num_read, tuple(sorted(looked)))
        steps += [step] * stretch.num_steps
        simulated.finish(stretch)
    return steps


def test_words_are_as_many_tokens_as_they_are_said_to_be(engine: Engine) -> None:
    for num_text in (DESCRIBE_TOKENS, 40, 150):
        one = ask(0, WHOLE, 0, 0b1011, num_text, 1)
        prepared = engine.processor.prepare(write_request(one))
        assert prepared.num_prompt_tokens - prepared.num_image_tokens == num_text
