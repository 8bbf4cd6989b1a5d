"""What blobs in S3 promise beyond every store."""

from __future__ import annotations

import pytest
from idefics2_service.blobs.s3 import S3Blobs
from idefics2_service.errors import StartFailed
from store.servers import HOST, free_port


async def test_a_wrong_key_ends_the_start(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**s3, "AWS_SECRET_ACCESS_KEY": "wrong"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartFailed, match="IDEFICS2_BLOB_URL") as caught:
        await S3Blobs("s3://files").start()
    assert "wrong" not in str(caught.value)


async def test_a_server_that_is_away_ends_the_start(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**s3, "AWS_ENDPOINT": f"http://{HOST}:{free_port()}"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartFailed, match="IDEFICS2_BLOB_URL"):
        await S3Blobs("s3://files").start()
