"""Keys that are revoked for all replicas at once, wherever each has its file of keys from."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from redis.exceptions import ReadOnlyError

from idefics2_service.store.redis.connection import FAULTS, connect_blocking
from idefics2_service.store.refusals import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_service.settings import StoreSettings


# A script that began with a write which takes no memory goes on where the server's is full: a key that filled
# it is revoked all the same.
_ADD = "redis.call('UNLINK', KEYS[2]) return redis.call('SADD', KEYS[1], ARGV[1])"


class RedisRevocations:
    """As Revocations, beside the requests. Ids stay for ever, as in the file: none is given twice."""

    def __init__(self, settings: StoreSettings) -> None:
        """Keep ids in the server of `settings.url`, which is asked for nothing yet.

        Raises:
            SettingInvalid: the URL cannot be read.

        """
        self._client = connect_blocking(settings.url)
        self._name = f"{{{settings.prefix}}}:revoked"

    def add(self, key_id: str) -> None:
        """As Revocations.add."""
        with self._asking():
            self._client.eval(_ADD, 2, self._name, f"{self._name}:nothing", key_id)

    def read(self) -> frozenset[str]:
        """As Revocations.read."""
        with self._asking(), self._client.pipeline(transaction=False) as both:
            both.info("replication")
            both.smembers(self._name)
            replication, ids = both.execute()
            if replication["role"] != "master":  # it goes on to answer, and does not know what is new
                raise ReadOnlyError("the server was demoted")
        return frozenset(key_id.decode() for key_id in ids)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Leave a server at any fault: its name may lead to another one now.

        Raises:
            StoreUnavailable: there is one.

        """
        try:
            yield
        except FAULTS as error:
            self._client.connection_pool.disconnect()
            raise unavailable(error) from error
