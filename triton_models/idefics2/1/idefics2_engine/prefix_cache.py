"""Keys and values of prompts that were read before, in blocks, for those that begin alike."""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from idefics2_engine.kv_cache import KVCache

BLOCK_TOKENS = 16


class PrefixCache:
    """Blocks of keys and values by what stands before and in them.

    A block's key hashes all tokens from the prompt's first to the block's last, with the content of every
    image among them: equal keys mean equal keys and values, whoever asks. Used by the engine's thread alone.
    """

    def __init__(self, max_bytes: int) -> None:
        """Hold up to `max_bytes`."""
        self._max_bytes = max_bytes
        self._blocks: OrderedDict[bytes, Tensor] = OrderedDict()
        self.num_bytes = 0

    def load(self, keys: list[bytes], cache: KVCache, slot: int, first: int = 0) -> int:
        """Write what is known of a prompt into a slot, from its block `first` on; return how many blocks."""
        known = list(itertools.takewhile(self._blocks.__contains__, keys[first:]))
        if not known:
            return 0
        start = first * BLOCK_TOKENS
        target = cache.read(slot, start, start + len(known) * BLOCK_TOKENS)
        for part, key in zip(target.split(BLOCK_TOKENS, 3), known, strict=False):
            part.copy_(self._blocks[key])
        self._touch(keys[: first + len(known)])
        return len(known)

    def store(self, keys: list[bytes], cache: KVCache, slot: int) -> None:
        """Keep what a slot holds of a prompt, from its beginning, as far as there is room for it alone."""
        block_bytes = cache.read(slot, 0, BLOCK_TOKENS).nbytes
        keys = keys[: self._max_bytes // block_bytes]
        self._touch(keys)  # so that it is others that make room
        for number, key in enumerate(keys):
            if key not in self._blocks:
                self._evict(self._max_bytes - block_bytes)
                start = number * BLOCK_TOKENS
                self._blocks[key] = cache.read(slot, start, start + BLOCK_TOKENS).clone()
                self.num_bytes += block_bytes
        self._touch(keys)

    def clear(self) -> None:
        """Forget all."""
        self._blocks.clear()
        self.num_bytes = 0

    def _evict(self, max_bytes: int) -> None:
        """Forget what was used longest ago, until no more than `max_bytes` are held."""
        while self.num_bytes > max_bytes:
            _, oldest = self._blocks.popitem(last=False)
            self.num_bytes -= oldest.nbytes

    def _touch(self, keys: list[bytes]) -> None:
        """Count blocks as used, the last of a prompt longest ago: without the first it is of no use."""
        for key in reversed(keys):
            if key in self._blocks:
                self._blocks.move_to_end(key)

    def __len__(self) -> int:
        """How many blocks are kept."""
        return len(self._blocks)


def make_keys(token_ids: list[int], images: list[tuple[int, bytes]]) -> list[bytes]:
    """Hash each full block of a prompt, but for the last token: its logits are always asked for.

    Args:
        token_ids: the prompt's.
        images: for each image, the position of its first token and the hash of its content.

    Returns:
        [(len(token_ids) - 1) // 16] keys.

    """
    return list(_chain(token_ids, sorted(images)))


def _chain(token_ids: list[int], images: list[tuple[int, bytes]]) -> Iterator[bytes]:
    key, waiting = b"", list(images)
    for end in range(BLOCK_TOKENS, len(token_ids), BLOCK_TOKENS):
        digest = hashlib.blake2b(key, digest_size=16)
        digest.update(struct.pack(f"<{BLOCK_TOKENS}i", *token_ids[end - BLOCK_TOKENS : end]))
        while waiting and waiting[0][0] < end:
            place, content = waiting.pop(0)
            digest.update(struct.pack("<q", place) + content)
        key = digest.digest()
        yield key
