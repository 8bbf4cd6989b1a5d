"""The file of keys: read whole, replaced whole."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import msgspec

from idefics2_service.errors import SettingInvalid
from idefics2_service.keys.records import Key  # noqa: TC001  # msgspec reads annotations when it runs
from idefics2_service.private_files import locked, replace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
        try:
            keys = _decode(self._path.read_bytes())
        except FileNotFoundError as error:
            if not self._is_required:
                return ()
            raise self._refuse("read", error) from error
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


def _decode(data: bytes) -> tuple[Key, ...]:
    keys = msgspec.json.decode(data, type=_Content).keys
    if len({key.id for key in keys}) < len(keys):
        raise ValueError("an id stands there twice")
    return keys


def _encode(keys: tuple[Key, ...]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(_Content(1, keys)), indent=2) + b"\n"
