"""What both clients promise of files, whatever the connection does."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from clients.python.callers import KINDS, make_caller
from fakes.file_server import make_file
from fakes.generation_server import make_response
from fakes.scripted_server import PATIENCE_SECONDS, Gate, Hang, Take, make_status
from google.protobuf.duration_pb2 import Duration
from idefics2.v1.files_pb2 import (
    DeleteFileRequest,
    DownloadFileRequest,
    DownloadFileResponse,
    GetFileRequest,
    GetUploadRequest,
    GetUploadResponse,
    ListFilesRequest,
    ListFilesResponse,
    UploadStart,
)
from idefics2.v1.generation_pb2 import GenerateRequest, Image
from idefics2_client import (
    Cancelled,
    DeadlineExceeded,
    Idefics2Error,
    ImageNotFound,
    ImageUnreadable,
    InvalidRequest,
    NotFound,
    Overloaded,
    Retry,
    ServiceFailed,
    ServiceUnavailable,
    TransferUpdate,
)
from idefics2_client.contents import PIECE_BYTES, Content
from idefics2_client.images import INLINE_BYTES
from idefics2_client.retry import Patience
from idefics2_client.upload import SMALL_BYTES, Upload

if TYPE_CHECKING:
    from pathlib import Path

    from fakes.file_server import FileServer
    from fakes.scripted_server import Step
    from idefics2_client import AsyncClient

SMALL = b"BM" + bytes(1000)
LARGE = b"BM" + bytes(range(251)) * 12_000  # 3 MB, no two of its pieces alike
SHA256 = hashlib.sha256(LARGE).hexdigest()
UPLOAD_ID = f"sha256-{SHA256}"
NO_FILE = make_status("NOT_FOUND", "FILE_NOT_UPLOADED", "why")
NO_UPLOAD = make_status("NOT_FOUND", "UPLOAD_NOT_FOUND", "why")
MOVED = make_status("INVALID_ARGUMENT", "VALUE_OUT_OF_RANGE", "start.offset must be 0", field="start.offset")


def start_at(offset: int, name: str = "") -> UploadStart:
    """Write the first message of an upload of LARGE."""
    return UploadStart(upload_id=UPLOAD_ID, offset=offset, name=name, size_bytes=len(LARGE), sha256=SHA256)


def names_in(folder: Path) -> list[str]:
    """Return the names of what lies in a folder."""
    return [path.name for path in folder.iterdir()]


def kept(num_bytes: int) -> GetUploadResponse:
    """Say how much is kept."""
    return GetUploadResponse(upload_id=UPLOAD_ID, num_kept_bytes=num_bytes)


def expect_upload(server: FileServer, *steps: Step, kept: Step = NO_UPLOAD) -> None:
    """Let a large file be uploaded that the service does not have."""
    server.expect(NO_FILE)
    server.expect(kept)
    server.expect(*steps)


async def test_a_small_file_is_uploaded_by_one_call(server: FileServer, caller: AsyncClient) -> None:
    server.expect(Take(), make_file(SMALL))
    assert await caller.upload(SMALL, name="a.bmp", ttl_seconds=2.5) == make_file(SMALL)
    digest = hashlib.sha256(SMALL).hexdigest()
    assert server.requests == [
        UploadStart(
            upload_id=f"sha256-{digest}",
            name="a.bmp",
            size_bytes=len(SMALL),
            sha256=digest,
            ttl=Duration(seconds=2, nanos=500_000_000),
        )
    ]
    assert server.received == [SMALL]
    assert server.metadata[0]["authorization"] == "Key local.key"


async def test_a_path_is_named_by_its_last_part(
    server: FileServer, caller: AsyncClient, tmp_path: Path
) -> None:
    for name, said in (("cat.bmp", "cat.bmp"), ("c\nat\udcff" + "é" * 120, "cat" + "é" * 120)):
        path = tmp_path / name
        path.write_bytes(SMALL)
        server.expect(Take(), make_file(SMALL))
        await caller.upload(path)
        assert server.requests[-1].name == said


class Growing(io.BytesIO):
    """Grows when its size was told."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As any file."""
        place = super().seek(offset, whence)
        if whence == io.SEEK_END:
            self.write(b"more")
        return place


