"""The file of keys: read whole, replaced whole."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from idefics2_service.errors import SettingInvalid
from idefics2_service.keys.records import Key  # noqa: TC001  # msgspec reads annotations when it runs

if TYPE_CHECKING:
    from collections.abc import Iterator

Version = tuple[int, ...]
"""Another one whenever the file may have changed; also where it is a link that leads elsewhere by now."""


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    keys: tuple[Key, ...]


class KeyFile:
    """Keys in JSON, for its owner only."""

    def __init__(self, path: Path, *, is_required: bool = True) -> None:
        """Keep keys in `path`; a missing file that is not required holds none."""
        self._path = path
        self._is_required = is_required

    @property
    def version(self) -> Version | None:
        """What tells that it was not changed; None where it is missing."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def read(self) -> tuple[Key, ...]:
        """Return all keys.

        Raises:
            SettingInvalid: it is missing, cannot be read, or is damaged; what is in it is not repeated.

        """
        if not self._is_required and not self._path.exists():
            return ()
        try:
            keys = _decode(self._path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise self._refuse("read", error) from error
        self._is_required = True  # what has been there does not just go away
        return keys

    @contextmanager
    def edit(self) -> Iterator[dict[str, Key]]:
        """Yield keys by their ids, to be changed; they are written at the end, and nobody else meanwhile.

        Raises:
            SettingInvalid: it is damaged, or cannot be written.

        """
        target = self._path.resolve()  # a link stays one
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with locked(target.parent):
                keys = {key.id: key for key in (self.read() if target.exists() else ())}
                yield keys
                replace(target, _encode(tuple(keys.values())))
        except OSError as error:
            raise self._refuse("write", error) from error

    def _refuse(self, verb: str, error: Exception) -> SettingInvalid:
        return SettingInvalid(f"IDEFICS2_API_KEYS_FILE: cannot {verb} {self._path}: {error}")


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
    _sync(path.parent)


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


def _sync(folder: Path) -> None:
    """Let the new name outlive the machine's power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _decode(data: bytes) -> tuple[Key, ...]:
    keys = msgspec.json.decode(data, type=_Content).keys
    if len({key.id for key in keys}) < len(keys):
        raise ValueError("an id stands there twice")
    return keys


def _encode(keys: tuple[Key, ...]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(_Content(1, keys)), indent=2) + b"\n"
