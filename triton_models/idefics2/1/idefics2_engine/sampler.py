"""From the logits of one step to one token for each sequence."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from idefics2_engine.transfer import send

if TYPE_CHECKING:
    from torch import Tensor

    from idefics2_engine.requests import SamplingParams

NEVER = -torch.inf
_NUM_LIKELY = 64
"""Mostly enough to find who is likely: to sort all tokens takes longer than a small model's step."""


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
        self._has[slot, send(token_ids, torch.int64, self._has.device)] = True

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
        settings = _Settings.send(rows, self._has.device)
        scores = self._process(logits, settings)
        chosen = scores.argmax(-1)
        if settings.any_draws:
            chosen = torch.where(settings.draws, _draw(scores, settings.numbers), chosen)
        is_finite = logits.isfinite().all(-1)
        told = torch.where(is_finite, chosen, -1).tolist()  # one wait for the device
        # Last: where a step fails it is done again, and a first try must not count.
        self._has[settings.slots, chosen] = True
        return [token_id if token_id >= 0 else None for token_id in told]

    def process(self, logits: Tensor, rows: list[Row]) -> Tensor:
        """Turn logits into scores: [num_rows, vocab_size] float32, -inf where a token is ruled out."""
        return self._process(logits, _Settings.send(rows, self._has.device))

    def _process(self, logits: Tensor, settings: _Settings) -> Tensor:
        scores = logits.clone()
        if settings.any_penalizes:
            penalty = settings.penalties.to(scores.dtype)
            lowered = torch.where(scores > 0, scores / penalty, scores * penalty)
            scores = torch.where(self._has[settings.slots], lowered, scores)
        scores.index_fill_(1, self._banned, NEVER)
        if settings.any_short:
            scores[:, self._eos] = scores[:, self._eos].masked_fill(settings.is_short[:, None], NEVER)
        return _warp(scores, settings) if settings.any_draws else scores


@dataclass(frozen=True)
class _Settings:
    """What rows ask for, in one tensor on the device, and what any of them asks for."""

    columns: Tensor
    """[num_rows, 7] float64."""
    any_penalizes: bool
    any_short: bool
    any_draws: bool
    any_top_p: bool
    most_top_k: int

    @classmethod
    def send(cls, rows: list[Row], device: torch.device) -> _Settings:
        """Do not wait for what the device still does."""
        params = [row.params for row in rows]
        is_short = [row.num_generated_tokens < row.params.min_new_tokens for row in rows]
        draws = [p.temperature > 0 for p in params]
        table = [
            (row.slot, p.repetition_penalty, short, p.temperature, p.top_k, p.top_p,
             _random_number(p.seed, row.position) if p.temperature > 0 else 0.0)
            for row, p, short in zip(rows, params, is_short, strict=True)
        ]  # fmt: skip
        return cls(
            send(table, torch.float64, device),
            any(p.repetition_penalty != 1 for p in params),
            any(is_short),
            any(draws),
            any(p.temperature > 0 and p.top_p < 1 for p in params),
            max((p.top_k for p in params if p.temperature > 0), default=0),
        )

    @cached_property
    def slots(self) -> Tensor:
        """[num_rows] int64."""
        return self.columns[:, 0].long()

    @property
    def penalties(self) -> Tensor:
        """[num_rows, 1]."""
        return self.columns[:, 1:2]

    @property
    def is_short(self) -> Tensor:
        """[num_rows] bool: whether the answer must not end yet."""
        return self.columns[:, 2] > 0

    @property
    def draws(self) -> Tensor:
        """[num_rows] bool: whether the token is drawn; or else the best one is taken."""
        return self.columns[:, 3] > 0

    @property
    def temperatures(self) -> Tensor:
        """[num_rows, 1]; 1 where none is asked for."""
        return torch.where(self.columns[:, 3:4] > 0, self.columns[:, 3:4], 1)

    @property
    def top_k(self) -> Tensor:
        """[num_rows, 1] int64; 0 for all."""
        return self.columns[:, 4:5].long()

    @property
    def top_p(self) -> Tensor:
        """[num_rows, 1]."""
        return self.columns[:, 5:6]

    @property
    def numbers(self) -> Tensor:
        """[num_rows, 1], of [0, 1): what decides about a row that draws."""
        return self.columns[:, 6:7]


def _warp(scores: Tensor, settings: _Settings) -> Tensor:
    """Apply temperature, top k and top p, each where it is asked for."""
    scores = scores / settings.temperatures.to(scores.dtype)
    draws = settings.draws[:, None]
    most = min(settings.most_top_k, scores.shape[-1])
    if most:
        best = scores.topk(most).values
        last = torch.where(settings.top_k > 0, settings.top_k, most).clamp(max=most) - 1
        least = best.gather(1, last)
        scores = scores.masked_fill(draws & (settings.top_k > 0) & (scores < least), NEVER)
    if settings.any_top_p:
        asks = draws & (settings.top_p < 1)
        least = _find_least(scores, torch.where(asks, settings.top_p, 0).to(scores.dtype))
        scores = scores.masked_fill(asks & (scores < least), NEVER)
    return scores


def _find_least(scores: Tensor, top_p: Tensor) -> Tensor:
    """Return [num_rows, 1]: the score of the last token that is likely enough.

    Args:
        scores: [num_rows, vocab_size].
        top_p: [num_rows, 1], or 0; a token stays if those that are likelier have less than that together.

    """
    total = scores.logsumexp(-1, keepdim=True)
    for number in (min(_NUM_LIKELY, scores.shape[-1]), scores.shape[-1]):
        best = scores.topk(number).values
        shares = (best - total).exp()
        likelier = shares.cumsum(-1) - shares
        if bool((likelier[:, -1:] >= top_p).all()):
            break  # whoever follows stays out
    stays = (likelier < top_p).sum(-1, keepdim=True).clamp(min=1)  # the likeliest token always does
    return best.gather(1, stays - 1)


def _draw(scores: Tensor, numbers: Tensor) -> Tensor:
    """Draw by the scores' probabilities: the token at which their running sum passes a random number."""
    sums = scores.double().softmax(-1).cumsum(-1)
    wanted = numbers * sums[:, -1:]
    return torch.searchsorted(sums, wanted, right=True).squeeze(1).clamp(max=scores.shape[-1] - 1)


def _random_number(seed: int, position: int) -> float:
    """Mix seed and position into a number of [0, 1), so that each token has one of its own."""
    digest = hashlib.blake2b(struct.pack("<QQ", seed, position), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 16) / 2**48
