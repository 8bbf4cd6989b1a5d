"""Disks that are soon full, for who may mount any."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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


def enlarge(place: Path, num_bytes: int) -> None:
    """Make a disk larger, with all that is on it."""
    assert _mount(place, "remount", f"size={num_bytes}")


def _mount(place: Path, *options: str) -> bool:
    """Mount a disk, or change one; tell whether that is allowed here."""
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(place)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