async def test_a_file_that_grows_is_uploaded_as_it_was(server: FileServer, caller: AsyncClient) -> None:
    server.expect(Take(), make_file(SMALL))
    await caller.upload(Growing(SMALL))
    assert server.received == [SMALL]
    assert server.requests[0].sha256 == hashlib.sha256(SMALL).hexdigest()


async def test_a_file_that_becomes_shorter_cannot_be_read(
    server: FileServer, caller: AsyncClient, tmp_path: Path
) -> None:
    path = tmp_path / "cat.bmp"
    path.write_bytes(LARGE)

    def cut(update: TransferUpdate) -> None:
        if update.num_bytes:
            os.truncate(path, PIECE_BYTES)

    expect_upload(server, Take(), make_status("INVALID_ARGUMENT", "FILE_MISMATCH", "1048576 bytes"))
    with pytest.raises(ImageUnreadable, match=r"cat\.bmp: it became shorter meanwhile"):
        await caller.upload(path, on_progress=cut)


async def test_an_open_file_is_uploaded_from_where_it_stands(server: FileServer, caller: AsyncClient) -> None:
    file = io.BytesIO(b"before" + SMALL)
    file.seek(6)
    server.expect(Take(), make_file(SMALL))
    await caller.upload(file)
    assert server.received == [SMALL]
    assert not file.closed


async def test_a_pipe_is_uploaded_though_it_can_be_read_but_once(
    server: FileServer, caller: AsyncClient
) -> None:
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "wb") as writer, os.fdopen(ours, "rb") as reader:

        def write() -> None:
            with writer:
                writer.write(LARGE)

        writing = threading.Thread(target=write)
        writing.start()
        expect_upload(server, Take(), make_file(LARGE))
        await caller.upload(reader)
        writing.join()
    assert server.received == [LARGE]


async def test_a_pipe_at_a_path_is_uploaded_whole(
    server: FileServer, caller: AsyncClient, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writing = threading.Thread(target=pipe.write_bytes, args=(LARGE,))
    writing.start()
    expect_upload(server, Take(), make_file(LARGE))
    await caller.upload(pipe)
    writing.join()
    assert server.received == [LARGE]


class Answered(io.BytesIO):
    """The body of an answer over a connection that stays open: the system knows of no byte to come."""

    def __init__(self, data: bytes, connection: int) -> None:
        """Have come already."""
        super().__init__(data)
        self._connection = connection

    def seekable(self) -> bool:
        """Not."""
        return False

    def fileno(self) -> int:
        """Tell the connection."""
        return self._connection


async def test_what_came_already_is_not_waited_for(server: FileServer, caller: AsyncClient) -> None:
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "wb"), os.fdopen(ours, "rb"):
        expect_upload(server, Take(), make_file(LARGE))
        await caller.upload(Answered(LARGE, ours), timeout_seconds=PATIENCE_SECONDS)
    assert server.received == [LARGE]


def test_an_upload_of_which_something_is_kept_waits_for_limits() -> None:
    patience = Patience(Retry(on_lost=str), None)
    limit = Overloaded("too many", code="RESOURCE_EXHAUSTED", reason="CONCURRENCY_EXCEEDED")
    with Content(LARGE) as content:
        upload = Upload(content, None)
        upload.note_file(None)
        assert upload.pause_after(limit, patience) is None
        upload.note_progress(GetUploadResponse(num_kept_bytes=PIECE_BYTES), patience)
        assert upload.pause_after(limit, patience) is not None


async def test_the_timeout_bounds_the_reading_of_a_pipe(server: FileServer, caller: AsyncClient) -> None:
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "wb") as writer, os.fdopen(ours, "rb") as reader:
        writer.write(SMALL)
        writer.flush()
        with pytest.raises(DeadlineExceeded, match="timeout"):
            await caller.upload(reader, timeout_seconds=0.2)
    assert server.requests == []


