"""However many pictures one share brings, another's come soon: through the room, and through the line."""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from engine.answers import check_nothing_is_left
from engine.conftest import MODEL_FOLDER
from fakes.engine import Decoding, Told, flush, make_draft, running_loop
from idefics2_engine.config import EngineConfig
from idefics2_engine.engine import Engine
from idefics2_engine.image_cache import SeenImage
from idefics2_engine.picture_line import PictureLine
from idefics2_engine.pixel_room import PixelRoom
from idefics2_engine.requests import Finished, Request, SamplingParams
from pictures import draw_red_circle, encode
from processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_engine.draft import Draft

NUM_DRAFTS, NUM_PICTURES = 64, 8
NUM_WORKERS = 2
A_FEW = NUM_PICTURES + NUM_WORKERS
"""One request's, and what the workers have in hand."""


class Decoders:
    """Workers that decode when they are told to, and a model that looks at who is ready at once."""

    def __init__(self, max_drafts: int) -> None:
        """Have room for so many drafts of as many pictures as may be."""
        self.room = PixelRoom(max_drafts * NUM_PICTURES)
        self.decoded: list[str] = []
        """The names of pictures, in order."""
        self._line: PictureLine[tuple[str, Decoding]] = PictureLine()
        self._num_in_line = 0
        self._in_hand: deque[tuple[str, Decoding]] = deque()
        self._ready: SimpleQueue[Draft] = SimpleQueue()

    def come(self, share: str, *images: SeenImage) -> None:
        """Let a draft come that shows these."""
        draft = make_draft(share, *((image, partial(self._begin, image)) for image in images), share=share)
        draft.ready.add_done_callback(lambda _: self._ready.put(draft))
        self.room.enter(draft)

    def fill_hands(self) -> None:
        """Let each worker take a picture, if there is one."""
        while self._num_in_line and len(self._in_hand) < NUM_WORKERS:
            picture = self._line.take()
            assert picture is not None
            self._in_hand.append(picture)
            self._num_in_line -= 1

    def decode(self, name: str) -> None:
        """Let pictures be decoded up to this one."""
        while name not in self.decoded:
            self.fill_hands()
            decoded, result = self._in_hand.popleft()
            self.decoded.append(decoded)
            result.set_result([])
            while not self._ready.empty():
                self.room.leave(self._ready.get())

    def _begin(self, image: SeenImage) -> Decoding:
        decoding: Decoding = Future()
        self._line.put((image.key.decode(), decoding), lambda: image.shares)
        self._num_in_line += 1
        return decoding


def name_images(prefix: str) -> list[SeenImage]:
    """Name as many images as a request may have."""
    return [SeenImage(f"{prefix}/{number}".encode(), 1) for number in range(NUM_PICTURES)]


@pytest.mark.parametrize("max_drafts", [1, 21, NUM_DRAFTS + 1])
def test_a_picture_of_one_share_is_decoded_after_a_few_of_another(max_drafts: int) -> None:
    decoders = Decoders(max_drafts)
    for number in range(NUM_DRAFTS):
        decoders.come("a", *name_images(f"a{number}"))
    decoders.fill_hands()
    decoders.come("b", SeenImage(b"b", 1))
    decoders.decode("b")
    assert len(decoders.decoded) - 1 <= (A_FEW if max_drafts <= NUM_DRAFTS else NUM_WORKERS + 1)


def test_so_is_one_that_another_share_has_put_behind_all_its_others() -> None:
    decoders, shown = Decoders(NUM_DRAFTS + 1), list[SeenImage]()
    for number in range(NUM_DRAFTS):
        shown += name_images(f"a{number}")
        decoders.come("a", *shown[-NUM_PICTURES:])
    decoders.fill_hands()
    decoders.come("b", shown[-1])
    decoders.decode(shown[-1].key.decode())
    assert len(decoders.decoded) - 1 <= NUM_WORKERS + 1


@pytest.fixture
def small() -> Iterator[tuple[Engine, psutil.Process]]:
    """An engine with one worker, which has begun."""
    before = set(psutil.Process().children())
    config = EngineConfig.read({}, {}, MODEL_FOLDER)
    made = Engine.start(replace(config, num_image_workers=1, max_image_seconds=PATIENCE_SECONDS))
    (worker,) = set(psutil.Process().children()) - before
    yield made, worker
    made.close()


def test_pictures_of_real_requests_are_decoded_in_turns_too(
    small: tuple[Engine, psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, worker = small
    told, begun, decoded = Told(), threading.Semaphore(0), list[bytes]()
    submit, short = engine.processor._workers.submit, SamplingParams(max_new_tokens=2)

    def submit_watched(data: bytes, **others: Any) -> Decoding:
        decoding = submit(data, **others)
        decoding.add_done_callback(lambda _: decoded.append(data))
        begun.release()
        return decoding

    monkeypatch.setattr(engine.processor._workers, "submit", submit_watched)
    pictures = [encode(draw_red_circle((40 + number, 30))) for number in range(2 * NUM_DRAFTS + 1)]
    flood = {f"a{n}": (pictures[2 * n], pictures[2 * n + 1]) for n in range(NUM_DRAFTS)}
    with running_loop(engine, told) as loop:
        worker.suspend()
        os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)
        for name, images in flood.items():
            loop.submit(Request(name, "Hello", images, short, share="a"))
        for _ in pictures[:-1]:
            assert begun.acquire(timeout=PATIENCE_SECONDS)
        loop.submit(Request("b", "Hello", (pictures[-1],), short, share="b"))
        assert begun.acquire(timeout=PATIENCE_SECONDS)
        worker.resume()
        assert all(isinstance(last, Finished) for last in told.wait_for_last("b", *flood))
        flush(loop, told)
    assert decoded.index(pictures[-1]) <= 2  # one is in the worker's hand, and one may have its turn before
    check_nothing_is_left(engine)
