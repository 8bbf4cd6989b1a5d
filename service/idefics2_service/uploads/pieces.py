"""From chunks, as they come, to pieces that are kept: hashed and written while the next ones come."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

from idefics2_service.uploads.records import Piece

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from idefics2_service.blobs.interface import BlobStore, Data

PIECE_BYTES = 4 * 2**20
"""A piece is kept when it has so many bytes; what a broken upload brought beyond its last piece is lost."""
FIRST_BYTES = 64
"""So many, or all, tell what a file is."""
_MAX_READING = 2


class Digest(Protocol):
    """One of hashlib's, whose own type has no name."""

    def update(self, data: Data, /) -> None:
        """Go on with more bytes."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes."""
        ...


class Intake:
    """Takes in bytes that belong together: a file's, or a part's."""

    def __init__(self, blobs: BlobStore, name_piece: Callable[[int], str], digest: Digest) -> None:
        """Put pieces into `blobs`, each under the name that `name_piece` gives to its offset."""
        self._blobs = blobs
        self._name_piece = name_piece
        self._digest = digest
        self._hashing = ThreadPoolExecutor(1, "hashing")
        """Takes pieces in the order in which they came, without asking the loop each time."""
        self.pieces: list[Piece] = []
        """In order; the last ones may not be there before `take` returns."""

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return sum(piece.size_bytes for piece in self.pieces)

    @property
    def hexdigest(self) -> str:
        """The digest of all of them."""
        return self._digest.hexdigest()

    async def take(
        self, chunks: AsyncIterator[Data], begin: Callable[[bytes], Awaitable[None]] | None = None
    ) -> None:
        """Keep all that comes; once this returns, it is there, and safe with what is put beside it next.

        Whatever ends this, the pieces that are there follow each other from the first byte on.

        Args:
            chunks: what comes.
            begin: awaited once, with the first bytes, before anything is kept; may refuse them.

        """
        keeping: deque[asyncio.Task[None]] = deque()
        try:
            async with aclosing(_join(chunks)) as joined:
                async for held in joined:
                    if begin is not None and not self.pieces:
                        await begin(_first_bytes(held))
                    if len(keeping) == self._blobs.max_writing:
                        await _finish_first(keeping)
                    after = keeping[-1] if keeping else None
                    keeping.append(asyncio.create_task(self._keep(self._name(held), held, after)))
            while keeping:
                await _finish_first(keeping)
        finally:
            # Not cancelled, but waited for: nothing may come after what is discarded next.
            await asyncio.gather(*keeping, return_exceptions=True)

    async def go_on_after(self, piece: Piece, data: bytes) -> None:
        """Begin behind a piece that is kept already."""
        await self._hash((data,))
        self.pieces.append(piece)

    def _name(self, chunks: Sequence[Data]) -> Piece:
        piece = Piece(self._name_piece(self.size_bytes), sum(map(len, chunks)))
        self.pieces.append(piece)
        return piece

    async def _keep(self, piece: Piece, chunks: Sequence[Data], after: asyncio.Task[None] | None) -> None:
        await asyncio.gather(self._hash(chunks), self._blobs.put_next(piece.name, *chunks, after=after))

    async def _hash(self, chunks: Sequence[Data]) -> None:
        """Go on with the next bytes; in a thread, for it takes milliseconds."""
        await asyncio.get_running_loop().run_in_executor(self._hashing, _update, self._digest, chunks)


def count_held(blobs: BlobStore, size_bytes: int | None) -> int:
    """Return how many bytes an intake holds at a time, at most: a piece that comes, and those being written.

    Args:
        blobs: where they are put.
        size_bytes: how many come; None: not known.

    """
    most = (1 + blobs.max_writing) * PIECE_BYTES
    return most if size_bytes is None else min(size_bytes, most)


async def _finish_first(tasks: deque[asyncio.Task[None]]) -> None:
    """Take out the first task when it is done; who is cancelled meanwhile leaves it as it is."""
    await asyncio.wait((tasks[0],))
    await tasks.popleft()


def _first_bytes(chunks: Sequence[Data]) -> bytes:
    data = b""
    for chunk in chunks:
        data += chunk[: FIRST_BYTES - len(data)]
        if len(data) == FIRST_BYTES:
            break
    return data


def _update(digest: Digest, chunks: Sequence[Data]) -> None:
    for chunk in chunks:
        digest.update(chunk)


async def _join(chunks: AsyncIterator[Data]) -> AsyncGenerator[Sequence[Data], None]:
    """Put chunks together that make a piece; the last one may be small."""
    held: list[Data] = []
    size = 0
    async for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= PIECE_BYTES:
            yield held
            held, size = [], 0
    if size:
        yield held


async def read_ahead(blobs: BlobStore, pieces: Iterable[Piece]) -> AsyncGenerator[bytes | None, None]:
    """Yield the bytes of each piece, and read the next one meanwhile; None: it is gone."""
    reading: deque[asyncio.Task[bytes | None]] = deque()
    try:
        for piece in pieces:
            reading.append(asyncio.create_task(blobs.get(piece.name)))
            if len(reading) == _MAX_READING:
                yield await reading.popleft()
        while reading:
            yield await reading.popleft()
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
