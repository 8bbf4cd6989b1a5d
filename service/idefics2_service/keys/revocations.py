"""Which keys are revoked beside the file, for replicas that hear of a changed file late."""

from __future__ import annotations

from typing import Protocol


class Revocations(Protocol):
    """Ids of keys that all replicas share; asked in threads, since the answer may take seconds."""

    def add(self, key_id: str) -> None:
        """Revoke a key, for ever.

        Raises:
            StoreUnavailable: it may be revoked or not.

        """
        ...

    def read(self) -> frozenset[str]:
        """Return all ids.

        Raises:
            StoreUnavailable: they cannot be read now.

        """
        ...
