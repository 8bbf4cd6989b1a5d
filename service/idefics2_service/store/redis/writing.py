"""What scripts write: they keep events as they are given, and cannot encode any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idefics2_service.events import Failed, LogLine
from idefics2_service.store import refusals
from idefics2_service.store.codec import encode_happening
from idefics2_service.store.interface import FIRST_SILENT_LOSS, MAX_LOSSES
from idefics2_service.store.progress import progress_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from idefics2_service.events import Happening
    from idefics2_service.store.redis.scripts import Value

ENDINGS: dict[str, Value] = {
    "cancelled": encode_happening(Failed(refusals.cancelled())),
    "start_timeout": encode_happening(Failed(refusals.start_timeout())),
    "deadline_exceeded": encode_happening(Failed(refusals.deadline_exceeded())),
}
"""Of requests that end without a worker's word."""


def progress(happenings: Sequence[Happening], after: int) -> dict[str, Value]:
    """Name what events after number `after` say of their request."""
    stage, num_generated_tokens = progress_of(happenings)
    return {
        "after": after,
        "stage": None if stage is None else stage.value,
        "num_generated_tokens": num_generated_tokens,
    }


def hand_back(reason: str) -> dict[str, Value]:
    """Name what `hand_back` in lua/shared writes: a line of the log, or the end after the last loss."""
    return {
        "handed_back": encode_happening(LogLine(f"handed back: {reason}")),
        "exhausted": encode_happening(Failed(refusals.attempts_exhausted(MAX_LOSSES, reason))),
        "lost_once": encode_happening(Failed(refusals.lost_once(reason))),
        "max_losses": MAX_LOSSES,
        "first_silent_loss": FIRST_SILENT_LOSS,
    }
