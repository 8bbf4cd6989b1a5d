"""What the model has seen in images, by their content: each is looked at once."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from torch import Tensor

    from idefics2_engine.images import Crop


class SeenImage:
    """An image on its way to what the text model reads; all requests that show it share it."""

    def __init__(self, key: bytes, num_crops: int) -> None:
        """Begin with nothing but its content's hash."""
        self.key = key
        self.decoding: Future[list[Crop]] | None = None
        """The crops, from the time that somebody asks until all are encoded, or nobody needs them."""
        self.hidden_states: list[Tensor | None] = [None] * num_crops
        """For each crop, once it is encoded: [num_latents, hidden]."""
        self.shares: tuple[str, ...] = ()
        """Those who need the crops, each as often as it asked; may be read at any time."""
        self._lock = threading.Lock()

    def ask_for_crops(self, share: str, begin: Callable[[], Future[list[Crop]]]) -> Future[list[Crop]] | None:
        """Need the crops, whose decoding begins now if nobody asked yet; None if none are needed.

        Whoever asks has to `leave`, when all of them are encoded, or before.
        """
        with self._lock:
            self.shares = (*self.shares, share)
            if self.is_encoded:
                return None
            decoding = self.decoding
            if decoding is None or decoding.cancelled() or (decoding.done() and decoding.exception()):
                self.decoding = decoding = begin()
            return decoding

    def leave(self, share: str) -> None:
        """Need the crops no more; with the last one who does, their pixels are let go."""
        with self._lock:
            place = self.shares.index(share)
            self.shares = self.shares[:place] + self.shares[place + 1 :]
            if not self.shares and self.decoding is not None and self.decoding.done():
                self.decoding = None

    def give_up(self) -> bool:
        """Cancel the decoding if nobody needs it; tell whether that was so."""
        with self._lock:
            return not self.shares and (self.decoding is None or self.decoding.cancel())

    def add(self, number: int, states: Tensor) -> None:
        """Keep what a crop is to the text model; with the last one the pixels are let go."""
        self.hidden_states[number] = states
        with self._lock:
            if self.is_encoded:
                self.decoding = None

    @property
    def is_encoded(self) -> bool:
        """Whether no pixels are needed any more."""
        return all(states is not None for states in self.hidden_states)

    @property
    def num_bytes(self) -> int:
        """What its hidden states take."""
        return sum(states.nbytes for states in self.hidden_states if states is not None)


class ImageCache:
    """Images that running requests show, and as many others as fit. Safe to use from several threads."""

    def __init__(self, max_bytes: int) -> None:
        """Hold up to `max_bytes`; what running requests show, they hold themselves."""
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._shown: weakref.WeakValueDictionary[bytes, SeenImage] = weakref.WeakValueDictionary()
        self._kept: OrderedDict[bytes, SeenImage] = OrderedDict()
        self.num_bytes = 0

    def find(self, key: bytes, num_crops: int) -> SeenImage:
        """Return the image of this content: the same one to all who ask while anybody holds it."""
        with self._lock:
            image = self._shown.get(key)
            if image is None:
                image = self._shown[key] = SeenImage(key, num_crops)
            if key in self._kept:
                self._kept.move_to_end(key)
            return image

    def keep(self, image: SeenImage) -> None:
        """Keep an image that is encoded, unless it was dropped; those not asked for longest make room."""
        with self._lock:
            is_dropped = self._shown.get(image.key) is not image
            if is_dropped or image.key in self._kept or image.num_bytes > self._max_bytes:
                return
            self._kept[image.key] = image
            self.num_bytes += image.num_bytes
            while self.num_bytes > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self.num_bytes -= oldest.num_bytes

    def drop(self, image: SeenImage) -> None:
        """Keep an image no longer, and let nobody find it any more."""
        with self._lock:
            if self._kept.get(image.key) is image:  # and no newer one of the same content
                del self._kept[image.key]
                self.num_bytes -= image.num_bytes
            if self._shown.get(image.key) is image:
                del self._shown[image.key]

    def clear(self) -> None:
        """Forget all that no request holds."""
        with self._lock:
            self._kept.clear()
            self.num_bytes = 0

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)


def split_states(states: Tensor) -> list[Tensor]:
    """Split [num_crops, num_latents, hidden] into parts that can be freed one by one."""
    return [part.clone() for part in torch.unbind(states)]
