"""How the blobs of uploaded files are called.

    <file> is <key>/files/<id, 2 digits>/<id>

    <file>/<offset>-<random>                           a piece of a file
    <file>/part-<number>-<random>-<offset>             a piece of a part that came by its number
    <file>/part-<number>-<random>-etag-<md5>-<size>    that part is whole; empty
    <file>/announced                                   what the file will be, where it is to come
    <file>/until-<seconds>                             when to look whether its time is over; empty
    <file>/record                                      what the file is; without it, it is not complete
    <key>/sha256/<2 digits>/<sha-256>/<id>             the file of this id has this content; empty
    <key>/uploads/<2 digits>/<sha-256 of its name>     the id of the file that an unfinished upload will be

All that is needed to find, list, count and forget files is in these names: there is no other index.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from typing import TYPE_CHECKING

from idefics2_service.errors import FileDigestInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from idefics2_service.blobs.interface import Blob

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_PIECE = re.compile(r"(part-[0-9]{5}-[0-9a-f]{8}-)?[0-9]{15}(-[0-9a-f]{8})?")
_UNTIL = re.compile(r"until-([0-9]{12})")
_RECORD, _ANNOUNCED, _PART = "record", "announced", "part-"


def make_id() -> str:
    """Draw the id of a file: 128 bits."""
    return secrets.token_hex(16)


def is_id(text: str) -> bool:
    """Tell whether a file could have this id."""
    return _ID.fullmatch(text) is not None


def is_key_id(text: str) -> bool:
    """Tell whether a key could have this id: only such a one is ever part of a blob's name."""
    return _KEY_ID.fullmatch(text) is not None


def read_sha256(field: str, text: str) -> str:
    """Return a sha-256 as we write it, in lower case.

    Raises:
        FileDigestInvalid: it is none.

    """
    if not _SHA256.fullmatch(text):
        message = f"{field} must be a sha-256 of 64 hexadecimal digits, not {text[:80]!r}"
        raise FileDigestInvalid(message, field=field)
    return text.lower()


def files_folder(key_id: str) -> str:
    """Name the folder of a key's files."""
    return f"{key_id}/files"


def file_folder(key_id: str, file_id: str) -> str:
    """Name the folder of one file."""
    return f"{files_folder(key_id)}/{file_id[:2]}/{file_id}"


def record_name(key_id: str, file_id: str) -> str:
    """Name what tells what a file is."""
    return f"{file_folder(key_id, file_id)}/{_RECORD}"


def announcement_name(key_id: str, file_id: str) -> str:
    """Name what tells what a file will be."""
    return f"{file_folder(key_id, file_id)}/{_ANNOUNCED}"


def until_name(key_id: str, file_id: str, expires_at: float) -> str:
    """Name what reminds of a file's end."""
    return f"{file_folder(key_id, file_id)}/until-{math.ceil(expires_at):012d}"


def make_piece_name(key_id: str, file_id: str, offset: int) -> str:
    """Name a piece; never twice alike, so that two who go on with one upload do not mix what they bring."""
    return f"{file_folder(key_id, file_id)}/{offset:015d}-{secrets.token_hex(4)}"


def make_part_prefix(key_id: str, file_id: str, number: int) -> str:
    """Draw what the names of one part's blobs begin with; never twice alike, as above."""
    return f"{file_folder(key_id, file_id)}/{_PART}{number:05d}-{secrets.token_hex(4)}-"


def part_piece_name(prefix: str, offset: int) -> str:
    """Name a piece of a part by its offset in the part."""
    return f"{prefix}{offset:015d}"


def etag_name(prefix: str, md5: str, size_bytes: int) -> str:
    """Name what tells that a part was whole: it is as long as pieces of this size are there."""
    return f"{prefix}etag-{md5}-{size_bytes:015d}"


def content_folder(key_id: str, sha256: str) -> str:
    """Name the folder of what leads from a content to the files that have it."""
    return f"{key_id}/sha256/{sha256[:2]}/{sha256}"


def content_name(key_id: str, sha256: str, file_id: str) -> str:
    """Name what leads from a file's content to it."""
    return f"{content_folder(key_id, sha256)}/{file_id}"


def upload_name(key_id: str, upload_id: str) -> str:
    """Name what leads from an unfinished upload to its file; the caller's own name may hold anything."""
    digest = hashlib.sha256(upload_id.encode()).hexdigest()
    return f"{key_id}/uploads/{digest[:2]}/{digest}"


def pointer_folders(key_id: str) -> tuple[str, str]:
    """Name the folders of all that leads to files."""
    return f"{key_id}/sha256", f"{key_id}/uploads"


def pointed_id(name: str) -> str | None:
    """Return the id of the file that a pointer leads to; None: the blob holds it."""
    last = last_of(name)
    return last if is_id(last) else None


def is_record(name: str) -> bool:
    """Tell whether a blob of a file is its record."""
    return last_of(name) == _RECORD


def is_piece(name: str) -> bool:
    """Tell whether a blob of a file holds bytes of it."""
    return _PIECE.fullmatch(last_of(name)) is not None


def is_of_part(name: str) -> bool:
    """Tell whether a blob of a file belongs to a part of it."""
    return last_of(name).startswith(_PART)


def read_until(name: str) -> float | None:
    """Return when a reminder wants to be looked at, in seconds since the epoch; None: it is none."""
    match = _UNTIL.fullmatch(last_of(name))
    return float(match[1]) if match else None


def folder_of(blob: Blob) -> str:
    """Return the folder of a blob."""
    return blob.name.rpartition("/")[0]


def last_of(name: str) -> str:
    """Return what a blob is called in its folder."""
    return name.rpartition("/")[2]


def id_of(name: str) -> str:
    """Return the id of the file that a blob belongs to."""
    return name.split("/")[3]


def chain_pieces(blobs: Iterable[Blob]) -> list[Blob]:
    """Return the pieces, among a file's blobs, that follow each other from its first byte."""
    chain, end = [], 0
    for blob in blobs:
        offset = last_of(blob.name).partition("-")[0]
        if offset.isdecimal() and int(offset) == end:
            chain.append(blob)
            end += blob.size_bytes
    return chain
