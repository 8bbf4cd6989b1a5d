"""Where the service is, how it is connected to, and the key it wants."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from idefics2_client.api_key import find_api_key
from idefics2_client.errors import SettingInvalid
from idefics2_client.tls import Tls

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc

DEFAULT_TARGET = "127.0.0.1:50051"
TARGET_VARIABLE = "IDEFICS2_CLIENT_TARGET"
_DEFAULT_PORT = 50051
# Each with whether it means TLS, and its port.
_SCHEMES = {
    "grpc": (False, _DEFAULT_PORT),
    "grpcs": (True, _DEFAULT_PORT),
    "http": (False, 80),
    "https": (True, 443),
}
_BARE = re.compile(r"(?P<host>[\w.-]+|\[[^\[\]]*\])(?P<colon>:(?P<port>[^:]*))?")
_RESOLVERS = {"dns", "google-c2p", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds"}
"""What may stand before a colon in a target of grpc's own, where others have their host."""
_MAX_PORT = 65_535


@dataclass(frozen=True)
class Endpoint:
    """One service, as one caller sees it."""

    target: str
    api_key: str = field(repr=False)
    credentials: grpc.ChannelCredentials | None = field(default=None, repr=False)
    """Of TLS; None is plaintext."""

    @classmethod
    def find(
        cls, target: str | None, api_key: str | None, tls: Mapping[str, object] | None = None
    ) -> Endpoint:
        """Take what is given; look for the rest in the environment. White space alone is as good as nothing.

        Raises:
            AuthenticationFailed: the key holds characters that no key has.
            SettingInvalid: the target, or what is said of TLS, cannot be used.

        """
        texts = (target, os.environ.get(TARGET_VARIABLE), DEFAULT_TARGET)
        given = next(text.strip() for text in texts if text and text.strip())
        address, is_secure = parse_target(given)
        return cls(address, find_api_key(api_key), Tls.find(tls or {}, target_wants=is_secure).read())

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call."""
        return (("authorization", f"Key {self.api_key}"),) if self.api_key else ()


def parse_target(target: str) -> tuple[str, bool | None]:
    """Return what grpc is to connect to, and whether it is TLS; None where the target does not say.

    Raises:
        SettingInvalid: it is no Unicode, has a port that is none, or is a URL that says more than where.

    """
    if any("\ud800" <= letter <= "\udfff" for letter in target):
        raise _refuse("Unicode")
    scheme, separator, _ = target.partition("://")
    if not separator or scheme.lower() not in _SCHEMES:
        return _complete(target), None
    is_secure, default_port = _SCHEMES[scheme.lower()]
    try:
        url = urlsplit(target)
        port = default_port if url.port is None else url.port
    except ValueError:
        url, port = urlsplit("invalid:"), 0
    if (
        not url.hostname
        or not port
        or url.username is not None
        or url.path.strip("/")
        or url.query
        or url.fragment
    ):
        raise _refuse(f"{scheme}://HOST or {scheme}://HOST:PORT, and no more")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"{host}:{port}", is_secure


def _complete(target: str) -> str:
    """Return a target without a scheme of ours with its port; one of grpc's own stays as it is.

    Raises:
        SettingInvalid: there is no such port; grpc would take another one, or call the service away.

    """
    bare = _BARE.fullmatch(target)
    if bare is None or bare["host"] in _RESOLVERS:
        return target
    if bare["colon"] is None:
        return f"{target}:{_DEFAULT_PORT}"
    if not re.fullmatch("[0-9]{1,5}", bare["port"]) or not 1 <= int(bare["port"]) <= _MAX_PORT:
        raise _refuse(f"HOST or HOST:PORT, and PORT 1 to {_MAX_PORT}")
    return target


def _refuse(form: str) -> SettingInvalid:
    """Say what form a target has; it is not shown, as it may hold a password."""
    return SettingInvalid(f"the target must be {form}", field="target")
