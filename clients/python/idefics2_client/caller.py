"""What a client is before it has a connection, blocking or not."""

from __future__ import annotations

from typing import Any

from idefics2_client.endpoint import Endpoint
from idefics2_client.errors import Cancelled
from idefics2_client.retry import Patience, Retry


class Caller:
    """One caller of one service."""

    def __init__(
        self, target: str | None = None, api_key: str | None = None, *, retry: Retry | None = None
    ) -> None:
        """Make ready to call; the connection is made at the first call.

        Args:
            target: `host:port`; else IDEFICS2_CLIENT_TARGET, else 127.0.0.1:50051.
            api_key: `<id>.<secret>`; else IDEFICS2_API_KEY, else FAL_KEY, else calls have none.
            retry: how a lost connection is tried again; None is `Retry()`.

        Raises:
            AuthenticationFailed: the key holds characters that no key has.

        """
        self._endpoint = Endpoint.find(target, api_key)
        self._retry = retry or Retry()
        self._is_closed = False

    @property
    def target(self) -> str:
        """Where the service is, `host:port`."""
        return self._endpoint.target

    def _patience(self, timeout_seconds: float | None) -> Patience:
        return Patience(self._retry, timeout_seconds)

    def _terms(self, patience: Patience) -> dict[str, Any]:
        """Say by name how grpc is to make a call.

        Raises:
            Cancelled: the client was closed.

        """
        if self._is_closed:
            raise Cancelled("the client was closed", code="CANCELLED")
        return {
            "timeout": patience.seconds_left,
            "metadata": self._endpoint.metadata,
            "wait_for_ready": patience.is_tried,
        }
