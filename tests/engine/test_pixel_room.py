"""What decoded pictures take stays within a bound, shared by those who ask, and nobody waits for ever."""

from __future__ import annotations

import random
from collections import deque
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest
import torch
from engine.answers import check_nothing_is_left
from engine.conftest import MODEL_FOLDER
from fakes.engine import Decoding, Told, call_from_threads, flush, make_draft, running_loop, show
from idefics2_engine.config import EngineConfig
from idefics2_engine.draft import Draft
from idefics2_engine.engine import Engine
from idefics2_engine.image_cache import SeenImage
from idefics2_engine.pixel_room import PixelRoom
from idefics2_engine.requests import Finished, Request, SamplingParams
from pictures import draw_red_circle, encode
from processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator


MAX_BYTES = 100
LARGEST_BYTES = 5 * 3 * 128 * 128  # of an image, with the embedded checkpoint
NUM_PICTURES = 20


class Hall:
    """A room, and drafts that come to it."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self.room = PixelRoom(MAX_BYTES)
        self.decodings: dict[str, list[Decoding]] = {}
        """Those that were begun, by draft."""

    def come(self, name: str, num_bytes: int, *images: SeenImage, share: str = "") -> Draft:
        """Let a draft come that needs so many bytes for a crop of `images`, or of an image of its own."""
        pictures = [(image, partial(self._decode, name)) for image in images or (SeenImage(b"", 1),)]
        draft = make_draft(name, *pictures, crop_bytes=num_bytes, share=share)
        self.room.enter(draft)
        return draft

    def _decode(self, name: str) -> Decoding:
        decoding: Decoding = Future()
        self.decodings.setdefault(name, []).append(decoding)
        return decoding


@pytest.fixture
def hall() -> Hall:
    """One that is empty."""
    return Hall()


def look_at(image: SeenImage) -> None:
    """Let the model look at all of an image."""
    for number in range(len(image.hidden_states)):
        image.add(number, torch.zeros(1))


def test_who_comes_begins_as_long_as_there_is_room(hall: Hall) -> None:
    for name in "abc":
        hall.come(name, 40)
    assert list(hall.decodings) == ["a", "b"]
    assert hall.room.num_bytes == 80


def test_who_leaves_makes_room_for_those_who_wait_longest(hall: Hall) -> None:
    first = hall.come("first", 60)
    for name, num_bytes in {"second": 50, "third": 40, "fourth": 20}.items():
        hall.come(name, num_bytes)
    assert list(hall.decodings) == ["first"]  # though the fourth would fit
    hall.room.leave(first)
    assert list(hall.decodings) == ["first", "second", "third"]
    assert hall.room.num_bytes == 90


def test_who_needs_more_than_there_is_comes_in_alone(hall: Hall) -> None:
    small = hall.come("small", 10)
    large = hall.come("large", 10 * MAX_BYTES)
    hall.come("last", 10)
    assert list(hall.decodings) == ["small"]
    hall.room.leave(small)
    assert list(hall.decodings) == ["small", "large"]
    hall.room.leave(large)
    assert list(hall.decodings) == ["small", "large", "last"]


def test_who_comes_beside_a_flood_of_another_share_is_next(hall: Hall) -> None:
    first, second, *_ = [hall.come(f"a{number}", 40, share="a") for number in range(64)]
    hall.come("b0", 40, share="b")
    assert list(hall.decodings) == ["a0", "a1"]
    hall.room.leave(first)
    assert list(hall.decodings) == ["a0", "a1", "b0"]
    hall.come("b1", 40, share="b")
    hall.room.leave(second)
    assert list(hall.decodings) == ["a0", "a1", "b0", "a2"]


def test_next_is_the_share_that_has_taken_the_fewest_bytes_not_the_fewest_drafts(hall: Hall) -> None:
    drafts = [hall.come(f"a{number}", 10, share="a") for number in range(3)]
    drafts.append(hall.come("b0", 60, share="b"))
    for name in ("b1", "a3"):
        hall.come(name, 20, share=name[0])
    assert list(hall.decodings) == ["a0", "a1", "a2", "b0"]
    hall.room.leave(drafts[0])
    assert list(hall.decodings)[4:] == ["a3"]


def test_nobody_passes_who_is_next_however_little_he_needs(hall: Hall) -> None:
    drafts = [hall.come(f"a{number}", 25, share="a") for number in range(4)]
    hall.come("b0", 60, share="b")
    hall.come("a4", 5, share="a")
    hall.come("b1", 5, share="b")
    for draft in drafts[:2]:
        hall.room.leave(draft)
    assert list(hall.decodings) == ["a0", "a1", "a2", "a3"]
    hall.room.leave(drafts[2])
    assert list(hall.decodings)[4:] == ["b0", "a4", "b1"]


def test_who_needs_all_there_is_comes_in_beside_any_flood_of_others(hall: Hall) -> None:
    inside = deque(hall.come(f"a{number}", 40, share="a") for number in range(2))
    hall.come("all", 10 * MAX_BYTES, share="a")
    for number in range(64):
        inside.append(hall.come(f"{number}", 40, share=f"{number}"))
        hall.room.leave(inside.popleft())
    assert "all" in hall.decodings


def test_all_pictures_of_a_request_begin_together(hall: Hall) -> None:
    first = hall.come("first", 30)
    hall.come("second", 30, *(SeenImage(b"", 1) for _ in range(3)))
    assert list(hall.decodings) == ["first"]
    hall.room.leave(first)
    assert len(hall.decodings["second"]) == 3


def test_an_image_counts_by_its_crops_and_once_for_a_request(hall: Hall) -> None:
    split = SeenImage(b"", 5)
    hall.come("one", 10, split, split, SeenImage(b"", 1))
    assert hall.room.num_bytes == 60


def test_who_shows_what_the_model_has_seen_waits_behind_nobody(hall: Hall) -> None:
    seen = SeenImage(b"", 1)
    hall.come("first", MAX_BYTES)
    hall.come("second", MAX_BYTES)
    later = hall.come("sees it later", MAX_BYTES, seen)
    look_at(seen)
    known = hall.come("sees it now", MAX_BYTES, seen)
    assert later.ready.done()
    assert known.ready.done()
    assert list(hall.decodings) == ["first"]


def test_who_left_the_line_is_not_begun_and_in_nobodys_way(hall: Hall) -> None:
    first = hall.come("first", MAX_BYTES)
    second = hall.come("second", MAX_BYTES)
    hall.come("third", MAX_BYTES)
    hall.room.leave(second)
    hall.room.leave(first)
    assert list(hall.decodings) == ["first", "third"]


def test_who_left_before_it_came_takes_no_room(hall: Hall) -> None:
    draft = make_draft("one", show(Future()), crop_bytes=MAX_BYTES)
    hall.room.leave(draft)
    hall.room.enter(draft)
    assert hall.room.num_bytes == 0
    hall.come("another", MAX_BYTES)
    assert list(hall.decodings) == ["another"]


def test_pixels_of_who_left_are_not_held_by_who_waits_to_show_the_same(hall: Hall) -> None:
    image = SeenImage(b"", 1)
    first = hall.come("first", 60, image)
    hall.decodings["first"][0].set_result([])
    hall.come("in between", MAX_BYTES)
    last = hall.come("last", 60, image)
    hall.room.leave(first)
    assert image.decoding is None
    assert list(hall.decodings) == ["first", "in between"]
    assert not last.ready.done()


def test_whoever_comes_and_goes_all_begin_and_in_the_end_nothing_is_taken() -> None:
    draw = random.Random(3)  # noqa: S311  # not a secret
    sizes = {f"{n}": draw.randint(1, MAX_BYTES) for n in range(2000)}
    room, ready, taken = PixelRoom(MAX_BYTES), SimpleQueue[Draft](), list[int]()

    def come(name: str) -> None:
        decoding: Decoding = Future()
        decoding.set_result([])
        draft = make_draft(name, show(decoding), crop_bytes=sizes[name], share=name[-1])
        draft.ready.add_done_callback(lambda _: ready.put(draft))
        room.enter(draft)
        taken.append(room.num_bytes)

    def come_and_leave(names: list[str]) -> None:
        for several in zip(*[iter(names)] * 5, strict=True):
            for name in several:
                come(name)
            for _ in several:
                room.leave(ready.get(timeout=PATIENCE_SECONDS))

    call_from_threads(come_and_leave, list(sizes), 8)
    assert MAX_BYTES / 2 < max(taken) <= MAX_BYTES
    assert room.num_bytes == 0
    assert not room._line


@pytest.fixture
def narrow() -> Iterator[Engine]:
    """An engine with one slot, and room for the pixels of three images."""
    config = EngineConfig.read({}, {}, MODEL_FOLDER)
    made = Engine.start(replace(config, max_running=1, max_pixel_bytes=3 * LARGEST_BYTES))
    yield made
    made.close()


def count_held_bytes(engine: Engine) -> int:
    """Count the pixels that are there."""
    decodings = [image.decoding for image in list(engine.images._shown.values())]
    crops = [
        decoding.result()
        for decoding in decodings
        if decoding is not None and decoding.done() and not decoding.cancelled()
    ]
    return sum(crop.patches.nbytes for part in crops for crop in part)


def test_pictures_of_many_who_wait_are_decoded_ahead_within_the_bound_and_all_are_answered(
    narrow: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, held, submit = Told(), list[int](), narrow.processor._workers.submit

    def submit_watched(*args: Any, **others: Any) -> Decoding:
        decoding = submit(*args, **others)
        decoding.add_done_callback(lambda _: held.append(count_held_bytes(narrow)))
        return decoding

    monkeypatch.setattr(narrow.processor._workers, "submit", submit_watched)
    names = [f"{n}" for n in range(NUM_PICTURES)]
    with running_loop(narrow, told) as loop:
        for number, name in enumerate(names):
            picture = encode(draw_red_circle((300 + number, 300)))
            loop.submit(
                Request(name, "Hello", (picture,), SamplingParams(max_new_tokens=5), split_images=True)
            )
        assert all(isinstance(last, Finished) for last in told.wait_for_last(*names))
        flush(loop, told)
    assert len(held) == NUM_PICTURES
    assert LARGEST_BYTES < max(held) <= 3 * LARGEST_BYTES  # so some were decoded ahead
    check_nothing_is_left(narrow)
