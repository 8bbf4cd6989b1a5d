"""From a caller's arguments to the message on the wire."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypedDict, TypeVar

from idefics2.v1 import generation_pb2

from idefics2_client.bounds import DURATION, MAX_DURATION_SECONDS, bounding, find_bound
from idefics2_client.errors import InvalidRequest
from idefics2_client.images import make_images

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.message import Message

    from idefics2_client.images import ImageSource

_Message = TypeVar("_Message", bound="Message")


class Options(TypedDict, total=False):
    """What may be said beside image and prompt.

    Left out or None, an option stays unset on the wire and the service's default holds: None is not 0. The
    service checks the bounds.
    """

    max_new_tokens: int | None
    """How many tokens may be generated at most, 1 to 4,096. Default 512."""
    min_new_tokens: int | None
    """How many tokens must be generated before the model may end its turn. Default 0."""
    repetition_penalty: float | None
    """1 changes nothing, higher repeats less. 0.01 to 10. Default 1.2."""
    temperature: float | None
    """Higher is more random; 0 always takes the most likely token. 0, or 0.001 to 10. Default 0.4."""
    top_p: float | None
    """Samples among the likeliest tokens that add up to this. Above 0, up to 1. Default 0.8."""
    top_k: int | None
    """Samples among this many likeliest tokens, 1 to 1,000. Default: no such limit."""
    seed: int | None
    """The same request and seed give the same answer, but for rounding. 0 to 2**64 - 1; else drawn anew."""
    stop: Sequence[str] | None
    """The answer ends before the first of these texts: at most 8, each of 1 to 128 bytes."""
    images: Sequence[ImageSource] | None
    """Further images, after the first one in this order: at most 8 with it."""
    split_images: bool | None
    """True reads each image in five pieces: more detail, five times the tokens. Default: the model's."""
    max_image_bytes: int | None
    """Refuses images larger than this many bytes, 1 to 20,000,000. Default 20,000,000."""


def make_request(image: ImageSource, prompt: str, options: Options) -> generation_pb2.GenerateRequest:
    """Write a request; reads the files of its images, so it blocks.

    Raises:
        ImageUnreadable: the file of an image is missing or cannot be read.
        InvalidRequest: an image is too large, a number too large for the wire, or a text not Unicode.
        TypeError: there is no such option, or a value is of another type.

    """
    _check_names(options)
    with naming("images"):
        image_url, images = make_images([image, *(options.get("images") or ())])
    fields = {"image_url": image_url, "prompt": prompt, **options, "images": images}
    return make_message(generation_pb2.GenerateRequest, **fields)


def make_message(kind: type[_Message], **fields: object) -> _Message:
    """Write a message; None leaves a field unset.

    Raises:
        InvalidRequest: a number is too large for the wire, or a text not Unicode; names the field.
        TypeError: a value is of another type.

    """
    message = kind()
    for field, value in fields.items():
        bound = find_bound(kind.DESCRIPTOR.fields_by_name[field].cpp_type)
        with bounding(field, bound, value), naming(field):
            # By way of a message of one field: that treats None as unset, and lists and numbers alike.
            message.MergeFrom(kind(**{field: value}))
    return message


def make_duration(field: str, seconds: float | None) -> timedelta | None:
    """Write a duration; None leaves it unset.

    Raises:
        InvalidRequest: it is too long for the wire, below 0, or no number.
        TypeError: it is of another type.

    """
    if seconds is None:
        return None
    with bounding(field, DURATION, seconds), naming(field):
        if not 0 <= seconds <= MAX_DURATION_SECONDS:
            raise ValueError
        return timedelta(seconds=seconds)


def _check_names(options: Options) -> None:
    """Refuse what a type checker would."""
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"there is no option {', '.join(sorted(unknown))}")
    for field in ("stop", "images"):
        if isinstance(options.get(field), str | bytes):
            raise TypeError(f"{field} must be a list, not one {type(options.get(field)).__name__}")


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Say which field it is that the wire cannot hold.

    Raises:
        InvalidRequest: a text is not Unicode.
        TypeError: a value is of another type.

    """
    try:
        yield
    except TypeError as error:
        raise TypeError(f"{field}: {error}") from error
    except UnicodeError as error:
        raise InvalidRequest(
            f"{field} must be valid Unicode",
            code="INVALID_ARGUMENT",
            reason="TEXT_NOT_UNICODE",
            field=field,
        ) from error
