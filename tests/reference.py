"""Transformers' own Idefics2, beside which the engine is judged: its processor, its model, its generate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from plain import decode_plainly
from transformers import AutoModelForImageTextToText, AutoTokenizer
from transformers.models.idefics2.image_processing_pil_idefics2 import Idefics2ImageProcessorPil
from transformers.models.idefics2.processing_idefics2 import Idefics2Processor

if TYPE_CHECKING:
    from idefics2_engine.requests import Request


class Reference:
    """One checkpoint as transformers alone would run it."""

    def __init__(self, checkpoint: str) -> None:
        """Load it."""
        self.model: Any = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).eval()
        self.image_processor: Any = Idefics2ImageProcessorPil.from_pretrained(checkpoint)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
        settings, rest = Idefics2Processor.get_processor_dict(checkpoint)
        self.processor: Any = Idefics2Processor.from_args_and_dict(
            [self.image_processor, self.tokenizer], settings, **rest
        )

    def prepare(self, request: Request) -> dict[str, Any]:
        """Make transformers' inputs of a request."""
        content = [*({"type": "image"} for _ in request.images), {"type": "text", "text": request.prompt}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        self.processor.image_processor.do_image_splitting = bool(request.split_images)
        images = [decode_plainly(data) for data in request.images]
        return dict(self.processor(text=text, images=[images], return_tensors="pt"))

    def generate(self, request: Request) -> list[int]:
        """Answer greedily, by `generate`; return the new tokens."""
        inputs = self.prepare(request)
        sampling = request.sampling
        with torch.inference_mode():
            output = self.model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=sampling.max_new_tokens,
                min_new_tokens=sampling.min_new_tokens or None,
                repetition_penalty=sampling.repetition_penalty,
            )
        tokens: list[int] = output[0, inputs["input_ids"].shape[1] :].tolist()
        return tokens
