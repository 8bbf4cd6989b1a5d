"""From what a caller has at hand to an image on the wire."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from idefics2.v1 import generation_pb2

from idefics2_client.errors import ImageUnreadable, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

ImageSource: TypeAlias = str | bytes | os.PathLike[str]
"""An image: a path; the bytes of a file; an http(s) URL or a data URI, which the service reads."""

# The contract's bound, checked here too: a message that is too large to send gets no good error.
MAX_IMAGE_BYTES = 20_000_000

# Any scheme: the service says better than a missing file would what it does not fetch.
_URL = re.compile(r"data:|[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def make_images(sources: Sequence[ImageSource]) -> tuple[str, list[generation_pb2.Image]]:
    """Read images into `image_url`, which holds the first one if that is a URL, and `images`.

    Raises:
        ImageUnreadable: a file is missing, is a folder, or cannot be read.
        InvalidRequest: an image has more than `MAX_IMAGE_BYTES`, or a URL is not Unicode.

    """
    first, *others = sources
    if is_url(first):
        return first, [_make_image(source) for source in others]
    return "", [_make_image(source) for source in sources]


def is_url(source: ImageSource) -> TypeGuard[str]:
    """Tell whether the service is to read it."""
    return isinstance(source, str) and _URL.match(source) is not None


def _make_image(source: ImageSource) -> generation_pb2.Image:
    if is_url(source):
        return generation_pb2.Image(url=source)
    data = source if isinstance(source, bytes) else _read_file(source)
    if len(data) > MAX_IMAGE_BYTES:
        name = "the image" if isinstance(source, bytes) else f"image {os.fspath(source)}"
        raise InvalidRequest(
            f"{name} must have at most {MAX_IMAGE_BYTES:,} bytes",
            code="INVALID_ARGUMENT",
            reason="FILE_TOO_LARGE",
        )
    return generation_pb2.Image(data=data)


def _read_file(path: str | os.PathLike[str]) -> bytes:
    """Read a file as far as it matters: one byte more than allowed is enough to refuse it."""
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_IMAGE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: the path holds a NUL
        why = error.strerror if isinstance(error, OSError) else error
        name = os.fspath(path) or "''"
        raise ImageUnreadable(f"cannot read image {name}: {why}", code="INVALID_ARGUMENT") from error
