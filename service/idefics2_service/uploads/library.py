"""All files that are complete: each is its key's own, and is forgotten after its time."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import structlog

from idefics2_service.errors import FileNotUploaded, FileStoreUnavailable
from idefics2_service.uploads import names
from idefics2_service.uploads.records import StoredFile, decode_file, encode_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from idefics2_service.blobs.interface import Blob, BlobStore
    from idefics2_service.settings import FileSettings
    from idefics2_service.uploads.records import Part

logger = structlog.get_logger(__name__)

_TIDY_SECONDS = 60.0


class Library:
    """The files of all keys."""

    def __init__(
        self, blobs: BlobStore, settings: FileSettings, clock: Callable[[], float] = time.time
    ) -> None:
        """Keep files in `blobs`; `clock` tells seconds since the epoch."""
        self._blobs = blobs
        self._settings = settings
        self.clock = clock
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One for each key: two who bring the same, or bring and delete it, take turns."""

    async def find(self, key_id: str, file_id: str) -> StoredFile | None:
        """Return a key's file by its id."""
        data = await self._blobs.get(names.record_name(key_id, file_id)) if names.is_id(file_id) else None
        file = decode_file(data) if data is not None else None
        return file if file is not None and file.expires_at > self.clock() else None

    async def find_content(self, key_id: str, sha256: str) -> StoredFile | None:
        """Return a key's file by the sha-256 of its bytes, in lower case."""
        file_id = await self._blobs.get(names.content_name(key_id, sha256))
        return None if file_id is None else await self.find(key_id, file_id.decode())

    async def read(
        self, file: StoredFile, offset: int = 0, max_bytes: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield a file's bytes from `offset` on, at most `max_bytes`, a part at a time.

        Raises:
            FileNotUploaded: it was deleted meanwhile.

        """
        end = file.size_bytes if max_bytes is None else min(offset + max_bytes, file.size_bytes)
        start = 0
        for part in file.parts:
            if start < end and offset < start + part.size_bytes:
                data = await self._read_part(file, part)
                yield data[max(offset - start, 0) : end - start]
            start += part.size_bytes

    async def keep(self, file: StoredFile) -> StoredFile:
        """Keep a file whose parts are all there, or let the one of the same content last as long.

        Returns what is kept: where the content was known, that is the file of before.
        """
        async with self._locks[file.key_id]:
            known = await self.find_content(file.key_id, file.sha256)
            kept = file if known is None else replace(known, expires_at=file.expires_at)
            await self._blobs.put(names.content_name(kept.key_id, kept.sha256), kept.id.encode())
            await self._blobs.put(names.record_name(kept.key_id, kept.id), encode_file(kept))
            await self._blobs.delete(*(part.name for part in file.parts if part not in kept.parts))
        return kept

    async def delete(self, file: StoredFile) -> None:
        """Forget a file."""
        async with self._locks[file.key_id]:
            await self._blobs.delete(names.record_name(file.key_id, file.id))  # first: no half is ever seen
            await self._blobs.delete(
                names.content_name(file.key_id, file.sha256), *(part.name for part in file.parts)
            )

    async def list_page(
        self, key_id: str, limit: int, after: str = ""
    ) -> tuple[list[StoredFile], str | None]:
        """Return a key's files by id, at most `limit`, and after which id there are more; None: nowhere."""
        blobs = await self._blobs.list_blobs(names.files_folder(key_id))
        ids = [names.id_of(blob.name) for blob in blobs if names.is_record(blob.name)]
        wanted = [file_id for file_id in ids if file_id > after]
        found = await asyncio.gather(*(self.find(key_id, file_id) for file_id in wanted[:limit]))
        return [file for file in found if file], wanted[limit - 1] if len(wanted) > limit else None

    async def tidy(self) -> None:
        """Forget what is over, for ever."""
        while True:
            with suppress(FileStoreUnavailable):
                await self.sweep()
            await asyncio.sleep(_TIDY_SECONDS)

    async def sweep(self) -> None:
        """Forget files whose time is over, and uploads that nobody went on with."""
        for key_id in await self._blobs.list_folders():
            blobs = await self._blobs.list_blobs(names.files_folder(key_id))
            for _, group in groupby(blobs, names.folder_of):
                await self._expire(key_id, list(group))
            for folder in names.pointer_folders(key_id):
                for blob in await self._blobs.list_blobs(folder):
                    await self._expire_pointer(key_id, blob)

    async def _expire(self, key_id: str, blobs: list[Blob]) -> None:
        """Forget the file of these blobs, if its time is over."""
        is_complete = any(names.is_record(blob.name) for blob in blobs)
        seconds = self._settings.keep_seconds if is_complete else self._settings.keep_unfinished_seconds
        if not all(self._is_over(blob, seconds) for blob in blobs):
            return
        async with self._locks[key_id]:
            file_id = names.id_of(blobs[0].name)
            if await self.find(key_id, file_id) is None:  # else it was promised for longer
                await self._blobs.delete(names.record_name(key_id, file_id))
                await self._blobs.delete(*(blob.name for blob in blobs))
                logger.info("file expired", file_id=file_id, key_id=key_id, was_complete=is_complete)

    async def _expire_pointer(self, key_id: str, blob: Blob) -> None:
        """Forget what leads to a file, if the file is forgotten."""
        if self._is_over(blob, self._settings.keep_seconds):
            file_id = await self._blobs.get(blob.name) or b""
            if await self.find(key_id, file_id.decode()) is None:
                await self._blobs.delete(blob.name)

    def _is_over(self, blob: Blob, seconds: float) -> bool:
        return blob.modified_at + seconds <= self.clock()

    async def _read_part(self, file: StoredFile, part: Part) -> bytes:
        data = await self._blobs.get(part.name)
        if data is None:
            # Its record must not promise again what is gone: the same upload would find it, and add nothing.
            await self._blobs.delete(names.record_name(file.key_id, file.id))
            raise FileNotUploaded.of(file.id)
        return data
