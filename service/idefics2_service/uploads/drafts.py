"""A file that is not complete yet: what was announced, what came, and whether they agree."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from idefics2_service.errors import FileMismatch, FileNotAnImage, UploadNotFound, ValueOutOfRange
from idefics2_service.formats import FORMATS, sniff
from idefics2_service.uploads import names
from idefics2_service.uploads.meters import check_size
from idefics2_service.uploads.pieces import Intake
from idefics2_service.uploads.records import StoredFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from idefics2_service.blobs.interface import BlobStore
    from idefics2_service.uploads.records import Piece, UploadStart

_MAX_NAME_BYTES, _MAX_UPLOAD_ID_BYTES = 255, 128
_CONTROLS = {"Cc", "Cs", "Zl", "Zp"}
"""Categories of Unicode: control characters, lone surrogates, separators of lines and paragraphs."""


class Fields(NamedTuple):
    """What errors call what a caller said."""

    prefix: str
    body: str


OF_STREAM = Fields("start.", "chunk")
OF_BODY = Fields("", "body")
"""Of a file whose bytes come by themselves."""


@dataclass
class Draft:
    """A file on its way."""

    key_id: str
    id: str
    start: UploadStart
    intake: Intake
    fields: Fields
    content_type: str = ""
    has_broken_off: bool = False
    """Whether less came than was announced: to us, a call that broke may look like one that ended."""

    @classmethod
    def begin(
        cls, blobs: BlobStore, key_id: str, file_id: str, start: UploadStart, fields: Fields = OF_STREAM
    ) -> Draft:
        """Begin with nothing; pieces go into `blobs`."""

        def name_piece(offset: int) -> str:
            return names.make_piece_name(key_id, file_id, offset)

        return cls(key_id, file_id, start, Intake(blobs, name_piece, hashlib.sha256()), fields)

    async def go_on_after(self, pieces: Sequence[Piece], found: AsyncIterator[bytes | None]) -> None:
        """Begin behind pieces that are kept, and `found` in this order.

        Raises:
            UploadNotFound: one of them is gone.
            FileNotAnImage: they are nothing that is accepted.

        """
        left = iter(pieces)
        async for data in found:
            if data is None:
                raise UploadNotFound("a piece of the file is gone: begin anew")
            if not self.content_type:
                self.recognise(data)
            await self.intake.go_on_after(next(left), data)

    def recognise(self, data: bytes) -> None:
        """Learn from the first bytes what the file is.

        Raises:
            FileNotAnImage: nothing that is accepted.

        """
        self.content_type = recognise(self.fields.body, data)

    def finish(self, now: float, max_keep_seconds: float) -> StoredFile:
        """Return the file that this has become.

        Raises:
            FileMismatch: something else came than was announced.

        """
        start, size_bytes, sha256 = self.start, self.intake.size_bytes, self.intake.hexdigest
        self.has_broken_off = size_bytes < start.size_bytes
        self._compare("size_bytes", start.size_bytes, size_bytes)
        self._compare("sha256", start.sha256, sha256)
        self._compare("content_type", start.content_type, self.content_type)
        return StoredFile(
            key_id=self.key_id,
            id=self.id,
            name=start.name,
            size_bytes=size_bytes,
            sha256=sha256,
            content_type=self.content_type,
            created_at=now,
            expires_at=kept_until(start, now, max_keep_seconds),
            pieces=tuple(self.intake.pieces),
        )

    def _compare(self, field: str, announced: str | int, received: str | int) -> None:
        if announced not in {"", 0, received}:
            raise FileMismatch.of(self.fields.prefix + field, announced, received)


def kept_until(start: UploadStart, now: float, max_keep_seconds: float) -> float:
    """Return when a file's time will be over, in seconds since the epoch."""
    seconds = max_keep_seconds if start.keep_seconds is None else start.keep_seconds
    return now + min(seconds, max_keep_seconds)


def recognise(field: str, data: bytes) -> str:
    """Return the content type that a file's first bytes tell.

    Raises:
        FileNotAnImage: nothing that is accepted.

    """
    kind = sniff(data)
    if kind is None:
        message = f"{field}: the file is not a picture of an accepted format ({', '.join(FORMATS)})"
        raise FileNotAnImage(message, field=field)
    return f"image/{kind.lower()}"


def check_start(start: UploadStart, max_bytes: int) -> UploadStart:
    """Check what can be checked before anything comes; the sha-256 is returned in lower case.

    Raises:
        InvalidInput: the first field that is wrong.

    """
    if start.offset < 0:
        raise ValueOutOfRange.of("start.offset", "0 or more", start.offset)
    if start.offset and not start.upload_id:
        raise ValueOutOfRange.of("start.upload_id", "given with an offset", repr(start.upload_id))
    check_upload_id("start.upload_id", start.upload_id, min_bytes=0)
    check_name("start.name", start.name)
    check_keep_seconds("start.ttl", start.keep_seconds)
    if start.size_bytes < 1:
        raise ValueOutOfRange.of("start.size_bytes", "1 or more", start.size_bytes)
    check_size("start.size_bytes", start.size_bytes, max_bytes)
    if start.sha256:
        return replace(start, sha256=names.read_sha256("start.sha256", start.sha256))
    return start


def check_upload_id(field: str, upload_id: str, min_bytes: int = 1) -> None:
    """Make sure that an upload can have this name.

    Raises:
        ValueOutOfRange: it is too short or too long.

    """
    _check_text(field, upload_id, min_bytes, _MAX_UPLOAD_ID_BYTES)


def check_name(field: str, name: str) -> None:
    """Make sure that a file can be called so; it may have no name.

    Raises:
        ValueOutOfRange: it is too long, or has control characters.

    """
    _check_text(field, name, 0, _MAX_NAME_BYTES)


def fit_name(name: str) -> str:
    """Return a name that a file can have: programs send what their users called it, which nobody can change.

    Without control characters, and so much of its end, which tells what it is, as there is room for.
    """
    fitting = "".join(letter for letter in name if unicodedata.category(letter) not in _CONTROLS)
    return fitting.encode()[-_MAX_NAME_BYTES:].decode(errors="ignore")


def check_keep_seconds(field: str, seconds: float | None) -> None:
    """Make sure that a file can be kept for so long.

    Raises:
        ValueOutOfRange: it is no time.

    """
    if seconds is not None and not 0 < seconds < math.inf:
        raise ValueOutOfRange.of(field, "above 0 seconds", seconds)


def _check_text(field: str, text: str, minimum: int, maximum: int) -> None:
    has_controls = any(unicodedata.category(letter) in _CONTROLS for letter in text)
    if has_controls or not minimum <= len(text.encode()) <= maximum:
        bound = f"{minimum} to {maximum} bytes without control characters"
        raise ValueOutOfRange.of(field, bound, repr(text[: 2 * maximum]))
