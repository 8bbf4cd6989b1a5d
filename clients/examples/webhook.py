"""Tell whether a webhook's call comes from the service. Needs PyPI's `cryptography`."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

if TYPE_CHECKING:
    from collections.abc import Mapping

_SIGNED = ("X-Fal-Webhook-Request-Id", "X-Fal-Webhook-User-Id", "X-Fal-Webhook-Timestamp")
_MAX_AGE_SECONDS = 300


def is_genuine(headers: Mapping[str, str], body: bytes, jwks: dict[str, Any]) -> bool:
    """Check the bytes as they came; `jwks` is the JSON of the service's /.well-known/jwks.json."""
    try:
        lines = [headers[name] for name in _SIGNED]
        signature = bytes.fromhex(headers["X-Fal-Webhook-Signature"])
        is_fresh = abs(time.time() - int(lines[-1])) <= _MAX_AGE_SECONDS
    except (KeyError, ValueError):
        return False
    message = "\n".join((*lines, hashlib.sha256(body).hexdigest())).encode()
    return is_fresh and any(_has_signed(key["x"], signature, message) for key in jwks["keys"])


def _has_signed(public_key: str, signature: bytes, message: bytes) -> bool:
    key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(public_key + "="))
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True
