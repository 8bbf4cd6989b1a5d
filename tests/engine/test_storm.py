"""The engine's loop over the real engine, with all that can happen to requests at once."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from engine.answers import check_nothing_is_left
from fakes.engine import Told, call_from_threads, flush, running_loop
from idefics2_engine.requests import Cancelled, Failed, Finished, Request, SamplingParams
from pictures import draw_red_circle, encode
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_engine.engine import Engine
    from idefics2_engine.requests import Event

PICTURES = (
    encode(draw_red_circle((48, 36))),
    encode(Image.new("RGB", (60, 20)), "JPEG"),
    encode(draw_red_circle((20, 60)), "GIF"),
    encode(draw_red_circle((200, 150)), "WEBP"),
    encode(draw_red_circle((90, 90)), "BMP"),
)
BAD_PICTURE = PICTURES[0][: len(PICTURES[0]) // 2]
WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "damaged": ("FILE_UNDECODABLE", {"images": (BAD_PICTURE,)}),
    "no image": ("IMAGE_MISSING", {"images": ()}),
    "too long": ("CONTEXT_EXCEEDED", {"prompt": "long " * 2000}),
}
FATES_OF_THE_CANCELLED = {"0": 1, "1": 2, "2": 1, "3": 1}  # after how many events
FATES = {"answered": 12, **dict.fromkeys(WRONG, 1), **FATES_OF_THE_CANCELLED}  # and how many of each


def draw_question(draw: random.Random) -> Request:
    """Draw a request of any size."""
    sampling = SamplingParams(
        max_new_tokens=draw.randint(1, 10),
        min_new_tokens=draw.choice((0, 1)),
        temperature=draw.choice((0.0, 0.4, 3.0)),
        top_k=draw.choice((0, 5)),
        seed=draw.getrandbits(64),
        stop=tuple(draw.sample((" red", "e", "circle on", ". "), draw.choice((0, 0, 1, 2)))),
    )
    images = tuple(draw.choices(PICTURES, k=draw.choice((1, 1, 2))))
    return Request(
        "alone", "What is this? " * draw.randint(1, 5), images, sampling, draw.choice((None, True))
    )


def answer_alone(engine: Engine, request: Request) -> list[Event]:
    """Answer a request when nobody else is there."""
    engine.add(engine.processor.prepare(request))
    events = []
    while not engine.is_idle:
        events += [event for _, event in engine.step()]
    return events


def check_answer(fate: str, events: list[Event], alone: list[Event]) -> None:
    """Compare what a request was told with its answer when nobody else was there."""
    last = events[-1]
    if isinstance(last, Failed):
        assert [last.reason] == [WRONG[fate][0]] * len(events)
    elif isinstance(last, Cancelled):
        assert fate in FATES_OF_THE_CANCELLED
        assert events[:-1] == alone[: len(events) - 1]
    else:
        assert events == alone


def tighten(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave room for next to nothing: one image, a few blocks, short stretches, one crop at a time."""
    image_bytes = engine.runner.model.config.text_config.hidden_size * 4 * 36
    monkeypatch.setattr(engine.images, "_max_bytes", image_bytes)
    monkeypatch.setattr(engine.prefixes, "_max_bytes", 12 * engine.runner.cache.read(0, 0, 16).nbytes)
    monkeypatch.setattr(engine.scheduler, "_max_step_tokens", 8)
    monkeypatch.setattr(engine.scheduler, "_max_step_patches", 1)
    monkeypatch.setattr(engine.scheduler, "_num_slots", 5)


@pytest.mark.parametrize(
    ("is_tight", "max_pixel_bytes", "num_requests", "num_steps"),
    [(False, 10**9, 150, 4), (True, 10**9, 160, 800), (True, 1, 160, 200)],
    ids=["wide", "tight", "tight, one decoded at a time"],
)
def test_in_a_storm_each_answer_is_the_one_made_alone_and_nothing_is_left(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_tight: bool,
    max_pixel_bytes: int,
    num_requests: int,
    num_steps: int,
) -> None:
    told = Told()
    draw = random.Random(5)  # noqa: S311  # not a secret
    questions = [draw_question(draw) for _ in range(30)]
    alone = [answer_alone(engine, question) for question in questions]
    names = [f"{n}" for n in range(num_requests)]
    monkeypatch.setattr(engine.processor.room, "max_bytes", max_pixel_bytes)
    if is_tight:
        tighten(engine, monkeypatch)
        engine.images.clear()
        engine.prefixes.clear()
    step, steps = engine.step, itertools.count()

    def count_step() -> Iterator[tuple[str, Event]]:
        next(steps)
        yield from step()

    monkeypatch.setattr(engine, "step", count_step)
    chosen = {name: draw.randrange(len(questions)) for name in names}
    fates = {name: draw.choices(list(FATES), list(FATES.values()))[0] for name in names}

    def cancel_in_time(request_id: str, _: Event) -> None:
        """Cancel, after so many events, those whose fate is a number; some of them twice."""
        if fates.get(request_id) == str(len(told.events[request_id])):
            for _again in range(1 + int(request_id) % 2):
                loop.cancel(request_id)

    def submit(part: list[str]) -> None:
        for name in part:
            _, changed = WRONG.get(fates[name], ("", {}))
            loop.submit(replace(questions[chosen[name]], request_id=name, **changed))
            if fates[name] == "0":
                loop.cancel(name)

    told.listener = cancel_in_time
    with running_loop(engine, told) as loop:
        call_from_threads(submit, names, 3)
        lasts = told.wait_for_last(*names)
        flush(loop, told)
        assert not loop._open
    check_nothing_is_left(engine)
    assert next(steps) > num_steps
    told.check_one_last_event_each({*names, "flush"})
    for name in names:
        check_answer(fates[name], told.events[name], alone[chosen[name]])
    kinds = Counter(type(last) for last in lasts)
    assert set(kinds) == {Finished, Failed, Cancelled}
    assert kinds[Finished] > len(names) / 2
