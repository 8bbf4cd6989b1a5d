"""A vision tower that is broken is told from pictures that break it, whatever works beside it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import torch
from engine.answers import check_nothing_is_left, run
from idefics2_engine.engine import MAX_BLIND_STEPS, MAX_BROKEN_STEPS
from idefics2_engine.errors import EngineFault
from idefics2_engine.requests import Failed, Finished, Request, SamplingParams
from pictures import draw_red_circle, encode
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

    from idefics2_engine.engine import Engine
    from idefics2_engine.images import Crop

    Look = Callable[[list[Crop]], torch.Tensor]

BLACK = encode(Image.new("RGB", (48, 36)))
GREEDY = SamplingParams(temperature=0.0, repetition_penalty=1.0)
MANY = MAX_BLIND_STEPS + MAX_BROKEN_STEPS


@pytest.fixture(autouse=True)
def hold_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Keep no tracebacks: they hold what was there."""
    caplog.set_level(logging.CRITICAL, "idefics2_engine.engine")


def ask(name: str, picture: bytes) -> Request:
    """Ask of a picture."""
    return Request(name, "Hello", (picture,), GREEDY)


def draw_tall(number: int) -> bytes:
    """Draw a picture that is higher than wide, and no other number's."""
    return encode(draw_red_circle((60, 180 + number)))


def break_look(look: Look, how: str, *, only_tall: bool = False) -> Look:
    """Let the tower fail at pictures, in its own way."""

    def look_or_not(crops: list[Crop]) -> torch.Tensor:
        states = look(crops).clone()
        for number, crop in enumerate(crops):
            if only_tall and crop.grid[0] <= crop.grid[1]:
                continue
            if how == "raises":
                raise RuntimeError("what a kernel might say")
            if how == "lacks memory":
                raise torch.OutOfMemoryError("there is none left")
            states[number] = float("nan")
        return states

    return look_or_not


def answer_beside_one_who_runs(engine: Engine, request: Request) -> list[Any]:
    """Answer a request, with a picture that is known, while somebody is told tokens; return who failed."""
    events = run(engine, ask("known", BLACK), request)
    return [name for name, told in events.items() if isinstance(told[-1], Failed)]


@pytest.mark.parametrize("how", ["raises", "is not a number"])
def test_a_tower_that_sees_nothing_any_more_is_noticed_though_all_others_are_answered(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    run(engine, ask("first", BLACK))
    with monkeypatch.context() as patch:
        patch.setattr(engine.runner, "look", break_look(engine.runner.look, how))
        for number in range(MAX_BLIND_STEPS - 1):
            assert answer_beside_one_who_runs(engine, ask("new", draw_tall(number))) == ["new"]
        with pytest.raises(EngineFault, match="own picture"):
            answer_beside_one_who_runs(engine, ask("new", draw_tall(MAX_BLIND_STEPS)))
        for name in ("new", "known"):
            engine.cancel(name)
    assert isinstance(run(engine, ask("after", draw_tall(0)))["after"][-1], Finished)
    check_nothing_is_left(engine)


@pytest.mark.parametrize("beside", [True, False], ids=["beside others", "alone"])
@pytest.mark.parametrize("how", ["raises", "is not a number", "lacks memory"])
def test_pictures_that_break_the_tower_lose_no_engine_however_many_there_are(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, how: str, *, beside: bool
) -> None:
    run(engine, ask("first", BLACK))
    monkeypatch.setattr(engine.runner, "look", break_look(engine.runner.look, how, only_tall=True))
    for number in range(MANY):
        if beside:
            assert answer_beside_one_who_runs(engine, ask("bad", draw_tall(number))) == ["bad"]
        else:
            assert isinstance(run(engine, ask("bad", draw_tall(number)))["bad"][-1], Failed)
    check_nothing_is_left(engine)


def test_a_tower_that_lacks_memory_for_a_while_is_not_lost(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(engine.runner, "look", break_look(engine.runner.look, "lacks memory"))
        for number in range(MANY):
            assert isinstance(run(engine, ask("new", draw_tall(number)))["new"][-1], Failed)
    assert isinstance(run(engine, ask("after", draw_tall(0)))["after"][-1], Finished)


def test_a_tower_that_sees_a_new_picture_between_is_not_lost(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for round_number in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(engine.runner, "look", break_look(engine.runner.look, "raises"))
            for number in range(MAX_BLIND_STEPS - 1):
                assert isinstance(run(engine, ask("new", draw_tall(number)))["new"][-1], Failed)
        seen = encode(draw_red_circle((200, 150 + round_number)))
        assert isinstance(run(engine, ask("seen", seen))["seen"][-1], Finished)


def test_logits_that_are_no_numbers_though_pictures_are_seen_well_lose_the_engine(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = engine.runner.forward
    monkeypatch.setattr(engine.runner, "forward", lambda *parts: forward(*parts) * float("nan"))
    for number in range(MAX_BROKEN_STEPS - 1):
        assert isinstance(run(engine, ask("new", draw_tall(number)))["new"][-1], Failed)
    with pytest.raises(EngineFault, match="for everybody"):
        run(engine, ask("new", draw_tall(MAX_BROKEN_STEPS)))
    check_nothing_is_left(engine)
    monkeypatch.undo()
    run(engine, ask("after", BLACK))


def test_an_engine_that_cannot_see_its_own_picture_at_the_start_is_not_ready(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def see_only_callers_pictures(crops: list[Crop]) -> torch.Tensor:
        return look(crops) * (float("nan") if crops[0] is engine.runner.own_crop else 1.0)

    look = engine.runner.look
    monkeypatch.setattr(engine.runner, "look", see_only_callers_pictures)
    with pytest.raises(EngineFault, match="own picture"):
        engine.warm_up()
    check_nothing_is_left(engine)
