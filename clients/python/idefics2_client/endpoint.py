"""Where the service is, and the key it wants."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from idefics2_client.errors import AuthenticationFailed

DEFAULT_TARGET = "127.0.0.1:50051"
TARGET_VARIABLE = "IDEFICS2_CLIENT_TARGET"
API_KEY_VARIABLES = ("IDEFICS2_API_KEY", "FAL_KEY")


@dataclass(frozen=True)
class Endpoint:
    """One service, as one caller sees it."""

    target: str
    api_key: str = field(repr=False)

    @classmethod
    def find(cls, target: str | None, api_key: str | None) -> Endpoint:
        """Take what is given; look for the rest in the environment. Empty is as good as not there.

        Raises:
            AuthenticationFailed: the key holds characters that no key has.

        """
        keys = (api_key, *map(os.environ.get, API_KEY_VARIABLES))
        key = next((key.strip() for key in keys if key and key.strip()), "")
        # grpc would refuse it too, with an error that shows the key.
        if not (key.isascii() and key.isprintable()):
            raise AuthenticationFailed(
                "the API key must be printable ASCII", code="UNAUTHENTICATED", reason="API_KEY_INVALID"
            )
        return cls(target or os.environ.get(TARGET_VARIABLE) or DEFAULT_TARGET, key)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call."""
        return (("authorization", f"Key {self.api_key}"),) if self.api_key else ()
