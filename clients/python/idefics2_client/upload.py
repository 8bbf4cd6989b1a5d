"""How a file is brought to the service, over connections that may be lost: the same for every transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idefics2.v1.files_pb2 import GetFileRequest, GetUploadRequest, UploadRequest, UploadStart

from idefics2_client.errors import Idefics2Error, ServiceUnavailable
from idefics2_client.requests import make_duration, make_message
from idefics2_client.updates import TransferUpdate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from idefics2.v1.files_pb2 import File, GetUploadResponse

    from idefics2_client.contents import Content
    from idefics2_client.retry import Patience

SMALL_BYTES = 2 * 2**20
"""The service keeps no less of an upload that breaks, so there is nothing to ask before a smaller one."""
_MAX_SURPRISES = 5


class Upload:
    """What is known of one upload, and so what to send next.

    It is named by its content: whoever uploads the same bytes again, in this process or another, goes on
    where the last one stopped.
    """

    def __init__(
        self,
        content: Content,
        on_progress: Callable[[TransferUpdate], object] | None,
        ttl_seconds: float | None = None,
    ) -> None:
        """Upload `content`, to be kept for `ttl_seconds`, and tell `on_progress`.

        Raises:
            InvalidRequest: the name is not Unicode, or the time too long for the wire.

        """
        self._content = content
        self._on_progress = on_progress
        self._upload_id = f"sha256-{content.sha256}"
        self._start = make_message(
            UploadStart,
            upload_id=self._upload_id,
            name=content.name,
            size_bytes=content.size_bytes,
            sha256=content.sha256,
            ttl=make_duration("ttl", ttl_seconds),
        )
        self._is_known = self._is_reached = False
        self._num_surprises = 0
        self._failure: BaseException | None = None

    @property
    def is_small(self) -> bool:
        """Whether it is sent without asking what the service has."""
        return self._content.size_bytes <= SMALL_BYTES

    @property
    def file_question(self) -> GetFileRequest:
        """Asks for a file of this content."""
        return GetFileRequest(sha256=self._content.sha256)

    @property
    def progress_question(self) -> GetUploadRequest:
        """Asks how much is kept of an upload that broke."""
        return GetUploadRequest(upload_id=self._upload_id)

    def note_file(self, file: File | None) -> bool:
        """Note whether the service has the content; return whether it has, so that it need not be sent."""
        self._is_reached, self._is_known = True, file is not None
        return self._is_known

    def note_progress(self, progress: GetUploadResponse | None, patience: Patience) -> None:
        """Note where to go on; more than before is worth as much patience as at the beginning.

        And no limit is a reason to leave it there.
        """
        kept = progress.num_kept_bytes if progress is not None else 0
        if kept > self._start.offset:
            patience.begin()
            patience.restore()
        self._start.offset = kept

    def messages(self) -> Iterator[UploadRequest]:
        """Yield what to send, from where the service is to go on; may be called in any thread.

        What fails here ends the messages: `pause_after` raises it, where the caller waits.
        """
        self._failure = None
        yield UploadRequest(start=self._start)
        try:
            num_bytes = self._content.size_bytes if self._is_known else self._start.offset
            self._tell(num_bytes)
            for piece in () if self._is_known else self._content.read(num_bytes):
                yield UploadRequest(chunk=piece)
                num_bytes += len(piece)
                self._tell(num_bytes)
        except GeneratorExit:  # nobody asks for more
            raise
        except BaseException as error:  # noqa: BLE001  # grpc would log it and hide it, or wait for ever
            self._failure = error

    def finish(self, file: File) -> File:
        """Return the answer.

        Raises:
            Exception: what kept the caller's callback from being called.

        """
        self._check()
        return file

    def pause_after(self, error: Idefics2Error, patience: Patience) -> float | None:
        """Return how many seconds to wait before the next try; None: trying again is no use.

        Raises:
            Exception: what kept the content from being read, or the caller's callback from being called.

        """
        self._check()
        self._is_reached |= bool(error.request_id)
        if not self._is_reached:
            return None  # a service that was never there is not waited for
        if self._is_surprise(error) and self._num_surprises < _MAX_SURPRISES:
            self._num_surprises += 1
            error = ServiceUnavailable(error.message, code="UNAVAILABLE", request_id=error.request_id)
        return patience.pause_after(error)

    def _check(self) -> None:
        """Raise what failed while messages were made. Nothing here holds it then, nor the content by it."""
        failure, self._failure = self._failure, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure

    def _is_surprise(self, error: Idefics2Error) -> bool:
        """Tell whether the service has no longer what it had when it was asked: somebody uploads the same."""
        has_moved = error.reason == "UPLOAD_NOT_FOUND" or error.field == "start.offset"
        return has_moved or (self._is_known and error.reason == "FILE_MISMATCH")

    def _tell(self, num_bytes: int) -> None:
        if self._on_progress is not None:
            self._on_progress(TransferUpdate(self._content.name, num_bytes, self._content.size_bytes))
