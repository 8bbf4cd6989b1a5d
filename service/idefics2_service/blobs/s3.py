"""Blobs as objects of a bucket in S3, for many replicas.

Where it is and who we are comes from the environment that obstore reads, as other programs do: AWS_ENDPOINT,
AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; or from the machine's role.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
import structlog
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from idefics2_service.blobs.interface import Blob
from idefics2_service.errors import FileStoreUnavailable, StartFailed

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Iterator

    from idefics2_service.blobs.interface import Data

logger = structlog.get_logger(__name__)

_TIMEOUT_SECONDS = 30.0
"""For one try, with its bytes."""
_MAX_IDLE_SECONDS = 10.0
"""Less than a timeout: of connections that died without a word none is left when one try has failed."""
_MISSING = "<Code>NoSuchKey</Code>"
"""What S3 says of a blob that is not there. Other answers of 404 are of a bucket that is away, or of a proxy
whose server is: who took those for it would forget files that are there.
"""
_CONFLICT = "<Code>ConditionalRequestConflict</Code>"
"""What S3 says where others put or delete a blob of the same name just now: nothing may be there yet."""
_MAX_CONFLICTS = 5
"""In a row: who meets more gives up."""
_CONFLICT_SECONDS = 0.2
"""After which to try again."""
_ID = re.compile(r"(?:[0-9A-Fa-f]{2} ?){16,}")
"""A file's id, or more of a name that it stands in; S3 may also write a name's bytes with spaces between."""


class S3Blobs:
    """A folder of a bucket."""

    max_writing = 1

    def __init__(self, url: str) -> None:
        """Keep blobs at `url`, `s3://bucket` or `s3://bucket/folder`; nothing is called yet.

        Raises:
            StartFailed: the environment does not say how.

        """
        try:
            self._store = S3Store.from_url(
                url,
                client_options={
                    "allow_http": True,  # as AWS_ENDPOINT says
                    "connect_timeout": timedelta(seconds=3),
                    "timeout": timedelta(seconds=_TIMEOUT_SECONDS),
                    "pool_idle_timeout": timedelta(seconds=_MAX_IDLE_SECONDS),
                },
                retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
            )
        except (BaseError, ValueError) as error:
            raise StartFailed(f"IDEFICS2_BLOB_URL: {error}") from error

    async def start(self) -> None:
        """As BlobStore.start."""
        try:
            await self.list_folders()
        except FileStoreUnavailable as error:
            message = "IDEFICS2_BLOB_URL: the bucket cannot be listed; see AWS_ENDPOINT and the keys"
            raise StartFailed(message) from error

    async def close(self) -> None:
        """As BlobStore.close: connections end with the process."""

    async def put(self, name: str, *data: Data) -> None:
        """As BlobStore.put: one request, so that there is nothing of it or all."""
        with _naming_faults():
            await obstore.put_async(self._store, name, data, use_multipart=False)

    async def put_new(self, name: str, *data: Data) -> bool:
        """As BlobStore.put_new: `If-None-Match: *`, which the server has to know.

        obstore takes a conflict for a blob that is there.
        """
        with _naming_faults():
            for _ in range(_MAX_CONFLICTS):
                try:
                    await obstore.put_async(self._store, name, data, use_multipart=False, mode="create")
                except AlreadyExistsError as error:
                    if _CONFLICT not in str(error):
                        return False
                else:
                    return True
                await asyncio.sleep(_CONFLICT_SECONDS)
        raise FileStoreUnavailable("others put and delete the same in the object store of uploaded files now")

    async def put_next(self, name: str, *data: Data, after: Future[None] | None) -> None:
        """As BlobStore.put_next: one after the other, for what is there cannot be given its name later."""
        if after is not None:
            await asyncio.shield(after)
        await self.put(name, *data)

    async def settle(self, folder: str) -> None:
        """As BlobStore.settle: nothing is left to do."""

    async def get(self, name: str) -> bytes | None:
        """As BlobStore.get."""
        with _naming_faults():
            try:
                answer = await obstore.get_async(self._store, name)
                return bytes(await answer.bytes_async())
            except FileNotFoundError as error:
                _check_missing(error)
        return None

    async def get_part(self, name: str, offset: int, num_bytes: int) -> bytes | None:
        """As BlobStore.get_part."""
        with _naming_faults():
            try:
                return bytes(await obstore.get_range_async(self._store, name, start=offset, length=num_bytes))
            except FileNotFoundError as error:
                _check_missing(error)
        return None

    async def delete(self, *names: str) -> None:
        """As BlobStore.delete."""
        with _naming_faults():
            if names:
                await obstore.delete_async(self._store, list(names))

    async def list_blobs(self, folder: str) -> list[Blob]:
        """As BlobStore.list_blobs."""
        found = []
        with _naming_faults():
            async for page in obstore.list(self._store, folder, chunk_size=1000):
                found += [Blob(o["path"], o["size"], o["last_modified"].timestamp()) for o in page]
        return sorted(found, key=lambda blob: blob.name)

    async def list_folders(self) -> list[str]:
        """As BlobStore.list_folders."""
        with _naming_faults():
            page = await obstore.list_with_delimiter_async(self._store)
        return sorted(page["common_prefixes"])


def _check_missing(error: FileNotFoundError) -> None:
    """Make sure that what was not found is a blob, and no bucket or server."""
    if _MISSING not in str(error):
        raise error


@contextmanager
def _naming_faults() -> Iterator[None]:
    """Say that something is wrong; what it is stands in the log, for its text names places.

    There it is written without ids, each of which is all that it takes to read a file.
    """
    try:
        yield
    except (BaseError, OSError) as error:
        logger.warning("the object store failed", error=_ID.sub("...", str(error)))
        message = "the object store of uploaded files cannot be reached, or refuses"
        raise FileStoreUnavailable(message) from None  # tracebacks are logged
