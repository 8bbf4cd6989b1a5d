"""A request on its way to the engine: its prompt is built, and its pictures are being decoded."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from idefics2_engine.errors import EngineFault, InvalidRequest
from idefics2_engine.images import Crop, InvalidImage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from idefics2_engine.errors import EngineError
    from idefics2_engine.image_cache import SeenImage
    from idefics2_engine.processor import PreparedRequest
    from idefics2_engine.sequence import Clock

Decoding = Future[list[Crop]]


class Draft:
    """Becomes what the engine takes, once there are crops of all pictures. No thread waits for them.

    `begin` comes once; then `finish`, once it is `ready`; and `leave` as soon as the request needs no pixels
    any more, wherever it stands. Safe to use from several threads.
    """

    def __init__(
        self,
        prepared: PreparedRequest,
        pictures: Sequence[tuple[SeenImage, Callable[[], Decoding]]],
        crop_bytes: int,
        clock: Clock,
        share: str,
    ) -> None:
        """Draft a request.

        Args:
            prepared: as the engine is to take it, but for what is known at the end only.
            pictures: its images in their order, and what begins to decode each, which may hold its file.
            crop_bytes: the most that one of their crops may take.
            clock: what its stages took so far; the next one is to wait.
            share: as that of the request.

        """
        self.ready: Future[None] = Future()
        """Done when `finish` has something to tell; that of a draft which was left may never be."""
        self.is_left = False
        self.share = share
        self._prepared, self._clock = prepared, clock
        self._pictures, self._crop_bytes = pictures, crop_bytes
        self._shown: list[SeenImage] = []
        """Those whose crops were asked for, so that each has to be left."""
        self._decodings: list[Decoding | None] = []
        self._lock = threading.Lock()

    @property
    def num_missing_bytes(self) -> int:
        """What pixels may take, at the most, of images that the model has not seen; before it begins."""
        missing = {image for image, _ in self._pictures if not image.is_encoded}
        return self._crop_bytes * sum(len(image.hidden_states) for image in missing)

    def begin(self) -> None:
        """Have those pictures decoded that nobody has looked at; nothing if it was left."""
        with self._lock:
            if self.is_left:
                return
            self._clock.enter("queue")
            for image, decode in self._pictures:
                self._shown.append(image)
                self._decodings.append(image.ask_for_crops(self.share, decode))
            self._pictures = ()
        self._wait_from(0)

    def finish(self) -> PreparedRequest:
        """Return the request as the engine takes it; only once it is `ready`.

        Raises:
            InvalidRequest: a picture cannot be decoded.
            EngineFault: the same, by no fault of the picture's.

        """
        decodings, self._decodings = self._decodings, []  # images hold their pixels, as long as it takes
        for number, decoding in enumerate(decodings):
            if decoding is not None and (error := decoding.exception()) is not None:
                raise _explain(error, f"images[{number}]") from error
        num_cached, seconds = decodings.count(None), dict(self._clock.seconds)
        return replace(self._prepared, num_cached_images=num_cached, seconds=seconds)

    def leave(self) -> None:
        """Need no pixels any more; nothing if it was left before."""
        with self._lock:
            self.is_left = True
            self._pictures = ()
            shown, self._shown = self._shown, []
        for image in shown:
            image.leave(self.share)

    def _wait_from(self, number: int) -> None:
        """Wait for picture `number`, then for the next one, up to the first that cannot be decoded."""
        for place, decoding in enumerate(self._decodings[number:], number):
            if decoding is None:
                continue
            if not decoding.done():
                decoding.add_done_callback(_call_once(partial(self._wait_from, place)))
                return
            if decoding.cancelled():  # because we left
                return
            if decoding.exception():
                break
        self._clock.enter("preprocess")
        self.ready.set_result(None)


def _call_once(action: Callable[[], None]) -> Callable[[object], None]:
    """Make a callback that holds its action only until it is called.

    A future keeps its callbacks, and an image its future: both must not keep a draft, which holds the image.
    """
    waiting = [action]
    return lambda _: waiting.pop()()


def _explain(error: BaseException, field: str) -> EngineError:
    if isinstance(error, InvalidImage):
        return InvalidRequest(error.reason, f"{field} {error.problem}", field)
    return EngineFault(f"the engine failed to decode {field}")
