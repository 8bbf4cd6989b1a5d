"""What is promised of files that are announced before they come, over every store."""

from __future__ import annotations

import asyncio
import hashlib
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from idefics2_service.errors import (
    ApiKeyRevoked,
    FileAlreadyComplete,
    FileEmpty,
    FileMismatch,
    FileNotAnImage,
    FileQuotaExceeded,
    FileStoreUnavailable,
    FileTooLarge,
    ServiceError,
    UploadNotFound,
    UploadPartMissing,
    ValueOutOfRange,
)
from idefics2_service.keys.records import Limits
from idefics2_service.settings import FileSettings
from idefics2_service.uploads import names, pieces, quotas
from idefics2_service.uploads.announcements import Announcements
from idefics2_service.uploads.library import GRACE_SECONDS, Library
from idefics2_service.uploads.quotas import FileQuotas
from idefics2_service.uploads.records import Piece, StoredFile, UploadStart
from idefics2_service.uploads.uploads import Uploads
from pictures import draw_red_circle, encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from idefics2_service.blobs.interface import BlobStore

KEY = "anna"
PICTURE = encode(draw_red_circle(), "BMP")  # 90 kB
OTHER = encode(draw_red_circle((42, 42)), "BMP")  # 5 kB
SHA256 = hashlib.sha256(PICTURE).hexdigest()
PIECE_BYTES = 10_000
PART_BYTES = 25_000
"""So that a part has several pieces, and a file several parts."""
MIN_PART_BYTES = 1_000
CLOCK_SKEW_SECONDS = 5
UNTIL_FORGOTTEN_SECONDS = GRACE_SECONDS + CLOCK_SKEW_SECONDS
"""After the time of a file, or of what came of it, is over."""
PATIENCE_SECONDS = 30
NOBODY = "0" * 32
SETTINGS = FileSettings(max_file_bytes=100_000, max_key_bytes=300_000, max_key_files=3)


class Desk:
    """Where files are announced and brought: what a face does, without one."""

    def __init__(self, blobs: BlobStore, settings: FileSettings = SETTINGS) -> None:
        """Begin with nothing."""
        self.blobs = blobs
        self.limits: dict[str, Limits] = {}
        self.is_revoked = False
        file_quotas = FileQuotas(blobs, settings, self._limits_of)
        self.library = Library(blobs, settings)
        self.uploads = Uploads(blobs, self.library, settings, file_quotas)
        self.announcements = Announcements(blobs, self.library, settings, file_quotas)

    async def announce(self, **said: Any) -> str:
        """Announce a picture."""
        return await self.announcements.announce(KEY, **said)

    async def bring(self, file_id: str, data: bytes = PICTURE, size_bytes: int | None = None) -> StoredFile:
        """Bring a file as a whole."""
        return await self.announcements.receive(KEY, file_id, size_bytes, stream(data))

    async def bring_part(self, file_id: str, number: int, data: bytes, size_bytes: int | None = None) -> str:
        """Bring a part."""
        return await self.announcements.receive_part(KEY, file_id, number, size_bytes, stream(data))

    async def bring_all(self, file_id: str, parts: Sequence[bytes]) -> list[tuple[int, str]]:
        """Bring all parts at the same time, in any order; return what completes the file."""
        numbers = random.sample(range(1, len(parts) + 1), len(parts))
        etags = await asyncio.gather(*(self.bring_part(file_id, n, parts[n - 1]) for n in numbers))
        return list(zip(numbers, etags, strict=True))

    async def complete(self, file_id: str, named: Sequence[tuple[int, str]]) -> StoredFile:
        """Join parts."""
        return await self.announcements.complete(KEY, file_id, named)

    async def upload(self, data: bytes = PICTURE, **said: Any) -> StoredFile:
        """Upload a file that nobody announced."""
        return await self.uploads.receive(KEY, UploadStart(len(data), **said), stream(data))

    async def read(self, file_id: str) -> bytes:
        """Read a file by its id."""
        file = await self.library.find(KEY, file_id)
        assert file is not None
        return await self.library.read(file)

    async def names(self) -> list[str]:
        """List all that is kept."""
        return [blob.name for blob in await self.blobs.list_blobs(KEY)]

    async def wait_for_a_piece(self) -> None:
        """Wait until some of a file is kept."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any(names.is_piece(name) for name in await self.names()):
                pass

    def _limits_of(self, key_id: str) -> Limits:
        if self.is_revoked:
            raise ApiKeyRevoked("the API key was revoked")
        return self.limits.get(key_id, Limits())

    def let_pass(self, seconds: float) -> None:
        """Let time go by."""
        clock = self.library.clock
        self.library.clock = lambda: clock() + seconds


async def stream(data: bytes, chunk_bytes: int = 700) -> AsyncIterator[bytes]:
    """Let bytes come."""
    for start in range(0, len(data), chunk_bytes):
        yield data[start : start + chunk_bytes]


async def stream_after(barrier: asyncio.Barrier, data: bytes) -> AsyncIterator[bytes]:
    """Let bytes come once all whom the barrier counts wait for theirs."""
    await barrier.wait()
    async for chunk in stream(data):
        yield chunk


async def break_off(data: bytes) -> AsyncIterator[bytes]:
    """Let bytes come, and break."""
    async for chunk in stream(data):
        yield chunk
    raise ConnectionError


class Slow:
    """Bytes that come when the test says so."""

    def __init__(self, data: bytes) -> None:
        """Hold `data` back until `go_on` is set."""
        self._data = data
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def stream(self) -> AsyncIterator[bytes]:
        """Let them come, once the test has seen that they are waited for."""
        self.begun.set()
        await self.go_on.wait()
        async for chunk in stream(self._data):
            yield chunk

    async def stream_behind(self, first: bytes) -> AsyncIterator[bytes]:
        """Let them come behind others, which come at once."""
        async for chunk in stream(first):
            yield chunk
        async for chunk in self.stream():
            yield chunk


def cut(data: bytes, part_bytes: int = PART_BYTES) -> list[bytes]:
    """Make parts of a file."""
    return [data[start : start + part_bytes] for start in range(0, len(data), part_bytes)]


def is_of(prefix: str, name: str) -> bool:
    """Tell by the last part of a blob's name whether it begins so."""
    return name.rpartition("/")[2].startswith(prefix)


