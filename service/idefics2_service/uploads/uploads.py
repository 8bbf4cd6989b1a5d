"""Takes files in by stream, so that none is ever held whole and a broken upload can be gone on with."""

from __future__ import annotations

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from idefics2_service.errors import (
    FileQuotaExceeded,
    FileStoreUnavailable,
    InvalidInput,
    UploadNotFound,
    ValueOutOfRange,
)
from idefics2_service.uploads import names
from idefics2_service.uploads.drafts import Draft, check_start, check_upload_id, kept_until
from idefics2_service.uploads.meters import Meter
from idefics2_service.uploads.pieces import count_held, read_ahead
from idefics2_service.uploads.records import Piece, StoredFile, UploadProgress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from idefics2_service.blobs.interface import Blob, BlobStore, Data
    from idefics2_service.settings import FileSettings
    from idefics2_service.uploads.library import Library
    from idefics2_service.uploads.quotas import Allowance, FileQuotas
    from idefics2_service.uploads.records import UploadStart


class Uploads:
    """All uploads of this replica that come in one stream, or go on where one broke."""

    def __init__(
        self, blobs: BlobStore, library: Library, settings: FileSettings, quotas: FileQuotas
    ) -> None:
        """Put pieces into `blobs`, and files that are complete into `library`, within `quotas`."""
        self._blobs = blobs
        self._library = library
        self._settings = settings
        self._quotas = quotas

    def count_held(self, start: UploadStart) -> int:
        """Return how many bytes of an upload are held at a time, at most."""
        return count_held(self._blobs, start.size_bytes or None)

    async def receive(self, key_id: str, start: UploadStart, chunks: AsyncIterator[Data]) -> StoredFile:
        """Take a file in, and return it when it is complete and safe.

        Cancelling it keeps the pieces that are complete, if the upload has a name: another call may go on.
        What is refused is forgotten as a whole. A content that the key has is returned without its bytes.

        Raises:
            InvalidInput: something is out of bounds, or not as announced; or it is no picture.
            UploadNotFound: there is nothing to go on with, or some of it was forgotten meanwhile.
            FileQuotaExceeded: the key may not have so much.
            FileStoreUnavailable: it cannot be kept now.

        """
        start = check_start(start, self._settings.max_file_bytes)
        if start.sha256:
            expires_at = kept_until(start, self._library.clock(), self._settings.keep_seconds)
            known = await self._library.renew(key_id, start.sha256, expires_at)
            if known is not None:
                return known
        draft = await self._begin(key_id, start)
        async with self._quotas.hold(key_id, draft.id, draft.intake.pieces) as allowance:
            try:
                return await self._complete(draft, chunks, allowance)
            except BaseException as error:
                is_refused = isinstance(error, InvalidInput | FileQuotaExceeded) and not draft.has_broken_off
                if is_refused or not start.upload_id:
                    allowance.forgo()
                    await self._discard(draft)
                raise

    async def get_progress(self, key_id: str, upload_id: str) -> UploadProgress:
        """Tell how much of an unfinished upload is kept.

        Raises:
            UploadNotFound: nothing is.
            ValueOutOfRange: no upload can have this name.

        """
        check_upload_id("upload_id", upload_id)
        blobs = await self._find_pieces(key_id, upload_id)
        await self._blobs.settle(names.folder_of(blobs[0]))
        expires_at = blobs[-1].modified_at + self._settings.keep_unfinished_seconds
        return UploadProgress(sum(blob.size_bytes for blob in blobs), expires_at)

    async def _begin(self, key_id: str, start: UploadStart) -> Draft:
        """Begin anew, or read what is kept: the digest of a file is that of all its pieces."""
        if not start.offset:
            return Draft.begin(self._blobs, key_id, names.make_id(), start)
        kept = await self._find_pieces(key_id, start.upload_id)
        if start.offset != (size := sum(blob.size_bytes for blob in kept)):
            raise ValueOutOfRange.of("start.offset", f"{size}, as GetUpload tells, or 0", start.offset)
        draft = Draft.begin(self._blobs, key_id, names.id_of(kept[0].name), start)
        pieces = [Piece(blob.name, blob.size_bytes) for blob in kept]
        async with aclosing(read_ahead(self._blobs, pieces)) as found:
            await draft.go_on_after(pieces, found)
        return draft

    async def _complete(self, draft: Draft, chunks: AsyncIterator[Data], allowance: Allowance) -> StoredFile:
        async def begin(data: bytes) -> None:
            """Let the upload be found, if it can be of use."""
            draft.recognise(data)
            for name in _pointers(draft):
                await self._blobs.put(name, draft.id.encode())

        kept_bytes, max_bytes = draft.intake.size_bytes, self._settings.max_file_bytes
        meter = Meter(allowance, draft.start.size_bytes, max_bytes, "start.size_bytes", kept_bytes)
        async with aclosing(meter.pass_on(chunks)) as measured:
            await draft.intake.take(measured, begin)
        file = draft.finish(self._library.clock(), self._settings.keep_seconds)
        kept = await self._library.keep(file)
        await self._blobs.delete(*_pointers(draft))
        return kept

    async def _discard(self, draft: Draft) -> None:
        """Forget what came, unless it was completed by another call; and what leads to it."""
        await self._library.discard(draft.key_id, draft.id, draft.intake.pieces)
        with suppress(FileStoreUnavailable):
            await self._blobs.delete(*_pointers(draft))

    async def _find_pieces(self, key_id: str, upload_id: str) -> list[Blob]:
        """List what is kept of an unfinished upload, never nothing.

        Raises:
            UploadNotFound: nothing is.

        """
        pointer = await self._blobs.get(names.upload_name(key_id, upload_id)) or b""
        blobs = await self._blobs.list_blobs(names.file_folder(key_id, pointer.decode())) if pointer else []
        pieces = names.chain_pieces(blobs)
        is_over = not pieces or any(names.is_record(blob.name) for blob in blobs)
        if (
            is_over
            or pieces[-1].modified_at + self._settings.keep_unfinished_seconds <= self._library.clock()
        ):
            raise UploadNotFound("nothing is kept of an upload of this name: begin anew, at offset 0")
        return pieces


def _pointers(draft: Draft) -> tuple[str, ...]:
    """Name what leads to a draft: nothing, where the upload has no name."""
    upload_id = draft.start.upload_id
    return (names.upload_name(draft.key_id, upload_id),) if upload_id else ()
