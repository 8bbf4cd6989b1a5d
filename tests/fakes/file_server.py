"""A FileService that answers by script, beside a RequestService, and what it says."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from fakes.request_server import RequestServer
from fakes.scripted_server import Take
from idefics2.v1 import files_pb2, files_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc


class FileServer(RequestServer, files_pb2_grpc.FileServiceServicer):
    """Answers each call with the next script; an upload is asked as its first message."""

    def __init__(self, *, request_id: str = "r-1") -> None:
        self.received: list[bytearray] = []
        """What each upload brought, as far as its script took it."""
        self.has_taken = threading.Event()
        """Whether a `Take` is over."""
        super().__init__(request_id=request_id)

    def _add_services(self, server: grpc.Server) -> None:
        super()._add_services(server)
        files_pb2_grpc.add_FileServiceServicer_to_server(self, server)

    def Upload(  # noqa: N802  # the proto's name
        self, request_iterator: Iterator[files_pb2.UploadRequest], context: grpc.ServicerContext
    ) -> files_pb2.File:
        index = len(self.received)
        self.received.append(bytearray())
        for step in self._play(next(request_iterator).start, context):
            if isinstance(step, files_pb2.File):
                return step
            self._take(step, request_iterator, index)
        raise AssertionError("an upload's script must end")

    def GetUpload(  # noqa: N802  # the proto's name
        self, request: files_pb2.GetUploadRequest, context: grpc.ServicerContext
    ) -> files_pb2.GetUploadResponse:
        return self._answer(request, context, files_pb2.GetUploadResponse)

    def DownloadFile(  # noqa: N802  # the proto's name
        self, request: files_pb2.DownloadFileRequest, context: grpc.ServicerContext
    ) -> Iterator[files_pb2.DownloadFileResponse]:
        return self._play(request, context)

    def GetFile(  # noqa: N802  # the proto's name
        self, request: files_pb2.GetFileRequest, context: grpc.ServicerContext
    ) -> files_pb2.File:
        return self._answer(request, context, files_pb2.File)

    def DeleteFile(  # noqa: N802  # the proto's name
        self, request: files_pb2.DeleteFileRequest, context: grpc.ServicerContext
    ) -> files_pb2.File:
        return self._answer(request, context, files_pb2.File)

    def ListFiles(  # noqa: N802  # the proto's name
        self, request: files_pb2.ListFilesRequest, context: grpc.ServicerContext
    ) -> files_pb2.ListFilesResponse:
        return self._answer(request, context, files_pb2.ListFilesResponse)

    def _take(self, step: object, messages: Iterator[files_pb2.UploadRequest], index: int) -> None:
        assert isinstance(step, Take)
        while step.num_bytes is None or len(self.received[index]) < step.num_bytes:
            message = next(messages, None)
            if message is None:
                assert step.num_bytes is None, "the upload ended early"
                break
            assert message.HasField("chunk")
            self.received[index] += message.chunk
        self.has_taken.set()


def make_file(data: bytes = b"BM", file_id: str = "f" * 32, name: str = "") -> files_pb2.File:
    """Write what an uploaded file is."""
    return files_pb2.File(
        id=file_id,
        url=f"idefics2://files/{file_id}",
        name=name,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        content_type="image/bmp",
    )
