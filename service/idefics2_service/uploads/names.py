"""How the blobs of uploaded files are called.

    <key>/files/<id, 2 digits>/<id>/<offset>-<random>   a part of a file
    <key>/files/<id, 2 digits>/<id>/record              what the file is; without it, it is not complete
    <key>/sha256/<2 digits>/<sha-256>                   the id of the file of this content
    <key>/uploads/<2 digits>/<sha-256 of its name>      the id of the file that an unfinished upload will be

All that is needed to find, list, count and forget files is in these names: there is no other index.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import TYPE_CHECKING

from idefics2_service.errors import FileDigestInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from idefics2_service.blobs.interface import Blob

_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_RECORD = "record"


def make_id() -> str:
    """Draw the id of a file: 128 bits."""
    return secrets.token_hex(16)


def is_id(text: str) -> bool:
    """Tell whether a file could have this id."""
    return _ID.fullmatch(text) is not None


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


def make_part_name(key_id: str, file_id: str, offset: int) -> str:
    """Name a part; never twice alike, so that two who go on with one upload do not mix what they bring."""
    return f"{file_folder(key_id, file_id)}/{offset:015d}-{secrets.token_hex(4)}"


def content_name(key_id: str, sha256: str) -> str:
    """Name what leads from a file's content to its id."""
    return f"{key_id}/sha256/{sha256[:2]}/{sha256}"


def upload_name(key_id: str, upload_id: str) -> str:
    """Name what leads from an unfinished upload to its file; the caller's own name may hold anything."""
    digest = hashlib.sha256(upload_id.encode()).hexdigest()
    return f"{key_id}/uploads/{digest[:2]}/{digest}"


def pointer_folders(key_id: str) -> tuple[str, str]:
    """Name the folders of all that leads to files."""
    return f"{key_id}/sha256", f"{key_id}/uploads"


def is_record(name: str) -> bool:
    """Tell whether a blob of a file is its record."""
    return name.endswith(f"/{_RECORD}")


def folder_of(blob: Blob) -> str:
    """Return the folder of a blob."""
    return blob.name.rpartition("/")[0]


def id_of(name: str) -> str:
    """Return the id of the file that a blob belongs to."""
    return name.split("/")[3]


def chain_parts(blobs: Iterable[Blob]) -> list[Blob]:
    """Return the parts, among a file's blobs, that follow each other from its first byte."""
    chain, end = [], 0
    for blob in blobs:
        if not is_record(blob.name) and int(blob.name.rpartition("/")[2].partition("-")[0]) == end:
            chain.append(blob)
            end += blob.size_bytes
    return chain
