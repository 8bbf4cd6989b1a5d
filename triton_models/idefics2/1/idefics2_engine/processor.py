"""From a request to the tensors that the model reads, by transformers' own processor."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import AutoTokenizer
from transformers.models.idefics2.image_processing_pil_idefics2 import (
    Idefics2ImageProcessorPil,
    get_resize_output_image_size,
)
from transformers.models.idefics2.processing_idefics2 import Idefics2Processor

from idefics2_engine.errors import EngineError, InvalidRequest
from idefics2_engine.images import decode_image
from idefics2_engine.requests import Counted, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from idefics2_engine.config import EngineConfig

IMAGE_TOKENS = ("<image>", "<fake_token_around_image>")
END_OF_TURN_TOKEN = "<end_of_utterance>"  # noqa: S105  # not a secret


@dataclass(frozen=True)
class PreparedRequest:
    """A request as tensors."""

    request: Request
    input_ids: torch.Tensor
    """[1, num_prompt_tokens] int64."""
    pixel_values: torch.Tensor
    """[1, num_crops, 3, height, width] float32."""
    pixel_attention_mask: torch.Tensor
    """[1, num_crops, height, width] int64, 1 where there is a picture."""
    num_image_tokens: int

    @property
    def num_prompt_tokens(self) -> int:
        """All tokens that the model reads."""
        return self.input_ids.shape[1]


class Processor:
    """Prepares requests for one checkpoint. Safe to use from several threads."""

    def __init__(self, config: EngineConfig, max_context_tokens: int, patch_size: int) -> None:
        """Load the checkpoint's processor; `patch_size` is the vision tower's, in pixels."""
        processor = _load(config.checkpoint)
        self.tokenizer = processor.tokenizer
        self.max_context_tokens = max_context_tokens
        self._config = config
        self._patch_size = patch_size
        self._default_split = bool(processor.image_processor.do_image_splitting)
        # The processor writes text for split images by its own attribute, whatever a call asks for.
        self._processors = {split: _with_splitting(processor, split=split) for split in (False, True)}

    def prepare(self, request: Request, is_wanted: Callable[[], bool] = lambda: True) -> PreparedRequest:
        """Decode the images and build the prompt; look before each image whether it `is_wanted` still.

        Raises:
            InvalidRequest: an image cannot be decoded, a bound is passed, or the context is too short.
            EngineError: it is not wanted any more.

        """
        self._check(request.prompt, len(request.images))
        images = []
        for index, data in enumerate(request.images):
            if not is_wanted():
                raise EngineError("REQUEST_CANCELLED", "the request was cancelled")
            images.append(decode_image(data, self._config.max_image_pixels, f"images[{index}]"))
        inputs = self._processor(split_images=request.split_images)(
            text=self._render(request.prompt, len(images)), images=[images], return_tensors="pt"
        )
        prepared = PreparedRequest(
            request=request,
            input_ids=inputs["input_ids"],
            pixel_values=inputs["pixel_values"],
            pixel_attention_mask=inputs["pixel_attention_mask"],
            num_image_tokens=self._count_image_tokens(inputs["input_ids"][0].tolist()),
        )
        self._check_context(prepared.num_prompt_tokens, request.sampling.max_new_tokens)
        return prepared

    def count(self, prompt: str, sizes: Sequence[tuple[int, int]], *, split_images: bool | None) -> Counted:
        """Count what images of `sizes` (width, height in pixels) and `prompt` would cost.

        Raises:
            InvalidRequest: a bound is passed; too long a prompt is counted, not refused.

        """
        self._check(prompt, len(sizes))
        processor = self._processor(split_images=split_images)
        input_ids = processor(text=self._render(prompt, len(sizes)))["input_ids"][0]
        return Counted(
            num_prompt_tokens=len(input_ids),
            num_image_tokens=self._count_image_tokens(input_ids),
            num_image_patches=sum(self._count_patches(processor, size) for size in sizes),
            max_context_tokens=self.max_context_tokens,
        )

    def _processor(self, *, split_images: bool | None) -> Any:  # transformers is untyped
        return self._processors[self._default_split if split_images is None else split_images]

    def _render(self, prompt: str, num_images: int) -> str:
        """Write the prompt as the checkpoint was trained to read it: images first, then the text."""
        processor = self._processors[False]
        if processor.chat_template is None:  # a base checkpoint continues text
            return "<image>" * num_images + prompt
        content = [*({"type": "image"} for _ in range(num_images)), {"type": "text", "text": prompt}]
        rendered: str = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return rendered

    def _check(self, prompt: str, num_images: int) -> None:
        if not prompt.strip():
            raise InvalidRequest("PROMPT_MISSING", "prompt is empty", "prompt")
        if (size := len(prompt.encode())) > self._config.max_prompt_bytes:
            message = f"prompt has {size} bytes; at most {self._config.max_prompt_bytes} are allowed"
            raise InvalidRequest("PROMPT_TOO_LARGE", message, "prompt")
        for token in (*IMAGE_TOKENS, END_OF_TURN_TOKEN):
            if token in prompt:
                message = f"prompt contains {token}, which only the model's template may use"
                raise InvalidRequest("PROMPT_HAS_SPECIAL_TOKEN", message, "prompt")
        if not num_images:
            raise InvalidRequest("IMAGE_MISSING", "there is no image", "images")
        if num_images > self._config.max_images:
            message = f"images has {num_images} items; at most {self._config.max_images} are allowed"
            raise InvalidRequest("VALUE_OUT_OF_RANGE", message, "images")

    def _check_context(self, num_prompt_tokens: int, max_new_tokens: int) -> None:
        if num_prompt_tokens + max_new_tokens > self.max_context_tokens:
            message = (
                f"prompt and images have {num_prompt_tokens} tokens, which with max_new_tokens "
                f"{max_new_tokens} is more than the context of {self.max_context_tokens} tokens"
            )
            raise InvalidRequest("CONTEXT_EXCEEDED", message, "prompt")

    def _count_image_tokens(self, input_ids: list[int]) -> int:
        marks = self.tokenizer.convert_tokens_to_ids(list(IMAGE_TOKENS))
        return sum(token in marks for token in input_ids)

    def _count_patches(self, processor: Any, size: tuple[int, int]) -> int:
        width, height = (max(side, 2) for side in size)
        picture = np.broadcast_to(np.uint8(0), (3, height, width))  # a view of one byte
        images = processor.image_processor
        crops = images.split_images(picture) if images.do_image_splitting else [picture]
        resized = [get_resize_output_image_size(crop, images.size) for crop in crops]
        return sum((h // self._patch_size) * (w // self._patch_size) for h, w in resized)


def _load(checkpoint: str) -> Any:
    """Load the checkpoint's processor, always over Pillow: with torchvision installed, answers might move."""
    parts = [
        Idefics2ImageProcessorPil.from_pretrained(checkpoint),
        AutoTokenizer.from_pretrained(checkpoint),
    ]
    settings, rest = Idefics2Processor.get_processor_dict(checkpoint)
    return Idefics2Processor.from_args_and_dict(parts, settings, **rest)


def _with_splitting(processor: Any, *, split: bool) -> Any:
    made = copy.deepcopy(processor)
    made.image_processor.do_image_splitting = split
    return made
