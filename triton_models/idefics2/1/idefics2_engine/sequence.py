"""One request on its way through the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import Cache

    from idefics2_engine.detokenizer import Detokenizer
    from idefics2_engine.processor import PreparedRequest
    from idefics2_engine.sampler import Sampler


class Sequence:
    """Prompt, tokens generated so far, and the state that makes the next one."""

    def __init__(self, prepared: PreparedRequest, sampler: Sampler, detokenizer: Detokenizer) -> None:
        """Begin with the prompt alone."""
        self.prepared = prepared
        self.sampler = sampler
        self.detokenizer = detokenizer
        self.token_ids = prepared.input_ids  # [1, num_tokens] int64, prompt and answer
        self.cache: Cache | None = None
        """Keys and values of all tokens but the last; None before prefill."""

    @property
    def request_id(self) -> str:
        """The request's id."""
        return self.prepared.request.request_id

    @property
    def num_generated_tokens(self) -> int:
        """How many tokens the answer has."""
        return self.token_ids.shape[1] - self.prepared.num_prompt_tokens

    @property
    def is_full(self) -> bool:
        """Whether the answer has as many tokens as it may have."""
        return self.num_generated_tokens >= self.prepared.request.sampling.max_new_tokens

    def append(self, token_id: int) -> None:
        """Add a generated token."""
        self.token_ids = torch.cat([self.token_ids, torch.tensor([[token_id]])], dim=1)
