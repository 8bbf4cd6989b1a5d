"""The gate behind every face: who a caller is, and whether there is room for one more call."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from idefics2_service.errors import FaceNotAllowed, ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_service.keys.quotas import Quotas
    from idefics2_service.keys.records import Face, Key
    from idefics2_service.keys.ring import KeyRing
    from idefics2_service.metrics import Metrics


class Gate:
    """Lets calls in."""

    def __init__(self, ring: KeyRing, quotas: Quotas, metrics: Metrics) -> None:
        """Know callers by `ring`, count them in `quotas` and who is refused in `metrics`."""
        self._ring = ring
        self._quotas = quotas
        self._metrics = metrics
        metrics.keys_current.set_function(lambda: ring.is_current)

    @contextmanager
    def admit(self, authorization: str | None, face: Face, *, is_counted: bool = True) -> Iterator[Key]:
        """Hold a call's place, and yield its key.

        Args:
            authorization: the header of this name.
            face: where the call came in.
            is_counted: whether the key's limits are asked.

        Raises:
            Unauthenticated: no key, or one that is not in force.
            FaceNotAllowed: the key may not be used here.
            QuotaExceeded: the key's limits leave no room.

        """
        with ExitStack() as place:
            with self._counting_refusals():
                key = self._ring.authenticate(authorization)
                if face not in key.faces:
                    allowed = " and ".join(allowed.value for allowed in key.faces)
                    raise FaceNotAllowed(f"this key may not be used over {face.value}, only over {allowed}")
                if is_counted:
                    place.enter_context(self._quotas.admit(key))
            yield key

    def check(self, key: Key) -> None:
        """Look whether a key is still in force: what was let in may take long.

        Raises:
            Unauthenticated: it is not.

        """
        with self._counting_refusals():
            self._ring.find(key.id)

    @contextmanager
    def _counting_refusals(self) -> Iterator[None]:
        try:
            yield
        except ServiceError as error:
            self._metrics.refused.labels(error.reason).inc()
            raise
