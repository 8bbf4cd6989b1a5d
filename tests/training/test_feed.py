"""What a step learns from depends on the step alone, whoever writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from training import tokens
from training.batches import Batch, Seen, Writer
from training.feed import Looks, Steps, count_workers, feed
from training.plan import Lesson, Plan
from training.scenes import KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from training.pool import Pool

PLAN = Plan(steps=((Lesson.ALL, 3), (Lesson.ANSWERS, 2), (Lesson.TOGETHER, 13)), chunk=8, seed=3)


@pytest.fixture
def writer(tokenizer_folder: Path, examples: Pool) -> Writer:
    return Writer(examples, tokens.load(tokenizer_folder))


def list_tensors(item: Batch | list[Seen]) -> list[torch.Tensor]:
    parts = item if isinstance(item, list) else [item]
    return [tensor for part in parts for tensor in part.tensors()]


def test_other_processes_write_the_same_in_the_same_order(examples: Pool, writer: Writer) -> None:
    numbers = range(PLAN.num_steps)
    here = [list_tensors(item) for item in feed(Steps(PLAN, examples, writer), numbers, 0)]
    there = [list_tensors(item) for item in feed(Steps(PLAN, examples, writer), numbers, 2)]
    assert len(here) == len(there) == PLAN.num_steps
    for mine, its in zip(here, there, strict=True):
        assert all(torch.equal(*pair) for pair in zip(mine, its, strict=True))


def test_who_goes_on_in_the_middle_gets_what_would_have_come(examples: Pool, writer: Writer) -> None:
    steps = Steps(PLAN, examples, writer)
    whole = [list_tensors(item) for item in feed(steps, range(PLAN.num_steps), 0)]
    rest = [list_tensors(item) for item in feed(Steps(PLAN, examples, writer), range(4, PLAN.num_steps), 0)]
    for mine, its in zip(whole[4:], rest, strict=True):
        assert all(torch.equal(*pair) for pair in zip(mine, its, strict=True))


def test_what_breaks_another_process_is_told(examples: Pool, writer: Writer) -> None:
    items = feed(Steps(PLAN, examples, writer), range(PLAN.num_steps - 1, PLAN.num_steps + 1), 1)
    next(items)
    with pytest.raises(IndexError, match="there are 18 steps"):
        next(items)


def test_every_picture_that_is_asked_about_is_looked_at_once(examples: Pool, writer: Writer) -> None:
    looks = Looks(0, examples, writer)
    found = [numbers.tolist() for numbers, pixels in feed(looks, range(len(looks)), 0) if len(pixels)]
    grouped = [examples.number_crops(group) for group in examples.split_groups]
    asked = [number for number, example in enumerate(examples.examples) if example.scene.kind in KINDS]
    assert 0 < len(asked) < len(examples.examples)
    wanted = [*asked, *np.concatenate(grouped).tolist()]
    assert sorted(number for numbers in found for number in numbers) == sorted(wanted)


def test_no_more_processes_write_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr("shutil.disk_usage", lambda _: Room(10**10))
    assert count_workers() == 15
    assert not capsys.readouterr().out
    monkeypatch.setattr("shutil.disk_usage", lambda _: Room(64 * 1024**2))
    assert count_workers() == 2
    assert "room for what 2 of 15 processes write" in capsys.readouterr().out


class Room:
    """What is free of a disk."""

    def __init__(self, free: int) -> None:
        self.free = free