def test_what_is_read_for_a_call_that_was_lost_takes_nothing_from_the_next_one() -> None:
    with Content(LARGE) as content:
        lost, pieces = content.read(), []
        next(lost)
        for piece in content.read(PIECE_BYTES):
            pieces.append(piece)
            next(lost, None)
    assert b"".join(pieces) == LARGE[PIECE_BYTES:]


async def test_a_file_of_text_is_a_type_error(caller: AsyncClient) -> None:
    file: Any = io.StringIO("text")
    with pytest.raises(TypeError, match="binary"):
        await caller.upload(file)


async def test_a_file_that_there_is_not_is_told_before_any_call(
    server: FileServer, caller: AsyncClient, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere/cat\.png") as caught:
        await caller.upload("nowhere/cat.png")
    assert type(caught.value) is ImageNotFound
    with pytest.raises(ImageUnreadable, match="directory"):
        await caller.upload(tmp_path)
    with pytest.raises(FileNotFoundError):
        await caller.generate("nowhere/cat.png", "What?")
    assert server.requests == []


async def test_a_large_file_goes_in_pieces_and_tells_how_far_it_is(
    server: FileServer, caller: AsyncClient
) -> None:
    updates: list[TransferUpdate] = []
    expect_upload(server, Take(), make_file(LARGE))
    await caller.upload(LARGE, name="n", on_progress=updates.append)
    assert server.requests == [
        GetFileRequest(sha256=SHA256),
        GetUploadRequest(upload_id=UPLOAD_ID),
        start_at(0, "n"),
    ]
    assert server.received == [LARGE]
    sizes = [0, PIECE_BYTES, 2 * PIECE_BYTES, len(LARGE)]
    assert updates == [TransferUpdate("n", size, len(LARGE)) for size in sizes]


async def test_what_the_service_has_is_not_sent(server: FileServer, caller: AsyncClient) -> None:
    updates: list[TransferUpdate] = []
    server.expect(make_file(LARGE))
    server.expect(Take(), make_file(LARGE))
    assert await caller.upload(LARGE, on_progress=updates.append) == make_file(LARGE)
    assert server.requests == [GetFileRequest(sha256=SHA256), start_at(0)]
    assert server.received == [b""]
    assert updates == [TransferUpdate("", len(LARGE), len(LARGE))]


async def test_what_the_service_forgets_meanwhile_is_sent(server: FileServer, caller: AsyncClient) -> None:
    server.expect(make_file(LARGE))
    server.expect(make_status("INVALID_ARGUMENT", "FILE_MISMATCH", "0 bytes", field="start.size_bytes"))
    expect_upload(server, Take(), make_file(LARGE))
    await caller.upload(LARGE)
    assert server.received[-1] == LARGE


async def test_an_upload_goes_on_where_an_earlier_one_stopped(
    server: FileServer, caller: AsyncClient
) -> None:
    updates: list[TransferUpdate] = []
    expect_upload(server, Take(), make_file(LARGE), kept=kept(SMALL_BYTES))
    await caller.upload(LARGE, on_progress=updates.append)
    assert server.requests[-1] == start_at(SMALL_BYTES)
    assert server.received == [LARGE[SMALL_BYTES:]]
    assert updates[0].num_bytes == SMALL_BYTES


async def test_an_upload_goes_on_after_its_connection_broke(
    server: FileServer, caller: AsyncClient, losses: list[Idefics2Error]
) -> None:
    expect_upload(server, Take(PIECE_BYTES), grpc.StatusCode.UNAVAILABLE)
    expect_upload(server, Take(), make_file(LARGE), kept=kept(SMALL_BYTES))
    await caller.upload(LARGE)
    assert server.received[1] == LARGE[SMALL_BYTES:]
    assert len(losses) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_an_upload_goes_on_after_the_server_was_started_anew(server: FileServer, kind: str) -> None:
    def restart() -> None:
        assert server.has_taken.wait(PATIENCE_SECONDS)
        server.restart()

    restarting = threading.Thread(target=restart)
    restarting.start()
    expect_upload(server, Take(PIECE_BYTES), Hang())
    expect_upload(server, Take(), make_file(LARGE), kept=kept(SMALL_BYTES))
    async with make_caller(kind, server.target, lambda _: restarting.join()) as caller:
        await caller.upload(LARGE)
    assert server.received[1] == LARGE[SMALL_BYTES:]


async def test_two_who_upload_the_same_do_not_stumble(server: FileServer, caller: AsyncClient) -> None:
    expect_upload(server, MOVED, kept=kept(SMALL_BYTES))
    expect_upload(server, NO_UPLOAD, kept=kept(SMALL_BYTES))
    expect_upload(server, Take(), make_file(LARGE))
    await caller.upload(LARGE)
    assert server.received[-1] == LARGE


async def test_an_upload_that_stumbles_each_time_gives_up(server: FileServer, caller: AsyncClient) -> None:
    for _ in range(6):
        expect_upload(server, MOVED, kept=kept(SMALL_BYTES))
    with pytest.raises(InvalidRequest, match="offset"):
        await caller.upload(LARGE)


@pytest.mark.parametrize("data", [SMALL, LARGE])
async def test_what_is_refused_is_not_sent_again(
    server: FileServer, caller: AsyncClient, data: bytes
) -> None:
    refusal = make_status("INVALID_ARGUMENT", "FILE_NOT_AN_IMAGE", "why", field="chunk")
    if data is LARGE:
        expect_upload(server, Take(1), refusal)
    else:
        server.expect(Take(1), refusal)
    with pytest.raises(InvalidRequest, match="why") as caught:
        await caller.upload(data)
    assert caught.value.reason == "FILE_NOT_AN_IMAGE"


class LeavingError(BaseException):
    """What is no exception, as SystemExit is none."""


@pytest.mark.parametrize("error", [ZeroDivisionError, LeavingError])
async def test_a_callback_that_raises_ends_the_upload_with_its_error(
    server: FileServer, caller: AsyncClient, error: type[BaseException]
) -> None:
    def fail(update: TransferUpdate) -> None:
        if update.num_bytes:
            raise error

    early = make_status("INVALID_ARGUMENT", "FILE_MISMATCH", "1048576 bytes", field="start.size_bytes")
    expect_upload(server, Take(), early)
    with pytest.raises(error):
        await caller.upload(LARGE, on_progress=fail)
    server.expect(Take(), make_file(SMALL))
    with pytest.raises(error):
        await caller.upload(SMALL, on_progress=fail)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", [SMALL, LARGE])
async def test_a_service_that_was_never_there_is_not_waited_for(kind: str, data: bytes) -> None:
    async with make_caller(kind, "127.0.0.1:1") as caller:
        with pytest.raises(ServiceUnavailable, match="idefics2-service serve"):
            await caller.upload(data)
        with pytest.raises(ServiceUnavailable, match="idefics2-service serve"):
            await caller.download("f", io.BytesIO())


async def test_the_timeout_bounds_all_of_an_upload(server: FileServer, caller: AsyncClient) -> None:
    expect_upload(server, Take(PIECE_BYTES), Hang())
    with pytest.raises(DeadlineExceeded, match="timeout"):
        await caller.upload(LARGE, timeout_seconds=0.5)


PARTS = [
    DownloadFileResponse(chunk=LARGE[start : start + PIECE_BYTES])
    for start in range(0, len(LARGE), PIECE_BYTES)
]
WHOLE = [DownloadFileResponse(file=make_file(LARGE, name="n")), *PARTS]


async def test_a_download_writes_the_file_and_tells_how_far_it_is(
    server: FileServer, caller: AsyncClient, tmp_path: Path
) -> None:
    updates: list[TransferUpdate] = []
    server.expect(*WHOLE)
    path = tmp_path / "cat.bmp"
    file = await caller.download("idefics2://files/abc", path, on_progress=updates.append)
    assert file == make_file(LARGE, name="n")
    assert path.read_bytes() == LARGE
    assert names_in(tmp_path) == ["cat.bmp"]
    assert server.requests == [DownloadFileRequest(id="abc")]
    assert updates[0] == TransferUpdate("n", 0, len(LARGE))
    assert updates[-1] == TransferUpdate("n", len(LARGE), len(LARGE))


async def test_two_downloads_to_one_path_do_not_mix_and_nothing_beside_it_is_touched(
    server: FileServer, caller: AsyncClient, tmp_path: Path
) -> None:
    path, beside = tmp_path / "cat.bmp", tmp_path / "cat.bmp.part"
    beside.write_bytes(b"mine")
    gate, begun = Gate(), threading.Event()
    server.expect(*WHOLE[:2], gate, *WHOLE[2:])
    server.expect(*WHOLE[:2], NO_FILE)
    first = asyncio.create_task(caller.download("abc", path, on_progress=lambda _: begun.set()))
    await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
    with pytest.raises(NotFound):
        await caller.download("abc", path)
    gate.open()
    await first
    assert path.read_bytes() == LARGE
    assert beside.read_bytes() == b"mine"
    assert sorted(names_in(tmp_path)) == ["cat.bmp", "cat.bmp.part"]


async def test_all_is_written_to_a_file_that_takes_little_at_a_time(
    server: FileServer, caller: AsyncClient
) -> None:
    class Narrow(io.BytesIO):
        def write(self, data: Any) -> int:
            return super().write(data[:100_000])

    server.expect(*WHOLE)
    out = Narrow()
    await caller.download("abc", out)
    assert out.getvalue() == LARGE


async def test_a_file_that_does_not_say_how_much_it_took_took_all(
    server: FileServer, caller: AsyncClient
) -> None:
    class Silent:
        def __init__(self) -> None:
            self.taken = bytearray()

        def write(self, data: Any) -> None:
            self.taken += data
            assert len(self.taken) <= len(LARGE)

    server.expect(*WHOLE)
    out: Any = Silent()
    await caller.download("abc", out)
    assert out.taken == LARGE


async def test_a_file_that_takes_nothing_and_does_not_wait_ends_a_download(
    server: FileServer, caller: AsyncClient
) -> None:
    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, _: Any) -> None:
            return None

    server.expect(*WHOLE)
    out: Any = Full()
    with pytest.raises(BlockingIOError, match="does not wait"):
        await caller.download("abc", out)


