"""What somebody who waits for a request, or for a file, is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from idefics2.v1.requests_pb2 import LoggedLine


@dataclass(frozen=True)
class QueueUpdate:
    """Where a request stands."""

    request_id: str
    state: str = "queued"
    """`queued`, `running`, `succeeded`, `failed` or `cancelled`."""
    position: int | None = None
    """How many requests are before this one; None while it is not known, or does not wait."""
    stage: str | None = None
    """`resolving`, `queued`, `prefill` or `decode`, while it is running; None otherwise."""
    attempt: int = 0
    """How many times it was begun. Above 1: what ran it was lost, and the answer begins anew."""


@dataclass(frozen=True)
class TextUpdate:
    """How far the answer is."""

    delta: str = ""
    """What is new; empty where the answer begins anew."""
    text: str = ""
    """All of this attempt."""
    num_generated_tokens: int = 0
    """How many tokens that is."""
    attempt: int = 0
    """As in QueueUpdate."""


@dataclass(frozen=True)
class TransferUpdate:
    """How far an upload or a download is."""

    name: str
    """What is transferred, for a person; may be empty."""
    num_bytes: int
    """How many bytes are over, those that were there before included."""
    size_bytes: int
    """How many there are in all."""


@dataclass(frozen=True)
class Callbacks:
    """What the caller wants to hear; None is not told."""

    on_queue_update: Callable[[QueueUpdate], object] | None = None
    on_log: Callable[[LoggedLine], object] | None = None
    on_text: Callable[[TextUpdate], object] | None = None
