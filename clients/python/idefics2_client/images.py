"""From what a caller has at hand to an image on the wire."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from idefics2.v1 import generation_pb2
from idefics2.v1.files_pb2 import File

from idefics2_client.errors import ImageNotFound, ImageUnreadable, InvalidRequest
from idefics2_client.pictures import Picture, encode_picture, is_picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Local: TypeAlias = str | bytes | os.PathLike[str]
ImageSource: TypeAlias = str | bytes | os.PathLike[str] | Picture | File
"""An image: a path; the bytes of a file; a PIL image; an http(s) URL or a data URI, which the service reads;
what `upload` returned, or its URL; `sha256:` and the digest of an uploaded file."""

# The contract's bound, checked here too: a message that is too large to send gets no good error.
MAX_IMAGE_BYTES = 20_000_000

INLINE_BYTES = 8_000_000
"""So many bytes of local images are part of the request's message; what does not fit is uploaded first."""

SHA256_PREFIX = "sha256:"

# Any scheme: the service says better than a missing file would what it does not fetch.
_URL = re.compile(r"data:|[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def list_images(image: ImageSource, others: Sequence[ImageSource] | None) -> list[Local]:
    """Return all images of a request, PIL's as bytes and uploaded ones by their URLs; encoding takes a while.

    Raises:
        TypeError: `others` is one image.

    """
    if isinstance(others, str | bytes):
        raise TypeError(f"images must be a list, not one {type(others).__name__}")
    return [_simplify(source) for source in (image, *(others or ()))]


def find_large(sources: Sequence[Local]) -> list[int]:
    """Return the places of the local images that find no room in a message, beside those before them.

    Raises:
        ImageUnreadable: a file is missing or cannot be looked at.
        InvalidRequest: an image has more than `MAX_IMAGE_BYTES`.

    """
    large, room = [], INLINE_BYTES
    for index, source in enumerate(sources):
        size = 0 if _is_named(source) else _measure(source)
        if size > room:
            large.append(index)
        else:
            room -= size
    return large


def make_images(sources: Sequence[ImageSource]) -> tuple[str, list[generation_pb2.Image]]:
    """Read images into `image_url`, which holds the first one if that is a URL, and `images`.

    Raises:
        ImageUnreadable: a file is missing, is a folder, or cannot be read.
        InvalidRequest: an image has more than `MAX_IMAGE_BYTES`, or a URL is not Unicode.

    """
    first, *others = map(_simplify, sources)
    if is_url(first):
        return first, [_make_image(source) for source in others]
    return "", [_make_image(source) for source in (first, *others)]


def is_url(source: ImageSource) -> TypeGuard[str]:
    """Tell whether the service is to read it."""
    return isinstance(source, str) and _URL.match(source) is not None


@contextmanager
def reading(source: object) -> Iterator[None]:
    """Say by one error of the tree that `source` cannot be read.

    Raises:
        ImageUnreadable: of this file; ImageNotFound, if there is none.

    """
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: the path holds a NUL
        kind = ImageNotFound if isinstance(error, FileNotFoundError) else ImageUnreadable
        why = (isinstance(error, OSError) and error.strerror) or error
        name = os.fspath(source) if isinstance(source, str | os.PathLike) else "of bytes"
        raised = kind(f"cannot read image {name or repr('')}: {why}", code="INVALID_ARGUMENT")
        if isinstance(error, OSError):
            raised.errno, raised.strerror, raised.filename = error.errno, error.strerror, name
        raise raised from error


def _simplify(source: ImageSource) -> Local:
    if isinstance(source, File):
        return source.url
    return encode_picture(source) if is_picture(source) else source  # type: ignore[return-value]  # no narrowing


def _is_named(source: Local) -> bool:
    """Tell whether the wire has no bytes of it."""
    return isinstance(source, str) and (is_url(source) or source.startswith(SHA256_PREFIX))


def _measure(source: Local) -> int:
    if isinstance(source, bytes):
        return _check_size(source, len(source))
    with reading(source):
        return _check_size(source, Path(source).stat().st_size)


def _check_size(source: Local, size: int) -> int:
    if size > MAX_IMAGE_BYTES:
        name = "the image" if isinstance(source, bytes) else f"image {os.fspath(source)}"
        raise InvalidRequest(
            f"{name} must have at most {MAX_IMAGE_BYTES:,} bytes",
            code="INVALID_ARGUMENT",
            reason="FILE_TOO_LARGE",
        )
    return size


def _make_image(source: Local) -> generation_pb2.Image:
    if is_url(source):
        return generation_pb2.Image(url=source)
    if isinstance(source, str) and source.startswith(SHA256_PREFIX):
        return generation_pb2.Image(sha256=source.removeprefix(SHA256_PREFIX))
    data = source if isinstance(source, bytes) else _read_file(source)
    _check_size(source, len(data))
    return generation_pb2.Image(data=data)


def _read_file(path: str | os.PathLike[str]) -> bytes:
    """Read a file as far as it matters: one byte more than allowed is enough to refuse it."""
    with reading(path), Path(path).open("rb") as file:
        return file.read(MAX_IMAGE_BYTES + 1)
