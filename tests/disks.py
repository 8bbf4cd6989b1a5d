"""Disks that are soon full, or can only be read, for who may mount any."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from processes import patience

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LARGE_BYTES = 64 * 2**20
_GOOD_AGAIN = (0, 1)
"""What e2fsck ends with: nothing was wrong, or all of it was mended."""


@contextmanager
def small_disk(place: Path, num_bytes: int) -> Iterator[Path]:
    """Mount a disk of so many bytes at `place`, a folder that is not there yet."""
    place.mkdir()
    if not _mount(place, f"size={num_bytes}"):
        pytest.skip("needs the right to mount a disk")
    try:
        yield place
    finally:
        # Lazily: what was struck by a full disk may still hold a file of it.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def enlarge(place: Path) -> None:
    """Give a small disk room for whatever tests write, with all that is on it."""
    assert _mount(place, "remount", f"size={_LARGE_BYTES}")


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """Let a small disk be read only, as soon as nobody has a file of it open to write."""
    for _ in patience(f"nobody to write to {place}"):
        if _mount(place, "remount", "ro"):
            break
    try:
        yield
    finally:
        assert _mount(place, "remount", "rw")


def note_safe_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Return the names in a folder that a loss of power would leave, as there come to be more of them."""
    safe, sync = [], os.fsync

    def note(descriptor: int) -> None:
        sync(descriptor)
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            safe.append({path.name for path in folder.iterdir()})

    monkeypatch.setattr(os, "fsync", note)
    return safe


class FragileDisk:
    """A disk in a file, whose file system can be made to find itself damaged under those who use it."""

    def __init__(self, place: Path, image: Path, num_bytes: int) -> None:
        """Make a disk of so many bytes in the file `image`, to be mounted at `place`."""
        self._place, self._image = place, image
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(num_bytes)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)

    def mount(self) -> bool:
        """Mount it; tell whether that is allowed here."""
        command = ["mount", "-o", "loop", str(self._image), str(self._place)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def fail(self) -> None:
        """Do what the kernel does at a damage: from now on all is read-only, for open files, too."""
        subprocess.run(["mount", "-o", "remount,abort", str(self._place)], check=True)

    def repair(self) -> None:
        """Check it, and mount it again; nobody may have a file of it open."""
        subprocess.run(["umount", str(self._place)], check=True)
        checked = subprocess.run(["e2fsck", "-p", str(self._image)], check=False, capture_output=True)
        assert checked.returncode in _GOOD_AGAIN, checked.stdout
        assert self.mount()

    def remove(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "--lazy", str(self._place)], check=True)


@contextmanager
def fragile_disk(place: Path, image: Path, num_bytes: int) -> Iterator[FragileDisk]:
    """Mount a disk that can fail at `place`, a folder that is not there yet."""
    if not shutil.which("mkfs.ext4"):
        pytest.skip("needs e2fsprogs")
    disk = FragileDisk(place, image, num_bytes)
    if not disk.mount():
        pytest.skip("needs the right to mount a disk in a file")
    try:
        yield disk
    finally:
        disk.remove()


def _mount(place: Path, *options: str) -> bool:
    """Mount a disk, or change one; tell whether that is allowed here."""
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(place)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
