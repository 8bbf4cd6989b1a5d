"""Blobs as files of a directory, which one machine or a shared file system has."""

from __future__ import annotations

import asyncio
import errno
import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog

from idefics2_service.blobs.interface import Blob
from idefics2_service.errors import FileStoreUnavailable, StartFailed

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from idefics2_service.blobs.interface import Data

logger = structlog.get_logger(__name__)

_INCOMING = ".incoming"
"""Folder of what is being written; no name of a blob begins with a dot."""
_STALE_SECONDS = 3600.0
"""Nobody writes one blob for so long: who did was killed."""
_NUM_THREADS = 16
_T = TypeVar("_T")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Some disks have one name a file, as exFAT: two replicas that are first in the same moment both are."""


class DirectoryBlobs:
    """A folder that only its owner can read."""

    max_writing = 2

    def __init__(self, root: Path) -> None:
        """Keep blobs below `root`, which is made where it is missing."""
        self._root = root
        self._incoming = root / _INCOMING
        # Of its own, for a disk may hang: the loop's threads are there for keys, data URIs and much else; and
        # who reads does not wait behind those who upload.
        self._writing = ThreadPoolExecutor(_NUM_THREADS, "blobs-writing")
        self._reading = ThreadPoolExecutor(_NUM_THREADS, "blobs-reading")

    async def start(self) -> None:
        """As BlobStore.start; removes what a killed process left half-written."""
        try:
            await _run(self._writing, self._prepare)
        except OSError as error:
            message = f"IDEFICS2_DATA_FOLDER: cannot keep files in {self._root}: {error.strerror}"
            raise StartFailed(message) from error

    async def close(self) -> None:
        """As BlobStore.close: threads end when the disk answers."""
        for pool in (self._writing, self._reading):
            pool.shutdown(wait=False)

    async def put(self, name: str, *data: Data) -> None:
        """As BlobStore.put."""
        with _naming_faults():
            await _finish(self._writing, self._write, self._root / name, data)

    async def put_new(self, name: str, *data: Data) -> bool:
        """As BlobStore.put_new."""
        with _naming_faults():
            return await _finish(self._writing, self._write_new, self._root / name, data)

    async def put_next(self, name: str, *data: Data, after: Future[None] | None) -> None:
        """As BlobStore.put_next: several are written at a time, but get their names one after the other."""
        temporary = self._draw_temporary()
        with _naming_faults():
            try:
                await _finish(self._writing, _write_durably, temporary, data)
                if after is not None:
                    await asyncio.shield(after)
                await _finish(self._writing, _move, temporary, self._root / name)
            except BaseException:
                await _finish(self._writing, _unlink, temporary)
                raise

    async def settle(self, folder: str) -> None:
        """As BlobStore.settle."""
        with _naming_faults():
            await _run(self._writing, _sync_folder, self._root / folder)

    async def get(self, name: str) -> bytes | None:
        """As BlobStore.get."""
        with _naming_faults():
            return await _run(self._reading, _read, self._root / name)

    async def get_part(self, name: str, offset: int, num_bytes: int) -> bytes | None:
        """As BlobStore.get_part."""
        with _naming_faults():
            return await _run(self._reading, _read, self._root / name, offset, num_bytes)

    async def delete(self, *names: str) -> None:
        """As BlobStore.delete."""
        with _naming_faults():
            await _run(self._writing, self._remove, names)

    async def list_blobs(self, folder: str) -> list[Blob]:
        """As BlobStore.list_blobs."""
        with _naming_faults():
            found = await _run(self._reading, lambda: list(self._walk(self._root / folder)))
        return sorted(found, key=lambda blob: blob.name)

    async def list_folders(self) -> list[str]:
        """As BlobStore.list_folders."""
        with _naming_faults():
            names = await _run(self._reading, os.listdir, self._root)
        return sorted(name for name in names if name != _INCOMING)

    def _prepare(self) -> None:
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root.chmod(0o700)
        for path in self._incoming.iterdir():
            with suppress(FileNotFoundError):  # another replica's, which has its name by now
                if path.stat().st_mtime < time.time() - _STALE_SECONDS:
                    path.unlink()

    def _draw_temporary(self) -> Path:
        return self._incoming / uuid.uuid4().hex

    def _write(self, path: Path, data: Sequence[Data]) -> None:
        temporary = self._draw_temporary()
        try:
            _write_durably(temporary, data)
            _move(temporary, path)
        except BaseException:
            _unlink(temporary)
            raise
        _sync_folder(path.parent)

    def _write_new(self, path: Path, data: Sequence[Data]) -> bool:
        temporary = self._draw_temporary()
        try:
            _write_durably(temporary, data)
            is_new = _link(temporary, path)
        finally:
            _unlink(temporary)
        _sync_folder(path.parent)  # also for another's: who is told of that one counts on it
        return is_new

    def _remove(self, names: tuple[str, ...]) -> None:
        for name in names:
            path = self._root / name
            path.unlink(missing_ok=True)
            self._prune(path.parent)

    def _prune(self, folder: Path) -> None:
        """Remove a folder and those above it, as far as they are empty."""
        with suppress(OSError):
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent

    def _walk(self, folder: Path) -> Iterator[Blob]:
        for place, _, names in os.walk(folder, onerror=_pass_over_missing):
            for name in names:
                path = folder / place / name
                with suppress(FileNotFoundError):  # removed meanwhile
                    facts = path.stat()
                    yield Blob(str(path.relative_to(self._root)), facts.st_size, facts.st_mtime)


def _pass_over_missing(error: OSError) -> None:
    """Let a folder that is not there be empty; one that cannot be listed must not look so."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


