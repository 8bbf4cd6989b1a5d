"""From an image as the caller gave it to the bytes of a picture file."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from idefics2_service.errors import (
    FileBlocked,
    FileDataUriInvalid,
    FileEmpty,
    FileNotAnImage,
    FileNotFound,
    FileNotUploaded,
    FileRateLimited,
    FileTooLarge,
    FileTooManyPixels,
    FileTooSlow,
    FileUndecodable,
    FileUnreachable,
    FileUrlForbidden,
    FileUrlInvalid,
    FileUrlUnsupported,
    InvalidInput,
)
from idefics2_service.fetcher import (
    AddressForbidden,
    BodyTooLarge,
    FetchFailed,
    FetchTimedOut,
    HostAnswered,
    UrlInvalid,
)
from idefics2_service.formats import FORMATS, sniff
from idefics2_service.headers import HeaderDamaged, read_size
from idefics2_service.requests import ImageFile, ImageSource
from idefics2_service.uploads.links import read_public_path
from idefics2_service.uploads.records import URL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_service.downloads import Downloads
    from idefics2_service.settings import LimitSettings
    from idefics2_service.uploads.library import Library
    from idefics2_service.uploads.records import StoredFile

_DATA = "data:"
_MAX_UNQUOTED = 16_384
"""Characters of a data URI that are unquoted at a time: meanwhile they take dozens of times their bytes."""
_FAULTS: tuple[tuple[type[FetchFailed], type[InvalidInput]], ...] = (
    (UrlInvalid, FileUrlInvalid),
    (AddressForbidden, FileUrlForbidden),
    (FetchTimedOut, FileTooSlow),
    (BodyTooLarge, FileTooLarge),
    (FetchFailed, FileUnreachable),
)


class Files:
    """Reads images from wherever callers say that they are."""

    def __init__(self, limits: LimitSettings, downloads: Downloads, library: Library) -> None:
        """Fetch URLs by `downloads`; what was uploaded is in `library`."""
        self._limits = limits
        self._downloads = downloads
        self._library = library

    async def find(
        self, sources: tuple[ImageSource, ...], key_id: str, max_image_bytes: int
    ) -> tuple[StoredFile | None, ...]:
        """Return the record of every uploaded file that is the key's, or that a public link leads to.

        None stands for other sources.

        Raises:
            FileNotUploaded: names all that are missing.
            FileTooLarge: one is larger than the request allows.

        """
        found = [await self._find(source, key_id) for source in sources]
        missing = [s for s, file in zip(sources, found, strict=True) if file is None and _is_uploaded(s)]
        if missing:
            named = dict.fromkeys(source.sha256 or source.url or "" for source in missing)
            raise FileNotUploaded.of(*named, field=missing[0].field)
        for source, file in zip(sources, found, strict=True):
            if file is not None:
                _check_size(source.field, file.size_bytes, max_image_bytes)
        return tuple(found)

    async def load(
        self, sources: tuple[ImageSource, ...], found: tuple[StoredFile | None, ...]
    ) -> tuple[ImageSource, ...]:
        """Put bytes in place of every file that `find` found; whoever asks has room for them.

        Raises:
            FileNotUploaded: one was deleted meanwhile.

        """
        return tuple([await self._load(*pair) for pair in zip(sources, found, strict=True)])

    async def resolve(self, source: ImageSource, key_id: str, max_image_bytes: int) -> ImageFile:
        """Read a file and its header for a key; its pixels are decoded where the model runs.

        What was uploaded has been read before, by `load`.

        Raises:
            InvalidInput: FILE_*; the message names the field, and format, size and bound where known.

        """
        data = source.data
        if data is None:
            data = await self._read_url(source.field, source.url or "", key_id, max_image_bytes)
        return _read(source.field, data, self._limits, max_image_bytes)

    async def _find(self, source: ImageSource, key_id: str) -> StoredFile | None:
        if source.sha256:
            return await self._library.find_content(key_id, source.sha256.lower())
        if source.url and source.url.startswith(URL_PREFIX):
            return await self._library.find(key_id, source.url.removeprefix(URL_PREFIX))
        # The file of a public link, whoever's it is and whatever host is named: uploads/links.py says why.
        linked = read_public_path(source.url) if source.url else None
        return await self._library.find(*linked) if linked else None

    async def _load(self, source: ImageSource, file: StoredFile | None) -> ImageSource:
        if file is None:
            return source
        return ImageSource(source.field, data=await self._library.read(file))

    async def _read_url(self, field: str, url: str, key_id: str, max_bytes: int) -> bytes:
        scheme = url[: url.find(":") + 1].lower()
        if scheme == _DATA:
            return await asyncio.to_thread(_read_data_uri, field, url, max_bytes)
        if scheme not in {"http:", "https:"}:
            message = (
                f"{field} must be an http(s) URL, a data URI (data:image/...;base64,...) "
                f"or the URL of an uploaded file ({URL_PREFIX}...)"
            )
            raise FileUrlUnsupported(message, field=field)
        try:
            return await self._downloads.fetch(key_id, url, max_bytes)
        except FetchFailed as error:
            raise _name_fault(error)(f"{field}: {error}", field=field) from error


def _is_uploaded(source: ImageSource) -> bool:
    return bool(source.sha256 or (source.url and source.url.startswith(URL_PREFIX)))


def _name_fault(error: FetchFailed) -> type[InvalidInput]:
    """Say by a class of ours what went wrong with a host."""
    if isinstance(error, HostAnswered):
        if error.is_blocked:
            return FileBlocked
        if error.is_rate_limited:
            return FileRateLimited
        if error.is_missing:
            return FileNotFound
    return next(ours for theirs, ours in _FAULTS if isinstance(error, theirs))


def _read(field: str, data: bytes, limits: LimitSettings, max_bytes: int) -> ImageFile:
    if not data:
        raise FileEmpty(f"{field} is empty", field=field)
    _check_size(field, len(data), max_bytes)
    return _read_header(field, data, limits.max_image_pixels)


def _read_data_uri(field: str, url: str, max_image_bytes: int) -> bytes:
    """Decode a data URI, of ASCII. The media type is not looked at: the bytes say what they are."""
    comma = url.find(",")
    if comma < 0:
        raise FileDataUriInvalid(f"{field} is a data URI without a comma", field=field)
    is_base64, payload = url[len(_DATA) : comma].lower().endswith(";base64"), url[comma + 1 :]
    least_bytes = len(payload) - 2 * payload.count("%")
    _check_size(field, least_bytes * 3 // 4 - 2 if is_base64 else least_bytes, max_image_bytes)
    encoded = b"".join(map(unquote_to_bytes, _slice_between_escapes(payload)))
    if not is_base64:
        return encoded
    if encoded.endswith(b"==="):  # b64decode lets surplus padding pass
        raise FileDataUriInvalid(f"{field} is a data URI with bad base64: surplus padding", field=field)
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise FileDataUriInvalid(f"{field} is a data URI with bad base64: {error}", field=field) from error


def _slice_between_escapes(text: str) -> Iterator[str]:
    """Yield the text in parts; as a whole where it has no escapes, as base64 mostly."""
    if "%" not in text:
        yield text
        return
    begin = 0
    while begin < len(text):
        end = begin + _MAX_UNQUOTED
        escape = text.find("%", end - 2, end) if end < len(text) else -1
        end = escape if escape >= 0 else end
        yield text[begin:end]
        begin = end


def _check_size(field: str, size: int, maximum: int) -> None:
    if size > maximum:
        message = f"{field} has {size} bytes; at most {maximum} are allowed"
        raise FileTooLarge(message, field=field, bound=str(maximum), value=str(size))


def _read_header(field: str, data: bytes, max_pixels: int) -> ImageFile:
    kind = sniff(data)
    if kind is None:
        message = f"{field} is not a picture of an accepted format ({', '.join(FORMATS)})"
        raise FileNotAnImage(message, field=field)
    try:
        width, height = read_size(data, kind)
    except HeaderDamaged as error:
        message = f"{field} is a damaged or truncated {kind} file: {error}"
        raise FileUndecodable(message, field=field) from error
    if width * height > max_pixels:
        message = f"{field} has {width} x {height} pixels; at most {max_pixels} are allowed"
        raise FileTooManyPixels(message, field=field, bound=str(max_pixels), value=str(width * height))
    return ImageFile(field=field, data=data, format=kind, width=width, height=height)
