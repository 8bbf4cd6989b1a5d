"""What a directory of blobs promises beyond every store."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

import pytest
from idefics2_service.blobs.directory import DirectoryBlobs
from idefics2_service.errors import FileStoreUnavailable, StartFailed

if TYPE_CHECKING:
    from pathlib import Path

NAME = "anna/files/3f/3f09/0"
OF_OTHERS = 0o077


@pytest.fixture
async def blobs(tmp_path: Path) -> DirectoryBlobs:
    """One with nothing in it."""
    store = DirectoryBlobs(tmp_path / "files")
    await store.start()
    return store


def all_files(folder: Path) -> list[Path]:
    """List all files below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_nobody_else_can_read_it(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    await blobs.put(NAME, b"one")
    for path in (tmp_path / "files", *all_files(tmp_path)):
        assert not path.stat().st_mode & OF_OTHERS


@pytest.mark.parametrize(
    ("number", "why"), [(errno.ENOSPC, "is full"), (errno.EDQUOT, "is full"), (errno.EIO, "failed")]
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
async def test_a_disk_that_fails_is_said_and_leaves_nothing_half_written(
    blobs: DirectoryBlobs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    why: str,
    call: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    await blobs.put(NAME, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(FileStoreUnavailable, match=f"the disk of uploaded files {why}"):
            await blobs.put(NAME, b"new")
    assert [path.read_bytes() for path in all_files(tmp_path)] == [b"old"]
    await blobs.put(NAME, b"new")
    assert await blobs.get(NAME) == b"new"


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
