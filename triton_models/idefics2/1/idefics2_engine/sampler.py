"""From the logits of one step to one token."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

import torch
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

if TYPE_CHECKING:
    from idefics2_engine.requests import SamplingParams


class Sampler:
    """Chooses the tokens of one request: the same seed gives the same tokens in any batch."""

    def __init__(
        self,
        params: SamplingParams,
        num_prompt_tokens: int,
        bad_words_ids: list[list[int]] | None,
        eos_token_ids: list[int],
    ) -> None:
        """Line up transformers' processors in transformers' order, without those that change nothing."""
        self._greedy = params.temperature == 0
        self._seed = params.seed
        self._processors = LogitsProcessorList()
        if params.repetition_penalty != 1:
            self._processors.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
        if bad_words_ids:
            self._processors.append(NoBadWordsLogitsProcessor(bad_words_ids, eos_token_ids))
        if params.min_new_tokens:
            self._processors.append(
                MinNewTokensLengthLogitsProcessor(num_prompt_tokens, params.min_new_tokens, eos_token_ids)
            )
        if self._greedy:
            return
        if params.temperature != 1:
            self._processors.append(TemperatureLogitsWarper(params.temperature))
        if params.top_k:
            self._processors.append(TopKLogitsWarper(params.top_k))
        if params.top_p < 1:
            self._processors.append(TopPLogitsWarper(params.top_p))

    def process(self, logits: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
        """Turn logits into scores.

        Args:
            logits: [1, vocab_size] float32, of the position after `token_ids`.
            token_ids: [1, num_tokens] int64, prompt and answer so far.

        Returns:
            [1, vocab_size] float32; -inf where a token is ruled out.

        """
        scores: torch.Tensor = self._processors(token_ids, logits)
        return scores

    def sample(self, logits: torch.Tensor, token_ids: torch.Tensor) -> int:
        """Choose the token after `token_ids`; shapes as in `process`.

        Raises:
            ValueError: the logits are not finite.

        """
        if not bool(torch.isfinite(logits).all()):
            message = "the model's logits are not finite"
            raise ValueError(message)
        scores = self.process(logits, token_ids)
        if self._greedy:
            return int(scores.argmax())
        generator = torch.Generator().manual_seed(_stream_seed(self._seed, token_ids.shape[1]))
        return int(torch.multinomial(scores.softmax(dim=-1), 1, generator=generator))


def _stream_seed(seed: int, position: int) -> int:
    """Mix seed and position into 64 bits, so that each token has a random stream of its own."""
    packed = struct.pack("<QQ", seed, position)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little", signed=True)
