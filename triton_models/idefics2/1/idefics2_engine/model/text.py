"""The text model over packed tokens: tokens that are decoded and stretches of prompts, in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from idefics2_engine.model.fused import Fused
from idefics2_engine.model.linear import fuse, pad_rows

if TYPE_CHECKING:
    from torch import nn

    from idefics2_engine.kv_cache import KVCache


@dataclass(frozen=True)
class Stretch:
    """Neighbouring tokens of one prompt."""

    slot: int
    start: int
    """The position of the first one in its sequence."""
    length: int


Turn = tuple[Tensor, Tensor]
"""Cosine and sine of each token's position, [num_tokens, 1, head_dim]; the sine's first half is negative."""


class Attention(Protocol):
    """Stores keys and values of one layer, and lets the queries look at what they may see."""

    def __call__(self, layer: int, q: Tensor, kv: Tensor) -> Tensor:
        """Look back.

        Args:
            layer: its number.
            q: [num_tokens, heads, head_dim].
            kv: [num_tokens, 2 * kv_heads, head_dim], first the keys.

        Returns:
            [num_tokens, heads * head_dim].

        """


class TextModel:
    """Mistral, over the modules of transformers."""

    def __init__(self, model: Any, lm_head: nn.Module) -> None:
        """Take transformers' `MistralModel` and the layer from hidden states to logits."""
        config = model.config
        self.embed: nn.Embedding = model.embed_tokens
        self._rotary: nn.Module = model.rotary_emb
        self._layers = [TextLayer(layer, number) for number, layer in enumerate(model.layers)]
        self.fused = Fused(model.layers[0].mlp.act_fn)
        self._norm: Any = model.norm
        self._lm_head = pad_rows(lm_head)
        self.num_heads: int = config.num_attention_heads
        self.num_kv_heads: int = config.num_key_value_heads
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // self.num_heads
        self.sliding_window: int | None = getattr(config, "sliding_window", None)

    def __call__(self, x: Tensor, positions: Tensor, attention: Attention, wanted: Tensor | None) -> Tensor:
        """Read tokens.

        Args:
            x: [num_tokens, hidden], the tokens' embeddings.
            positions: [num_tokens] int64, where each stands in its sequence.
            attention: stores and looks up keys and values.
            wanted: the rows whose next token is asked for; None for all.

        Returns:
            [num_wanted, vocab_size] float32 logits.

        """
        x, change = self._read(x, positions, attention)
        if wanted is not None:
            x, change = x[wanted], change[wanted]
        _, normed = self.fused.add_rms_norm(x, change, self._norm.weight, self._norm.variance_epsilon)
        logits: Tensor = self._lm_head(normed)
        return logits.float()

    def _read(self, x: Tensor, positions: Tensor, attention: Attention) -> tuple[Tensor, Tensor]:
        """Return what the layers make of embeddings, as two parts of a sum: both [num_tokens, hidden]."""
        cos, sin = self._rotary(x, positions[None])  # [1, num_tokens, head_dim]
        first, second = sin.chunk(2, -1)
        turn = cos[0, :, None], torch.cat([-first, second], -1)[0, :, None]
        change = torch.zeros_like(x)
        for layer in self._layers:
            x, change = layer(x, change, turn, attention, self)
        return x, change


class TextLayer:
    """One layer, over the modules of transformers' `MistralDecoderLayer`."""

    def __init__(self, layer: Any, number: int) -> None:
        """Join what reads the same input."""
        attention, mlp = layer.self_attn, layer.mlp
        self._number = number
        self._norm: Any = layer.input_layernorm
        self._project = fuse([attention.q_proj, attention.k_proj, attention.v_proj])
        self._out: nn.Module = attention.o_proj
        self._mlp_norm: Any = layer.post_attention_layernorm
        self._up = fuse([mlp.gate_proj, mlp.up_proj])
        self._down: nn.Module = mlp.down_proj

    def __call__(
        self, x: Tensor, change: Tensor, turn: Turn, attention: Attention, model: TextModel
    ) -> tuple[Tensor, Tensor]:
        """Read [num_tokens, hidden], the sum of x and change; return the same as such a sum.

        Whoever reads it adds and norms at once.
        """
        fused, num_heads, num_kv_heads = model.fused, model.num_heads, model.num_kv_heads
        x, normed = fused.add_rms_norm(x, change, self._norm.weight, self._norm.variance_epsilon)
        qkv = self._project(normed).view(len(x), num_heads + 2 * num_kv_heads, -1)
        q, kv = fused.turn(qkv, *turn, num_heads + num_kv_heads).split((num_heads, 2 * num_kv_heads), 1)
        change = self._out(attention(self._number, q, kv))
        x, normed = fused.add_rms_norm(x, change, self._mlp_norm.weight, self._mlp_norm.variance_epsilon)
        changed: Tensor = self._down(fused.gate(self._up(normed)))
        return x, changed


