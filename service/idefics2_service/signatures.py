"""The key that webhooks are signed with: Ed25519, its public half served as a JSON Web Key Set."""

from __future__ import annotations

import base64
import binascii
import os
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from idefics2_service.errors import SettingInvalid, StartFailed
from idefics2_service.private_files import sync

if TYPE_CHECKING:
    from pathlib import Path

_NUM_BYTES = 32


class Signer:
    """Signs, and tells how to verify."""

    def __init__(self, private: bytes) -> None:
        """Take the 32 bytes of a private key."""
        self._key = Ed25519PrivateKey.from_private_bytes(private)
        self._public = self._key.public_key().public_bytes_raw()

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a private key from 32 bytes in base64.

        Raises:
            SettingInvalid: it is not one.

        """
        try:
            return cls(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError, UnsupportedAlgorithm) as error:
            message = "IDEFICS2_WEBHOOK_SIGNING_KEY must be 32 bytes in base64: openssl rand -base64 32"
            raise SettingInvalid(message) from error

    @classmethod
    def load_or_make(cls, folder: Path) -> Self:
        """Read the key kept in `folder`, made there where it is missing and readable by its owner only.

        Raises:
            StartFailed: it cannot be kept or read.
            SettingInvalid: it is damaged.

        """
        path = folder / "webhook_key"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                _make_key(path)
            return cls(path.read_bytes())
        except OSError as error:
            message = f"IDEFICS2_DATA_FOLDER: cannot keep the key of webhooks in {path}: {error.strerror}"
            raise StartFailed(message) from error
        except ValueError as error:
            message = f"IDEFICS2_DATA_FOLDER: the key of webhooks in {path} is damaged: {error}"
            raise SettingInvalid(message) from error

    def sign(self, message: bytes) -> str:
        """Return the signature of `message` in hexadecimal digits."""
        return self._key.sign(message).hex()

    @property
    def jwks(self) -> dict[str, object]:
        """The key set by which anybody can verify, as RFC 8037 writes it."""
        public = base64.urlsafe_b64encode(self._public).decode().rstrip("=")
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": public, "use": "sig", "alg": "EdDSA"}]}


def _make_key(path: Path) -> None:
    """Draw a key; the file is whole or not there, and of two who make one at once, the first one's counts."""
    with tempfile.NamedTemporaryFile(dir=path.parent) as file:  # readable by its owner only
        file.write(os.urandom(_NUM_BYTES))
        file.flush()
        os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(file.name, path)
    sync(path.parent)
