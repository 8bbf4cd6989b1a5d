"""What a caller shows: `<id>.<secret>`, or `<id>:<secret>`, as fal's clients write a key."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from typing import Self

_FORM = re.compile(r"(?P<id>[A-Za-z0-9_-]{1,64})[.:](?P<secret>[A-Za-z0-9_-]{16,256})")
FORM = "<id>.<secret>, the secret 16 characters or more of A-Za-z0-9_-"
"""What people are told of the form: a key that was cut off on its way has a shorter secret."""
_SECRET_BYTES = 32
"""So many that a fast hash is safe: there is nothing to guess."""


@dataclass(frozen=True)
class Credentials:
    """A key's id and one of its secrets."""

    id: str
    secret: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read `<id>.<secret>` or `<id>:<secret>`; None: another form, or a secret below 16 characters."""
        match = _FORM.fullmatch(text)
        return None if match is None else cls(match["id"], match["secret"])

    @classmethod
    def make(cls, key_id: str) -> Self:
        """Make 256 bits of secret for a key."""
        return cls(key_id, secrets.token_urlsafe(_SECRET_BYTES))

    @property
    def text(self) -> str:
        """What the caller is given."""
        return f"{self.id}.{self.secret}"

    @property
    def hash(self) -> str:
        """What is kept: SHA-256 of the secret, in hexadecimal digits."""
        return hashlib.sha256(self.secret.encode()).hexdigest()
