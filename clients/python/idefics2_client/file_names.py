"""How uploaded files are named: `idefics2://files/<id>`, `<id>`, or `sha256:<64 hexadecimal digits>`."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

from idefics2.v1.files_pb2 import DeleteFileRequest, DownloadFileRequest, File, GetFileRequest

from idefics2_client.images import SHA256_PREFIX
from idefics2_client.requests import make_message

FileName: TypeAlias = str | File
"""A file that was uploaded: what `upload` returned, its URL, its id, or `sha256:` with its digest."""

URL_PREFIX = "idefics2://files/"

_Message = TypeVar("_Message", GetFileRequest, DownloadFileRequest, DeleteFileRequest)


def name_file(kind: type[_Message], file: FileName) -> _Message:
    """Write a message that names a file.

    Raises:
        InvalidRequest: the name is not Unicode.

    """
    name = file.id if isinstance(file, File) else file
    if name.startswith(SHA256_PREFIX):
        return make_message(kind, sha256=name.removeprefix(SHA256_PREFIX))
    return make_message(kind, id=name.removeprefix(URL_PREFIX))
