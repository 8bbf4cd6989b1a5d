"""Keys that are revoked for all replicas at once, wherever each has its file of keys from."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from idefics2_service.store.redis.connection import FAULTS, connect_blocking
from idefics2_service.store.refusals import unavailable

if TYPE_CHECKING:
    from idefics2_service.settings import StoreSettings


class RedisRevocations:
    """As Revocations, beside the requests. Ids stay for ever, as in the file: none is given twice."""

    def __init__(self, settings: StoreSettings) -> None:
        """Keep ids in the server of `settings.url`, which is asked for nothing yet.

        Raises:
            StartFailed: the URL cannot be read.

        """
        self._client = connect_blocking(settings.url)
        self._name = f"{{{settings.prefix}}}:revoked"

    def add(self, key_id: str) -> None:
        """As Revocations.add."""
        try:
            self._client.sadd(self._name, key_id)
        except FAULTS as error:
            raise unavailable(error) from error

    def read(self) -> frozenset[str]:
        """As Revocations.read."""
        try:
            ids = cast("set[bytes]", self._client.smembers(self._name))
        except FAULTS as error:
            raise unavailable(error) from error
        return frozenset(key_id.decode() for key_id in ids)