async def test_a_download_goes_on_after_its_connection_broke(
    server: FileServer, caller: AsyncClient, losses: list[Idefics2Error]
) -> None:
    server.expect(*WHOLE[:2], grpc.StatusCode.UNAVAILABLE)
    server.expect(WHOLE[0], *PARTS[1:])
    out = io.BytesIO()
    await caller.download(f"sha256:{SHA256}", out)
    assert out.getvalue() == LARGE
    assert server.requests == [
        DownloadFileRequest(sha256=SHA256),
        DownloadFileRequest(sha256=SHA256, offset=PIECE_BYTES),
    ]
    assert len(losses) == 1


@pytest.mark.parametrize("steps", [[NO_FILE], WHOLE[:2], [WHOLE[0], *reversed(PARTS)]])
async def test_a_download_that_fails_leaves_nothing(
    server: FileServer, caller: AsyncClient, tmp_path: Path, steps: list[Step]
) -> None:
    server.expect(*steps)
    with pytest.raises((NotFound, ServiceFailed)):
        await caller.download("abc", tmp_path / "cat.bmp")
    assert names_in(tmp_path) == []


async def test_a_download_to_where_nothing_can_be_written_says_so(
    server: FileServer, caller: AsyncClient, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        await caller.download("abc", tmp_path / "nowhere" / "cat.bmp")
    with pytest.raises(IsADirectoryError):
        await caller.download("abc", ".")
    assert server.requests == []


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("idefics2://files/abc", {"id": "abc"}),
        ("abc", {"id": "abc"}),
        (make_file(file_id="abc"), {"id": "abc"}),
        (f"sha256:{SHA256}", {"sha256": SHA256}),
    ],
)
async def test_a_file_is_named_in_any_way(
    server: FileServer, caller: AsyncClient, name: Any, field: dict[str, str]
) -> None:
    server.expect(make_file())
    server.expect(make_file())
    assert await caller.get_file(name) == await caller.delete_file(name) == make_file()
    assert server.requests == [GetFileRequest(**field), DeleteFileRequest(**field)]


