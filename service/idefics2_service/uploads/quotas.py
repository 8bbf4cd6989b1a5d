"""How many files, and how many bytes of them, a key may have."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from idefics2_service.errors import FileQuotaExceeded
from idefics2_service.keys.records import Limits
from idefics2_service.uploads import names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from collections.abc import Set as AbstractSet

    from idefics2_service.blobs.interface import BlobStore
    from idefics2_service.settings import FileSettings
    from idefics2_service.uploads.records import Piece

MIN_PART_BYTES = 65_536
"""What a part counts for, where it has less: tiny ones are few bytes, but blobs that take long to list."""


@dataclass
class _Account:
    """What a key has, while it uploads; shared by all its uploads of this replica."""

    max_bytes: int = 0
    num_bytes: int = 0
    num_to_come: int = 0
    """Bytes that parts count for before they come."""
    allowances: list[Allowance] = field(default_factory=list)
    """Of files that come now; one stands there for each of their parts that do."""


@dataclass(eq=False)
class Allowance:
    """What one upload may take of what its key may have."""

    folder: str
    pieces: Sequence[Piece]
    """Of the upload, before they are written: it goes on."""
    account: _Account
    num_bytes: int = 0
    """How many came, those of calls before included."""
    num_to_come: int = 0
    """How many count before they come, of a part; no matter whether they do."""

    def take(self, num_bytes: int) -> None:
        """Count bytes that came.

        Raises:
            FileQuotaExceeded: they are too many.

        """
        self.check(num_bytes)
        self.num_bytes += num_bytes
        self.account.num_bytes += num_bytes
        self.expect(-min(num_bytes, self.num_to_come))

    def forgo(self) -> None:
        """Count nothing of what came: it is to be forgotten, and others shall not be refused for it."""
        self.account.num_bytes -= self.num_bytes
        self.num_bytes = 0

    def check(self, num_bytes: int) -> None:
        """Make sure that there is room for so many more bytes.

        Raises:
            FileQuotaExceeded: there is none.

        """
        more, bound = max(num_bytes - self.num_to_come, 0), self.account.max_bytes
        total = self.account.num_bytes + self.account.num_to_come + more
        if total > bound:
            message = (
                f"the files of this key would have {total} bytes; "
                f"at most {bound} are allowed: delete some, or wait until they expire"
            )
            raise FileQuotaExceeded(message, bound=str(bound))

    def expect(self, num_bytes: int) -> None:
        """Count more bytes, or fewer, before they come."""
        self.num_to_come += num_bytes
        self.account.num_to_come += num_bytes

    def count_unwritten(self, blob_names: AbstractSet[str]) -> int:
        """Count what came and is not among blobs of these names."""
        return self.num_bytes - sum(piece.size_bytes for piece in self.pieces if piece.name in blob_names)


class FileQuotas:
    """The allowances of keys that upload now."""

    def __init__(
        self,
        blobs: BlobStore,
        settings: FileSettings,
        limits_of: Callable[[str], Limits] = lambda _: Limits(),
    ) -> None:
        """Count what is in `blobs`, unfinished uploads included.

        `limits_of` tells what a key of this id may have, and raises Unauthenticated where it is not in force
        any more; what it leaves open is in `settings`.
        """
        self._blobs = blobs
        self._settings = settings
        self._limits_of = limits_of
        self._accounts: dict[str, _Account] = {}

    @asynccontextmanager
    async def hold(
        self, key_id: str, file_id: str, pieces: Sequence[Piece] = (), *, is_part: bool = False
    ) -> AsyncIterator[Allowance]:
        """Hold a place for one upload, and yield what it may take.

        What is kept is counted anew for each upload, by names and sizes alone, and what uploads of this
        replica hold and have not written beside it. Several replicas know of each other's bytes by then only,
        so that together they may pass the bound by what is on its way.

        Args:
            key_id: whose file it is.
            file_id: which one.
            pieces: of the upload, each before it is written; those from before are there already.
            is_part: whether it is a part of the file, of which there may be many.

        Raises:
            FileQuotaExceeded: the key has as many files as it may have.
            Unauthenticated: the key is not in force any more.

        """
        limits = self._limits_of(key_id)
        folder = names.file_folder(key_id, file_id)
        account = self._accounts.setdefault(key_id, _Account())
        account.max_bytes = limits.max_stored_bytes or self._settings.max_key_bytes
        allowance = Allowance(folder, pieces, account, sum(piece.size_bytes for piece in pieces))
        allowance.expect(MIN_PART_BYTES if is_part else 0)
        account.allowances.append(allowance)
        try:
            await self._count(key_id, account, limits.max_stored_files or self._settings.max_key_files)
            yield allowance
        finally:
            allowance.expect(-allowance.num_to_come)
            account.allowances.remove(allowance)
            if not account.allowances:
                self._accounts.pop(key_id, None)

    async def _count(self, key_id: str, account: _Account, max_files: int) -> None:
        before = account.allowances.copy()  # what ends meanwhile may be written too late to be found
        blobs = await self._blobs.list_blobs(names.files_folder(key_id))
        folders = {names.folder_of(blob) for blob in blobs}
        num_files = len(folders | {allowance.folder for allowance in account.allowances})
        if num_files > max_files:
            message = f"this key would have {num_files} files; at most {max_files} are allowed"
            raise FileQuotaExceeded(message, bound=str(max_files))
        pieces = (blob for blob in blobs if names.is_piece(blob.name))
        kept = {piece.name: _count_bytes(piece.name, piece.size_bytes) for piece in pieces}
        coming = dict.fromkeys((*before, *account.allowances))
        num_unwritten = sum(allowance.count_unwritten(kept.keys()) for allowance in coming)
        account.num_bytes = sum(kept.values()) + num_unwritten


def _count_bytes(name: str, size_bytes: int) -> int:
    """Return what a piece counts for."""
    return max(size_bytes, MIN_PART_BYTES) if names.is_of_part(name) else size_bytes
