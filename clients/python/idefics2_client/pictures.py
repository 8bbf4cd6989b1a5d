"""Images of PIL, which is not imported here: whoever gives one has it."""

from __future__ import annotations

import io
import sys
from typing import IO, Any, Protocol, TypeGuard

_ORIENTATION = 0x0112  # the EXIF tag, which the service obeys
_PNG_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}


class Picture(Protocol):
    """A `PIL.Image.Image`."""

    @property
    def mode(self) -> str:
        """Its kind of pixels."""
        ...

    def save(self, fp: IO[bytes], format: str | None = None, **params: Any) -> None:  # noqa: A002  # PIL's name
        """Write it."""
        ...


def is_picture(source: object) -> TypeGuard[Picture]:
    """Tell whether it is an image of PIL."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(source, pil.Image)


def encode_picture(picture: Picture) -> bytes:
    """Return it as a PNG, which loses nothing; of what it knows beside pixels only how it is turned."""
    image: Any = picture
    exif = type(image.getexif())()
    if turned := image.getexif().get(_ORIENTATION):
        exif[_ORIENTATION] = turned
    out = io.BytesIO()
    writable = image if image.mode in _PNG_MODES else image.convert("RGB")
    # Time is worth more than bytes here.
    writable.save(out, "PNG", compress_level=1, exif=exif, icc_profile=None)
    return out.getvalue()
