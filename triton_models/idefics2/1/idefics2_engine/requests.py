"""What goes into the engine and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from idefics2_engine.errors import EngineError


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen; bounds as in proto/idefics2/v1/generation.proto."""

    max_new_tokens: int = 512
    repetition_penalty: float = 1.2
    temperature: float = 0.4
    top_p: float = 0.8
    top_k: int = 0
    """0: no such limit."""
    seed: int = 0
    stop: tuple[str, ...] = ()
    min_new_tokens: int = 0
    """The turn does not end before so many tokens."""


@dataclass(frozen=True)
class Request:
    """One question about `images`, each the bytes of a file."""

    request_id: str
    prompt: str
    images: tuple[bytes, ...]
    sampling: SamplingParams = SamplingParams()
    split_images: bool | None = None
    """None: as the checkpoint was set up."""
    share: str = ""
    """Whom it is for; where decoding has more to do than it can, those take turns."""


@dataclass(frozen=True)
class StageEntered:
    """The request enters a stage."""

    stage: Literal["PREFILL", "DECODE"]


@dataclass(frozen=True)
class TextDelta:
    """Text to append: whole characters, never empty, never part of a stop string."""

    text: str
    num_generated_tokens: int


@dataclass(frozen=True)
class Finished:
    """The answer is complete."""

    finish_reason: Literal["END_OF_TURN", "STOP_STRING", "LENGTH"]
    num_prompt_tokens: int
    num_image_tokens: int
    num_generated_tokens: int
    num_cached_tokens: int = field(default=0, compare=False)
    """Of the prompt's: read before, for a prompt that began alike."""
    num_cached_images: int = field(default=0, compare=False)
    """Of the request's: known already when it came."""
    seconds: dict[str, float] = field(default_factory=dict, compare=False)
    """How long it was in each stage: preprocess, queue, vision, prefill, decode."""


@dataclass(frozen=True)
class Failed:
    """There will be no answer; `reason` is a value of the proto's ErrorReason."""

    reason: str
    message: str
    field: str = ""
    was_lost_before: bool = False
    """Whether the engine was lost before the request came, so that it is not what the engine was lost by."""
    bound: str = ""
    """Of the field, where that is what is wrong with it."""
    value: str = ""
    """What passed it."""

    @classmethod
    def of(cls, error: EngineError) -> Failed:
        """Tell of an error all that there is to tell."""
        return cls(error.reason, error.message, error.field, bound=error.bound, value=error.value)


@dataclass(frozen=True)
class Cancelled:
    """The request was cancelled and holds nothing any more."""


@dataclass(frozen=True)
class Counted:
    """What a request would cost."""

    num_prompt_tokens: int
    num_image_tokens: int
    num_image_patches: int
    max_context_tokens: int


@dataclass(frozen=True)
class Alive:
    """The engine's loop came by: the answer to a ping."""


Event = StageEntered | TextDelta | Finished | Failed | Cancelled | Counted | Alive

LOST = Failed("BACKEND_UNAVAILABLE", "the engine is lost")
"""What those are told who were with the engine."""
LOST_BEFORE = Failed("BACKEND_UNAVAILABLE", "the engine was lost before", was_lost_before=True)
"""What those are told who come later."""


def is_last(event: Event) -> bool:
    """Tell whether nothing follows `event`."""
    return not isinstance(event, StageEntered | TextDelta)


def needs_no_pixels(event: Event) -> bool:
    """Tell whether a request is past looking at its images with `event`: they are read, or never will be."""
    return is_last(event) or (isinstance(event, StageEntered) and event.stage == "DECODE")
