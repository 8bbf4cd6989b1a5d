"""An image is one object while anybody holds it, is decoded once for all who ask, and kept while it fits."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from idefics2_engine.image_cache import ImageCache, SeenImage, split_states
from idefics2_engine.images import Crop, InvalidImage

if TYPE_CHECKING:
    from collections.abc import Callable

NUM_THREADS = 16
PATIENCE_SECONDS = 60
Decoding = Future[list[Crop]]


def encode(image: SeenImage, num_bytes: int = 10) -> SeenImage:
    """Let the model have looked at every crop of an image, all of which take `num_bytes`."""
    num_crops = len(image.hidden_states)
    for number in range(num_crops):
        image.add(number, torch.zeros(num_bytes // num_crops, dtype=torch.uint8))
    return image


def keep(cache: ImageCache, *names: str, num_bytes: int = 10) -> None:
    """Have images kept that nobody holds."""
    for name in names:
        cache.keep(encode(cache.find(name.encode(), 1), num_bytes))


def is_known(cache: ImageCache, name: str) -> bool:
    """Tell whether an image has been looked at, and ask for nothing."""
    return name.encode() in cache._shown


def make_crops() -> list[Crop]:
    """Make what a worker would."""
    return [Crop((1, 1), np.zeros((1, 3), np.uint8))]


class Decoder:
    """Begins decodings, and counts them."""

    def __init__(self) -> None:
        """Begin with none."""
        self.begun: list[Decoding] = []

    def begin(self) -> Decoding:
        """As ask_for_crops wants it."""
        self.begun.append(Future())
        return self.begun[-1]


@pytest.fixture
def decoder() -> Decoder:
    """What decodes."""
    return Decoder()


@pytest.fixture
def image() -> SeenImage:
    """One of two crops."""
    return SeenImage(b"key", 2)


def do_at_once(action: Callable[[], object]) -> list[object]:
    """Do something from many threads, which all begin together."""
    barrier = threading.Barrier(NUM_THREADS)

    def meet_and_do() -> object:
        barrier.wait(PATIENCE_SECONDS)
        return action()

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return [each.result() for each in [pool.submit(meet_and_do) for _ in range(NUM_THREADS)]]


def test_all_who_ask_for_a_content_get_the_same_image_while_anybody_holds_it() -> None:
    cache = ImageCache(0)
    held = cache.find(b"a", 5)
    assert len(held.hidden_states) == 5
    assert cache.find(b"a", 5) is held
    assert cache.find(b"b", 5) is not held


def test_all_who_ask_at_once_get_the_same_image() -> None:
    for _ in range(50):
        cache = ImageCache(0)
        images = do_at_once(lambda cache=cache: cache.find(b"a", 1))  # type: ignore[misc]
        assert {id(image) for image in images} == {id(images[0])}


def test_an_image_that_nobody_holds_is_gone_unless_it_is_kept() -> None:
    cache = ImageCache(100)
    encode(cache.find(b"passed by", 1))
    keep(cache, "kept")
    assert is_known(cache, "kept")
    assert not is_known(cache, "passed by")
    assert cache.find(b"kept", 1).is_encoded


def test_no_more_is_kept_than_fits() -> None:
    cache = ImageCache(35)
    for number in range(10):
        keep(cache, f"{number}")
        assert cache.num_bytes == 10 * len(cache) <= 35
    assert [name for name in map(str, range(10)) if is_known(cache, name)] == ["7", "8", "9"]


def test_as_much_as_fits_is_kept() -> None:
    cache = ImageCache(30)
    keep(cache, "a", "b", "c")
    assert (len(cache), cache.num_bytes) == (3, 30)


def test_who_was_not_asked_for_longest_makes_room() -> None:
    cache = ImageCache(30)
    keep(cache, "a", "b", "c")
    cache.find(b"a", 1)
    keep(cache, "d")
    assert not is_known(cache, "b")
    cache.find(b"c", 1)
    keep(cache, "e", "f")
    assert [name for name in "abcdef" if is_known(cache, name)] == ["c", "e", "f"]


def test_a_large_image_takes_the_room_of_several_small_ones() -> None:
    cache = ImageCache(30)
    keep(cache, "a", "b", "c")
    keep(cache, "large", num_bytes=15)
    assert [name for name in ("a", "b", "c", "large") if is_known(cache, name)] == ["c", "large"]
    assert cache.num_bytes == 25


def test_an_image_larger_than_all_the_room_is_not_kept_and_displaces_nobody() -> None:
    cache = ImageCache(30)
    keep(cache, "a", "b")
    keep(cache, "huge", num_bytes=31)
    assert [name for name in ("a", "b", "huge") if is_known(cache, name)] == ["a", "b"]
    assert cache.num_bytes == 20


def test_keeping_what_is_kept_counts_it_once() -> None:
    cache = ImageCache(30)
    image = encode(cache.find(b"a", 1))
    for _ in range(5):
        cache.keep(image)
    assert (len(cache), cache.num_bytes) == (1, 10)


def test_what_was_dropped_is_not_kept_and_in_nobodys_way() -> None:
    cache = ImageCache(30)
    held = cache.find(b"a", 1)
    cache.drop(held)
    cache.keep(encode(held))  # by somebody who shows it still
    assert (len(cache), cache.num_bytes) == (0, 0)
    keep(cache, "a")
    assert cache.find(b"a", 1).is_encoded


@pytest.mark.parametrize("how", ["displaced", "cleared"])
def test_what_is_not_kept_any_more_stays_whole_for_those_who_hold_it(how: str) -> None:
    cache = ImageCache(10)
    held = encode(cache.find(b"held", 2))
    cache.keep(held)
    if how == "displaced":
        keep(cache, "other")
    else:
        cache.clear()
        assert (len(cache), cache.num_bytes) == (0, 0)
    assert held.is_encoded
    assert cache.find(b"held", 2) is held
    cache.keep(held)
    assert len(cache) == 1
    assert is_known(cache, "held")
    assert not is_known(cache, "other")


def test_decoding_begins_once_for_all_who_ask_at_once() -> None:
    for _ in range(50):
        image, decoder = SeenImage(b"key", 1), Decoder()
        asked = do_at_once(lambda image=image, decoder=decoder: image.ask_for_crops("one", decoder.begin))  # type: ignore[misc]
        assert len(decoder.begun) == 1
        assert all(decoding is decoder.begun[0] for decoding in asked)


def test_who_asks_after_the_decoding_gets_its_crops(image: SeenImage, decoder: Decoder) -> None:
    first = image.ask_for_crops("one", decoder.begin)
    assert first is not None
    first.set_result(make_crops())
    assert image.ask_for_crops("one", decoder.begin) is first
    assert len(decoder.begun) == 1


def test_pixels_are_let_go_with_the_last_who_needs_them(image: SeenImage, decoder: Decoder) -> None:
    for _ in range(2):
        image.ask_for_crops("one", decoder.begin)
    decoding = weakref.ref(decoder.begun[0])
    decoder.begun.pop().set_result(make_crops())
    image.leave("one")
    assert decoding() is not None
    image.leave("one")
    assert decoding() is None
    image.ask_for_crops("one", decoder.begin)
    assert len(decoder.begun) == 1


def test_nobody_decodes_what_was_looked_at(image: SeenImage, decoder: Decoder) -> None:
    assert encode(image).ask_for_crops("one", decoder.begin) is None
    assert decoder.begun == []


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_a_decoding_that_came_to_nothing_begins_anew_for_who_asks_next(
    image: SeenImage, decoder: Decoder, how: str
) -> None:
    first = image.ask_for_crops("one", decoder.begin)
    assert first is not None
    image.leave("one")
    if how == "failed":
        first.set_exception(InvalidImage("FILE_UNDECODABLE", "is damaged"))
    else:
        assert image.give_up()
        assert first.cancelled()
    again = image.ask_for_crops("one", decoder.begin)
    assert again is decoder.begun[1]
    assert again is not None
    assert not again.done()


def test_a_decoding_is_given_up_when_nobody_waits_for_it_any_more(image: SeenImage, decoder: Decoder) -> None:
    for _ in range(2):
        image.ask_for_crops("one", decoder.begin)
    for _ in range(2):
        assert not image.give_up()
        assert not decoder.begun[0].cancelled()
        image.leave("one")
    assert image.give_up()
    assert decoder.begun[0].cancelled()


def test_nobody_who_waits_sees_his_decoding_given_up(image: SeenImage, decoder: Decoder) -> None:
    all_left = threading.Event()

    def ask_and_leave() -> None:
        for _ in range(300):
            decoding = image.ask_for_crops("one", decoder.begin)
            assert decoding is not None
            assert not decoding.cancelled()
            image.leave("one")

    def give_up() -> None:
        while not all_left.is_set():
            image.give_up()

    keeper = threading.Thread(target=give_up)
    keeper.start()
    try:
        do_at_once(ask_and_leave)
    finally:
        all_left.set()
        keeper.join()
    image.give_up()
    assert all(decoding.cancelled() for decoding in decoder.begun)


def test_pixels_are_let_go_with_the_last_crop_that_was_looked_at(image: SeenImage, decoder: Decoder) -> None:
    image.ask_for_crops("one", decoder.begin)
    decoding = weakref.ref(decoder.begun.pop())
    image.add(1, torch.zeros(3))
    assert decoding() is not None
    assert not image.is_encoded
    image.add(0, torch.zeros(3))
    assert image.is_encoded
    assert decoding() is None
    assert image.num_bytes == 2 * 3 * 4


def test_states_that_are_split_do_not_hold_each_other() -> None:
    states = torch.rand(3, 4, 5)
    parts = split_states(states)
    assert [part.shape for part in parts] == [(4, 5)] * 3
    assert all(torch.equal(part, whole) for part, whole in zip(parts, states, strict=True))
    assert all(part.untyped_storage().nbytes() == part.nbytes for part in parts)


def test_who_drops_an_image_leaves_a_newer_one_of_the_same_content() -> None:
    cache = ImageCache(100)
    old = cache.find(b"one", 1)
    cache.drop(old)
    keep(cache, "one", num_bytes=30)
    cache.drop(old)
    assert (len(cache), cache.num_bytes) == (1, 30)
