"""The one interface of every blob store.

A blob is a few MiB at most, has a name like a path (`anna/files/3f/3f09/0`), and is there as a whole or not
at all. Files are larger: they are several blobs (`uploads/names.py`), so that none is ever held whole, an
upload can be gone on with on any replica, and nothing is copied at its end.

Every method may raise FileStoreUnavailable. What was put is kept: `put` does not return before it is safe.
Pieces of a file are made safe together: see `put_next`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from asyncio import Future

Data = bytes | memoryview


@dataclass(frozen=True)
class Blob:
    """A blob as a list shows it."""

    name: str
    size_bytes: int
    modified_at: float
    """When it was last put: seconds since the epoch, by the store's clock."""


class BlobStore(Protocol):
    """Keeps bytes by name. Names are made by us: parts of `A-Z a-z 0-9 _ . -` with slashes between."""

    max_writing: int
    """So many blobs that follow each other are worth putting at a time: more would only take memory."""

    async def start(self) -> None:
        """Make sure that it can be used.

        Raises:
            StartFailed: it cannot; the message names the setting.

        """
        ...

    async def close(self) -> None:
        """Let go of what it holds; nothing is asked of it any more. What hangs is not waited for."""
        ...

    async def put(self, name: str, *data: Data) -> None:
        """Keep a blob, all `data` behind each other, in place of the one of the same name."""
        ...

    async def put_new(self, name: str, *data: Data) -> bool:
        """Keep a blob as `put` does, if there is none of its name; of several at once, anywhere, one is.

        Returns whether it was kept. Where an answer of the store's was lost on its way, it may have been, and
        this says no all the same: what is there says whose it is.
        """
        ...

    async def put_next(self, name: str, *data: Data, after: Future[None] | None) -> None:
        """Keep a blob that follows one of the same folder: it is never there before that one.

        A process that is killed keeps it once this returns. A machine that loses power does so once `put` has
        kept another blob of the folder, or `settle` has returned.

        Args:
            name: as of `put`.
            data: as of `put`.
            after: done when the one before is there; None: it is the first. What it raises is raised.

        """
        ...

    async def settle(self, folder: str) -> None:
        """Make safe what `put_next` has kept in a folder."""
        ...

    async def get(self, name: str) -> bytes | None:
        """Return a blob; None: there is none."""
        ...

    async def get_part(self, name: str, offset: int, num_bytes: int) -> bytes | None:
        """Return so many bytes of a blob, 1 or more, from within it; fewer at its end; None: no blob."""
        ...

    async def delete(self, *names: str) -> None:
        """Forget blobs; those that are not there are no mistake."""
        ...

    async def list_blobs(self, folder: str) -> list[Blob]:
        """List all blobs below a folder, ordered by name."""
        ...

    async def list_folders(self) -> list[str]:
        """List the folders at the top; some of them may be empty."""
        ...
