"""How many files, and how many bytes of them, a key may have."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from idefics2_service.errors import FileQuotaExceeded
from idefics2_service.keys.records import Limits
from idefics2_service.uploads import names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from idefics2_service.blobs.interface import BlobStore
    from idefics2_service.settings import FileSettings


@dataclass
class Allowance:
    """What a key has, while it uploads; shared by all its uploads of this replica."""

    max_bytes: int = 0
    num_bytes: int = 0
    folders: list[str] = field(default_factory=list)
    """Of files that come now; one stands there for each of its parts that do."""

    def take(self, num_bytes: int) -> None:
        """Count bytes that came.

        Raises:
            FileQuotaExceeded: they are too many.

        """
        self.check(num_bytes)
        self.num_bytes += num_bytes

    def check(self, num_bytes: int) -> None:
        """Make sure that there is room for so many more bytes.

        Raises:
            FileQuotaExceeded: there is none.

        """
        if self.num_bytes + num_bytes > self.max_bytes:
            message = (
                f"the files of this key would have {self.num_bytes + num_bytes} bytes; "
                f"at most {self.max_bytes} are allowed: delete some, or wait until they expire"
            )
            raise FileQuotaExceeded(message, bound=str(self.max_bytes))


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
        self._allowances: dict[str, Allowance] = {}

    @asynccontextmanager
    async def hold(self, key_id: str, file_id: str) -> AsyncIterator[Allowance]:
        """Hold a place for one upload, and yield what its key may have.

        What is kept is counted anew for each upload, by names and sizes alone. Several replicas know of each
        other's bytes by then only, so that together they may pass the bound by what is on its way.

        Raises:
            FileQuotaExceeded: the key has as many files as it may have.
            Unauthenticated: the key is not in force any more.

        """
        limits = self._limits_of(key_id)
        folder = names.file_folder(key_id, file_id)
        allowance = self._allowances.setdefault(key_id, Allowance())
        allowance.max_bytes = limits.max_stored_bytes or self._settings.max_key_bytes
        allowance.folders.append(folder)
        try:
            await self._count(key_id, allowance, limits.max_stored_files or self._settings.max_key_files)
            yield allowance
        finally:
            allowance.folders.remove(folder)
            if not allowance.folders:
                self._allowances.pop(key_id, None)

    async def _count(self, key_id: str, allowance: Allowance, max_files: int) -> None:
        blobs = await self._blobs.list_blobs(names.files_folder(key_id))
        num_files = len({names.folder_of(blob) for blob in blobs} | set(allowance.folders))
        if num_files > max_files:
            message = f"this key would have {num_files} files; at most {max_files} are allowed"
            raise FileQuotaExceeded(message, bound=str(max_files))
        allowance.num_bytes = sum(blob.size_bytes for blob in blobs if names.is_piece(blob.name))
