"""What happenings say of the request that they happened to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idefics2_service.errors import RequestCancelled
from idefics2_service.events import Failed, Finished, Happening, StageEntered, TextDelta
from idefics2_service.requests import Stage, State

if TYPE_CHECKING:
    from collections.abc import Sequence

LOST_WORKER = "what ran the request was lost"
"""The reason for which a request whose lease ran out is handed back."""


def state_after(end: Finished | Failed) -> State:
    """Tell in which state a request is left."""
    if isinstance(end, Finished):
        return State.SUCCEEDED
    return State.CANCELLED if isinstance(end.error, RequestCancelled) else State.FAILED


def progress_of(happenings: Sequence[Happening]) -> tuple[Stage | None, int | None]:
    """Return the last stage and the last count of tokens that were told, where any were."""
    stage, num_generated_tokens = None, None
    for happening in happenings:
        match happening:
            case StageEntered(entered):
                stage = entered
            case TextDelta(_, count):
                num_generated_tokens = count
            case Finished(output):
                num_generated_tokens = output.usage.num_generated_tokens
    return stage, num_generated_tokens