async def _run(pool: ThreadPoolExecutor, work: Callable[..., _T], *args: object) -> _T:
    return await asyncio.get_running_loop().run_in_executor(pool, work, *args)


async def _finish(pool: ThreadPoolExecutor, work: Callable[..., _T], *args: object) -> _T:
    """Work in a thread, which cannot be cancelled: who is comes back after it, so that it can delete."""
    working = asyncio.create_task(_run(pool, work, *args))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait((working,))
        raise
    finally:
        del working  # or the frames of its error, which hold what was to be written, would lead back to it


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _write_durably(path: Path, data: Sequence[Data]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(data)
        file.flush()
        os.fsync(descriptor)


def _move(temporary: Path, path: Path) -> None:
    """Give a blob its name, in place of another that has it."""
    _give_name(temporary, temporary.replace, path)


def _link(temporary: Path, path: Path) -> bool:
    """Give a blob a second name, unless another blob has it; tell which."""
    try:
        _give_name(temporary, partial(os.link, temporary), path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            return False
        _move(temporary, path)
    return True


def _give_name(temporary: Path, work: Callable[[Path], object], path: Path) -> None:
    """Work on a name; again where somebody just removed its folder, since it was empty.

    Raises:
        FileNotFoundError: it is the blob itself that somebody removed.

    """
    while True:
        try:
            _make_folder(path.parent)
            work(path)
        except FileNotFoundError:
            if not temporary.exists():
                raise
        else:
            return


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing, and make their names safe.

    All are made first: a file system that keeps a journal makes them safe at once.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        with suppress(FileExistsError):  # not `exist_ok`: somebody may make it and remove it again meanwhile
            path.mkdir(mode=0o700)
    for path in missing:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder safe."""
    with suppress(FileNotFoundError):  # deleted meanwhile, with what was put
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read(path: Path, offset: int = 0, num_bytes: int = -1) -> bytes | None:
    with suppress(FileNotFoundError, IsADirectoryError), path.open("rb", buffering=0) as file:
        file.seek(offset)
        return file.read(num_bytes)
    return None


@contextmanager
def _naming_faults() -> Iterator[None]:
    """Say what is wrong with the disk without saying where we keep what."""
    try:
        yield
    except OSError as error:
        logger.warning("files cannot be kept", error=error.strerror)
        why = "is full" if error.errno in _FULL else f"failed: {error.strerror}"
        raise FileStoreUnavailable(f"the disk of uploaded files {why}") from error
