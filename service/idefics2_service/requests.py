"""What a request is, in plain types: no face's wire format and no backend's."""

from __future__ import annotations

import dataclasses
import enum
import re
from dataclasses import dataclass
from typing import NamedTuple

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Stage(enum.Enum):
    """Where a request stands."""

    RESOLVING = "RESOLVING"
    QUEUED = "QUEUED"
    PREFILL = "PREFILL"
    DECODE = "DECODE"

    @property
    def is_begun(self) -> bool:
        """Whether the model has begun with the request."""
        return self in {Stage.PREFILL, Stage.DECODE}


class State(enum.Enum):
    """How far a submitted request is."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self not in {State.QUEUED, State.RUNNING}


class Priority(enum.Enum):
    """Who is served first."""

    NORMAL = "NORMAL"
    LOW = "LOW"


class FinishReason(enum.Enum):
    """Why an answer ended."""

    END_OF_TURN = "END_OF_TURN"
    STOP_STRING = "STOP_STRING"
    LENGTH = "LENGTH"


class RequestName(NamedTuple):
    """What a request is called: keys choose the names of their requests, so two keys may choose alike."""

    key_id: str
    request_id: str


def is_request_id(text: str) -> bool:
    """Tell whether a request may be called this: 1 to 128 characters of A-Z a-z 0-9 . _ -."""
    return _REQUEST_ID.fullmatch(text) is not None


@dataclass(frozen=True)
class ImageSource:
    """An image as the caller gave it: a URL, the bytes of a file, or the sha-256 of an uploaded one."""

    field: str
    """The name of the request's field, for errors: `image_url` or `images[0].data`."""
    url: str | None = None
    data: bytes | None = None
    sha256: str | None = None

    @property
    def is_elsewhere(self) -> bool:
        """Whether the caller only named it: to read it takes time, and how many bytes come is not known."""
        return self.data is None and not self.is_data_uri

    @property
    def num_sent_bytes(self) -> int:
        """How many bytes the caller sent for it."""
        return len(self.data or "") + len(self.url or "")

    def most_added_bytes(self, max_image_bytes: int) -> int:
        """Return how many bytes more it has at most, once it is read."""
        if self.data is not None:
            return 0
        return len(self.url or "") * 3 // 4 if self.is_data_uri else max_image_bytes

    @property
    def is_data_uri(self) -> bool:
        """Whether the URL is the file itself."""
        return (self.url or "")[:5].lower() == "data:"


@dataclass(frozen=True)
class GenerateInput:
    """A request as a face read it, unchecked. None: the caller left it out."""

    prompt: str
    images: tuple[ImageSource, ...]
    image_fields: tuple[str, ...] = ("url", "data", "sha256")
    """Of which the face wants one for each of `images`."""
    max_new_tokens: int | None = None
    repetition_penalty: float | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    split_images: bool | None = None
    max_image_bytes: int | None = None
    min_new_tokens: int | None = None


@dataclass(frozen=True)
class ValidRequest:
    """A request within all bounds, defaults applied. Only `validation` makes one."""

    prompt: str
    images: tuple[ImageSource, ...]
    max_new_tokens: int
    repetition_penalty: float
    temperature: float
    top_p: float
    top_k: int
    """0: no such limit."""
    seed: int
    stop: tuple[str, ...]
    split_images: bool | None
    max_image_bytes: int
    min_new_tokens: int


@dataclass(frozen=True)
class Deadlines:
    """When a request is given up, on the event loop's clock; None never."""

    start: float | None = None
    """If it has no turn by then."""
    end: float | None = None


@dataclass(frozen=True)
class ImageFile:
    """The bytes of an image whose header was read: format and size are known, pixels are not."""

    field: str
    data: bytes = dataclasses.field(repr=False)
    format: str
    width: int
    height: int


@dataclass(frozen=True)
class ResolvedRequest:
    """A valid request with its images in hand: what a backend works on."""

    name: RequestName
    request: ValidRequest
    images: tuple[ImageFile, ...]


@dataclass(frozen=True)
class Usage:
    """Tokens of one request."""

    num_prompt_tokens: int
    num_image_tokens: int
    num_generated_tokens: int
    num_cached_tokens: int = 0
    """Of the prompt's: read before, for a prompt that began alike."""
    num_cached_images: int = 0
    """Of the request's: known by their content."""


@dataclass(frozen=True)
class TokenCount:
    """What a request would cost."""

    num_prompt_tokens: int
    num_image_tokens: int
    num_image_patches: int
    max_context_tokens: int


@dataclass(frozen=True)
class GenerateOutput:
    """A complete answer."""

    output: str
    finish_reason: FinishReason
    usage: Usage
    stage_seconds: dict[str, float]
    """Seconds by lower-case stage name, and `total`."""
    request_id: str
    seed: int
