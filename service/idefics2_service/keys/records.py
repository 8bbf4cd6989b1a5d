"""What is kept of a key."""

from __future__ import annotations

import enum
import math
from datetime import datetime
from typing import Annotated

import msgspec

MAX_SECRETS = 2
"""Of one key: the newest, and the one before it while callers move on."""

Id = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]
Hash = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Rate = Annotated[float, msgspec.Meta(ge=0.001, le=10_000)]
Bound = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
Size = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
AppId = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}/[A-Za-z0-9._-]{1,64}\Z")]
"""As fal calls what it serves: `owner/name`."""


class Face(enum.Enum):
    """Where a call comes in."""

    GRPC = "grpc"
    HTTP = "http"


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Strict: a limit that is misspelt is no limit, so it is a mistake."""


class Limits(_Record, frozen=True):
    """How much a key may do; None is without bound. Calls are counted by each replica for itself."""

    calls_per_second: Rate | None = None
    burst: Bound | None = None
    """Calls that may come at once; None is those of one second."""
    max_concurrent: Bound | None = None
    """Calls that are open at a time."""
    max_queued: Bound | None = None
    """Submitted requests that have not ended, of all replicas."""
    max_stored_bytes: Size | None = None
    """Bytes of uploaded files, of all replicas; None is what the service is set to, as below."""
    max_stored_files: Bound | None = None

    @property
    def burst_calls(self) -> int:
        """How many calls may come at once."""
        return self.burst or max(1, math.ceil(self.calls_per_second or 1))


class Key(_Record, frozen=True, kw_only=True):
    """Who may call, and how much."""

    id: Id
    hashes: Annotated[tuple[Hash, ...], msgspec.Meta(min_length=1, max_length=MAX_SECRETS)]
    """Of its secrets, the newest first."""
    created_at: Time
    revoked_at: Time | None = None
    expires_at: Time | None = None
    limits: Limits = Limits()
    faces: Annotated[tuple[Face, ...], msgspec.Meta(min_length=1)] = tuple(Face)
    apps: Annotated[tuple[AppId, ...], msgspec.Meta(min_length=1)] | None = None
    """What it may use, of all that is served with this file; None is all."""
