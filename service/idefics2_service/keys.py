"""API keys: `<id>.<secret>`, of which only a hash of the secret is kept in memory."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from idefics2_service.errors import ApiKeyInvalid, ApiKeyMissing, SettingInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEY = re.compile(r"(?P<id>[A-Za-z0-9_-]{1,64})\.(?P<secret>[A-Za-z0-9_-]{16,256})")
_SCHEMES = ("key", "bearer")


class KeyRing:
    """Who may call."""

    def __init__(self, *keys: str) -> None:
        """Know `keys`.

        Raises:
            SettingInvalid: one of them is not `<id>.<secret>` with a secret of 16 characters or more.

        """
        self._hashes: dict[str, bytes] = {}
        for key in keys:
            match = _KEY.fullmatch(key)
            if match is None:
                message = (
                    "IDEFICS2_API_KEY must be <id>.<secret>, the secret 16 characters or more of A-Za-z0-9_-"
                )
                raise SettingInvalid(message)
            self._hashes[match["id"]] = _hash(match["secret"])

    def authenticate(self, authorization: str | None) -> str:
        """Return the id of the key in an `authorization` header.

        Takes as long for an unknown id as for a wrong secret.

        Raises:
            ApiKeyMissing: there is no header.
            ApiKeyInvalid: it holds no key that is known.

        """
        if not authorization:
            raise ApiKeyMissing("send metadata `authorization: Key <id>.<secret>`")
        scheme, _, key = authorization.partition(" ")
        match = _KEY.fullmatch(key.strip())
        if scheme.lower() not in _SCHEMES or match is None:
            raise ApiKeyInvalid("authorization must be `Key <id>.<secret>` or `Bearer <id>.<secret>`")
        known = self._hashes.get(match["id"], b"")
        if not hmac.compare_digest(known, _hash(match["secret"])):
            raise ApiKeyInvalid("the API key is not known to this service")
        return match["id"]


def make_key() -> str:
    """Make a key with 256 bits of secret."""
    return f"local.{secrets.token_urlsafe(32)}"


def load_or_make_key(folder: Path) -> str:
    """Return the key kept in `folder`, made there at the first start and readable by its owner only.

    Raises:
        SettingInvalid: the folder cannot be written.

    """
    path = folder / "api_key"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            if not path.exists() or not path.stat().st_size:
                with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
                    file.write(make_key() + "\n")
                Path(file.name).replace(path)  # whole or not there
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        message = f"IDEFICS2_DATA_FOLDER: cannot keep the API key in {path}: {error}"
        raise SettingInvalid(message) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other starts; a process that dies lets go."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
