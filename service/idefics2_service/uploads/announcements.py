"""Files that are announced first: their id is told at once, and whoever knows it may bring the bytes.

That one needs no key: the id is the capability, 128 random bits, good for one file, once, until its time
is over.
The bytes count for the key that announced it, which must still be in force. They come as a whole or by parts,
on any replica: all that is known of the file is in the blob store.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import aclosing, asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, NamedTuple

from idefics2_service.errors import (
    FileAlreadyComplete,
    FileNotAnImage,
    FileStoreUnavailable,
    UploadNotFound,
    UploadPartMissing,
)
from idefics2_service.uploads import names, parts
from idefics2_service.uploads.drafts import OF_BODY, Draft, check_keep_seconds, check_name, recognise
from idefics2_service.uploads.library import check_same
from idefics2_service.uploads.meters import Meter, check_size
from idefics2_service.uploads.pieces import Intake, count_held, read_ahead
from idefics2_service.uploads.records import (
    Announcement,
    StoredFile,
    UploadStart,
    decode_announcement,
    encode_announcement,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from idefics2_service.blobs.interface import Blob, BlobStore, Data
    from idefics2_service.settings import FileSettings
    from idefics2_service.uploads.library import Library
    from idefics2_service.uploads.parts import KeptPart
    from idefics2_service.uploads.quotas import Allowance, FileQuotas
    from idefics2_service.uploads.records import Piece

_PERHAPS_IMAGE = re.compile(
    r"(image/.*|(application|binary)/octet-stream\s*(;.*)?)?", re.IGNORECASE | re.DOTALL
)
"""Content types that pictures are announced with; which one it is, its bytes say."""


class AnnouncedFields(NamedTuple):
    """How the caller's face calls what is said of a file, for errors."""

    name: str = "name"
    content_type: str = "content_type"


_USUAL_FIELDS = AnnouncedFields()


