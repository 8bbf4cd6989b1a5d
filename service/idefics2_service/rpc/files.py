"""FileService: each method converts, calls the core, converts back."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

from idefics2.v1 import files_pb2, files_pb2_grpc

from idefics2_service.errors import FileNotUploaded
from idefics2_service.rpc.interceptor import current_caller
from idefics2_service.rpc.pages import read_page_size, read_page_token, write_page_token
from idefics2_service.rpc.records import write_timestamp
from idefics2_service.rpc.stored_files import cut, read_chunks, read_range, read_start, write_file
from idefics2_service.uploads.names import read_sha256

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from idefics2_service.gate import Gate
    from idefics2_service.rpc.status import ServicerContext
    from idefics2_service.uploads.library import Library
    from idefics2_service.uploads.records import StoredFile
    from idefics2_service.uploads.uploads import Uploads

SERVICE_NAME = files_pb2.DESCRIPTOR.services_by_name["FileService"].full_name
_LIST = "files"


class _NamesFile(Protocol):
    """A message that names a file by its id or by its sha-256."""

    id: str
    sha256: str


class FileServicer(files_pb2_grpc.FileServiceServicer):
    """The wire's side of Uploads and Library."""

    def __init__(self, library: Library, uploads: Uploads, gate: Gate) -> None:
        """Serve `library`, and let files in by `uploads`, with the room that `gate` has."""
        self._gate = gate
        self._library = library
        self._uploads = uploads

    async def Upload(
        self, request_iterator: AsyncIterator[files_pb2.UploadRequest | memoryview], context: ServicerContext
    ) -> files_pb2.File:
        """Take a file."""
        start, key_id = await read_start(request_iterator), _key_id()
        with self._gate.hold(key_id, self._uploads.count_held(start)):
            return write_file(await self._uploads.receive(key_id, start, read_chunks(request_iterator)))

    async def GetUpload(
        self, request: files_pb2.GetUploadRequest, context: ServicerContext
    ) -> files_pb2.GetUploadResponse:
        """Tell how much of an upload is kept."""
        progress = await self._uploads.get_progress(_key_id(), request.upload_id)
        return files_pb2.GetUploadResponse(
            upload_id=request.upload_id,
            num_kept_bytes=progress.num_kept_bytes,
            expire_time=write_timestamp(progress.expires_at),
        )

    async def DownloadFile(
        self, request: files_pb2.DownloadFileRequest, context: ServicerContext
    ) -> AsyncIterator[files_pb2.DownloadFileResponse]:
        """Return a file's bytes."""
        file = await self._find(request)
        offset, max_bytes = read_range(request, file.size_bytes)
        yield files_pb2.DownloadFileResponse(file=write_file(file))
        with self._gate.open_room(_key_id()) as room:
            async with aclosing(self._library.stream(file, room, offset, max_bytes)) as parts:
                async for part in parts:
                    for chunk in cut(part):
                        yield files_pb2.DownloadFileResponse(chunk=chunk)

    async def GetFile(self, request: files_pb2.GetFileRequest, context: ServicerContext) -> files_pb2.File:
        """Tell of a file."""
        return write_file(await self._find(request))

    async def DeleteFile(
        self, request: files_pb2.DeleteFileRequest, context: ServicerContext
    ) -> files_pb2.File:
        """Forget a file."""
        file = await self._find(request)
        await self._library.delete(file)
        return write_file(file)

    async def ListFiles(
        self, request: files_pb2.ListFilesRequest, context: ServicerContext
    ) -> files_pb2.ListFilesResponse:
        """List files."""
        key_id, limit = _key_id(), read_page_size(request.page_size)
        after = read_page_token(request.page_token, key_id, _LIST, str)
        files, next_after = await self._library.list_page(key_id, limit, after or "")
        return files_pb2.ListFilesResponse(
            files=map(write_file, files), next_page_token=write_page_token(key_id, _LIST, next_after)
        )

    async def _find(self, named: _NamesFile) -> StoredFile:
        """Return the file that a message names.

        Raises:
            FileNotUploaded: the caller's key has none such, or none is named.
            FileDigestInvalid: nothing can have this sha-256.

        """
        if named.sha256:
            file = await self._library.find_content(_key_id(), read_sha256("sha256", named.sha256))
        elif named.id:
            file = await self._library.find(_key_id(), named.id)
        else:
            raise FileNotUploaded("neither id nor sha256 was given")
        if file is None:
            raise FileNotUploaded.of(named.sha256 or named.id)
        return file


def _key_id() -> str:
    return current_caller.get().key_id
