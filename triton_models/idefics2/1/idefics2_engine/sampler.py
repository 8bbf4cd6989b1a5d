"""From the logits of one step to one token for each sequence."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from idefics2_engine.requests import SamplingParams

NEVER = -torch.inf


@dataclass(frozen=True)
class Row:
    """Whose token is chosen, and how."""

    slot: int
    params: SamplingParams
    position: int
    """How many tokens, prompt and answer, stand before the one that is chosen."""
    num_generated_tokens: int


class Sampler:
    """Chooses for many at once what each would get alone.

    The steps and their order are transformers': repetition penalty over prompt and answer, tokens that are
    ruled out, temperature, top k, top p. The random number of a token depends on seed and position alone.
    """

    def __init__(
        self, num_slots: int, vocab_size: int, banned_ids: list[int], eos_token_ids: list[int]
    ) -> None:
        """Keep for each slot which tokens it has, one byte each."""
        self._has = torch.zeros(num_slots, vocab_size, dtype=torch.bool)
        self._banned = torch.tensor(banned_ids, dtype=torch.int64)
        self._eos = torch.tensor(eos_token_ids, dtype=torch.int64)

    def to(self, device: torch.device) -> Sampler:
        """Move to where the logits will be."""
        self._has, self._banned, self._eos = (t.to(device) for t in (self._has, self._banned, self._eos))
        return self

    def begin(self, slot: int, token_ids: list[int]) -> None:
        """Let a slot belong to a sequence of these tokens."""
        self._has[slot] = False
        self._has[slot, torch.tensor(token_ids, dtype=torch.int64, device=self._has.device)] = True

    def move(self, source: int, target: int) -> None:
        """Let another slot belong to a sequence."""
        self._has[target] = self._has[source]

    def choose(self, logits: Tensor, rows: list[Row]) -> list[int | None]:
        """Choose a token for each row and count it as its slot's.

        Args:
            logits: [num_rows, vocab_size] float32.
            rows: whose they are.

        Returns:
            The tokens; None where logits are not finite.

        """
        scores = self.process(logits, rows)
        chosen = scores.argmax(-1)
        drawing = [n for n, row in enumerate(rows) if row.params.temperature > 0]
        if drawing:
            chosen[drawing] = _draw(scores[drawing], [rows[n] for n in drawing])
        is_finite = logits.isfinite().all(-1)
        told = torch.where(is_finite, chosen, -1).tolist()  # one wait for the device
        # Last: where a step fails it is done again, and a first try must not count.
        self._has[[row.slot for row in rows], chosen] = True
        return [token_id if token_id >= 0 else None for token_id in told]

    def process(self, logits: Tensor, rows: list[Row]) -> Tensor:
        """Turn logits into scores: [num_rows, vocab_size] float32, -inf where a token is ruled out."""
        scores = logits.clone()
        if any(row.params.repetition_penalty != 1 for row in rows):
            penalty = _column(scores, [row.params.repetition_penalty for row in rows])
            lowered = torch.where(scores > 0, scores / penalty, scores * penalty)
            scores = torch.where(self._has[[row.slot for row in rows]], lowered, scores)
        scores[:, self._banned] = NEVER
        short = [n for n, row in enumerate(rows) if row.num_generated_tokens < row.params.min_new_tokens]
        if short:
            scores[torch.tensor(short, device=scores.device)[:, None], self._eos] = NEVER
        drawing = [n for n, row in enumerate(rows) if row.params.temperature > 0]
        if drawing:
            scores[drawing] = _warp(scores[drawing], [rows[n].params for n in drawing])
        return scores


def _warp(scores: Tensor, params: list[SamplingParams]) -> Tensor:
    """Apply temperature, top k and top p, each where it is asked for."""
    scores = scores / _column(scores, [p.temperature for p in params])
    most = min(max(p.top_k for p in params), scores.shape[-1])
    if most:
        best = scores.topk(most).values
        last = torch.tensor([(p.top_k or most) - 1 for p in params], device=scores.device).clamp(max=most - 1)
        least = best.gather(1, last[:, None])
        limited = _column(scores, [p.top_k for p in params]) > 0
        scores = scores.masked_fill(limited & (scores < least), NEVER)
    if any(p.top_p < 1 for p in params):
        ordered, places = scores.sort()
        below = ordered.softmax(-1).cumsum(-1) <= 1 - _column(scores, [p.top_p for p in params])
        below &= _column(scores, [p.top_p for p in params]) < 1
        below[:, -1] = False  # the likeliest token always stays
        scores = scores.masked_fill(torch.zeros_like(below).scatter_(1, places, below), NEVER)
    return scores


def _draw(scores: Tensor, rows: list[Row]) -> Tensor:
    """Draw by the scores' probabilities: the token at which their running sum passes a random number."""
    sums = scores.double().softmax(-1).cumsum(-1)
    numbers = [_random_number(row.params.seed, row.position) for row in rows]
    wanted = torch.tensor(numbers, dtype=torch.float64, device=scores.device)[:, None] * sums[:, -1:]
    return torch.searchsorted(sums, wanted, right=True).squeeze(1).clamp(max=scores.shape[-1] - 1)


def _random_number(seed: int, position: int) -> float:
    """Mix seed and position into a number of [0, 1), so that each token has one of its own."""
    digest = hashlib.blake2b(struct.pack("<QQ", seed, position), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 16) / 2**48


def _column(like: Tensor, values: list[float] | list[int]) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]
