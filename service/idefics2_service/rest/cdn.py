"""Files themselves: brought and read by whoever knows their address, which nobody can guess."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Header, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response, StreamingResponse

from idefics2_service.errors import FileNotUploaded
from idefics2_service.rest.contract import SENT, SLOW
from idefics2_service.rest.dependencies import CurrentCall, CurrentCores, CurrentKey, KeyId, get_call
from idefics2_service.rest.storage import KeepSeconds
from idefics2_service.uploads.announcements import AnnouncedFields
from idefics2_service.uploads.drafts import fit_name
from idefics2_service.uploads.links import make_public_path
from idefics2_service.uploads.records import StoredFile

router = APIRouter(prefix="/cdn", tags=["files"])

_UPLOAD = "/uploads/{key_id}/{file_id}"
_FILE = "/files/{key_id}/{file_id}"
_NAMED = _FILE + "/{name}"
_FIELDS = AnnouncedFields(name="x-fal-file-name", content_type="content-type")
_PART, _END = "/multipart/{upload_id}/{number}", "/multipart/{upload_id}/complete"

ContentLength = Annotated[int | None, Header(alias="Content-Length", include_in_schema=False)]


class FileAddress(BaseModel):
    """Where a file is."""

    access_url: str


class MultipartAddress(FileAddress):
    """Where a file will be whose parts are brought to `<access_url>/multipart/<uploadId>/<number>`."""

    upload_id: str = Field(serialization_alias="uploadId")


class PartBody(BaseModel):
    """A part that was brought."""

    number: int = Field(validation_alias="partNumber")
    etag: str


class PartsBody(BaseModel):
    """All parts of a file."""

    parts: list[PartBody] = Field(fail_fast=True)


async def announce(
    cores: CurrentCores,
    call: CurrentCall,
    key_id: KeyId,
    keep_seconds: KeepSeconds,
    name: Annotated[str, Header(alias="X-Fal-File-Name")] = "",
    content_type: Annotated[str, Header(alias="Content-Type")] = "",
) -> MultipartAddress:
    """Announce the file that a call brings itself."""
    name = fit_name(name)
    file_id = await cores.announcements.announce(key_id, name, content_type, keep_seconds, _FIELDS)
    url = call.origin.url("cdn", make_public_path(key_id, file_id, name))
    return MultipartAddress(access_url=url, upload_id=file_id)


NewFile = Annotated[MultipartAddress, Depends(announce)]


@router.post("/files/upload", responses=SLOW)
async def upload(
    request: Request, cores: CurrentCores, key: CurrentKey, file: NewFile, size_bytes: ContentLength = None
) -> FileAddress:
    """Take a file in as a whole."""
    hold = partial(cores.gate.hold, key.id, cores.announcements.count_held(size_bytes))
    try:
        async with _bring(request, hold) as chunks:
            await cores.announcements.receive(key.id, file.upload_id, size_bytes, chunks)
    except BaseException:  # the caller was told no id by which to bring it again
        await cores.announcements.withdraw(key.id, file.upload_id)
        raise
    return FileAddress(access_url=file.access_url)


@router.post("/files/upload/multipart")
async def begin_multipart(file: NewFile) -> MultipartAddress:
    """Say where the parts of a file are to be brought."""
    return file


@router.put(_UPLOAD, responses=SLOW)
async def receive(
    key_id: str, file_id: str, request: Request, cores: CurrentCores, size_bytes: ContentLength = None
) -> Response:
    """Take an announced file in as a whole."""
    hold = partial(cores.gate.admit_bearer, key_id, cores.announcements.count_held(size_bytes))
    async with _bring(request, hold) as chunks:
        file = await cores.announcements.receive(key_id, file_id, size_bytes, chunks)
    return JSONResponse({"sha256": file.sha256, "size_bytes": file.size_bytes})


@router.put(_UPLOAD + "/{number}", responses=SLOW)
@router.put(_FILE + _PART, include_in_schema=False)
@router.put(_NAMED + _PART, include_in_schema=False)
async def receive_part(
    key_id: str,
    file_id: str,
    number: int,
    request: Request,
    cores: CurrentCores,
    size_bytes: ContentLength = None,
) -> Response:
    """Take in one part of an announced file; parts come in any order."""
    hold = partial(cores.gate.admit_bearer, key_id, cores.announcements.count_held(size_bytes))
    async with _bring(request, hold) as chunks:
        etag = await cores.announcements.receive_part(key_id, file_id, number, size_bytes, chunks)
    return JSONResponse({"partNumber": number, "etag": etag}, headers={"etag": etag})


@router.post(_UPLOAD + "/complete", responses=SENT)
@router.post(_FILE + _END, include_in_schema=False)
@router.post(_NAMED + _END, include_in_schema=False)
async def complete(key_id: str, file_id: str, body: PartsBody, cores: CurrentCores) -> Response:
    """Join the parts of an announced file by their numbers."""
    named = [(part.number, part.etag) for part in body.parts]
    hold = partial(cores.gate.admit_bearer, key_id, cores.announcements.count_held(None))
    file = await cores.announcements.complete(key_id, file_id, named, hold)
    return JSONResponse({"sha256": file.sha256, "size_bytes": file.size_bytes})


async def find(key_id: str, file_id: str, cores: CurrentCores, call: CurrentCall) -> StoredFile:
    """Return the file that a path names."""
    file = await cores.library.find(key_id, file_id)
    if file is None:
        raise FileNotUploaded("there is no such file, or its time is over")
    call.be_known()
    return file


FoundFile = Annotated[StoredFile, Depends(find)]


async def read(file: FoundFile, cores: CurrentCores) -> AsyncIterator[AsyncIterator[bytes]]:
    """Yield a file's bytes, read as they are taken; until the call is over they count for the file's key."""
    with cores.gate.open_room(file.key_id) as room:
        async with aclosing(cores.library.stream(file, room)) as parts:
            yield parts


@router.get(_FILE)
@router.head(_FILE, include_in_schema=False)
@router.api_route(_NAMED, methods=["GET", "HEAD"], include_in_schema=False)
async def download(
    file: FoundFile, parts: Annotated[AsyncIterator[bytes], Depends(read)], request: Request
) -> Response:
    """Return a file's bytes."""
    headers = {
        "content-length": str(file.size_bytes),
        "content-type": file.content_type,
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file.name or file.id, safe='')}",
        "x-content-type-options": "nosniff",
        "cache-control": "private, max-age=3600",
    }
    if request.method == "HEAD":
        return Response(headers=headers)
    return StreamingResponse(parts, headers=headers)


@asynccontextmanager
async def _bring(
    request: Request, hold: Callable[[], AbstractContextManager[object]]
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Yield a body as it comes; what `hold` returns is entered before a byte is read, and left at the end.

    So it is not entered before the file is known to be announced: nobody takes the places of a key who knows
    its name only.
    """
    call = await get_call(request)
    with ExitStack() as held:

        async def read() -> AsyncGenerator[bytes, None]:
            held.enter_context(hold())
            call.be_known()
            async for chunk in request.stream():
                if chunk:
                    yield chunk

        async with aclosing(read()) as chunks:
            yield chunks