class PackedAttention:
    """Tokens that are decoded stand first, one for each of some slots; stretches of prompts follow."""

    def __init__(
        self, cache: KVCache, decoding: list[tuple[int, int]], stretches: list[Stretch], window: int | None
    ) -> None:
        """Work out once for all layers who sees what.

        Args:
            cache: where keys and values are.
            decoding: slot and position of each token that is decoded.
            stretches: those of prompts, in the order of their tokens.
            window: how far back a token looks; None for all the way.

        """
        device = cache.keys[0].device
        self._cache, self._stretches = cache, stretches
        self._num_decoding = len(decoding)
        slots = [slot for slot, _ in decoding]
        places = [position for _, position in decoding]
        for stretch in stretches:
            slots += [stretch.slot] * stretch.length
            places += range(stretch.start, stretch.start + stretch.length)
        self._slots = torch.tensor(slots, device=device)
        self.positions = torch.tensor(places, device=device)
        self._masks = [_see(self.positions[rows], s.start + s.length, window)
                       for s, rows in zip(stretches, self._rows(), strict=True)]  # fmt: skip
        # Slots are filled from the first on; those between that only read their prompt answer for nobody.
        self._num_slots = max(slots[: len(decoding)], default=-1) + 1
        self._is_dense = slots[: len(decoding)] == list(range(self._num_slots))
        if decoding:
            self._length = max(places[: len(decoding)]) + 1
            last = torch.zeros(self._num_slots, dtype=torch.int64, device=device)
            last[self._slots[: len(decoding)]] = self.positions[: len(decoding)]
            self._mask = _see(last, self._length, window)[:, None, None]  # [num_slots, 1, 1, length]

    def __call__(self, layer: int, q: Tensor, kv: Tensor) -> Tensor:
        """As Attention."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        k, v = kv.chunk(2, 1)
        keys[self._slots, :, self.positions] = k
        values[self._slots, :, self.positions] = v
        parts = [self._decode(q[: self._num_decoding], keys, values)] if self._num_decoding else []
        parts += [
            _attend_stretch(q[rows], keys[s.slot, :, : s.start + s.length],
                            values[s.slot, :, : s.start + s.length], mask)
            for s, rows, mask in zip(self._stretches, self._rows(), self._masks, strict=True)
        ]  # fmt: skip
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _rows(self) -> list[slice]:
        rows, begin = [], self._num_decoding
        for stretch in self._stretches:
            rows.append(slice(begin, begin + stretch.length))
            begin += stretch.length
        return rows

    def _decode(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if self._is_dense:
            return _attend_decoding(q, keys[: len(q), :, : self._length], values[: len(q), :, : self._length],
                                   self._mask)  # fmt: skip
        slots = self._slots[: len(q)]
        spread = q.new_zeros(self._num_slots, *q.shape[1:]).index_copy_(0, slots, q)
        seen = slice(self._num_slots), slice(None), slice(self._length)
        return _attend_decoding(spread, keys[seen], values[seen], self._mask)[slots]


def _attend_decoding(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Let one token of each slot look back.

    Args:
        q: [num_slots, heads, head_dim].
        keys: [num_slots, kv_heads, length, head_dim].
        values: as keys.
        mask: [num_slots, 1, 1, length], true where it may look.

    Returns:
        [num_slots, heads * head_dim].

    """
    # The heads that share keys stand where other tokens would: nothing has to be repeated.
    grouped = q.view(len(q), keys.shape[1], -1, q.shape[-1])  # [num_slots, kv_heads, group, head_dim]
    return F.scaled_dot_product_attention(grouped, keys, values, mask).flatten(1)


def _attend_stretch(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Let [length, heads, head_dim] look at [kv_heads, end, head_dim]; return [length, heads * head_dim]."""
    length, num_heads, size = q.shape
    groups = num_heads // len(keys)
    grouped = q.view(length, len(keys), groups, size).permute(1, 2, 0, 3).flatten(1, 2)
    attended: Tensor = F.scaled_dot_product_attention(
        grouped[None], keys[None], values[None], mask.repeat(groups, 1)
    )
    return attended[0].view(-1, groups, length, size).permute(2, 0, 1, 3).flatten(1)


def _see(positions: Tensor, length: int, window: int | None) -> Tensor:
    """Return [num_tokens, length]: which of a sequence's first tokens those at `positions` may look at."""
    back = positions[:, None] - torch.arange(length, device=positions.device)
    return (back >= 0) & (back < window) if window else back >= 0
