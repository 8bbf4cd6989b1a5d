"""The model on its device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForImageTextToText

if TYPE_CHECKING:
    from idefics2_engine.config import EngineConfig
    from idefics2_engine.sequence import Sequence


class Runner:
    """Runs transformers' own Idefics2, one sequence at a time, over its own cache."""

    def __init__(self, config: EngineConfig) -> None:
        """Load the checkpoint onto the device, ready to answer."""
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        self.device = torch.device(_choose_device(config.device))
        dtype = _choose_dtype(config.dtype, self.device)
        model = AutoModelForImageTextToText.from_pretrained(config.checkpoint, dtype=dtype)
        self.model = model.to(self.device).eval()
        text = self.model.config.text_config
        self.max_context_tokens: int = config.max_context_tokens or text.max_position_embeddings
        self.patch_size: int = self.model.config.vision_config.patch_size

    @torch.inference_mode()
    def forward(self, sequence: Sequence) -> torch.Tensor:
        """Read what of `sequence` is not in its cache yet.

        Returns:
            [1, vocab_size] float32 on the CPU: the logits of the next token.

        """
        images = {}
        input_ids = sequence.token_ids
        if sequence.cache is None:
            images = {
                "pixel_values": sequence.prepared.pixel_values.to(self.device),
                "pixel_attention_mask": sequence.prepared.pixel_attention_mask.to(self.device),
            }
        else:
            input_ids = input_ids[:, -1:]
        output = self.model(
            input_ids=input_ids.to(self.device),
            past_key_values=sequence.cache,
            use_cache=True,
            logits_to_keep=1,
            **images,
        )
        sequence.cache = output.past_key_values
        logits: torch.Tensor = output.logits[:, -1].float().cpu()
        return logits


def _choose_device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _choose_dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        message = f"engine parameter 'dtype' must be auto or a type of torch, not {name!r}"
        raise ValueError(message)  # noqa: TRY004  # the setting's text is bad, not its type
    return dtype