async def refuse(kind: type[ServiceError], call: Awaitable[Any]) -> ServiceError:
    """Make a call that must fail, and return how it does."""
    with pytest.raises(kind) as caught:
        await call
    return caught.value


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep files in pieces that a test can afford."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", PIECE_BYTES)
    monkeypatch.setattr(quotas, "MIN_PART_BYTES", MIN_PART_BYTES)


def let_both_find_no_file(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two who complete a file go on when both have found that nobody did, and all their pieces."""
    put, both_looked = blobs.put, asyncio.Barrier(2)

    async def put_together(name: str, *data: bytes) -> None:
        if "/sha256/" in name:
            await both_looked.wait()
        await put(name, *data)

    monkeypatch.setattr(blobs, "put", put_together)


class HeldRecord:
    """The next record of a file, which is put when the test says so."""

    def __init__(self, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Hold it back until `go_on` is set."""
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self._put = blobs.put
        monkeypatch.setattr(blobs, "put", self._hold)

    async def _hold(self, name: str, *data: bytes) -> None:
        if names.is_record(name) and not self.begun.is_set():
            self.begun.set()
            await self.go_on.wait()
        await self._put(name, *data)


@pytest.fixture
def replica(blobs: BlobStore) -> Desk:
    """Another one over the same store."""
    return Desk(blobs)


@pytest.fixture
def desk(blobs: BlobStore) -> Desk:
    """One over the store under test."""
    return Desk(blobs)


async def test_an_announced_file_is_found_under_the_id_that_was_told(desk: Desk) -> None:
    file_id = await desk.announce(name="circle.bmp", content_type="image/x-ms-bmp")
    assert await desk.library.find(KEY, file_id) is None
    file = await desk.bring(file_id, size_bytes=len(PICTURE))
    assert (file.id, file.name, file.sha256, file.content_type) == (
        *(file_id, "circle.bmp", SHA256),
        "image/bmp",
    )
    assert file.expires_at - file.created_at == SETTINGS.keep_seconds
    assert await desk.library.find(KEY, file_id) == await desk.library.find_content(KEY, SHA256) == file
    assert await desk.read(file_id) == PICTURE
    assert not [name for name in await desk.names() if is_of("announced", name)]


async def test_any_replica_goes_on_with_what_another_one_began(desk: Desk) -> None:
    file_id, parts = await desk.announce(), cut(PICTURE)
    etags = [
        (number, await Desk(desk.blobs).bring_part(file_id, number, part))
        for number, part in enumerate(parts, 1)
    ]
    assert (await Desk(desk.blobs).complete(file_id, etags)).sha256 == SHA256
    assert await desk.read(file_id) == PICTURE


async def test_parts_come_in_any_order_at_the_same_time_and_are_joined_by_number(desk: Desk) -> None:
    file_id, parts = await desk.announce(name="circle.bmp"), cut(PICTURE)
    named = await desk.bring_all(file_id, parts)
    assert dict(named) == {
        number: f'"{hashlib.md5(part).hexdigest()}"'  # noqa: S324  # what an etag is
        for number, part in enumerate(parts, 1)
    }
    assert await desk.library.find(KEY, file_id) is None
    random.shuffle(named)
    file = await desk.complete(file_id, named)
    assert (file.id, file.name, file.size_bytes, file.sha256, file.content_type) == (
        *(file_id, "circle.bmp", len(PICTURE), SHA256),
        "image/bmp",
    )
    assert await desk.read(file_id) == PICTURE
    assert not [name for name in await desk.names() if is_of("announced", name) or "etag" in name]


async def test_an_etag_is_good_without_its_quotation_marks(desk: Desk) -> None:
    file_id = await desk.announce()
    named = await desk.bring_all(file_id, cut(PICTURE))
    assert (await desk.complete(file_id, [(n, etag.strip('"')) for n, etag in named])).sha256 == SHA256


async def test_a_part_that_comes_again_takes_the_place_of_the_one_before(desk: Desk) -> None:
    file_id, parts = await desk.announce(), cut(PICTURE)
    old = await desk.bring_part(file_id, 2, b"something else")
    named = await desk.bring_all(file_id, parts)
    error = await refuse(
        FileMismatch, desk.complete(file_id, [(n, old if n == 2 else etag) for n, etag in named])
    )
    assert error.metadata["announced"] == old
    assert error.metadata["received"] == dict(named)[2]
    assert len([name for name in await desk.names() if is_of("part-00002", name)]) == 4
    assert (await desk.complete(file_id, named)).sha256 == SHA256


async def test_of_a_part_that_comes_twice_at_the_same_time_the_named_one_counts(desk: Desk) -> None:
    file_id = await desk.announce()
    first, second = PICTURE[:50_000], PICTURE[50_000:]
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"something else"
        begun.set()
        await go_on.wait()

    slowly = asyncio.create_task(desk.announcements.receive_part(KEY, file_id, 2, None, slow()))
    await begun.wait()
    named = await desk.bring_all(file_id, [first, second])
    go_on.set()
    assert await slowly not in dict(named).values()
    file = await desk.complete(file_id, named)
    assert file.sha256 == SHA256
    assert await desk.read(file_id) == PICTURE
    assert len([name for name in await desk.names() if is_of("part-", name)]) == len(file.pieces)


async def test_parts_that_are_not_named_are_forgotten(desk: Desk) -> None:
    file_id, parts = await desk.announce(), cut(PICTURE)
    named = await desk.bring_all(file_id, [*parts, b"too much"])
    file = await desk.complete(file_id, [(n, etag) for n, etag in named if n <= len(parts)])
    assert file.sha256 == SHA256
    assert not [name for name in await desk.names() if is_of(f"part-{len(parts) + 1:05d}", name)]


async def test_the_same_content_twice_is_two_files_that_do_not_need_each_other(desk: Desk) -> None:
    plain = await desk.upload()
    first, second = [await desk.bring(await desk.announce()) for _ in range(2)]
    assert len({plain.id, first.id, second.id}) == 3
    await desk.library.delete(plain)
    assert await desk.read(first.id) == await desk.read(second.id) == PICTURE
    assert (await desk.upload()).id in {first.id, second.id}
    await desk.library.delete(first)
    assert await desk.library.find(KEY, first.id) is None
    assert await desk.library.find_content(KEY, SHA256) == await desk.library.find(KEY, second.id)
    assert await desk.read(second.id) == PICTURE
    await desk.library.delete(second)
    assert await desk.library.find_content(KEY, SHA256) is None
    assert await desk.names() == []


async def test_what_is_brought_again_is_the_same_file_and_other_bytes_are_refused(desk: Desk) -> None:
    file_id = await desk.announce()
    file = await desk.bring(file_id)
    before = await desk.names()
    assert await desk.bring(file_id, size_bytes=len(PICTURE)) == await desk.bring(file_id) == file
    for data, size in ((OTHER, len(OTHER)), (PICTURE[:-1], None), (PICTURE + b"x", None), (b"", None)):
        await refuse(FileAlreadyComplete, desk.bring(file_id, data, size))
    await refuse(FileAlreadyComplete, desk.bring_part(file_id, 1, PICTURE))
    assert await desk.complete(file_id, [(1, '"whatever"')]) == file  # as after a lost answer
    assert await desk.names() == before
    assert await desk.read(file_id) == PICTURE


async def test_two_who_bring_the_same_at_once_are_answered_with_one_file(desk: Desk) -> None:
    file_id = await desk.announce()
    first, second = await asyncio.gather(desk.bring(file_id), desk.bring(file_id))
    assert first == second
    assert len([name for name in await desk.names() if "/files/" in name]) == 1 + len(first.pieces)
    assert await desk.read(file_id) == PICTURE


async def test_two_who_bring_the_same_at_once_on_two_replicas_are_answered_with_one_file(
    desk: Desk, replica: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_id = await desk.announce()
    let_both_find_no_file(desk.blobs, monkeypatch)
    first, second = await asyncio.gather(desk.bring(file_id), replica.bring(file_id))
    assert first == second == await desk.library.find_content(KEY, SHA256)
    assert await replica.read(file_id) == PICTURE
    assert len([name for name in await desk.names() if "/files/" in name]) == 1 + len(first.pieces)


async def test_two_who_join_the_same_parts_at_once_on_two_replicas_are_answered_with_one_file(
    desk: Desk, replica: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_id = await desk.announce(keep_seconds=600)
    named = await desk.bring_all(file_id, cut(PICTURE))
    let_both_find_no_file(desk.blobs, monkeypatch)
    first, second = await asyncio.gather(desk.complete(file_id, named), replica.complete(file_id, named))
    assert first == second
    assert await replica.read(file_id) == PICTURE


async def test_of_two_who_bring_something_else_at_once_on_two_replicas_one_is_refused_and_leaves_nothing(
    desk: Desk, replica: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_id = await desk.announce(keep_seconds=600)
    let_both_find_no_file(desk.blobs, monkeypatch)
    answers = await asyncio.gather(desk.bring(file_id), replica.bring(file_id, OTHER), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["FileAlreadyComplete", "StoredFile"]
    (file,) = [answer for answer in answers if isinstance(answer, StoredFile)]
    assert await desk.read(file_id) == (PICTURE if file.sha256 == SHA256 else OTHER)
    kept = {names.record_name(KEY, file_id), names.content_name(KEY, file.sha256, file_id)}
    kept |= {names.until_name(KEY, file_id, file.expires_at), *(piece.name for piece in file.pieces)}
    assert set(await desk.names()) == kept


async def test_whose_pieces_another_replica_cleared_is_answered_with_the_file_that_it_kept(
    desk: Desk, replica: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_id = await desk.announce()
    rest = Slow(PICTURE[700:])
    coming = asyncio.create_task(
        replica.announcements.receive(KEY, file_id, None, rest.stream_behind(PICTURE[:700]))
    )
    await rest.begun.wait()
    find = replica.library.find

    async def find_too_early(key_id: str, file_id: str) -> StoredFile | None:
        monkeypatch.setattr(replica.library, "find", find)
        found = await find(key_id, file_id)
        await desk.bring(file_id)
        return found

    monkeypatch.setattr(replica.library, "find", find_too_early)
    rest.go_on.set()
    assert await coming == await desk.library.find(KEY, file_id)
    assert await desk.read(file_id) == PICTURE


async def test_who_is_not_answered_that_a_file_is_kept_finds_that_it_is(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_new = desk.blobs.put_new

    async def lose_the_answer(name: str, *data: bytes) -> bool:
        assert await put_new(name, *data)
        return await put_new(name, *data)  # as obstore asks again

    monkeypatch.setattr(desk.blobs, "put_new", lose_the_answer)
    file = await desk.bring(await desk.announce())
    assert len([name for name in await desk.names() if "/files/" in name]) == 1 + len(file.pieces)
    assert await desk.read(file.id) == PICTURE


async def test_a_content_leads_to_no_file_of_another_one(desk: Desk) -> None:
    file = await desk.bring(await desk.announce(), OTHER)
    await desk.blobs.put(names.content_name(KEY, SHA256, file.id), b"")  # as by who died before it was second
    assert await desk.library.find_content(KEY, SHA256) is None
    assert (await desk.upload()).sha256 == SHA256


async def test_of_two_who_bring_something_else_at_once_one_is_refused(desk: Desk) -> None:
    file_id = await desk.announce()
    answers = await asyncio.gather(desk.bring(file_id), desk.bring(file_id, OTHER), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["FileAlreadyComplete", "StoredFile"]
    (file,) = [answer for answer in answers if isinstance(answer, StoredFile)]
    assert await desk.read(file_id) in {PICTURE, OTHER}
    assert len([name for name in await desk.names() if "/files/" in name]) == 1 + len(file.pieces)


async def test_of_two_who_join_other_parts_at_once_one_is_refused_and_the_file_stays_whole(
    desk: Desk,
) -> None:
    file_id = await desk.announce()
    named = await desk.bring_all(file_id, cut(PICTURE))
    answers = await asyncio.gather(
        desk.complete(file_id, named), desk.complete(file_id, sorted(named)[:1]), return_exceptions=True
    )
    whole = [answer for answer in answers if isinstance(answer, StoredFile)]
    refused = [answer for answer in answers if not isinstance(answer, StoredFile)]
    assert len({file.sha256 for file in whole}) == 1, "who is late is told of the file that there is"
    assert {type(answer) for answer in refused} <= {FileAlreadyComplete}
    assert PICTURE.startswith(await desk.read(file_id))


@pytest.mark.parametrize("when", ["announced", "joining"])
async def test_who_asks_again_while_the_first_answer_is_on_its_way_gets_the_same_file(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    file_id = await desk.announce()
    named = await desk.bring_all(file_id, cut(PICTURE))
    name = {"announced": "_find", "joining": "_join"}[when]
    go_on, step = asyncio.Event(), getattr(desk.announcements, name)

    async def wait_first(*args: Any) -> Any:
        if asyncio.current_task() is late:
            await go_on.wait()
        return await step(*args)

    monkeypatch.setattr(desk.announcements, name, wait_first)
    late = asyncio.create_task(desk.complete(file_id, named))
    file = await desk.complete(file_id, named)
    go_on.set()
    assert await late == file


async def test_who_brings_a_file_that_another_call_brought_meanwhile_is_answered_with_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_id = await desk.announce()
    go_on, find = asyncio.Event(), desk.announcements._find  # between its two looks

    async def wait(*args: Any) -> Any:
        if asyncio.current_task() in late:
            await go_on.wait()
        return await find(*args)

    monkeypatch.setattr(desk.announcements, "_find", wait)
    calls = (desk.bring(file_id), desk.bring(file_id, OTHER), desk.bring_part(file_id, 1, PICTURE))
    late = [asyncio.create_task(call) for call in calls]
    file = await desk.bring(file_id)
    go_on.set()
    assert await late[0] == file
    for call in late[1:]:
        await refuse(FileAlreadyComplete, call)


async def test_who_is_refused_takes_nothing_from_who_completed_the_same_upload(desk: Desk) -> None:
    with pytest.raises(ConnectionError):
        await desk.uploads.receive(
            KEY, UploadStart(len(PICTURE), upload_id="mine"), break_off(PICTURE[:20_500])
        )
    kept = (await desk.uploads.get_progress(KEY, "mine")).num_kept_bytes
    start = UploadStart(len(PICTURE), upload_id="mine", offset=kept, sha256=SHA256)
    rest = Slow(b"x" * (len(PICTURE) - kept))
    refused = asyncio.create_task(desk.uploads.receive(KEY, start, rest.stream()))
    await rest.begun.wait()
    file = await desk.uploads.receive(KEY, start, stream(PICTURE[kept:]))
    rest.go_on.set()
    await refuse(FileMismatch, refused)
    assert await desk.read(file.id) == PICTURE
    assert len([name for name in await desk.names() if "/files/" in name]) == 1 + len(file.pieces)


async def test_an_unfinished_upload_is_found_for_as_long_as_anything_of_it_is_kept(blobs: BlobStore) -> None:
    desk = Desk(blobs, SETTINGS.model_copy(update={"keep_seconds": 600}))
    with pytest.raises(ConnectionError):
        await desk.uploads.receive(
            KEY, UploadStart(len(PICTURE), upload_id="mine"), break_off(PICTURE[:20_500])
        )
    kept = await desk.uploads.get_progress(KEY, "mine")
    desk.let_pass(600 + CLOCK_SKEW_SECONDS)
    await desk.library.sweep()
    assert (await desk.uploads.get_progress(KEY, "mine")).num_kept_bytes == kept.num_kept_bytes > 0
    desk.let_pass(SETTINGS.keep_unfinished_seconds)
    for _ in range(2):  # first what came of it, then what leads there
        await desk.library.sweep()
    assert await desk.names() == []


@pytest.mark.parametrize("how", ["announced", "uploaded"])
async def test_a_file_of_which_a_piece_was_forgotten_while_it_came_is_not_acknowledged(
    desk: Desk, how: str
) -> None:
    first, rest = PICTURE[:20_500], Slow(PICTURE[20_500:])
    if how == "announced":
        file_id = await desk.announce()
        call = desk.announcements.receive(KEY, file_id, None, rest.stream_behind(first))
    else:
        call = desk.uploads.receive(KEY, UploadStart(len(PICTURE)), rest.stream_behind(first))
    coming = asyncio.create_task(call)
    await rest.begun.wait()
    await desk.wait_for_a_piece()
    desk.let_pass(SETTINGS.keep_unfinished_seconds + UNTIL_FORGOTTEN_SECONDS)
    await desk.library.sweep()
    rest.go_on.set()
    assert "begin anew" in (await refuse(UploadNotFound, coming)).message
    assert not await desk.library.find_content(KEY, SHA256)
    desk.let_pass(SETTINGS.keep_seconds)
    await desk.library.sweep()
    assert await desk.names() == []


async def test_what_breaks_off_leaves_the_announcement_alone(desk: Desk) -> None:
    file_id = await desk.announce()
    before = await desk.names()
    with pytest.raises(ConnectionError):
        await desk.announcements.receive(KEY, file_id, None, break_off(PICTURE[:30_000]))
    with pytest.raises(ConnectionError):
        await desk.announcements.receive_part(KEY, file_id, 1, None, break_off(PICTURE[:30_000]))
    assert await desk.names() == before
    assert (await desk.bring(file_id)).sha256 == SHA256


@pytest.mark.parametrize(
    ("data", "size_bytes", "kind", "field"),
    [
        (b"", None, FileEmpty, "body"),
        (b"", 0, FileEmpty, "body"),
        (b"", 9, FileMismatch, "size_bytes"),
        (PICTURE, len(PICTURE) + 1, FileMismatch, "size_bytes"),
        (PICTURE, 10, FileMismatch, "size_bytes"),
        (b"I am no picture.", None, FileNotAnImage, "body"),
        (PICTURE, 100_001, FileTooLarge, "size_bytes"),
        (PICTURE * 2, None, FileTooLarge, "body"),
    ],
)
async def test_a_bad_file_is_refused_by_name_and_leaves_nothing(
    desk: Desk, data: bytes, size_bytes: int | None, kind: type[ServiceError], field: str
) -> None:
    file_id = await desk.announce()
    before = await desk.names()
    for call in (desk.bring(file_id, data, size_bytes), desk.bring_part(file_id, 1, data, size_bytes)):
        assert (await refuse(kind, call)).field == field
        assert await desk.names() == before


@pytest.mark.parametrize(
    ("said", "kind", "field"),
    [
        ({"name": "é" * 128}, ValueOutOfRange, "name"),
        ({"name": "a\nb"}, ValueOutOfRange, "name"),
        ({"name": "\ud800"}, ValueOutOfRange, "name"),
        ({"keep_seconds": 0}, ValueOutOfRange, "keep_seconds"),
        ({"keep_seconds": float("nan")}, ValueOutOfRange, "keep_seconds"),
        ({"content_type": "text/plain"}, FileNotAnImage, "content_type"),
        ({"content_type": "video/mp4"}, FileNotAnImage, "content_type"),
        ({"content_type": "application/octet-streams"}, FileNotAnImage, "content_type"),
    ],
)
async def test_a_bad_announcement_is_refused_by_name_and_leaves_nothing(
    desk: Desk, said: dict[str, Any], kind: type[ServiceError], field: str
) -> None:
    assert (await refuse(kind, desk.announce(**said))).field == field
    assert await desk.names() == []


@pytest.mark.parametrize(
    "content_type",
    [
        *("", "IMAGE/PNG", "image/jpeg; q=1"),
        *("application/octet-stream", "application/octet-stream; charset=binary"),
    ],
)
async def test_what_may_be_a_picture_is_announced(desk: Desk, content_type: str) -> None:
    name = "Screenshot at 3.45\u202fPM.png"  # as macOS calls it
    file = await desk.bring(await desk.announce(name=name, content_type=content_type))
    assert (file.name, file.content_type) == (name, "image/bmp")


ETAG = '"d41d8cd98f00b204e9800998ecf8427e"'
NAMED: dict[str, tuple[list[tuple[int, str]], type[ServiceError], str, str]] = {
    "no part": ([], ValueOutOfRange, "parts", "1 to 1000 parts"),
    "too many parts": ([(1, ETAG)] * 1_001, ValueOutOfRange, "parts", "1 to 1000 parts"),
    "a part twice": ([(1, ETAG), (1, ETAG)], ValueOutOfRange, "parts", "each part once"),
    "a part 0": ([(1, ETAG), (0, ETAG)], ValueOutOfRange, "parts[1].number", "not 0"),
    "a part 1,001": ([(1_001, ETAG)], ValueOutOfRange, "parts[0].number", "not 1001"),
    "unknown parts": ([(n, ETAG) for n in range(1, 99)], UploadPartMissing, "parts", "5, 6, 7, 8, .* and 74"),
    "a gap": ([(1, ETAG), (4, ETAG)], UploadPartMissing, "parts", "2, 3"),
    "a wrong etag": ([(2, ETAG), (1, ETAG)], FileMismatch, "parts[0].etag", ETAG),
    "an etag that cannot be written": ([(1, "\ud800")], FileMismatch, "parts[0].etag", r"\\ud800 was"),
}


@pytest.mark.parametrize("case", NAMED)
async def test_a_file_is_not_made_of_parts_that_are_not_there(desk: Desk, case: str) -> None:
    named, kind, field, text = NAMED[case]
    file_id = await desk.announce()
    good = await desk.bring_all(file_id, cut(PICTURE))
    error = await refuse(kind, desk.complete(file_id, named))
    assert error.field == field
    with pytest.raises(kind, match=text):
        raise error
    assert (await desk.complete(file_id, good)).sha256 == SHA256


async def test_parts_that_are_too_large_together_are_refused(desk: Desk) -> None:
    file_id = await desk.announce()
    etag = await desk.bring_part(file_id, 1, PICTURE)
    for size in (10_000, None):
        error = await refuse(FileTooLarge, desk.bring_part(file_id, 2, PICTURE[:10_000], size))
        assert "100000" in error.message
    both_begun = asyncio.Barrier(2)  # so that neither knows of the other

    async def bring_beside(number: int) -> str:
        chunks = stream_after(both_begun, OTHER)
        return await desk.announcements.receive_part(KEY, file_id, number, None, chunks)

    second, third = await asyncio.gather(bring_beside(2), bring_beside(3))
    named = [(1, etag), (2, second), (3, third)]
    assert (await refuse(FileTooLarge, desk.complete(file_id, named))).field == "parts"
    assert (await desk.complete(file_id, [(1, etag)])).sha256 == SHA256


@pytest.mark.parametrize("number", [0, -1, 1_001])
async def test_a_part_has_a_number_from_1_to_1_000(desk: Desk, number: int) -> None:
    error = await refuse(ValueOutOfRange, desk.bring_part(await desk.announce(), number, PICTURE))
    assert error.field == "part_number"
    assert await desk.bring_part(await desk.announce(), 1_000, PICTURE)


@pytest.mark.parametrize("key_id", [KEY, "bert", "..", ".incoming", ""])
@pytest.mark.parametrize("file_id", [NOBODY, "", "../../api_key", "0" * 31 + "\n"])
async def test_what_nobody_announced_is_not_taken(desk: Desk, key_id: str, file_id: str) -> None:
    announcements = desk.announcements
    await refuse(UploadNotFound, announcements.receive(key_id, file_id, None, stream(PICTURE)))
    await refuse(UploadNotFound, announcements.receive_part(key_id, file_id, 1, None, stream(PICTURE)))
    await refuse(UploadNotFound, announcements.complete(key_id, file_id, [(1, ETAG)]))
    assert await desk.library.find(key_id, file_id) is None


async def test_an_announcement_is_that_of_its_key(desk: Desk) -> None:
    file_id = await desk.announce()
    await refuse(UploadNotFound, desk.announcements.receive("bert", file_id, None, stream(PICTURE)))


async def test_an_announcement_that_nobody_goes_on_with_is_forgotten(desk: Desk) -> None:
    file_id = await desk.announce()
    etag = await desk.bring_part(file_id, 1, PICTURE)
    await desk.library.sweep()
    assert await desk.bring_part(file_id, 1, PICTURE) == etag
    desk.let_pass(SETTINGS.keep_unfinished_seconds + CLOCK_SKEW_SECONDS)
    for call in (
        desk.bring(file_id),
        desk.bring_part(file_id, 1, PICTURE),
        desk.complete(file_id, [(1, etag)]),
    ):
        await refuse(UploadNotFound, call)
    desk.let_pass(GRACE_SECONDS)
    await desk.library.sweep()
    assert await desk.names() == []


async def test_a_file_is_kept_for_as_long_as_was_asked_for_and_no_longer_than_is_set(desk: Desk) -> None:
    short, usual = [await desk.bring(await desk.announce(keep_seconds=s)) for s in (600, 1e9)]
    assert short.expires_at - short.created_at == 600
    assert usual.expires_at - usual.created_at == SETTINGS.keep_seconds
    await desk.library.sweep()
    assert await desk.read(short.id) == PICTURE
    desk.let_pass(600)
    assert await desk.library.find(KEY, short.id) is None
    assert await desk.library.find_content(KEY, SHA256) == usual
    desk.let_pass(UNTIL_FORGOTTEN_SECONDS)
    await desk.library.sweep()
    assert not [name for name in await desk.names() if f"/{short.id}/" in name]
    assert await desk.read(usual.id) == PICTURE
    desk.let_pass(SETTINGS.keep_seconds + UNTIL_FORGOTTEN_SECONDS)
    await desk.library.sweep()
    assert await desk.names() == []


async def test_of_a_file_that_was_kept_for_less_long_nothing_is_left_once_its_time_is_over(
    desk: Desk,
) -> None:
    for data in (PICTURE, PICTURE, OTHER):
        await desk.bring(await desk.announce(keep_seconds=600), data)
    desk.let_pass(600 + UNTIL_FORGOTTEN_SECONDS)
    await desk.library.sweep()
    assert await desk.names() == []


async def test_of_many_files_a_few_are_looked_up_at_a_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await desk.upload()
    ids = sorted(names.make_id() for _ in range(100))
    for start in range(0, len(ids), 20):
        some = ids[start : start + 20]
        await asyncio.gather(
            *(desk.blobs.put(names.content_name(KEY, SHA256, file_id), b"") for file_id in some),
            *(desk.blobs.put(names.record_name(KEY, file_id), b"damaged") for file_id in some),
        )
    get, num_running, running = desk.blobs.get, 0, []

    async def count(name: str) -> bytes | None:
        nonlocal num_running
        num_running += 1
        running.append(num_running)
        try:
            return await get(name)
        finally:
            num_running -= 1

    monkeypatch.setattr(desk.blobs, "get", count)
    assert await desk.library.find_content(KEY, SHA256) == file
    assert await desk.library.list_page(KEY, 1_000) == ([file], None)
    assert len(running) == 2 * (len(ids) + 1)
    assert 1 < max(running) <= 32


@pytest.mark.parametrize("call", ["get", "delete", "list_blobs"])
async def test_what_cannot_be_tidied_holds_up_nothing_else(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    files = [await desk.bring(await desk.announce(), data) for data in (PICTURE, OTHER)]
    first, second = sorted(files, key=lambda file: file.id)
    later = await desk.uploads.receive("bert", UploadStart(len(OTHER)), stream(OTHER))
    desk.let_pass(SETTINGS.keep_seconds + UNTIL_FORGOTTEN_SECONDS)
    work = getattr(desk.blobs, call)

    async def fail(*blob_names: str) -> Any:
        if any(f"/{first.id}" in name for name in blob_names) or blob_names == (names.files_folder(KEY),):
            raise FileStoreUnavailable("the disk of uploaded files failed")
        return await work(*blob_names)

    with monkeypatch.context() as patch:
        patch.setattr(desk.blobs, call, fail)
        await desk.library.sweep()
    left = {names.last_of(names.folder_of(blob)) for blob in await desk.blobs.list_blobs(f"{KEY}/files")}
    assert left == ({first.id, second.id} if call == "list_blobs" else {first.id})
    assert await desk.blobs.list_blobs(later.key_id) == []
    await desk.library.sweep()
    assert await desk.names() == []


@pytest.mark.parametrize(
    "record", [b"", b"{", b"{}", b"null", b'{"key_id":"\xff"}', b"\0" * 512, b"[" * 100_000]
)
async def test_a_file_whose_record_is_damaged_is_none_and_is_forgotten_in_its_time(
    desk: Desk, record: bytes
) -> None:
    damaged, whole = [await desk.bring(await desk.announce()) for _ in range(2)]
    await desk.blobs.put(names.record_name(KEY, damaged.id), record)
    assert await desk.library.find(KEY, damaged.id) is None
    assert await desk.library.find_content(KEY, SHA256) == whole
    assert await desk.library.list_page(KEY, 10) == ([whole], None)
    before = await desk.names()
    await desk.library.sweep()
    assert await desk.names() == before
    desk.let_pass(SETTINGS.keep_seconds + UNTIL_FORGOTTEN_SECONDS)
    await desk.library.sweep()
    assert await desk.names() == []


async def test_what_is_not_ours_or_is_damaged_ends_no_tidying(desk: Desk) -> None:
    pointer = names.upload_name(KEY, "mine")
    for name in (names.files_folder(KEY) + "/stray", pointer, "lost.found/files/3f/3f09/stray"):
        await desk.blobs.put(name, b"\xff")
    later = await desk.uploads.receive("bert", UploadStart(len(OTHER)), stream(OTHER))
    desk.let_pass(SETTINGS.keep_seconds + UNTIL_FORGOTTEN_SECONDS)
    await desk.library.sweep()
    assert await desk.blobs.list_blobs(later.key_id) == []
    assert pointer not in await desk.names()


async def test_who_wants_a_content_for_less_long_takes_nothing_from_who_wants_it_longer(desk: Desk) -> None:
    short = await desk.upload(keep_seconds=600)
    assert short.expires_at - short.created_at == 600
    longer = await desk.upload(keep_seconds=5_000, sha256=SHA256)
    assert (longer.id, longer.expires_at > short.expires_at + 4_000) == (short.id, True)
    assert (await desk.upload(keep_seconds=60)).expires_at == longer.expires_at
    assert len([name for name in await desk.names() if is_of("until-", name)]) == 1
    desk.let_pass(1_000)
    await desk.library.sweep()
    assert await desk.read(short.id) == PICTURE
    assert (await desk.upload()).expires_at > longer.expires_at + 10_000
    assert len([name for name in await desk.names() if is_of("until-", name)]) == 1
    desk.let_pass(5_000)
    await desk.library.sweep()
    assert await desk.read(short.id) == PICTURE


@pytest.mark.parametrize("said", [{}, {"sha256": SHA256}], ids=["bytes", "sha256"])
async def test_a_file_that_comes_again_while_another_replica_takes_its_time_for_over_is_not_lost(
    desk: Desk, replica: Desk, monkeypatch: pytest.MonkeyPatch, said: dict[str, Any]
) -> None:
    file = await desk.upload()
    desk.let_pass(SETTINGS.keep_seconds - CLOCK_SKEW_SECONDS)
    replica.let_pass(SETTINGS.keep_seconds + CLOCK_SKEW_SECONDS)
    record = HeldRecord(desk.blobs, monkeypatch)
    coming = asyncio.create_task(desk.upload(**said))
    await record.begun.wait()
    await replica.library.sweep()
    record.go_on.set()
    kept = await coming
    assert (kept.id, kept.expires_at > file.expires_at) == (file.id, True)
    replica.let_pass(UNTIL_FORGOTTEN_SECONDS)
    await replica.library.sweep()
    assert await replica.read(file.id) == PICTURE


@pytest.mark.parametrize("said", [{}, {"sha256": SHA256}], ids=["bytes", "sha256"])
async def test_a_file_that_comes_again_too_late_for_its_earlier_copy_is_kept_for_itself(
    desk: Desk, replica: Desk, monkeypatch: pytest.MonkeyPatch, said: dict[str, Any]
) -> None:
    file = await desk.upload(keep_seconds=600)  # less long than pieces of an unfinished one
    desk.let_pass(600 - CLOCK_SKEW_SECONDS)
    replica.let_pass(600 + UNTIL_FORGOTTEN_SECONDS)
    record = HeldRecord(desk.blobs, monkeypatch)
    coming = asyncio.create_task(desk.upload(**said))
    await record.begun.wait()
    await replica.library.sweep()
    desk.let_pass(UNTIL_FORGOTTEN_SECONDS)
    record.go_on.set()
    kept = await coming
    assert kept.id != file.id
    assert await replica.library.find_content(KEY, SHA256) == kept
    assert await replica.read(kept.id) == PICTURE
    assert not [name for name in await desk.names() if file.id in name]


async def test_of_two_replicas_who_let_a_file_last_longer_at_once_none_takes_from_what_the_other_promised(
    desk: Desk, replica: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await desk.upload(keep_seconds=600)
    record = HeldRecord(desk.blobs, monkeypatch)
    coming = asyncio.create_task(desk.upload(keep_seconds=1_000))
    await record.begun.wait()
    longer = await replica.upload(keep_seconds=5_000)
    record.go_on.set()
    kept = await coming
    assert kept.id == longer.id == file.id
    assert kept.expires_at >= longer.expires_at
    assert await replica.library.find(KEY, file.id) == kept
    desk.let_pass(1_000 + UNTIL_FORGOTTEN_SECONDS)
    await desk.library.sweep()
    assert await replica.read(file.id) == PICTURE
    assert len([name for name in await desk.names() if is_of("until-", name)]) == 1
    desk.let_pass(4_000)
    await desk.library.sweep()
    assert await desk.names() == []


async def test_who_keeps_what_another_replica_promised_takes_nothing_from_what_it_promises_meanwhile(
    desk: Desk, replica: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await desk.upload(keep_seconds=600)
    first = HeldRecord(desk.blobs, monkeypatch)
    coming = asyncio.create_task(desk.upload(keep_seconds=1_000))
    await first.begun.wait()
    await replica.upload(keep_seconds=5_000)
    second = HeldRecord(desk.blobs, monkeypatch)
    first.go_on.set()
    await second.begun.wait()
    longest = await replica.upload(keep_seconds=9_000)
    second.go_on.set()
    kept = await coming
    assert kept.id == longest.id == file.id
    assert kept.expires_at >= longest.expires_at
    assert await replica.library.find(KEY, file.id) == kept


async def test_who_lets_a_file_last_longer_too_late_takes_nothing_from_who_did_so_in_time(
    desk: Desk, replica: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await desk.upload(keep_seconds=600)
    for each in (desk, replica):
        each.let_pass(600 - CLOCK_SKEW_SECONDS)
    record = HeldRecord(desk.blobs, monkeypatch)
    coming = asyncio.create_task(desk.upload(keep_seconds=2_000))
    await record.begun.wait()
    in_time = await replica.upload(keep_seconds=1_000)
    desk.let_pass(UNTIL_FORGOTTEN_SECONDS)
    record.go_on.set()
    assert (await coming).id == in_time.id == file.id
    assert await replica.read(file.id) == PICTURE
    replica.let_pass(1_000 + UNTIL_FORGOTTEN_SECONDS)
    await replica.library.sweep()
    assert await replica.read(file.id) == PICTURE


@pytest.mark.parametrize("said", [{}, {"sha256": SHA256}], ids=["bytes", "sha256"])
async def test_a_file_that_lost_a_piece_is_made_good_by_its_next_upload(
    desk: Desk, said: dict[str, Any]
) -> None:
    file = await desk.upload()
    await desk.blobs.delete(file.pieces[1].name)
    kept = await desk.upload(**said)
    assert await desk.read(kept.id) == PICTURE
    assert not [name for name in await desk.names() if file.id in name]


async def test_parts_and_announcements_count_for_the_key(blobs: BlobStore) -> None:
    desk = Desk(blobs, FileSettings(max_file_bytes=200_000, max_key_bytes=300_000, max_key_files=3))
    ids = [await desk.announce() for _ in range(3)]
    assert "at most 3" in (await refuse(FileQuotaExceeded, desk.announce())).message
    for file_id in ids:
        await desk.bring_part(file_id, 1, PICTURE)  # 270 kB of 300 kB
    await desk.library.delete(await desk.bring(ids[0], OTHER))
    file_id = await desk.announce()
    await desk.bring_part(file_id, 1, PICTURE)
    error = await refuse(FileQuotaExceeded, desk.bring_part(file_id, 2, PICTURE[:31_000]))
    assert "300000" in error.message
    assert await desk.bring_part(file_id, 1, PICTURE[:20_000])


async def test_what_an_upload_took_and_has_not_written_counts_for_the_key_once(blobs: BlobStore) -> None:
    held = FileQuotas(blobs, FileSettings(max_key_bytes=10))
    kept: list[Piece] = []
    first, second = names.make_id(), names.make_id()
    async with held.hold(KEY, first, kept) as allowance:
        allowance.take(6)
        async with held.hold(KEY, second) as other:
            other.take(4)
            with pytest.raises(FileQuotaExceeded, match="11 bytes; at most 10 "):
                other.take(1)
        piece = Piece(names.make_piece_name(KEY, first, 0), 6)
        kept.append(piece)
        await blobs.put(piece.name, b"sixsix")
        async with held.hold(KEY, second) as other:
            other.take(4)
            with pytest.raises(FileQuotaExceeded, match="11 bytes; at most 10 "):
                allowance.take(1)


async def test_a_part_counts_as_64_kib_at_least_from_its_beginning(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    desk = Desk(blobs, FileSettings(max_key_bytes=1_000_000))
    file_id, other_id = [await desk.announce() for _ in range(2)]
    for number in range(1, 14):
        await desk.bring_part(file_id, number, PICTURE[:1] if number > 1 else PICTURE)
    slow = Slow(PICTURE[:1])
    slowly = asyncio.create_task(desk.announcements.receive_part(KEY, file_id, 14, None, slow.stream()))
    await slow.begun.wait()
    for size in (1, None):
        error = await refuse(FileQuotaExceeded, desk.bring_part(other_id, 2, PICTURE[:1], size))
        assert error.metadata == {"bound": "1000000"}
        assert f"have {13 * 65_536 + len(PICTURE) + 65_536} bytes" in error.message
    slow.go_on.set()
    await slowly


async def test_uploads_that_run_at_once_have_no_more_together_than_the_key_may_have(desk: Desk) -> None:
    desk.limits[KEY] = Limits(max_stored_bytes=95_000)
    ids = [await desk.announce() for _ in range(2)]
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield OTHER
        begun.set()
        await go_on.wait()

    slowly = asyncio.create_task(desk.announcements.receive(KEY, ids[0], None, slow()))
    await begun.wait()
    error = await refuse(FileQuotaExceeded, desk.bring(ids[1]))
    assert "at most 95000" in error.message
    go_on.set()
    await desk.library.delete(await slowly)
    assert await desk.bring(ids[1])


@pytest.mark.parametrize("way", ["announced", "a part", "uploaded"])
async def test_what_breaks_off_leaves_its_room_to_what_comes_beside_it(desk: Desk, way: str) -> None:
    desk.limits[KEY] = Limits(max_stored_bytes=100_000)
    kept_id, broken_id = [await desk.announce() for _ in range(2)]
    slow = Slow(PICTURE[30_000:])
    beside = asyncio.create_task(
        desk.announcements.receive(KEY, kept_id, None, slow.stream_behind(PICTURE[:30_000]))
    )
    await slow.begun.wait()
    ways: dict[str, Callable[[AsyncIterator[bytes]], Awaitable[object]]] = {
        "announced": partial(desk.announcements.receive, KEY, broken_id, None),
        "a part": partial(desk.announcements.receive_part, KEY, broken_id, 1, None),
        "uploaded": partial(desk.uploads.receive, KEY, UploadStart(61_000)),
    }
    with pytest.raises(ConnectionError):
        await ways[way](break_off(PICTURE[:60_000]))
    slow.go_on.set()
    assert (await beside).size_bytes == len(PICTURE)


async def test_a_key_has_quotas_of_its_own(desk: Desk) -> None:
    desk.limits[KEY] = Limits(max_stored_bytes=95_000, max_stored_files=1)
    file = await desk.upload()
    assert "at most 1 " in (await refuse(FileQuotaExceeded, desk.announce())).message
    await desk.library.delete(file)
    file_id = await desk.announce()
    await desk.bring_part(file_id, 1, PICTURE)
    error = await refuse(FileQuotaExceeded, desk.bring_part(file_id, 2, PICTURE[:10_000]))
    assert error.metadata == {"bound": "95000"}
    for _ in range(2):
        await desk.announcements.announce("bert")


async def test_who_was_told_an_id_brings_nothing_once_the_key_is_revoked(desk: Desk) -> None:
    file_id = await desk.announce()
    etag = await desk.bring_part(file_id, 1, PICTURE)
    desk.is_revoked = True
    for call in (
        desk.announce(),
        desk.bring(file_id),
        desk.bring_part(file_id, 2, PICTURE),
        desk.complete(file_id, [(1, etag)]),
    ):
        await refuse(ApiKeyRevoked, call)


async def test_a_store_that_fails_in_the_end_leaves_nothing_that_looks_whole(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_id, parts = await desk.announce(), cut(PICTURE)
    named = await desk.bring_all(file_id, parts)

    def fail_at(word: str, put: Callable[..., Any]) -> Callable[..., Any]:
        async def fail(name: str, *data: bytes) -> Any:
            if word in name:
                raise FileStoreUnavailable("the disk of uploaded files failed")
            return await put(name, *data)

        return fail

    for word, call in (
        ("record", desk.complete(file_id, named)),
        ("record", desk.bring(file_id)),
        ("etag", desk.bring_part(file_id, 2, OTHER)),
    ):
        with monkeypatch.context() as patch:
            for put in (desk.blobs.put, desk.blobs.put_new):
                patch.setattr(desk.blobs, put.__name__, fail_at(word, put))
            await refuse(FileStoreUnavailable, call)
        assert await desk.library.find(KEY, file_id) is None
    assert (await desk.complete(file_id, named)).sha256 == SHA256
    assert await desk.read(file_id) == PICTURE


async def test_a_part_that_is_just_being_deleted_is_not_there(desk: Desk) -> None:
    file_id = await desk.announce()
    named = await desk.bring_all(file_id, cut(PICTURE))
    piece = next(name for name in await desk.names() if is_of("part-00003", name) and "etag" not in name)
    await desk.blobs.delete(piece)
    assert "parts 3:" in (await refuse(UploadPartMissing, desk.complete(file_id, named))).message
