"""Looks, while bytes come, that they are no more than was said and than is allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from idefics2_service.errors import FileEmpty, FileMismatch, FileTooLarge, ValueOutOfRange

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from idefics2_service.blobs.interface import Data
    from idefics2_service.uploads.quotas import Allowance

MAX_CHUNK_BYTES = 2**20


@dataclass
class Meter:
    """Measures one call."""

    allowance: Allowance
    announced: int
    """How many bytes will have come at the end; 0: not known."""
    max_bytes: int
    field: str
    """Names what announced them, for errors."""
    num_bytes: int = 0
    """How many came, those of calls before included."""
    num_others: int = 0
    """Bytes of the same file that are not among those announced."""

    def __post_init__(self) -> None:
        """Look at what was announced.

        Raises:
            FileTooLarge: it is too much.
            FileQuotaExceeded: the key may not have so much.

        """
        check_size(self.field, self.num_others + self.announced, self.max_bytes)
        self.allowance.check(max(self.announced - self.num_bytes, 0))

    async def pass_on(self, chunks: AsyncIterator[Data]) -> AsyncGenerator[Data, None]:
        """Pass chunks on.

        Raises:
            ValueOutOfRange: a chunk is too large.
            FileMismatch, FileTooLarge: all together they are.
            FileQuotaExceeded: the key may not have so much.

        """
        async for chunk in chunks:
            if len(chunk) > MAX_CHUNK_BYTES:
                raise ValueOutOfRange.of("chunk", f"at most {MAX_CHUNK_BYTES} bytes", len(chunk))
            self.num_bytes += len(chunk)
            if self.announced and self.num_bytes > self.announced:
                raise FileMismatch.of(self.field, self.announced, f"{self.num_bytes} or more")
            check_size(self.field, self.num_others + self.num_bytes, self.max_bytes)
            self.allowance.take(len(chunk))
            yield chunk

    def check_end(self) -> None:
        """Make sure that all came.

        Raises:
            FileMismatch: less came.
            FileEmpty: nothing did.

        """
        if self.announced not in {0, self.num_bytes}:
            raise FileMismatch.of(self.field, self.announced, self.num_bytes)
        if not self.num_bytes:
            raise FileEmpty(f"{self.field}: nothing came", field=self.field)


def check_size(field: str, size: int, max_bytes: int) -> None:
    """Make sure that a file may have so many bytes.

    Raises:
        FileTooLarge: it may not.

    """
    if size > max_bytes:
        message = f"{field}: the file has {size} bytes; at most {max_bytes} are allowed"
        raise FileTooLarge(message, field=field, bound=str(max_bytes), value=str(size))
