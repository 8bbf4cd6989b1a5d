"""A request waits for its own pictures, and for nobody else's."""

from __future__ import annotations

import gc
import os
import weakref
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from engine.answers import check_nothing_is_left
from engine.conftest import MODEL_FOLDER
from fakes.engine import Told, flush, make_draft, running_loop, show
from idefics2_engine.config import EngineConfig
from idefics2_engine.engine import Engine
from idefics2_engine.errors import EngineFault, InvalidRequest
from idefics2_engine.image_cache import SeenImage
from idefics2_engine.images import Crop, InvalidImage
from idefics2_engine.requests import Finished, Request, SamplingParams, StageEntered
from pictures import draw_red_circle, encode, red_circle
from processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT = SamplingParams(max_new_tokens=2)
NUM_SLOW = 20  # more than there are threads that prepare


@pytest.fixture(scope="module")
def small() -> Iterator[Engine]:
    """An engine with one worker that decodes, which has begun."""
    config = EngineConfig.read({}, {}, MODEL_FOLDER)
    made = Engine.start(replace(config, num_image_workers=1, max_image_seconds=PATIENCE_SECONDS))
    yield made
    made.close()


def find_worker() -> psutil.Process:
    """Find the worker of the engine that was started last."""
    children = psutil.Process().children()
    workers = [child for child in children if "idefics2_engine.image_worker" in child.cmdline()]
    return max(workers, key=psutil.Process.create_time)  # numbers of processes begin again


def draw_another(number: int) -> bytes:
    """Draw a picture that no other number has."""
    return encode(draw_red_circle((40 + number, 30)))


def make_crops() -> list[Crop]:
    """Make what a worker would."""
    return [Crop((1, 1), np.zeros((1, 3), np.uint8))]


def test_a_request_whose_picture_is_known_is_read_while_those_of_others_cannot_be_decoded(
    small: Engine,
) -> None:
    told, worker = Told(), find_worker()
    slow = [f"slow {n}" for n in range(NUM_SLOW)]
    with running_loop(small, told, num_preparing=16) as loop:
        loop.submit(Request("first", "What is this?", (red_circle(),), SHORT))
        told.wait_for_last("first")
        worker.suspend()
        os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            for number, name in enumerate(slow):
                loop.submit(Request(name, "Hello", (draw_another(number),), SHORT))
            loop.submit(Request("known", "And what color is it?", (red_circle(),), SHORT))
            told.wait_for_events("known", 1)
            assert told.events["known"][0] == StageEntered("PREFILL")
            assert isinstance(told.wait_for_last("known")[0], Finished)
            assert not any(told.events[name] for name in slow)
        finally:
            worker.resume()
        assert all(isinstance(last, Finished) for last in told.wait_for_last(*slow))
        flush(loop, told)
    check_nothing_is_left(small)


def test_a_draft_is_ready_once_its_last_picture_is_decoded() -> None:
    decodings: list[Future[list[Crop]]] = [Future(), Future(), Future()]
    draft = make_draft("one", *map(show, decodings))
    draft.begin()
    for number in (1, 0, 2):
        assert not draft.ready.done()
        decodings[number].set_result(make_crops())
    assert draft.ready.done()
    assert draft.finish().request_id == "one"


def test_a_draft_without_pictures_is_ready_when_it_begins() -> None:
    draft = make_draft("one")
    assert not draft.ready.done()
    draft.begin()
    assert draft.ready.done()


def test_waiting_to_begin_counts_as_waiting_and_decoding_as_preparing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("idefics2_engine.sequence.time", SimpleNamespace(monotonic=lambda: now[0]))
    decoding: Future[list[Crop]] = Future()
    draft = make_draft("one", show(decoding))
    now[0] = 3
    draft.begin()
    now[0] = 5
    decoding.set_result(make_crops())
    now[0] = 9
    assert draft.finish().seconds == {"queue": 3, "preprocess": 2}


def test_the_first_picture_that_cannot_be_decoded_is_named_and_those_behind_it_are_not_waited_for() -> None:
    decodings: list[Future[list[Crop]]] = [Future() for _ in range(4)]
    draft = make_draft("one", *map(show, decodings))
    draft.begin()
    decodings[2].set_exception(InvalidImage("FILE_UNDECODABLE", "is damaged, too"))
    decodings[0].set_result(make_crops())
    assert not draft.ready.done()
    decodings[1].set_exception(InvalidImage("FILE_NOT_AN_IMAGE", "is no picture"))
    assert draft.ready.done()
    with pytest.raises(InvalidRequest, match=r"images\[1\] is no picture") as caught:
        draft.finish()
    assert (caught.value.reason, caught.value.field) == ("FILE_NOT_AN_IMAGE", "images[1]")


def test_a_fault_of_ours_is_not_blamed_on_the_picture() -> None:
    decoding: Future[list[Crop]] = Future()
    draft = make_draft("one", show(decoding))
    draft.begin()
    decoding.set_exception(OSError("a secret"))
    with pytest.raises(EngineFault, match=r"^the engine failed to decode images\[0\]$"):
        draft.finish()


def test_a_draft_that_is_left_gives_up_its_pictures_once() -> None:
    image, decoding = SeenImage(b"key", 1), Future[list[Crop]]()
    first, second = (make_draft(name, show(decoding, image)) for name in ("first", "second"))
    first.begin()
    second.begin()
    for _ in range(2):
        first.leave()
        assert not image.give_up()
    second.leave()
    assert image.give_up()
    assert decoding.cancelled()
    assert not first.ready.done()


def test_a_draft_that_was_left_before_it_begins_decodes_nothing() -> None:
    image, begun = SeenImage(b"key", 1), list[Future[list[Crop]]]()

    def decode() -> Future[list[Crop]]:
        begun.append(Future())
        return begun[-1]

    draft = make_draft("one", (image, decode))
    draft.leave()
    draft.begin()
    assert begun == []
    assert not draft.ready.done()


@pytest.mark.parametrize("how", ["decoded", "damaged", "given up"])
def test_nothing_keeps_a_draft_whose_pictures_are_decoded_or_given_up(how: str) -> None:
    image, decoding = SeenImage(b"key", 1), Future[list[Crop]]()
    draft = make_draft("one", show(decoding, image))
    held = weakref.ref(draft)
    gc.disable()  # which comes late to what is old, and on a busy engine everything is
    try:
        draft.begin()
        if how == "decoded":
            decoding.set_result(make_crops())
        elif how == "damaged":
            decoding.set_exception(InvalidImage("FILE_UNDECODABLE", "is damaged"))
        else:
            draft.leave()
            assert image.give_up()
        del draft
        assert held() is None
    finally:
        gc.enable()
