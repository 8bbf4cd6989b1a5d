"""The bytes of a file that is uploaded: read in pieces, so that none is ever held whole."""

from __future__ import annotations

import hashlib
import io
import os
import select
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self, TypeAlias

from idefics2_client.errors import DeadlineExceeded
from idefics2_client.images import reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_client.retry import Patience

FileSource: TypeAlias = str | os.PathLike[str] | bytes | IO[bytes]
"""A file to upload: a path; its bytes; an open file, read in binary from where it stands."""

PIECE_BYTES = 2**20
"""The largest chunk that the service takes."""
_MAX_NAME_BYTES = 255


class Content:
    """Bytes with a beginning and an end, which can be read more than once, until the block ends.

    Several threads may read at a time: that of a call that was lost may do so when the next one begins.
    """

    def __init__(self, source: FileSource, name: str | None = None, patience: Patience | None = None) -> None:
        """Open `source`, and read it once for its digest, which takes a while.

        Raises:
            DeadlineExceeded: a source that can be read only once, as a pipe, did not end in time.
            ImageUnreadable: the file is missing or cannot be read.
            TypeError: the open file is one of text.

        """
        self._stack, self._lock = ExitStack(), threading.Lock()
        self._shown = "an open file" if hasattr(source, "read") else source
        try:
            with reading(self._shown):
                self._file = self._open(source, patience)
                self._start = self._file.tell()
                self.size_bytes = self._file.seek(0, io.SEEK_END) - self._start
            self.sha256 = self._measure()
        except BaseException:
            self._stack.close()
            raise
        self.name = _find_name(source) if name is None else name

    def __enter__(self) -> Self:
        """Return it, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what was opened here."""
        self._stack.close()

    def read(self, offset: int = 0) -> Iterator[bytes]:
        """Yield all from byte `offset` on, in pieces of `PIECE_BYTES`; not what was added meanwhile.

        Raises:
            ImageUnreadable: the file cannot be read any more, or became shorter.

        """
        while offset < self.size_bytes:
            piece = self._read_piece(offset)
            yield piece
            offset += len(piece)

    def _read_piece(self, offset: int) -> bytes:
        with self._lock, reading(self._shown):
            self._file.seek(self._start + offset)
            piece = self._file.read(min(PIECE_BYTES, self.size_bytes - offset))
            if not piece:
                raise OSError("it became shorter meanwhile")
            return piece

    def _open(self, source: FileSource, patience: Patience | None) -> IO[bytes]:
        if isinstance(source, bytes):
            return io.BytesIO(source)
        if isinstance(source, str | os.PathLike):
            opened = self._stack.enter_context(Path(source).open("rb"))  # noqa: SIM115  # the stack is one
            return opened if opened.seekable() else self._spool(opened, patience)
        if isinstance(source, io.TextIOBase):
            raise TypeError("a file must be opened in binary mode to be uploaded")
        return source if source.seekable() else self._spool(source, patience)

    def _spool(self, source: IO[bytes], patience: Patience | None) -> IO[bytes]:
        """Copy what can be read only once to where it can be read again; on disk, for it may be large."""
        import tempfile  # noqa: PLC0415  # with shutil behind it, and seldom needed

        spool = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the stack is one
        read = getattr(source, "read1", source.read)  # what is there, instead of waiting for a whole piece
        while _wait_for(source, patience) and (piece := read(PIECE_BYTES)):
            spool.write(piece)
        spool.seek(0)
        return spool

    def _measure(self) -> str:
        digest = hashlib.sha256()
        for piece in self.read():
            digest.update(piece)
        return digest.hexdigest()


def _wait_for(source: IO[bytes], patience: Patience | None) -> bool:
    """Wait until there is something to read, where the system can tell; always true.

    Raises:
        DeadlineExceeded: nothing came in time.

    """
    seconds_left = None if patience is None else patience.seconds_left
    # Others may hold what the system knows nothing of, as the end of a connection that stays open.
    is_of_system = any(isinstance(each, io.FileIO) for each in (source, getattr(source, "raw", None)))
    if seconds_left is None or not is_of_system:
        return True
    try:
        is_ready = bool(select.select([source], [], [], seconds_left)[0])
    except (OSError, ValueError):  # the system cannot wait for such a file
        return True
    if not is_ready:
        message = "the timeout passed before the file was read"
        raise DeadlineExceeded(message, code="DEADLINE_EXCEEDED")
    return True


def _find_name(source: FileSource) -> str:
    """Name a file as its path does, as far as the service takes names; nothing else has one."""
    if not isinstance(source, str | os.PathLike):
        return ""
    name = "".join(letter for letter in Path(source).name if letter.isprintable())
    return name.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
