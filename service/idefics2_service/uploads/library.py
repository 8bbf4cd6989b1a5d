"""All files that are complete: each is its key's own, and is forgotten after its time."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, NoReturn

import structlog

from idefics2_service.errors import (
    FileAlreadyComplete,
    FileNotUploaded,
    FileStoreUnavailable,
    UploadNotFound,
)
from idefics2_service.uploads import names
from idefics2_service.uploads.pace import Pace
from idefics2_service.uploads.pieces import read_ahead
from idefics2_service.uploads.records import decode_file, encode_file

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence

    from idefics2_service.blobs.interface import Blob, BlobStore
    from idefics2_service.settings import FileSettings
    from idefics2_service.uploads.pace import Room
    from idefics2_service.uploads.records import Piece, StoredFile

logger = structlog.get_logger(__name__)

_TIDY_SECONDS = 60.0
GRACE_SECONDS = 60.0
"""So long after its time a file is forgotten. Until half of it is over, a replica that found the file in time
may let it last longer: whoever forgets sees that, if no clock is off by more than the other half."""
_MAX_FINDING = 32
_PIECE_GONE = "a piece of the file was forgotten before all had come: begin anew"


class Library:
    """The files of all keys."""

    def __init__(
        self,
        blobs: BlobStore,
        settings: FileSettings,
        clock: Callable[[], float] = time.time,
        tell: Callable[[str, int], None] = lambda *_: None,
    ) -> None:
        """Keep files in `blobs`; `clock` tells seconds since the epoch.

        `tell` hears of each file that is kept, whether its content is `new` or `known`, and its bytes.
        """
        self._tell = tell
        self._blobs = blobs
        self._settings = settings
        self.clock = clock
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One for each key: two who bring the same, or bring and delete it, take turns."""

    async def find(self, key_id: str, file_id: str) -> StoredFile | None:
        """Return a key's file by its id; whoever knows the id may read it.

        One whose record is damaged is no file any more, and is forgotten in its time.
        """
        file = await self._read_record(key_id, file_id)
        return file if file is not None and self._is_in_force(file) else None

    async def find_content(self, key_id: str, sha256: str) -> StoredFile | None:
        """Return a key's file by the sha-256 of its bytes, in lower case: of several the one that lasts."""
        blobs = await self._blobs.list_blobs(names.content_folder(key_id, sha256))
        found = await self._find_all(key_id, [names.last_of(blob.name) for blob in blobs])
        # Not what somebody leads to who died between this and a record that another was first with.
        files = [file for file in found if file.sha256 == sha256]
        return max(files, key=lambda file: file.expires_at, default=None)

    async def read(self, file: StoredFile) -> bytes:
        """Return all bytes of a file; whoever asks has room for them.

        Raises:
            FileNotUploaded: it was deleted meanwhile.

        """
        async with aclosing(read_ahead(self._blobs, file.pieces)) as found:
            pieces = [piece async for piece in found]
        if None in pieces:
            await self._forget(file)
        return b"".join(filter(None, pieces))

    async def stream(
        self, file: StoredFile, room: Room, offset: int = 0, max_bytes: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield a file's bytes from `offset` on, at most `max_bytes`, as fast as they are taken.

        At most PIECE_BYTES are read at a time, and what is more than a little is held in `room`.

        Raises:
            FileNotUploaded: it was deleted meanwhile.

        """
        pace = Pace(room)
        end = file.size_bytes if max_bytes is None else min(offset + max_bytes, file.size_bytes)
        starts = accumulate((piece.size_bytes for piece in file.pieces), initial=0)
        for at, piece in zip(starts, file.pieces, strict=False):  # the last one starts nowhere: it is the end
            while at <= offset < min(at + piece.size_bytes, end):
                wanted = min(pace.step(), at + piece.size_bytes - offset, end - offset)
                data = await self._blobs.get_part(piece.name, offset - at, wanted)
                if not data:
                    await self._forget(file)
                yield data
                offset += len(data)

    async def renew(self, key_id: str, sha256: str, expires_at: float) -> StoredFile | None:
        """Let the file of a content last until then at least, and return it; None: there is none any more."""
        async with self._locks[key_id]:
            renewed = await self._renew(key_id, sha256, expires_at)
            if renewed is not None:
                self._tell("known", renewed.size_bytes)
        return renewed

    async def keep(self, file: StoredFile) -> StoredFile:
        """Keep a file whose pieces are all there, or let the one of the same content last as long.

        Returns what is kept: where the content was known, that is the file of before.

        Raises:
            UploadNotFound: they are not: one was forgotten before the last of them came.

        """
        async with self._locks[file.key_id]:
            known = await self._renew(file.key_id, file.sha256, file.expires_at)
            self._tell("new" if known is None else "known", file.size_bytes)
            if known is None:
                if not await self._has_pieces(file):
                    raise UploadNotFound(_PIECE_GONE)
                await self._put(file)
                return file
            await self._blobs.delete(*(piece.name for piece in file.pieces if piece not in known.pieces))
        return known

    async def keep_announced(self, file: StoredFile) -> StoredFile:
        """Keep a file under its own id, which was told before it came, whatever else the key has.

        Returns what is kept: where the same has come before, that is the file of before.

        Raises:
            FileAlreadyComplete: another one has come before.
            UploadNotFound: a piece of it was forgotten before the last of them came.

        """
        async with self._locks[file.key_id]:
            known = await self.find(file.key_id, file.id) or await self._keep_first(file)
            if known == file:
                self._tell("new", file.size_bytes)
                with suppress(FileStoreUnavailable):  # then it is forgotten with the file
                    await self._clear(file)
                return file
        return check_same(known, file.sha256)

    async def discard(self, key_id: str, file_id: str, pieces: Iterable[Piece]) -> None:
        """Forget what came of a file: all of it, or where it is complete, these pieces but none of its own.

        What cannot be forgotten now is forgotten with time.
        """
        with suppress(FileStoreUnavailable):
            async with self._locks[key_id]:
                known = await self.find(key_id, file_id)
                unused = {piece.name for piece in pieces}
                if known is None:
                    blobs = await self._blobs.list_blobs(names.file_folder(key_id, file_id))
                    unused |= {blob.name for blob in blobs}
                else:
                    unused -= {piece.name for piece in known.pieces}
                await self._blobs.delete(*unused)

    async def delete(self, file: StoredFile) -> None:
        """Forget a file."""
        async with self._locks[file.key_id]:
            await self._delete(file)

    async def list_page(
        self, key_id: str, limit: int, after: str = ""
    ) -> tuple[list[StoredFile], str | None]:
        """Return a key's files by id, at most `limit`, and after which id there are more; None: nowhere."""
        blobs = await self._blobs.list_blobs(names.files_folder(key_id))
        ids = [names.id_of(blob.name) for blob in blobs if names.is_record(blob.name)]
        wanted = [file_id for file_id in ids if file_id > after]
        found = await self._find_all(key_id, wanted[:limit])
        return found, wanted[limit - 1] if len(wanted) > limit else None

    async def tidy(self) -> None:
        """Forget what is over, for ever."""
        while True:
            with suppress(FileStoreUnavailable):
                await self.sweep()
            await asyncio.sleep(_TIDY_SECONDS)

    async def sweep(self) -> None:
        """Forget files whose time is over, and uploads that nobody went on with.

        What cannot be listed, read or forgotten is passed over: it holds up nothing that comes after it.
        """
        for key_id in filter(names.is_key_id, await self._blobs.list_folders()):
            blobs = await self._list(key_id, names.files_folder(key_id))
            for folder, group in groupby(blobs, names.folder_of):
                with _passing_over(key_id):
                    await self._expire(key_id, names.last_of(folder), list(group))
            for folder in names.pointer_folders(key_id):
                for blob in await self._list(key_id, folder):
                    with _passing_over(key_id):
                        await self._expire_pointer(key_id, blob)

    async def _list(self, key_id: str, folder: str) -> list[Blob]:
        """List a folder that is to be swept; where that fails, nothing of it is."""
        with _passing_over(key_id):
            return await self._blobs.list_blobs(folder)
        return []

    async def _expire(self, key_id: str, file_id: str, blobs: list[Blob]) -> None:
        """Forget the file of these blobs, if its time is over."""
        is_complete = any(names.is_record(blob.name) for blob in blobs)
        seconds = self._settings.keep_seconds if is_complete else self._settings.keep_unfinished_seconds
        seconds += GRACE_SECONDS
        due = self._list_due(blobs)
        if not due and not all(self._is_over(blob, seconds) for blob in blobs):
            return
        async with self._locks[key_id]:
            asked_at = self.clock()
            file = await self._read_record(key_id, file_id)
            if file is not None and asked_at < file.expires_at + GRACE_SECONDS:  # it was promised for longer
                await self._blobs.delete(*(due - {_until(file)}))
                return
            pointers = [_pointer(file)] if file is not None else []
            await self._blobs.delete(names.record_name(key_id, file_id))
            await self._blobs.delete(*pointers, *(blob.name for blob in blobs))
            logger.info("file expired", file_id=file_id, key_id=key_id, was_complete=is_complete)

    async def _expire_pointer(self, key_id: str, blob: Blob) -> None:
        """Forget what leads to a file, if the file is forgotten, or what came of it."""
        if not self._is_over(blob, self._settings.keep_seconds):
            return
        file_id = names.pointed_id(blob.name) or await self._read_id(blob.name)
        if names.is_id(file_id) and (
            await self.find(key_id, file_id)
            or await self._blobs.list_blobs(names.file_folder(key_id, file_id))
        ):
            return
        await self._blobs.delete(blob.name)

    async def _read_id(self, name: str) -> str:
        """Return the id that a pointer holds; what no file can have, where it is damaged."""
        return (await self._blobs.get(name) or b"").decode(errors="replace")

    async def _forget(self, file: StoredFile) -> NoReturn:
        """Forget a file of which a piece is gone: the same upload would find its record, and add nothing."""
        await self._blobs.delete(names.record_name(file.key_id, file.id))
        raise FileNotUploaded.of(file.id)

    async def _delete(self, file: StoredFile) -> None:
        # First the record: no half is ever seen.
        await self._blobs.delete(names.record_name(file.key_id, file.id))
        blobs = await self._blobs.list_blobs(names.file_folder(file.key_id, file.id))
        await self._blobs.delete(_pointer(file), *(blob.name for blob in blobs))

    async def _renew(self, key_id: str, sha256: str, expires_at: float) -> StoredFile | None:
        """Let the file of a content last until then at least, and return it; None: there is none.

        Nor is there where the new record came so late that another replica may have found the old one over,
        or where a piece is gone: then it is forgotten, so that nobody finds what has no bytes.

        Other replicas may renew it meanwhile. Each leaves a reminder before its record, and looks for theirs
        after it, each time: whoever comes last sees what the others promised, and keeps the longest.
        """
        known = await self.find_content(key_id, sha256)
        if known is None:
            return None
        renewed = replace(known, expires_at=max(known.expires_at, expires_at))
        await self._blobs.put(_until(renewed), b"")
        while True:
            await self._put(renewed)
            blobs = await self._blobs.list_blobs(names.file_folder(key_id, known.id))
            theirs = {blob.name for blob in blobs} - {_until(known), _until(renewed)}
            promised = max((names.read_until(name) or 0.0 for name in theirs), default=0.0)
            if promised <= renewed.expires_at:
                break
            renewed = replace(renewed, expires_at=promised)
        is_late = self.clock() >= max(known.expires_at + GRACE_SECONDS / 2, promised)
        if is_late or not _has_pieces(renewed, blobs):
            await self._delete(renewed)
            return None
        await self._blobs.delete(*({_until(known)} - {_until(renewed)}))
        return renewed

    async def _keep_first(self, file: StoredFile) -> StoredFile:
        """Keep an announced file, unless another replica was first; return what is kept.

        Only who was first may clear: whoever else did would take the pieces of the file.
        """
        if await self._has_pieces(file) and await self._put_new(file):
            return file
        # Another replica's: its record was there before it cleared our pieces.
        known = await self.find(file.key_id, file.id)
        if known is None:
            raise UploadNotFound(_PIECE_GONE)
        if known != file:  # else our own, of which we were not answered
            with suppress(FileStoreUnavailable):  # then it is forgotten with the file
                await self._blobs.delete(*({_pointer(file), _until(file)} - {_pointer(known), _until(known)}))
        return known

    async def _has_pieces(self, file: StoredFile) -> bool:
        """Tell whether all pieces are there: of an upload that paused for too long, some were forgotten."""
        return _has_pieces(file, await self._blobs.list_blobs(names.file_folder(file.key_id, file.id)))

    async def _put(self, file: StoredFile) -> None:
        """Keep what is known of a file."""
        await self._prepare(file)
        await self._blobs.put(names.record_name(file.key_id, file.id), encode_file(file))

    async def _put_new(self, file: StoredFile) -> bool:
        """Keep what is known of a file whose id has no record yet; tell whether it was kept."""
        await self._prepare(file)
        return await self._blobs.put_new(names.record_name(file.key_id, file.id), encode_file(file))

    async def _prepare(self, file: StoredFile) -> None:
        """Keep what leads to a file; its record comes last, for it makes the file one."""
        await self._blobs.put(_pointer(file), b"")
        if file.expires_at < self.clock() + self._settings.keep_seconds - _TIDY_SECONDS:
            await self._blobs.put(_until(file), b"")

    async def _clear(self, file: StoredFile) -> None:
        """Forget what else came under a file's id."""
        blobs = await self._blobs.list_blobs(names.file_folder(file.key_id, file.id))
        pieces = {piece.name for piece in file.pieces}
        needed = {names.record_name(file.key_id, file.id), _until(file), *pieces}
        await self._blobs.delete(*(blob.name for blob in blobs if blob.name not in needed))

    async def _find_all(self, key_id: str, file_ids: Sequence[str]) -> list[StoredFile]:
        """Find files by their ids; a few at a time: a key may have thousands, and others want the store."""
        found: list[StoredFile | None] = []
        for start in range(0, len(file_ids), _MAX_FINDING):
            ids = file_ids[start : start + _MAX_FINDING]
            found += await asyncio.gather(*(self.find(key_id, file_id) for file_id in ids))
        return [file for file in found if file is not None]

    async def _read_record(self, key_id: str, file_id: str) -> StoredFile | None:
        """Read what a file is, also of one whose time is over."""
        if not (names.is_key_id(key_id) and names.is_id(file_id)):
            return None
        data = await self._blobs.get(names.record_name(key_id, file_id))
        if data is None:
            return None
        file = decode_file(data)
        if file is None:
            logger.error("the record of a file is damaged", file_id=file_id, key_id=key_id)
        return file

    def _is_in_force(self, file: StoredFile) -> bool:
        return file.expires_at > self.clock()

    def _list_due(self, blobs: list[Blob]) -> set[str]:
        """Name the reminders that say to look at a file now."""
        now = self.clock()
        return {
            blob.name
            for blob in blobs
            if (time := names.read_until(blob.name)) is not None and time + GRACE_SECONDS <= now
        }

    def _is_over(self, blob: Blob, seconds: float) -> bool:
        return blob.modified_at + seconds <= self.clock()


@contextmanager
def _passing_over(key_id: str) -> Iterator[None]:
    """Leave alone what the store cannot do now; what failed is in its own line of the log."""
    try:
        yield
    except FileStoreUnavailable:
        logger.warning("something of a key was not tidied", key_id=key_id)


def check_same(known: StoredFile, sha256: str) -> StoredFile:
    """Return a file that is complete, if its bytes came once more.

    Raises:
        FileAlreadyComplete: other bytes came.

    """
    if known.sha256 != sha256:
        message = f"the file {known.id} is complete, and other bytes came: announce another file for them"
        raise FileAlreadyComplete(message)
    return known


def _has_pieces(file: StoredFile, blobs: Iterable[Blob]) -> bool:
    return {blob.name for blob in blobs}.issuperset(piece.name for piece in file.pieces)


def _pointer(file: StoredFile) -> str:
    return names.content_name(file.key_id, file.sha256, file.id)


def _until(file: StoredFile) -> str:
    return names.until_name(file.key_id, file.id, file.expires_at)
