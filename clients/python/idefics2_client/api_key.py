"""Which key a caller has."""

from __future__ import annotations

import os
import re

from idefics2_client.errors import AuthenticationFailed

API_KEY_VARIABLES = ("IDEFICS2_API_KEY", "FAL_KEY")
FAL_PAIR = ("FAL_KEY_ID", "FAL_KEY_SECRET")
# What clients of the hosted endpoint call a key: `<id>:<secret>`. No key of this service holds a colon.
_WITH_COLON = re.compile(r"([A-Za-z0-9_-]{1,64}):([A-Za-z0-9_-]+)")


def find_api_key(given: str | None) -> str:
    """Return the first key of: what is given, the variables, the pair of variables; empty if there is none.

    One that is written `<id>:<secret>` is returned as `<id>.<secret>`.

    Raises:
        AuthenticationFailed: it holds characters that no key has.

    """
    keys = (given, *map(os.environ.get, API_KEY_VARIABLES), _read_pair())
    key = next((key.strip() for key in keys if key and key.strip()), "")
    # grpc would refuse it too, with an error that shows the key.
    if not (key.isascii() and key.isprintable()):
        raise AuthenticationFailed(
            "the API key must be printable ASCII", code="UNAUTHENTICATED", reason="API_KEY_INVALID"
        )
    return ".".join(pair.groups()) if (pair := _WITH_COLON.fullmatch(key)) else key


def _read_pair() -> str:
    key_id, secret = (os.environ.get(name, "").strip() for name in FAL_PAIR)
    return f"{key_id}.{secret}" if key_id and secret else ""
