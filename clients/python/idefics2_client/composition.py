"""A request on its way from arguments to the wire: what is too large for its message is uploaded first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, cast

from idefics2_client.contents import Content
from idefics2_client.images import SHA256_PREFIX, find_large, list_images
from idefics2_client.requests import Options

if TYPE_CHECKING:
    from collections.abc import Callable

    from idefics2_client.images import ImageSource

Request = TypeVar("Request")
OptionsT = TypeVar("OptionsT", bound=Options)


class Composition(Generic[Request, OptionsT]):
    """What is known of a request before it is written; the same for every transport."""

    def __init__(
        self,
        make: Callable[[ImageSource, str, OptionsT], Request],
        image: ImageSource,
        prompt: str,
        options: OptionsT,
    ) -> None:
        """Look at the images, which takes a while; `make` is to write the request.

        Raises:
            ImageUnreadable: the file of an image is missing or cannot be looked at.
            InvalidRequest: an image is too large.
            TypeError: `images` is one image.

        """
        self._make, self._prompt, self._options = make, prompt, options
        self._images = list_images(image, cast("Options", options).get("images"))
        self.large = find_large(self._images)
        """The places of the images that are to be uploaded."""
        self.request: Request | None = None if self.large else self.write()
        """It is there where nothing is to be uploaded."""

    def open(self, index: int) -> Content:
        """Open a large image, to be uploaded; the request names it by its content from then on."""
        content = Content(self._images[index])
        self._images[index] = f"{SHA256_PREFIX}{content.sha256}"
        return content

    def write(self) -> Request:
        """Write the request, once all is uploaded.

        Raises:
            Idefics2Error, TypeError: as `make` does.

        """
        first, *others = self._images
        return self._make(first, self._prompt, cast("OptionsT", {**self._options, "images": others}))
