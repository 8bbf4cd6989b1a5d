"""Takes files in, piece by piece, so that none is ever held whole and a broken upload can be gone on with."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from idefics2_service.errors import (
    FileMismatch,
    FileQuotaExceeded,
    FileStoreUnavailable,
    InvalidInput,
    UploadNotFound,
    ValueOutOfRange,
)
from idefics2_service.uploads import names
from idefics2_service.uploads.drafts import Draft, check_start, check_upload_id
from idefics2_service.uploads.quotas import FileQuotas
from idefics2_service.uploads.records import Part, StoredFile, UploadProgress

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from idefics2_service.blobs.interface import Blob, BlobStore
    from idefics2_service.settings import FileSettings
    from idefics2_service.uploads.library import Library
    from idefics2_service.uploads.quotas import Allowance
    from idefics2_service.uploads.records import UploadStart

MAX_CHUNK_BYTES = 2**20
PART_BYTES = 2 * 2**20
"""A part is kept when it has so many bytes; what a broken upload brought beyond its last part is lost."""


class Uploads:
    """All uploads of this replica."""

    def __init__(self, blobs: BlobStore, library: Library, settings: FileSettings) -> None:
        """Put parts into `blobs`, and files that are complete into `library`."""
        self._blobs = blobs
        self._library = library
        self._settings = settings
        self._quotas = FileQuotas(blobs, settings)

    async def receive(self, key_id: str, start: UploadStart, chunks: AsyncIterator[bytes]) -> StoredFile:
        """Take a file in, and return it when it is complete and safe.

        Cancelling it keeps the parts that are complete, if the upload has a name: another call may go on.
        What is refused is forgotten as a whole. A content that the key has is returned without its bytes.

        Raises:
            InvalidInput: something is out of bounds, or not as announced; or it is no picture.
            UploadNotFound: there is nothing to go on with.
            FileQuotaExceeded: the key may not have so much.
            FileStoreUnavailable: it cannot be kept now.

        """
        start = check_start(start, self._settings.max_file_bytes)
        known = await self._library.find_content(key_id, start.sha256) if start.sha256 else None
        if known is not None:
            expires_at = self._library.clock() + self._settings.keep_seconds
            return await self._library.keep(replace(known, expires_at=expires_at))
        draft = await self._begin(key_id, start)
        try:
            async with self._quotas.hold(key_id) as allowance:
                return await self._complete(draft, chunks, allowance)
        except BaseException as error:
            is_refused = isinstance(error, InvalidInput | FileQuotaExceeded) and not draft.has_broken_off
            if is_refused or not start.upload_id:
                await self._discard(draft)
            raise

    async def get_progress(self, key_id: str, upload_id: str) -> UploadProgress:
        """Tell how much of an unfinished upload is kept.

        Raises:
            UploadNotFound: nothing is.
            ValueOutOfRange: no upload can have this name.

        """
        check_upload_id("upload_id", upload_id)
        blobs = await self._find_parts(key_id, upload_id)
        expires_at = blobs[-1].modified_at + self._settings.keep_unfinished_seconds
        return UploadProgress(sum(blob.size_bytes for blob in blobs), expires_at)

    async def _begin(self, key_id: str, start: UploadStart) -> Draft:
        """Begin anew, or read what is kept: the digest of a file is that of all its parts."""
        if not start.offset:
            return Draft(key_id, names.make_id(), start)
        kept = await self._find_parts(key_id, start.upload_id)
        if start.offset != (size := sum(blob.size_bytes for blob in kept)):
            raise ValueOutOfRange.of("start.offset", f"{size}, as GetUpload tells, or 0", start.offset)
        draft = Draft(key_id, names.id_of(kept[0].name), start)
        for blob in kept:
            data = await self._blobs.get(blob.name) or b""
            if not draft.parts:
                draft.recognise(data)
            await draft.digest(data)
            draft.parts.append(Part(blob.name, blob.size_bytes))
        return draft

    async def _complete(self, draft: Draft, chunks: AsyncIterator[bytes], allowance: Allowance) -> StoredFile:
        allowance.check(draft.start.size_bytes - draft.size_bytes)
        async with aclosing(_join(self._measure(draft, chunks, allowance))) as pieces:
            await self._add_all(draft, pieces)
        draft.has_ended = True
        file = draft.finish(self._library.clock(), self._settings.keep_seconds)
        kept = await self._library.keep(file)
        await self._blobs.delete(*_pointers(draft))
        return kept

    async def _measure(
        self, draft: Draft, chunks: AsyncIterator[bytes], allowance: Allowance
    ) -> AsyncGenerator[bytes, None]:
        """Pass chunks on as long as they are within all bounds."""
        size, announced = draft.size_bytes, draft.start.size_bytes
        async for chunk in chunks:
            size += len(chunk)
            if len(chunk) > MAX_CHUNK_BYTES:
                raise ValueOutOfRange.of("chunk", f"at most {MAX_CHUNK_BYTES} bytes", len(chunk))
            if size > announced:
                raise FileMismatch.of("start.size_bytes", announced, f"{size} or more")
            allowance.take(len(chunk))
            yield chunk

    async def _add_all(self, draft: Draft, pieces: AsyncIterator[bytes]) -> None:
        """Keep each part while the next one comes."""
        adding: asyncio.Task[None] | None = None
        try:
            async for piece in pieces:
                if adding is not None:
                    await adding
                adding = asyncio.create_task(self._add(draft, piece))
            if adding is not None:
                await adding
        finally:
            if adding is not None:
                # Not cancelled, but waited for: nothing may come after what is discarded next.
                await asyncio.gather(adding, return_exceptions=True)

    async def _add(self, draft: Draft, piece: bytes) -> None:
        """Keep the next part; the first one lets the upload be found."""
        if not draft.parts:
            draft.recognise(piece)
        part = Part(names.make_part_name(draft.key_id, draft.id, draft.size_bytes), len(piece))
        await asyncio.gather(draft.digest(piece), self._blobs.put(part.name, piece))
        draft.parts.append(part)
        if len(draft.parts) == 1:
            for name in _pointers(draft):
                await self._blobs.put(name, draft.id.encode())

    async def _discard(self, draft: Draft) -> None:
        """Forget what came; what cannot be forgotten now is forgotten with time."""
        with suppress(FileStoreUnavailable):
            blobs = await self._blobs.list_blobs(names.file_folder(draft.key_id, draft.id))
            await self._blobs.delete(*(blob.name for blob in blobs), *_pointers(draft))

    async def _find_parts(self, key_id: str, upload_id: str) -> list[Blob]:
        """List what is kept of an unfinished upload, never nothing.

        Raises:
            UploadNotFound: nothing is.

        """
        pointer = await self._blobs.get(names.upload_name(key_id, upload_id)) or b""
        blobs = await self._blobs.list_blobs(names.file_folder(key_id, pointer.decode())) if pointer else []
        parts = names.chain_parts(blobs)
        is_over = not parts or any(names.is_record(blob.name) for blob in blobs)
        if is_over or parts[-1].modified_at + self._settings.keep_unfinished_seconds <= self._library.clock():
            raise UploadNotFound("nothing is kept of an upload of this name: begin anew, at offset 0")
        return parts


def _pointers(draft: Draft) -> tuple[str, ...]:
    """Name what leads to a draft: nothing, where the upload has no name."""
    upload_id = draft.start.upload_id
    return (names.upload_name(draft.key_id, upload_id),) if upload_id else ()


async def _join(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Make parts of chunks; the last one may be small."""
    held: list[bytes] = []
    async with aclosing(chunks):
        async for chunk in chunks:
            held.append(chunk)
            if sum(map(len, held)) >= PART_BYTES:
                yield b"".join(held)
                held.clear()
    if any(held):
        yield b"".join(held)
