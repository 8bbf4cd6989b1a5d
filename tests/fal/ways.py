"""Each of fal's clients, and each way to point it at a gateway of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NEW, OLD, SYNC, ASYNC = "@fal-ai/client", "@fal-ai/serverless-client", "sync", "async"
HTTP, TLS, CONNECT = "http", "tls", "connect"


@dataclass(frozen=True)
class Way:
    """One client, pointed in one way."""

    client: str
    program: str
    """Points it: is run before anything of the client is called."""
    door: str = HTTP
    """Where it comes in."""

    @property
    def is_python(self) -> bool:
        """Whether it is the Python client, which has other names for the same."""
        return self.client in {SYNC, ASYNC}

    @property
    def is_javascript(self) -> bool:
        """Whether it runs in Node."""
        return not self.is_python

    @property
    def is_new(self) -> bool:
        """Whether it is JavaScript's client that is kept up."""
        return self.client == NEW

    @property
    def has_examples(self) -> bool:
        """Whether README shows programs with it."""
        return self.client != ASYNC

    @property
    def is_plain(self) -> bool:
        """Whether it comes in without TLS."""
        return self.door == HTTP

    @property
    def has_options(self) -> bool:
        """Whether it takes headers and times of its caller, and sends again what was lost."""
        return self.client != OLD

    @property
    def can_upload(self) -> bool:
        """Whether uploads come here, too."""
        return self.door != TLS  # no variable names the host of uploads

    def __str__(self) -> str:
        """Name it in a test."""
        return f"{self.client.removeprefix('@fal-ai/')} by {self.program}"


USUAL_WAYS = (
    Way(NEW, "proxy.mjs"),
    Way(OLD, "old_proxy.mjs"),
    Way(SYNC, "gateway.py"),
    Way(ASYNC, "gateway.py"),
)
"""One of each client."""
WAYS = (
    *USUAL_WAYS,
    *(Way(client, f"{name}.mjs") for client in (NEW, OLD) for name in ("browser", "middleware", "fetch")),
    *(Way(client, "preload.mjs") for client in (NEW, OLD)),
    *(Way(client, "hosts.sh", TLS) for client in (SYNC, ASYNC)),
    *(Way(client, "connect.sh", CONNECT) for client in (SYNC, ASYNC)),
)


@dataclass(frozen=True)
class Door:
    """Where clients come in, and what they need for it."""

    address: str
    """`host:port`."""
    api_key: str
    ca_file: Path | None = None
    """Who vouches for its certificate."""
