"""The only way to a ValidRequest."""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from idefics2_service.errors import (
    FileDataUriInvalid,
    FileEmpty,
    FileUrlInvalid,
    ImageMissing,
    InvalidInput,
    ValueOutOfRange,
)
from idefics2_service.fetcher import MAX_URL_BYTES
from idefics2_service.prompts import check_prompt, num_bytes
from idefics2_service.requests import GenerateInput, ImageSource, ValidRequest
from idefics2_service.uploads.names import read_sha256

if TYPE_CHECKING:
    from collections.abc import Callable

    from idefics2_service.settings import LimitSettings

_P = ParamSpec("_P")
_T = TypeVar("_T")

DEFAULT_MAX_NEW_TOKENS = 512
DEFAULT_REPETITION_PENALTY = 1.2
DEFAULT_TEMPERATURE = 0.4
DEFAULT_TOP_P = 0.8

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.001, 10.0
MIN_REPETITION_PENALTY, MAX_REPETITION_PENALTY = 0.01, 10.0
MAX_TOP_K = 1000
MAX_STOPS, MAX_STOP_BYTES = 8, 128
MAX_SEED = 2**64 - 1


class _Faults:
    """Looks at everything, so that a caller hears of all that is wrong at once."""

    def __init__(self) -> None:
        self._found: list[InvalidInput] = []

    def check(self, check: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Return what `check` returns; what it returns where it raises is never used."""
        try:
            return check(*args, **kwargs)
        except InvalidInput as error:
            self._found.append(error.without_frames())
            return cast("_T", None)

    def tell(self) -> None:
        """Raise the first fault, and with it the others."""
        if self._found:
            first, *others = self._found
            first.others = tuple(others)
            raise first


def validate(given: GenerateInput, limits: LimitSettings) -> ValidRequest:
    """Check everything that can be checked without reading a file, and apply the defaults.

    Raises:
        InvalidInput: the first field that is wrong; `others` of it are those after it.

    """
    faults = _Faults()
    faults.check(check_prompt, given.prompt, limits.max_prompt_bytes)
    faults.check(_check_images, given.images, given.image_fields, limits.max_images)
    faults.check(_check_stop, given.stop)
    most_tokens, most_bytes = limits.max_new_tokens, limits.max_image_bytes
    usual_tokens = min(DEFAULT_MAX_NEW_TOKENS, most_tokens)
    max_new_tokens = faults.check(_whole, "max_new_tokens", given.max_new_tokens, usual_tokens, most_tokens)
    request = ValidRequest(
        prompt=given.prompt,
        images=given.images,
        max_new_tokens=max_new_tokens,
        min_new_tokens=faults.check(
            _check_min_new_tokens, given.min_new_tokens, max_new_tokens or most_tokens
        ),
        repetition_penalty=faults.check(_check_repetition_penalty, given.repetition_penalty),
        temperature=faults.check(_check_temperature, given.temperature),
        top_p=faults.check(_check_top_p, given.top_p),
        top_k=faults.check(_check_top_k, given.top_k),
        seed=faults.check(_check_seed, given.seed),
        stop=given.stop,
        split_images=given.split_images,
        max_image_bytes=faults.check(
            _whole, "max_image_bytes", given.max_image_bytes, most_bytes, most_bytes
        ),
    )
    faults.tell()
    return request


def _whole(field: str, given: int | None, default: int, maximum: int) -> int:
    """Check a whole number from 1 to `maximum`."""
    value = default if given is None else given
    if not 1 <= value <= maximum:
        raise ValueOutOfRange.of(field, f"1 to {maximum}", value)
    return value


def _check_min_new_tokens(given: int | None, max_new_tokens: int) -> int:
    value = 0 if given is None else given
    if not 0 <= value <= max_new_tokens:
        raise ValueOutOfRange.of("min_new_tokens", f"0 to max_new_tokens ({max_new_tokens})", value)
    return value


def _check_repetition_penalty(given: float | None) -> float:
    value = DEFAULT_REPETITION_PENALTY if given is None else given
    if not MIN_REPETITION_PENALTY <= value <= MAX_REPETITION_PENALTY:  # also refuses NaN, as below
        bound = f"{MIN_REPETITION_PENALTY:g} to {MAX_REPETITION_PENALTY:g}"
        raise ValueOutOfRange.of("repetition_penalty", bound, value)
    return value


def _check_temperature(given: float | None) -> float:
    value = DEFAULT_TEMPERATURE if given is None else given
    if value != 0 and not MIN_TEMPERATURE <= value <= MAX_TEMPERATURE:
        bound = f"0 for the most likely token, or {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}"
        raise ValueOutOfRange.of("temperature", bound, value)
    return math.fabs(value)  # -0.0 is 0


def _check_top_p(given: float | None) -> float:
    value = DEFAULT_TOP_P if given is None else given
    if not 0 < value <= 1:
        raise ValueOutOfRange.of("top_p", "above 0, up to 1", value)
    return value


def _check_top_k(given: int | None) -> int:
    return 0 if given is None else _whole("top_k", given, 0, MAX_TOP_K)


def _check_seed(given: int | None) -> int:
    value = secrets.randbits(64) if given is None else given
    if not 0 <= value <= MAX_SEED:
        raise ValueOutOfRange.of("seed", f"0 to {MAX_SEED}", value)
    return value


def _check_images(images: tuple[ImageSource, ...], fields: tuple[str, ...], max_images: int) -> None:
    if not images:
        raise ImageMissing("there is no image: set image_url, image_sha256 or images", field="image_url")
    if len(images) > max_images:
        raise ValueOutOfRange.of("images", f"at most {max_images} images in all", len(images))
    for image in images:
        _check_url(image)
        if image.sha256 is not None:
            read_sha256(image.field, image.sha256)
        elif image.url is None and image.data is None:
            message = f"{image.field} has neither {' nor '.join(fields)}"
            raise ImageMissing(message, field=image.field)
        elif not (image.url or image.data):
            raise FileEmpty(f"{image.field} is empty", field=image.field)


def _check_url(image: ImageSource) -> None:
    """Check what a URL may hold, before it waits for its turn: Python's texts are as wide as their widest."""
    size = num_bytes(image.url or "", image.field)
    if image.is_data_uri:
        if not (image.url or "").isascii():
            message = f"{image.field} is a data URI with characters beyond ASCII; they must be escaped"
            raise FileDataUriInvalid(message, field=image.field)
    elif size > MAX_URL_BYTES:
        allowed = f"a URL may have {MAX_URL_BYTES}, unless it is a data URI (data:image/...;base64,...)"
        message = f"{image.field} has {size} bytes; {allowed}"
        raise FileUrlInvalid(message, field=image.field, bound=str(MAX_URL_BYTES), value=str(size))


def _check_stop(stop: tuple[str, ...]) -> None:
    if len(stop) > MAX_STOPS:
        raise ValueOutOfRange.of("stop", f"at most {MAX_STOPS} texts", len(stop))
    for index, text in enumerate(stop):
        field = f"stop[{index}]"
        if not 1 <= (size := num_bytes(text, field)) <= MAX_STOP_BYTES:
            raise ValueOutOfRange.of(field, f"1 to {MAX_STOP_BYTES} bytes", size)
