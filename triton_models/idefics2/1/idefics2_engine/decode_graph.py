"""Decoding as CUDA graphs: a step's hundreds of kernels started by one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from idefics2_engine.model.text import attend_decoding, see

if TYPE_CHECKING:
    from torch import Tensor

    from idefics2_engine.kv_cache import KVCache
    from idefics2_engine.model.text import TextModel
    from idefics2_engine.sequence import Sequence

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SHORTEST = 256
"""Tokens that the shortest graph looks back; each further one looks back twice as far."""
_NUM_WARM_UPS = 2


class DecodeGraph:
    """The step of the first `batch` slots, none of which is longer than `length`."""

    def __init__(self, text: TextModel, cache: KVCache, batch: int, length: int) -> None:
        """Make the buffers that a recorded graph reads and writes."""
        device = cache.keys[0].device
        self._text, self._cache, self._length = text, cache, length
        self.ids, self.positions = torch.zeros(2, batch, dtype=torch.int64, device=device)
        self._slots = torch.arange(batch, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits: Tensor | None = None

    def record(self, pool: Any) -> Any:  # a handle of torch's
        """Record the step; graphs of the same pool share their memory, since one runs at a time."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_NUM_WARM_UPS):
                self.compute()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._logits = self.compute()
        return self._graph.pool()

    def run(self) -> Tensor:
        """Do the step for `ids` at `positions`; return [batch, vocab_size], good until the next run."""
        if self._graph is None or self._logits is None:
            return self.compute()
        self._graph.replay()
        return self._logits

    def compute(self) -> Tensor:
        """Do the step without a graph."""
        mask = see(self.positions, self._length, self._text.sliding_window)[:, None, None]

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self._cache.keys[layer], self._cache.values[layer]
            keys[self._slots, :, self.positions] = k
            values[self._slots, :, self.positions] = v
            batch = len(q)
            return attend_decoding(
                q, keys[:batch, :, : self._length], values[:batch, :, : self._length], mask
            )

        return self._text(self._text.embed(self.ids), self.positions, attend, None)


class DecodeGraphs:
    """One graph for each of a few batch sizes and lengths."""

    def __init__(self, text: TextModel, cache: KVCache) -> None:
        """Choose sizes up to what the cache holds."""
        batches = [*(b for b in _BATCHES if b < cache.num_slots), cache.num_slots]
        lengths = [cache.max_tokens]
        while lengths[0] > _SHORTEST:
            lengths.insert(0, -(-lengths[0] // 2))
        self._graphs = {(b, n): DecodeGraph(text, cache, b, n) for b in batches for n in lengths}
        self._batches, self._lengths = batches, lengths
        self._device = cache.keys[0].device

    @torch.inference_mode()
    def capture(self) -> None:
        """Record all, the largest first, whose memory the others then share."""
        pool = None
        with torch.cuda.device(self._device):  # streams and graphs are of the current one, whatever they do
            for _, graph in sorted(self._graphs.items(), reverse=True):
                pool = graph.record(pool)

    def replay(self, sequences: list[Sequence]) -> Tensor:
        """Decode all who run, in the order of their slots; return [num_sequences, vocab_size] float32.

        Rows beyond the last sequence write into slots that belong to nobody, at their first token, which
        whoever comes to own them writes anew before it is read.
        """
        longest = max(len(sequence.token_ids) for sequence in sequences)
        batch = next(size for size in self._batches if size >= len(sequences))
        graph = self._graphs[batch, next(size for size in self._lengths if size >= longest)]
        rows = [(sequence.token_ids[-1], len(sequence.token_ids) - 1) for sequence in sequences]
        rows += [(0, 0)] * (batch - len(rows))
        ids, positions = torch.tensor(rows).T
        graph.ids.copy_(ids)
        graph.positions.copy_(positions)
        return graph.run()[: len(sequences)].clone()
