"""A file that is not complete yet: what was announced, what came, and whether they agree."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from idefics2_service.errors import FileMismatch, FileNotAnImage, FileTooLarge, ValueOutOfRange
from idefics2_service.formats import FORMATS, sniff
from idefics2_service.uploads import names
from idefics2_service.uploads.records import Part, StoredFile

if TYPE_CHECKING:
    from idefics2_service.uploads.records import UploadStart

_MAX_NAME_BYTES, _MAX_UPLOAD_ID_BYTES = 255, 128


@dataclass
class Draft:
    """A file on its way."""

    key_id: str
    id: str
    start: UploadStart
    parts: list[Part] = field(default_factory=list)
    content_type: str = ""
    has_ended: bool = False
    _digest: Any = field(default_factory=hashlib.sha256)  # hashlib's own type has no name

    @property
    def size_bytes(self) -> int:
        """How many bytes are kept."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def has_broken_off(self) -> bool:
        """Whether less came than was announced: to us, a call that broke may look like one that ended."""
        return self.has_ended and self.size_bytes < self.start.size_bytes

    def recognise(self, data: bytes) -> None:
        """Learn from the first part what the file is.

        Raises:
            FileNotAnImage: nothing that is accepted.

        """
        kind = sniff(data)
        if kind is None:
            message = f"chunk: the file is not a picture of an accepted format ({', '.join(FORMATS)})"
            raise FileNotAnImage(message, field="chunk")
        self.content_type = f"image/{kind.lower()}"

    async def digest(self, data: bytes) -> None:
        """Go on with the next part's bytes; in a thread, for it takes milliseconds."""
        await asyncio.to_thread(self._digest.update, data)

    def finish(self, now: float, keep_seconds: float) -> StoredFile:
        """Return the file that this has become.

        Raises:
            FileMismatch: something else came than was announced.

        """
        start, sha256 = self.start, self._digest.hexdigest()
        _compare("size_bytes", start.size_bytes, self.size_bytes)
        _compare("sha256", start.sha256, sha256)
        _compare("content_type", start.content_type, self.content_type)
        return StoredFile(
            key_id=self.key_id,
            id=self.id,
            name=start.name,
            size_bytes=self.size_bytes,
            sha256=sha256,
            content_type=self.content_type,
            created_at=now,
            expires_at=now + keep_seconds,
            parts=tuple(self.parts),
        )


def check_start(start: UploadStart, max_bytes: int) -> UploadStart:
    """Check what can be checked before anything comes; the sha-256 is returned in lower case.

    Raises:
        InvalidInput: the first field that is wrong.

    """
    check_upload_id("start.upload_id", start.upload_id, min_bytes=1 if start.offset else 0)
    _check_text("start.name", start.name, 0, _MAX_NAME_BYTES)
    if start.offset < 0:
        raise ValueOutOfRange.of("start.offset", "0 or more", start.offset)
    if start.size_bytes < 1:
        raise ValueOutOfRange.of("start.size_bytes", "1 or more", start.size_bytes)
    _check_size("start.size_bytes", start.size_bytes, max_bytes)
    if start.sha256:
        return replace(start, sha256=names.read_sha256("start.sha256", start.sha256))
    return start


def check_upload_id(field: str, upload_id: str, min_bytes: int = 1) -> None:
    """Make sure that an upload can have this name.

    Raises:
        ValueOutOfRange: it is too short or too long.

    """
    _check_text(field, upload_id, min_bytes, _MAX_UPLOAD_ID_BYTES)


def _check_size(field: str, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        message = f"{field}: the file has {size} bytes; at most {max_bytes} are allowed"
        raise FileTooLarge(message, field=field, bound=str(max_bytes), value=str(size))


def _check_text(field: str, text: str, minimum: int, maximum: int) -> None:
    if not minimum <= len(text.encode()) <= maximum or not text.isprintable():
        bound = f"{minimum} to {maximum} bytes without control characters"
        raise ValueOutOfRange.of(field, bound, repr(text[: 2 * maximum]))


def _compare(field: str, announced: str | int, received: str | int) -> None:
    if announced not in {"", received}:
        raise FileMismatch.of(f"start.{field}", announced, received)