async def test_list_files_turns_the_pages(server: FileServer, caller: AsyncClient) -> None:
    files = [make_file(file_id=name) for name in "abc"]
    server.expect(ListFilesResponse(files=files[:2], next_page_token="t"))
    server.expect(ListFilesResponse(files=files[2:]))
    assert [file async for file in caller.list_files(page_size=2)] == files
    assert server.requests[0] == ListFilesRequest(page_size=2)


def image_of(size: int, seed: int = 0) -> bytes:
    """Return so many bytes that begin like a picture."""
    return b"BM%03d" % seed + bytes(size - 5)


async def test_images_that_find_no_room_in_the_message_are_uploaded_first(
    server: FileServer, caller: AsyncClient, tmp_path: Path
) -> None:
    large, half, other = (
        image_of(INLINE_BYTES + 1),
        image_of(INLINE_BYTES // 2),
        image_of(INLINE_BYTES // 2 + 1, 7),
    )
    (tmp_path / "large.bmp").write_bytes(large)
    for data in (large, other):
        expect_upload(server, Take(), make_file(data))
    server.expect(make_response("A cat."))
    url = "https://example.com/cat.png"
    await caller.generate(tmp_path / "large.bmp", "What?", images=[half, url, other])
    assert server.received == [large, other]
    assert server.requests[2].name == "large.bmp"
    digests = [hashlib.sha256(data).hexdigest() for data in (large, other)]
    images = [Image(sha256=digests[0]), Image(data=half), Image(url=url), Image(sha256=digests[1])]
    assert server.requests[-1] == GenerateRequest(prompt="What?", images=images)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_client_is_told_of_uploads_that_nobody_asked_for(server: FileServer, kind: str) -> None:
    updates: list[TransferUpdate] = []
    data = image_of(INLINE_BYTES + 1)
    expect_upload(server, Take(), make_file(data))
    server.expect(make_response("A cat."))
    async with make_caller(kind, server.target, on_upload=updates.append) as caller:
        await caller.generate(data, "What?")
    assert updates[-1] == TransferUpdate("", len(data), len(data))


async def test_what_is_wrong_with_any_image_is_told_before_one_is_uploaded(
    server: FileServer, caller: AsyncClient
) -> None:
    large = image_of(INLINE_BYTES + 1)
    with pytest.raises(ImageNotFound):
        await caller.generate(large, "What?", images=["nowhere/cat.png"])
    with pytest.raises(InvalidRequest, match="20,000,000"):
        await caller.generate(large, "What?", images=[image_of(20_000_001)])
    assert server.requests == []


async def test_an_uploaded_file_is_an_image(server: FileServer, caller: AsyncClient) -> None:
    server.expect(make_response("A cat."))
    await caller.generate(make_file(), "What?", images=[make_file(), f"sha256:{SHA256}"])
    url = make_file().url
    assert server.requests == [
        GenerateRequest(image_url=url, prompt="What?", images=[Image(url=url), Image(sha256=SHA256)])
    ]


async def test_cancelling_the_task_cancels_an_upload(server: FileServer) -> None:
    expect_upload(server, Take(PIECE_BYTES), Hang())
    async with make_caller("asyncio", server.target) as caller:
        task = asyncio.create_task(caller.upload(LARGE))
        assert await asyncio.to_thread(server.has_taken.wait, PATIENCE_SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(server.wait_until_cancelled)


@pytest.mark.parametrize("kind", KINDS)
async def test_closing_the_client_ends_an_upload(server: FileServer, kind: str) -> None:
    expect_upload(server, Take(PIECE_BYTES), Hang())
    async with make_caller(kind, server.target) as caller:
        task = asyncio.create_task(caller.upload(LARGE))
        assert await asyncio.to_thread(server.has_taken.wait, PATIENCE_SECONDS)
    await asyncio.to_thread(server.wait_until_cancelled)
    with pytest.raises(Cancelled, match=r"[Cc]losed"):
        await task
