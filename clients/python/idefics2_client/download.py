"""How a file comes from the service, over connections that may be lost: the same for every transport."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from idefics2.v1.files_pb2 import DownloadFileRequest

from idefics2_client.errors import ServiceFailed
from idefics2_client.file_names import FileName, name_file
from idefics2_client.updates import TransferUpdate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from idefics2.v1.files_pb2 import DownloadFileResponse, File

    from idefics2_client.errors import Idefics2Error
    from idefics2_client.retry import Patience

Destination: TypeAlias = str | os.PathLike[str] | IO[bytes]
"""Where a download goes: a path, at which it appears when it is complete; or a file open in binary."""


class Download:
    """What has come of one file, and so what to ask for next."""

    def __init__(
        self, file: FileName, out: IO[bytes], on_progress: Callable[[TransferUpdate], object] | None
    ) -> None:
        """Write `file` to `out`, and tell `on_progress`.

        Raises:
            InvalidRequest: the name is not Unicode.

        """
        self.question = name_file(DownloadFileRequest, file)
        """What to send, at first and after each loss of the connection."""
        self._out = out
        self._on_progress = on_progress
        self._digest = hashlib.sha256()
        self._file: File | None = None

    def take(self, message: DownloadFileResponse) -> None:
        """Write what came."""
        if message.HasField("file"):
            self._file = message.file
        self._write(message.chunk)
        self._digest.update(message.chunk)
        self.question.offset += len(message.chunk)
        if self._on_progress is not None and self._file is not None:
            self._on_progress(TransferUpdate(self._file.name, self.question.offset, self._file.size_bytes))

    def _write(self, chunk: bytes) -> None:
        """Write all of it: a file without a buffer, as standard output may be, takes what it can.

        Raises:
            BlockingIOError: a file that does not wait takes nothing now.

        """
        left = memoryview(chunk)
        while left:
            num: int | None = self._out.write(left)
            if num is None and isinstance(self._out, io.RawIOBase):
                raise BlockingIOError(errno.EAGAIN, "the file takes nothing now, and does not wait")
            left = left[len(left) if num is None else num :]  # many a wrapper writes all and says nothing

    def pause_after(self, error: Idefics2Error, patience: Patience) -> float | None:
        """Return how many seconds to wait before the next try; None: trying again is no use."""
        if self._file is None and not error.request_id:
            return None  # a service that was never there is not waited for
        return patience.pause_after(error)

    def finish(self) -> File:
        """Return what the file is, now that all has come.

        Raises:
            ServiceFailed: what came is not what the service says it is.

        """
        if self._file is None or self._digest.hexdigest() != self._file.sha256:
            raise ServiceFailed("what came is not the whole file as it was uploaded: download it again")
        return self._file


@contextmanager
def opening(destination: Destination) -> Iterator[IO[bytes]]:
    """Open a destination; a path is written beside, and takes its name when the block ends well.

    Beside is a name that nobody else has: several may download to the same path, and the last one stays.

    Raises:
        OSError: it cannot be written.

    """
    if not isinstance(destination, str | os.PathLike):
        yield destination
        return
    path = Path(destination)
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    part = path.with_name(f"idefics2-{uuid.uuid4().hex}.part")
    with part.open("xb") as file:
        try:
            yield file
            file.close()
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
