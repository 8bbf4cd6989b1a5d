"""Files that only their owner may read, and that are whole whenever the machine's power goes."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes; one that dies lets go."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read: the new one or the old one is there, whole, at any time.

    Raises:
        OSError: it cannot be written, or would belong to another user than before.

    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            _keep_owner(path, file.fileno())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    sync(path.parent)


def sync(folder: Path) -> None:
    """Let the names in a folder outlive the machine's power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep_owner(path: Path, descriptor: int) -> None:
    """Give what takes a file's place to the file's owner: a service could not read what root has changed."""
    try:
        before = path.stat()
    except FileNotFoundError:
        return
    if before.st_uid == os.fstat(descriptor).st_uid:
        return
    try:
        os.fchown(descriptor, before.st_uid, before.st_gid)
    except OSError as error:
        message = f"it belongs to user {before.st_uid}, and only that user or root may change it"
        raise PermissionError(message) from error
