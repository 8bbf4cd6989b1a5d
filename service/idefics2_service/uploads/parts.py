"""Parts that come by their numbers: what is kept of them, and how they make a file."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from idefics2_service.errors import FileMismatch, UploadPartMissing, ValueOutOfRange
from idefics2_service.uploads import names
from idefics2_service.uploads.records import Piece

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from idefics2_service.blobs.interface import Blob

MAX_PARTS = 1_000
"""Of a file; all are looked at whenever one comes."""
_NAME = re.compile(
    r"part-(?P<number>[0-9]{5})-(?P<take>[0-9a-f]{8})-(?:etag-(?P<md5>[0-9a-f]{32})-)?(?P<bytes>[0-9]{15})"
)
_MAX_NAMED = 20


class KeptPart(NamedTuple):
    """A part that is whole. A part that was brought twice at the same time is there twice."""

    number: int
    etag: str
    """As HTTP writes it: the MD5 of its bytes, in hexadecimal digits between quotation marks."""
    pieces: tuple[Piece, ...]
    blob_names: tuple[str, ...]
    """Of its pieces and of what tells that it is whole."""

    @property
    def size_bytes(self) -> int:
        """How many bytes it has."""
        return sum(piece.size_bytes for piece in self.pieces)


def make_etag(md5: str) -> str:
    """Write what a part is known by."""
    return f'"{md5}"'


def check_number(field: str, number: int) -> None:
    """Make sure that a part can have this number.

    Raises:
        ValueOutOfRange: it cannot.

    """
    if not 1 <= number <= MAX_PARTS:
        raise ValueOutOfRange.of(field, f"1 to {MAX_PARTS}", number)


def read_parts(blobs: Iterable[Blob]) -> list[KeptPart]:
    """Find the parts that are whole among the blobs of a file, which are ordered by name."""
    takes: defaultdict[tuple[int, str], list[Blob]] = defaultdict(list)
    ends: dict[tuple[int, str], tuple[str, int]] = {}
    for blob in blobs:
        match = _NAME.fullmatch(names.last_of(blob.name))
        if match is None:
            continue
        take = int(match["number"]), match["take"]
        takes[take].append(blob)
        if match["md5"]:
            ends[take] = match["md5"], int(match["bytes"])
    found = [(_make_part(take[0], md5, takes[take]), size) for take, (md5, size) in sorted(ends.items())]
    return [part for part, size in found if part.size_bytes == size]  # else it is just being deleted


def choose(kept: Sequence[KeptPart], named: Sequence[tuple[int, str]]) -> list[KeptPart]:
    """Return the parts that were named by number and etag, in the order of their numbers.

    Raises:
        ValueOutOfRange: too few or too many were named, or one of them twice.
        UploadPartMissing: one did not come, or was left out between others.
        FileMismatch: other bytes came for one.

    """
    if not 1 <= len(named) <= MAX_PARTS:
        raise ValueOutOfRange.of("parts", f"1 to {MAX_PARTS} parts", len(named))
    for index, (number, _) in enumerate(named):
        check_number(f"parts[{index}].number", number)
    numbers = {number for number, _ in named}
    if len(numbers) < len(named):
        raise ValueOutOfRange.of("parts", "each part once", f"{len(named) - len(numbers)} of them again")
    _check_all_there(numbers, {part.number for part in kept})
    found = [_find(kept, number, etag, f"parts[{index}].etag") for index, (number, etag) in enumerate(named)]
    return sorted(found)


def _check_all_there(numbers: set[int], kept: set[int]) -> None:
    gone = sorted(numbers - kept)
    if gone:
        message = f"parts: nothing is kept of the parts {_write(gone)}: bring them, then complete the file"
        raise UploadPartMissing(message, field="parts", missing=_write(gone))
    left_out = sorted(set(range(1, max(numbers) + 1)) - numbers)
    if left_out:
        message = f"parts: the parts {_write(left_out)} are left out: parts are numbered from 1, without gaps"
        raise UploadPartMissing(message, field="parts", missing=_write(left_out))


def _find(kept: Sequence[KeptPart], number: int, etag: str, field: str) -> KeptPart:
    alike = [part for part in kept if part.number == number]
    found = next((part for part in alike if part.etag.strip('"') == etag.strip('"')), None)
    if found is None:
        named = etag[:80].encode(errors="backslashreplace").decode()  # it may hold half a character
        raise FileMismatch.of(field, named, " or ".join(part.etag for part in alike))
    return found


def _make_part(number: int, md5: str, blobs: Sequence[Blob]) -> KeptPart:
    pieces = tuple(Piece(blob.name, blob.size_bytes) for blob in blobs if names.is_piece(blob.name))
    return KeptPart(number, make_etag(md5), pieces, tuple(blob.name for blob in blobs))


def _write(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _MAX_NAMED} more" if len(numbers) > _MAX_NAMED else ""
    return ", ".join(map(str, numbers[:_MAX_NAMED])) + more
