"""What a directory of blobs promises beyond every store."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import shutil
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from idefics2_service.blobs.directory import DirectoryBlobs
from idefics2_service.errors import FileMismatch, FileStoreUnavailable, StartFailed
from idefics2_service.settings import FileSettings
from idefics2_service.uploads import names, pieces
from idefics2_service.uploads.library import GRACE_SECONDS, Library
from idefics2_service.uploads.quotas import FileQuotas
from idefics2_service.uploads.records import UploadStart
from idefics2_service.uploads.uploads import Uploads
from pictures import draw_red_circle, encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

NAME = "anna/files/3f/3f09/0"
PICTURE = encode(draw_red_circle(), "BMP")  # 90 kB
OF_OTHERS = 0o077
CLOCK_SKEW_SECONDS = 5
PATIENCE_SECONDS = 10
NUM_UPLOADS = 40
"""More than any loop has threads for."""
NUM_KEPT = 5
"""Files that a disk takes before it is full for a moment."""


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[DirectoryBlobs]:
    """One with nothing in it."""
    store = DirectoryBlobs(tmp_path / "files")
    await store.start()
    yield store
    await store.close()


class Diary:
    """Notes what is made safe, and what a machine that loses power now would forget."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Begin."""
        self.named: set[Path] = set()
        """Files that were given their name, all of them after their bytes were safe."""
        self._synced: set[Path] = set()
        self._unsafe: dict[Path, set[Path]] = {}
        """What was given a name in a folder since that was made safe."""
        sync, move, link, make = os.fsync, os.replace, os.link, os.mkdir

        def fsync(descriptor: int) -> None:
            sync(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            self._synced.add(path)
            self._unsafe.pop(path, None)

        def replace_(source: Path, target: Path) -> None:
            move(source, target)
            assert Path(source) in self._synced
            self.note(Path(target))
            self.named.add(Path(target))

        def link_(source: Path, target: Path) -> None:
            link(source, target)
            assert Path(source) in self._synced
            self.note(Path(target))
            self.named.add(Path(target))

        def mkdir(path: Path, mode: int = 0o777) -> None:
            make(path, mode)
            self.note(Path(path))

        for work in (fsync, replace_, link_, mkdir):
            monkeypatch.setattr(os, work.__name__.rstrip("_"), work)

    def forgotten(self) -> set[Path]:
        """Return what has a name that is not safe, but for what was deleted."""
        return {path for paths in self._unsafe.values() for path in paths if path.exists()}

    def note(self, path: Path) -> None:
        """Note that something was given a name."""
        self._unsafe.setdefault(path.parent, set()).add(path)


async def stream(data: bytes) -> AsyncIterator[bytes]:
    """Let bytes come."""
    for start in range(0, len(data), 700):
        yield data[start : start + 700]


def all_files(folder: Path) -> list[Path]:
    """List all files below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_nobody_else_can_read_it(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    await blobs.put(NAME, b"one")
    for path in (tmp_path / "files", *all_files(tmp_path)):
        assert not path.stat().st_mode & OF_OTHERS


@pytest.mark.parametrize(
    "fault", [(errno.ENOSPC, "is full"), (errno.EDQUOT, "is full"), (errno.EIO, "failed")]
)
@pytest.mark.parametrize(
    ("put", "call"),
    [
        *itertools.product(["put", "put_next"], ["fsync", "replace"]),
        *itertools.product(["put_new"], ["fsync", "link"]),
    ],
)
async def test_a_disk_that_fails_is_said_and_leaves_nothing_half_written(
    blobs: DirectoryBlobs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: tuple[int, str],
    call: str,
    put: str,
) -> None:
    number, why = fault

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    async def put_another() -> None:
        if put == "put_new":
            assert await blobs.put_new(NAME + "0", b"new")
        else:
            await (blobs.put(NAME, b"new") if put == "put" else blobs.put_next(NAME, b"new", after=None))

    await blobs.put(NAME, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(FileStoreUnavailable, match=f"the disk of uploaded files {why}"):
            await put_another()
    assert [path.read_bytes() for path in all_files(tmp_path)] == [b"old"]
    await put_another()
    assert b"new" in {path.read_bytes() for path in all_files(tmp_path)}


async def test_what_is_new_is_safe_before_anybody_hears_of_it(
    blobs: DirectoryBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diary = Diary(monkeypatch)
    assert await blobs.put_new(NAME, b"new")
    assert diary.forgotten() == set()
    assert set(all_files(tmp_path)) <= diary.named
    others = tmp_path / "files" / (NAME + "0")
    others.write_bytes(b"another's, who is killed before it is safe")
    diary.note(others)
    assert not await blobs.put_new(NAME + "0", b"new")
    assert diary.forgotten() == set()


async def test_a_blob_whose_turn_is_given_up_leaves_nothing(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    putting = asyncio.create_task(blobs.put_next(NAME, b"new", after=turn))
    await blobs.put("anna/files/3f/3f10/0", b"other")
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert not turn.cancelled()
    assert [path.read_bytes() for path in all_files(tmp_path)] == [b"other"]


async def test_a_disk_that_is_full_for_a_moment_leaves_pieces_that_follow_each_other(
    blobs: DirectoryBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_files = itertools.count()
    sync = os.fsync

    def fail_once(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and next(of_files) == NUM_KEPT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(pieces, "PIECE_BYTES", 1_000)
    settings = FileSettings()
    uploads = Uploads(blobs, Library(blobs, settings), settings, FileQuotas(blobs, settings))
    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(FileStoreUnavailable, match="is full"):
        await uploads.receive("anna", UploadStart(len(PICTURE), upload_id="mine"), stream(PICTURE))
    kept = [blob for blob in await blobs.list_blobs("anna/files") if names.is_piece(blob.name)]
    assert 0 < len(kept) <= NUM_KEPT
    assert names.chain_pieces(kept) == kept
    assert all_files(tmp_path / "files" / ".incoming") == []


async def test_nothing_is_told_of_an_upload_before_its_bytes_and_its_names_are_safe(
    blobs: DirectoryBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diary = Diary(monkeypatch)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 10_000)
    settings = FileSettings()
    library = Library(blobs, settings)
    uploads = Uploads(blobs, library, settings, FileQuotas(blobs, settings))
    start = UploadStart(len(PICTURE), upload_id="mine")
    with pytest.raises(FileMismatch):
        await uploads.receive("anna", start, stream(PICTURE[:30_500]))
    assert diary.forgotten()
    assert (await uploads.get_progress("anna", "mine")).num_kept_bytes == 30_500
    assert diary.forgotten() == set()
    rest = replace(start, offset=30_500)
    file = await uploads.receive("anna", rest, stream(PICTURE[30_500:]))
    assert diary.forgotten() == set()
    assert await library.read(file) == PICTURE
    assert set(all_files(tmp_path)) <= diary.named


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE])
@pytest.mark.parametrize("place", ["anna/files", "anna/files/3f", "anna/files/3f/3f09"])
async def test_a_folder_that_cannot_be_listed_does_not_look_empty(
    blobs: DirectoryBlobs, monkeypatch: pytest.MonkeyPatch, number: int, place: str
) -> None:
    await blobs.put(NAME, b"one")
    scan = os.scandir

    def fail(path: Path | str) -> Any:
        if str(path).endswith(place):
            raise OSError(number, os.strerror(number))
        return scan(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", fail)
        with pytest.raises(FileStoreUnavailable, match=os.strerror(number)):
            await blobs.list_blobs("anna/files")
    assert [blob.name for blob in await blobs.list_blobs("anna/files")] == [NAME]


async def test_a_folder_that_is_removed_meanwhile_or_is_none_is_empty(
    blobs: DirectoryBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await blobs.put(NAME, b"one")
    await blobs.put("anna/files/aa/aa09/0", b"two")
    scan = os.scandir

    def remove(path: Path | str) -> Any:
        if str(path).endswith("/3f"):
            shutil.rmtree(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", remove)
    assert [blob.name for blob in await blobs.list_blobs("anna/files")] == ["anna/files/aa/aa09/0"]
    (tmp_path / "files" / "bert").write_bytes(b"no folder")
    assert await blobs.list_blobs("bert/files") == []


async def test_a_file_that_the_disk_cannot_forget_holds_up_no_other_one(
    blobs: DirectoryBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = FileSettings()
    library = Library(blobs, settings)
    uploads = Uploads(blobs, library, settings, FileQuotas(blobs, settings))
    for key_id in ("anna", "bert"):
        await uploads.receive(key_id, UploadStart(len(PICTURE)), stream(PICTURE))
    library.clock = lambda: time.time() + settings.keep_seconds + GRACE_SECONDS + CLOCK_SKEW_SECONDS
    unlink = os.unlink

    def fail(path: Path) -> None:
        if "anna" in path.parts:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fail)
        await library.sweep()
    assert await blobs.list_folders() == ["anna"]
    await library.sweep()
    assert all_files(tmp_path) == []


async def test_a_piece_that_somebody_removed_before_it_had_its_name_is_not_kept(
    blobs: DirectoryBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def remove_too(descriptor: int) -> None:
        sync(descriptor)
        for path in all_files(tmp_path):
            path.unlink()

    monkeypatch.setattr(os, "fsync", remove_too)
    with pytest.raises(FileStoreUnavailable):
        await blobs.put(NAME, b"one")
    with pytest.raises(FileStoreUnavailable):
        await blobs.put_new(NAME, b"one")


async def test_uploads_to_a_disk_that_hangs_hold_up_neither_reads_nor_what_else_needs_a_thread(
    blobs: DirectoryBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await blobs.put(NAME, b"one")
    go_on, loop, hangs = threading.Event(), asyncio.get_running_loop(), asyncio.Event()
    sync = os.fsync

    def hang(descriptor: int) -> None:
        loop.call_soon_threadsafe(hangs.set)
        go_on.wait()
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", hang)
    uploads = [asyncio.create_task(blobs.put(f"{NAME}{number}", b"new")) for number in range(NUM_UPLOADS)]
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await hangs.wait()
            assert await asyncio.to_thread(len, NAME) == len(NAME)
            assert await blobs.get(NAME) == await blobs.get_part(NAME, 0, 3) == b"one"
            assert [blob.name for blob in await blobs.list_blobs("anna")] == [NAME]
            assert await blobs.list_folders() == ["anna"]
    finally:
        go_on.set()
    await asyncio.gather(*uploads)
    assert len(await blobs.list_blobs("anna")) == 1 + NUM_UPLOADS


async def test_a_store_that_is_closed_waits_for_no_disk_and_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(threading.enumerate())
    blobs = DirectoryBlobs(tmp_path / "files")
    await blobs.start()
    assert await blobs.get(NAME) is None
    go_on, loop, hangs = threading.Event(), asyncio.get_running_loop(), asyncio.Event()

    def hang(_: int) -> None:
        loop.call_soon_threadsafe(hangs.set)
        go_on.wait()

    monkeypatch.setattr(os, "fsync", hang)
    putting = asyncio.create_task(blobs.put(NAME, b"one"))
    try:
        await hangs.wait()
        threads = set(threading.enumerate()) - before
        await blobs.close()
    finally:
        go_on.set()
    await putting
    assert threads
    for thread in threads:
        await asyncio.to_thread(thread.join, PATIENCE_SECONDS)
        assert not thread.is_alive()


async def test_a_folder_that_cannot_be_made_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("in the way")
    with pytest.raises(StartFailed, match="IDEFICS2_DATA_FOLDER"):
        await DirectoryBlobs(tmp_path / "files").start()


async def test_a_start_removes_what_a_killed_process_left_and_nothing_that_is_being_written(
    blobs: DirectoryBlobs, tmp_path: Path
) -> None:
    incoming = tmp_path / "files" / ".incoming"
    (incoming / "old").write_bytes(b"half")
    (incoming / "new").write_bytes(b"half")
    an_hour_ago = time.time() - 3_601
    os.utime(incoming / "old", (an_hour_ago, an_hour_ago))
    await blobs.start()
    assert [path.name for path in all_files(tmp_path)] == ["new"]
    assert await blobs.list_folders() == []


async def test_a_start_beside_a_replica_that_is_writing_goes_well(
    blobs: DirectoryBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "files" / ".incoming" / "new").write_bytes(b"half")
    iterdir = Path.iterdir

    def list_just_before_it_has_its_name(folder: Path) -> Iterator[Path]:
        for path in list(iterdir(folder)):
            path.rename(tmp_path / "files" / "kept")
            yield path

    monkeypatch.setattr(Path, "iterdir", list_just_before_it_has_its_name)
    await blobs.start()
    assert await blobs.get("kept") == b"half"


async def test_a_disk_without_hard_links_keeps_the_first_one_all_the_same(
    blobs: DirectoryBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert await blobs.put_new("a/one", b"first")
    assert not await blobs.put_new("a/one", b"second")
    assert await blobs.get("a/one") == b"first"