class Announcements:
    """All files that are to come."""

    def __init__(
        self, blobs: BlobStore, library: Library, settings: FileSettings, quotas: FileQuotas
    ) -> None:
        """Put pieces into `blobs`, and files that are complete into `library`, within `quotas`."""
        self._blobs = blobs
        self._library = library
        self._settings = settings
        self._quotas = quotas

    async def announce(
        self,
        key_id: str,
        name: str = "",
        content_type: str = "",
        keep_seconds: float | None = None,
        fields: AnnouncedFields = _USUAL_FIELDS,
    ) -> str:
        """Return the id of a file to come, safe before this returns.

        Nothing comes of it if no bytes come within `file.keep_unfinished_seconds`.

        Args:
            key_id: whose file it will be.
            name: what to call it in lists and links; may be empty.
            content_type: what the caller takes it for; what its bytes say counts.
            keep_seconds: how long to keep it once it is complete; None, or more than is set: as is set.
            fields: what errors call name and content type.

        Raises:
            ValueOutOfRange: it cannot be called so, or kept for so long.
            FileNotAnImage: it will be no picture.
            FileQuotaExceeded: the key may not have one more file.
            FileStoreUnavailable: it cannot be kept now.

        """
        check_name(fields.name, name)
        check_keep_seconds("keep_seconds", keep_seconds)
        if not _PERHAPS_IMAGE.fullmatch(content_type):
            message = f"{fields.content_type}: only pictures are taken, not {content_type[:80]!r}"
            raise FileNotAnImage(message, field=fields.content_type)
        file_id = names.make_id()
        async with self._quotas.hold(key_id, file_id):
            data = encode_announcement(Announcement(name, keep_seconds))
            await self._blobs.put(names.announcement_name(key_id, file_id), data)
        return file_id

    async def withdraw(self, key_id: str, file_id: str) -> None:
        """Forget a file that is to come, whose id nobody was told; one that is complete stays.

        What cannot be forgotten now is forgotten with time.
        """
        await self._library.discard(key_id, file_id, ())

    def count_held(self, size_bytes: int | None) -> int:
        """Return how many bytes of a body of this size are held at a time, at most; None: it is not known."""
        return count_held(self._blobs, size_bytes)

    async def receive(
        self, key_id: str, file_id: str, size_bytes: int | None, chunks: AsyncIterator[Data]
    ) -> StoredFile:
        """Take an announced file in as a whole, and return it when it is complete and safe.

        What breaks off or is refused leaves nothing: the file may be brought again. The same bytes again, as
        after a lost answer, are read and answered with the file; so are those of two who bring it at once.

        Args:
            key_id: whose file it is.
            file_id: what `announce` returned.
            size_bytes: how many bytes there are; None: not known, they end where `chunks` do.
            chunks: the bytes, at most MAX_CHUNK_BYTES at a time.

        Raises:
            UploadNotFound: no such file was announced, or its time is over.
            FileAlreadyComplete: other bytes came before.
            InvalidInput: it is empty, too large, not of this size, or no picture.
            FileQuotaExceeded: the key may not have so much.
            Unauthenticated: the key is not in force any more.
            FileStoreUnavailable: it cannot be kept now.

        """
        known = await self._library.find(key_id, file_id)
        if known is not None:
            return await _compare(known, size_bytes, chunks)
        try:
            announcement, _ = await self._find(key_id, file_id)
        except UploadNotFound:
            known = await self._library.find(key_id, file_id)
            if known is None:  # else who brought it at the same time was done meanwhile
                raise
            return await _compare(known, size_bytes, chunks)
        start = UploadStart(size_bytes or 0, name=announcement.name, keep_seconds=announcement.keep_seconds)
        draft = Draft.begin(self._blobs, key_id, file_id, start, OF_BODY)

        async def begin(data: bytes) -> None:
            draft.recognise(data)

        pieces, field = draft.intake.pieces, _name_size(size_bytes)
        holding = self._quotas.hold(key_id, file_id, pieces)
        async with holding as allowance, self._keeping(draft.intake, allowance):
            meter = Meter(allowance, start.size_bytes, self._settings.max_file_bytes, field)
            async with aclosing(meter.pass_on(chunks)) as measured:
                await draft.intake.take(measured, begin)
            meter.check_end()
        return await self._finish(draft)

    async def receive_part(
        self, key_id: str, file_id: str, number: int, size_bytes: int | None, chunks: AsyncIterator[Data]
    ) -> str:
        """Take in a part of an announced file, and return its etag when it is safe.

        Parts come in any order, and at the same time. One that comes again takes the place of the one before,
        but leaves alone one that comes at the same time: which of them counts is said at the end, by etag.

        Args:
            key_id: whose file it is.
            file_id: what `announce` returned.
            number: which part, 1 to 1,000.
            size_bytes: how many bytes it has; None: not known, they end where `chunks` do.
            chunks: the bytes, at most MAX_CHUNK_BYTES at a time.

        Returns:
            The MD5 of its bytes as HTTP writes an etag: hexadecimal digits between quotation marks.

        Raises:
            ValueOutOfRange: there can be no part of this number.
            UploadNotFound: no such file was announced, or its time is over.
            FileAlreadyComplete: the file is.
            InvalidInput: it is empty or not of this size, all are too large, or the first is no picture.
            FileQuotaExceeded: the key may not have so much.
            Unauthenticated: the key is not in force any more.
            FileStoreUnavailable: it cannot be kept now.

        """
        parts.check_number("part_number", number)
        await self._check_incomplete(key_id, file_id)
        try:
            _, blobs = await self._find(key_id, file_id)
        except UploadNotFound:
            await self._check_incomplete(key_id, file_id)  # who joined its parts may be done meanwhile
            raise
        kept = parts.read_parts(blobs)
        num_others = sum(part.size_bytes for part in kept if part.number != number)
        prefix = names.make_part_prefix(key_id, file_id, number)
        intake = _begin_part(self._blobs, prefix)

        async def begin(data: bytes) -> None:
            if number == 1:
                recognise(OF_BODY.body, data)

        holding = self._quotas.hold(key_id, file_id, intake.pieces, is_part=True)
        async with holding as allowance, self._keeping(intake, allowance):
            max_bytes = self._settings.max_file_bytes
            field = _name_size(size_bytes)
            meter = Meter(allowance, size_bytes or 0, max_bytes, field, num_others=num_others)
            async with aclosing(meter.pass_on(chunks)) as measured:
                await intake.take(measured, begin)
            meter.check_end()
        await self._blobs.put(names.etag_name(prefix, intake.hexdigest, intake.size_bytes), b"")
        before = [name for part in kept if part.number == number for name in part.blob_names]
        await self._blobs.delete(*before)
        return parts.make_etag(intake.hexdigest)

    async def complete(
        self,
        key_id: str,
        file_id: str,
        named: Sequence[tuple[int, str]],
        hold: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> StoredFile:
        """Join parts by their numbers, and return the file when it is safe.

        Asking again, as after a lost answer, gives the same file. Parts that are not named are forgotten.

        Args:
            key_id: whose file it is.
            file_id: what `announce` returned.
            named: number and etag of each part, in any order; the etag with or without quotation marks.
            hold: what it returns is entered once all parts are known to be there, and left when the file is.

        Raises:
            UploadNotFound: no such file was announced, or its time is over.
            ValueOutOfRange: too few or too many are named, or one of them twice.
            UploadPartMissing: one did not come, or was left out between others.
            FileMismatch: a part has another etag.
            FileTooLarge: all together are.
            FileNotAnImage: it is no picture.
            FileStoreUnavailable: it cannot be kept now.

        """
        known = await self._library.find(key_id, file_id)
        if known is not None:
            return known
        try:
            announcement, blobs = await self._find(key_id, file_id)
            chosen = parts.choose(parts.read_parts(blobs), named)
            check_size("parts", sum(part.size_bytes for part in chosen), self._settings.max_file_bytes)
            with hold():
                async with self._quotas.hold(key_id, file_id):
                    return await self._finish(await self._join(key_id, file_id, announcement, chosen))
        except (UploadNotFound, UploadPartMissing):
            known = await self._library.find(key_id, file_id)
            if known is None:  # else who asked before was done meanwhile, and took all away that came
                raise
            return known

    async def _check_incomplete(self, key_id: str, file_id: str) -> None:
        if await self._library.find(key_id, file_id) is not None:
            raise FileAlreadyComplete(f"the file {file_id} is complete: it takes no more parts")

    async def _join(
        self, key_id: str, file_id: str, announcement: Announcement, chosen: Sequence[KeptPart]
    ) -> Draft:
        """Read all parts once: what the file is and its digest are those of the whole."""
        start = UploadStart(0, name=announcement.name, keep_seconds=announcement.keep_seconds)
        draft = Draft.begin(self._blobs, key_id, file_id, start, OF_BODY)
        pieces = [piece for part in chosen for piece in part.pieces]
        async with aclosing(read_ahead(self._blobs, pieces)) as found:
            await draft.go_on_after(pieces, found)
        return draft

    async def _finish(self, draft: Draft) -> StoredFile:
        file = draft.finish(self._library.clock(), self._settings.keep_seconds)
        try:
            kept = await self._library.keep_announced(file)
        except FileAlreadyComplete:
            await self._library.discard(file.key_id, file.id, file.pieces)
            raise
        if kept is not file:  # somebody else brought the same meanwhile
            await self._library.discard(file.key_id, file.id, file.pieces)
        return kept

    @asynccontextmanager
    async def _keeping(self, intake: Intake, allowance: Allowance) -> AsyncIterator[None]:
        """Forget what came if the block fails: what is not whole is of no use."""
        try:
            yield
        except BaseException:
            allowance.forgo()
            await self._forget(intake.pieces)
            raise

    async def _forget(self, pieces: Iterable[Piece]) -> None:
        """Forget pieces; those that cannot be forgotten now are forgotten with time."""
        with suppress(FileStoreUnavailable):
            await self._blobs.delete(*(piece.name for piece in pieces))

    async def _find(self, key_id: str, file_id: str) -> tuple[Announcement, list[Blob]]:
        """Return what was announced, and all that came since.

        Raises:
            UploadNotFound: nothing was, or nobody went on with it in time.

        """
        is_name = names.is_key_id(key_id) and names.is_id(file_id)
        data = await self._blobs.get(names.announcement_name(key_id, file_id)) if is_name else None
        blobs = await self._blobs.list_blobs(names.file_folder(key_id, file_id)) if data is not None else []
        last = max((blob.modified_at for blob in blobs), default=0.0)
        if data is None or last + self._settings.keep_unfinished_seconds <= self._library.clock():
            raise UploadNotFound("no file of this id was announced, or its time is over: announce it again")
        return decode_announcement(data), blobs


def _name_size(size_bytes: int | None) -> str:
    """Say what tells how many bytes come: where nobody said it before, they do."""
    return "size_bytes" if size_bytes else OF_BODY.body


def _begin_part(blobs: BlobStore, prefix: str) -> Intake:
    def name_piece(offset: int) -> str:
        return names.part_piece_name(prefix, offset)

    return Intake(blobs, name_piece, hashlib.md5(usedforsecurity=False))


async def _compare(known: StoredFile, size_bytes: int | None, chunks: AsyncIterator[Data]) -> StoredFile:
    """Return a file that is complete, if what comes once more is what came before.

    Raises:
        FileAlreadyComplete: it is not.

    """
    digest, num_bytes = hashlib.sha256(), 0
    if size_bytes in {None, known.size_bytes}:
        async for chunk in chunks:
            num_bytes += len(chunk)
            if num_bytes > known.size_bytes:
                break
            digest.update(chunk)
    return check_same(known, digest.hexdigest())
