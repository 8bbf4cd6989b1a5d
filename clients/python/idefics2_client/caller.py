"""What a client is before it has a connection, blocking or not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from idefics2_client.endpoint import Endpoint
from idefics2_client.errors import Cancelled, DeadlineExceeded, InvalidRequest
from idefics2_client.retry import Patience, Retry

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from idefics2_client.updates import TransferUpdate


_METADATA_NAME, _METADATA_VALUE = re.compile(r"[a-z0-9_.-]+"), re.compile(r"[ -~]*")


class ClientOptions(TypedDict, total=False):
    """What may be said of a client beside target and key; None is as good as left out."""

    tls: bool | None
    """Whether to connect by TLS. Default: as target or files say, else IDEFICS2_CLIENT_TLS, else not."""
    ca_file: str | os.PathLike[str] | None
    """Who vouches for the service, PEM. Default: IDEFICS2_CLIENT_CA_FILE, else whom this machine trusts."""
    certificate_file: str | os.PathLike[str] | None
    """What to show a service that asks for it, PEM. Default: IDEFICS2_CLIENT_CERTIFICATE_FILE."""
    key_file: str | os.PathLike[str] | None
    """The key of that certificate, PEM without a password. Default: IDEFICS2_CLIENT_KEY_FILE."""
    retry: Retry | None
    """How a lost connection is tried again. Default: `Retry()`."""
    metadata: Callable[[], Iterable[tuple[str, str]]] | None
    """What to send along with a call, for example the `traceparent` of your own caller; asked each time. The
    key is the client's all the same."""
    on_upload: Callable[[TransferUpdate], object] | None
    """Told how far uploads are, those of large images included; not in the thread that waits."""


class Caller:
    """One caller of one service."""

    def __init__(
        self, target: str | None = None, api_key: str | None = None, **options: Unpack[ClientOptions]
    ) -> None:
        """Make ready to call; the connection is made at the first call.

        Args:
            target: `host:port`, or a URL: `grpcs://` and `https://` mean TLS, `grpc://` and `http://` none;
                else IDEFICS2_CLIENT_TARGET, else 127.0.0.1:50051.
            api_key: `<id>.<secret>`; else IDEFICS2_API_KEY, else FAL_KEY, else FAL_KEY_ID with
                FAL_KEY_SECRET, else calls have none.
            options: see `ClientOptions`.

        Raises:
            AuthenticationFailed: the key holds characters that no key has.
            SettingInvalid: the target cannot be used, or a file of TLS; the message names it.
            TypeError: there is no such option.

        """
        if unknown := options.keys() - ClientOptions.__annotations__.keys():
            raise TypeError(f"there is no option {', '.join(sorted(unknown))}")
        self._endpoint = Endpoint.find(target, api_key, options)
        self._retry = options.get("retry") or Retry()
        self._find_metadata = options.get("metadata") or tuple
        self._on_upload = options.get("on_upload")
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
            DeadlineExceeded: there is no time left.
            InvalidRequest: the caller's metadata cannot be sent.

        """
        if self._is_closed:
            raise Cancelled("the client was closed", code="CANCELLED")
        seconds_left = patience.seconds_left
        if seconds_left == 0:
            message = "the timeout passed before the answer was complete"
            raise DeadlineExceeded(message, code="DEADLINE_EXCEEDED")
        return {
            "timeout": seconds_left,
            "metadata": self._make_metadata(),
            "wait_for_ready": patience.is_tried,
        }

    def _make_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Write what goes with a call; where the client has a key, what its caller sends along has none."""
        own = dict(self._endpoint.metadata)
        along = [_check_metadata(pair) for pair in self._find_metadata()]
        return (*own.items(), *(pair for pair in along if pair[0] not in own))


def _check_metadata(pair: tuple[str, str | bytes]) -> tuple[str, str | bytes]:
    """Return what can be sent; grpc ends a call with other metadata as it ends one whose connection broke."""
    name, value = pair
    if name.endswith("-bin"):
        is_legal = isinstance(value, bytes)
    else:
        is_legal = isinstance(value, str) and _METADATA_VALUE.fullmatch(value) is not None
    if not (is_legal and _METADATA_NAME.fullmatch(name)):
        message = (
            f"the metadata {name} cannot be sent: names are of a-z 0-9 - _ and . , values of printable "
            "ASCII, or bytes where the name ends in -bin"
        )
        raise InvalidRequest(message, code="INVALID_ARGUMENT", field="metadata")
    return pair
