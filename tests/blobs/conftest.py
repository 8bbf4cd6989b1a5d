"""Each promise of a blob store is asserted over every engine, against a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from blobs.servers import run_s3
from idefics2_service.blobs.directory import DirectoryBlobs
from idefics2_service.blobs.s3 import S3Blobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from idefics2_service.blobs.interface import BlobStore


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """Run one server until the end of all tests; these variables lead to it."""
    with run_s3() as variables:
        yield variables


@pytest.fixture(params=["directory", "s3"])
async def blobs(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[BlobStore]:
    """Open one engine, with nothing in it."""
    store: BlobStore = DirectoryBlobs(tmp_path / "files")
    if request.param == "s3":
        for name, value in request.getfixturevalue("s3").items():
            monkeypatch.setenv(name, value)
        store = S3Blobs(f"s3://files/{uuid4().hex}")
        await store.put("made", b"")  # SeaweedFS makes a bucket for the first thing that is put
        await store.delete("made")
    await store.start()
    yield store
    await store.close()
