"""What callers send in a body, and the core's plain types for it.

Numbers may come as text, unknown fields are ignored: the hosted endpoint does both. Lists fail fast, for
the fault of each wrong element takes many times its bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from idefics2_service import validation
from idefics2_service.requests import GenerateInput, ImageSource

if TYPE_CHECKING:
    from collections.abc import Iterator


_SHA256_PATTERN = "^[0-9a-fA-F]{64}$"
_RED_SQUARE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mO8IyfHgA0wMeAAg1MC"
    "AOBWAShOAhDlAAAAAElFTkSuQmCC"
)


class ImageBody(BaseModel):
    """One image."""

    url: str | None = Field(None, description="As `image_url`.")
    sha256: str | None = Field(
        None, description="As `image_sha256`.", json_schema_extra={"pattern": _SHA256_PATTERN}
    )


class GenerateBody(BaseModel):
    """A question about an image. Each field is as in the proto's GenerateRequest."""

    model_config = ConfigDict(json_schema_extra={"required": ["prompt"]})

    image_url: str | None = Field(
        None,
        description="URL of the image: http or https, the URL of an uploaded file, or a data URI in base64. "
        "Required, unless the image is given by `image_sha256` or `images`.",
        examples=["https://example.com/painting.jpg", _RED_SQUARE],
    )
    prompt: str = Field(
        "",  # the core says that it is missing, and what else is
        description="Question or instruction about the image.",
        examples=["Do you know who drew this painting?"],
        json_schema_extra={"minLength": 1},
    )
    max_new_tokens: int | None = Field(
        None,
        description=f"How many tokens may be generated. Default {validation.DEFAULT_MAX_NEW_TOKENS}.",
        json_schema_extra={"minimum": 1},
    )
    repetition_penalty: float | None = Field(
        None,
        description="Higher is less repetition. "
        f"{validation.MIN_REPETITION_PENALTY} to {validation.MAX_REPETITION_PENALTY:g}; "
        f"default {validation.DEFAULT_REPETITION_PENALTY}.",
        json_schema_extra={
            "minimum": validation.MIN_REPETITION_PENALTY,
            "maximum": validation.MAX_REPETITION_PENALTY,
        },
    )
    temperature: float | None = Field(
        None,
        description="Higher is more random, 0 takes the most likely token. 0, or "
        f"{validation.MIN_TEMPERATURE} to {validation.MAX_TEMPERATURE:g}; "
        f"default {validation.DEFAULT_TEMPERATURE}.",
        json_schema_extra={"minimum": 0, "maximum": validation.MAX_TEMPERATURE},
    )
    top_p: float | None = Field(
        None,
        description="Samples among the most likely tokens whose probabilities add up to this. "
        f"Above 0, up to 1; default {validation.DEFAULT_TOP_P}.",
        json_schema_extra={"exclusiveMinimum": 0, "maximum": 1},
    )
    top_k: int | None = Field(
        None,
        description=f"Samples among so many most likely tokens only. 1 to {validation.MAX_TOP_K}.",
        json_schema_extra={"minimum": 1, "maximum": validation.MAX_TOP_K},
    )
    seed: int | None = Field(
        None,
        description="The same request and seed give the same answer, but for rounding. 0 to 2^64 - 1.",
        json_schema_extra={"minimum": 0, "maximum": validation.MAX_SEED},
    )
    stop: list[str] | None = Field(
        None,
        fail_fast=True,
        description="The answer ends before the first of these texts. "
        f"At most {validation.MAX_STOPS}, each 1 to {validation.MAX_STOP_BYTES} bytes.",
        json_schema_extra={"maxItems": validation.MAX_STOPS, "items": {"type": "string", "minLength": 1}},
    )
    image_sha256: str | None = Field(
        None,
        description="The image by the sha-256 of an uploaded file, 64 hexadecimal digits.",
        json_schema_extra={"pattern": _SHA256_PATTERN},
    )
    images: list[ImageBody] | None = Field(
        None, fail_fast=True, description="More images; they follow the first one."
    )
    split_images: bool | None = Field(
        None, description="Whether each image is looked at as a whole and in four crops."
    )
    max_image_bytes: int | None = Field(
        None, description="Refuses images that are larger, in bytes.", json_schema_extra={"minimum": 1}
    )
    min_new_tokens: int | None = Field(
        None,
        description="The model may not end its answer before so many.",
        json_schema_extra={"minimum": 0},
    )

    def read(self) -> GenerateInput:
        """Return it in plain types; what was left out is None."""
        return GenerateInput(
            images=tuple(self._read_images()),
            image_fields=tuple(ImageBody.model_fields),
            stop=tuple(self.stop or ()),
            **self.model_dump(exclude={"image_url", "image_sha256", "images", "stop"}),
        )

    def _read_images(self) -> Iterator[ImageSource]:
        if self.image_url is not None:
            yield ImageSource("image_url", url=self.image_url)
        if self.image_sha256 is not None:
            yield ImageSource("image_sha256", sha256=self.image_sha256)
        for index, image in enumerate(self.images or ()):
            field = f"images[{index}]"
            if image.url is not None:
                yield ImageSource(f"{field}.url", url=image.url)
            elif image.sha256 is not None:
                yield ImageSource(f"{field}.sha256", sha256=image.sha256)
            else:
                yield ImageSource(field)


class Answer(BaseModel):
    """What the model said."""

    output: str = Field(description="The answer.", examples=["Leonardo da Vinci"])
