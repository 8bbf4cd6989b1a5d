"""What is known of a file, and of one that is to come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import msgspec

URL_PREFIX = "idefics2://files/"
"""What the URL of a file begins with; its id follows."""


class Piece(NamedTuple):
    """A piece of a file, which is a blob."""

    name: str
    size_bytes: int


@dataclass(frozen=True)
class StoredFile:
    """A file that is complete."""

    key_id: str
    id: str
    name: str
    """As its first upload named it; may be empty."""
    size_bytes: int
    sha256: str
    content_type: str
    created_at: float
    expires_at: float
    """Seconds since the epoch, as `created_at`."""
    pieces: tuple[Piece, ...]
    """In order."""

    @property
    def url(self) -> str:
        """What a request may name it by."""
        return URL_PREFIX + self.id


@dataclass(frozen=True)
class UploadStart:
    """What a caller says of a file before it comes. Empty, or 0: not known."""

    size_bytes: int
    upload_id: str = ""
    offset: int = 0
    name: str = ""
    sha256: str = ""
    content_type: str = ""
    keep_seconds: float | None = None
    """How long to keep it; None, and whatever is longer than is set: as long as is set."""


@dataclass(frozen=True)
class Announcement:
    """What was said of a file that is to come."""

    name: str
    keep_seconds: float | None


class UploadProgress(NamedTuple):
    """How far an unfinished upload is."""

    num_kept_bytes: int
    expires_at: float
    """Seconds since the epoch."""


def encode_file(file: StoredFile) -> bytes:
    """Write what is known of a file."""
    return msgspec.json.encode(file)


def decode_file(data: bytes) -> StoredFile | None:
    """Read what `encode_file` wrote; None: it is damaged."""
    try:
        return msgspec.json.decode(data, type=StoredFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def encode_announcement(announcement: Announcement) -> bytes:
    """Write what is known of a file that is to come."""
    return msgspec.json.encode(announcement)


def decode_announcement(data: bytes) -> Announcement:
    """Read what `encode_announcement` wrote."""
    return msgspec.json.decode(data, type=Announcement)
