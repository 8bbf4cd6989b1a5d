"""Decoding as CUDA graphs: a step's hundreds of kernels started by one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from idefics2_engine.model.flash import look_back_from_one
from idefics2_engine.transfer import send

if TYPE_CHECKING:
    from torch import Tensor

    from idefics2_engine.kv_cache import KVCache
    from idefics2_engine.model.text import TextModel
    from idefics2_engine.sequence import Sequence

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_NUM_WARM_UPS = 2


class DecodeGraph:
    """The step of up to `batch` sequences, wherever their slots are."""

    def __init__(self, text: TextModel, cache: KVCache, batch: int) -> None:
        """Make the buffers that a recorded graph reads and writes."""
        self._text, self._cache = text, cache
        self.inputs = torch.zeros(3, batch, dtype=torch.int64, device=cache.keys[0].device)
        """[3, batch]: the last token of each, its position and its slot."""
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
        """Do the step of `inputs`; return [batch, vocab_size], good until any graph runs."""
        if self._graph is None or self._logits is None:
            return self.compute()
        self._graph.replay()
        return self._logits

    def compute(self) -> Tensor:
        """Do the step without a graph."""
        ids, positions, slots = self.inputs
        attention = look_back_from_one(self._cache, slots, positions, self._text.sliding_window)
        return self._text(self._text.embed(ids), positions, attention, None)


class DecodeGraphs:
    """One graph for each of a few batch sizes, and the step that one of them does ahead of time."""

    def __init__(self, text: TextModel, cache: KVCache) -> None:
        """Choose sizes up to what the cache holds."""
        self._batches = [*(b for b in _BATCHES if b < cache.num_slots), cache.num_slots]
        self._graphs = {batch: DecodeGraph(text, cache, batch) for batch in self._batches}
        self._device = cache.keys[0].device
        self._rows: dict[tuple[int, int], int] = {}
        """Row of each sequence, by its number and how many tokens it had, in what was launched last."""
        self._logits: Tensor | None = None

    @torch.inference_mode()
    def capture(self) -> None:
        """Record all, the largest first, whose memory the others then share."""
        pool = None
        with torch.cuda.device(self._device):  # streams and graphs are of the current one, whatever they do
            for _, graph in sorted(self._graphs.items(), reverse=True):
                pool = graph.record(pool)

    def launch(self, sequences: list[Sequence]) -> None:
        """Begin to decode, without waiting for it.

        Rows beyond the last sequence do what the first one does. Whatever comes of it can be thrown away:
        whoever decodes the same token again writes the same keys and values.
        """
        batch = next(size for size in self._batches if size >= len(sequences))
        rows = [(s.token_ids[-1], len(s.token_ids) - 1, s.slot) for s in sequences]
        rows += rows[:1] * (batch - len(rows))
        graph = self._graphs[batch]
        self._rows = {}  # should it fail
        graph.inputs.copy_(send([list(row) for row in zip(*rows, strict=True)], torch.int64, self._device))
        self._logits = graph.run()
        self._rows = {_name(sequence): row for row, sequence in enumerate(sequences)}

    def take(self, sequences: list[Sequence]) -> Tensor:
        """Return [num_sequences, vocab_size] float32, of what was launched if that was their step."""
        if any(_name(sequence) not in self._rows for sequence in sequences):
            self.launch(sequences)
        rows = [self._rows[_name(sequence)] for sequence in sequences]
        logits, self._logits, self._rows = self._logits, None, {}
        if logits is None:
            raise LookupError("nothing was launched")
        if rows == list(range(len(rows))):
            return logits[: len(rows)].clone()
        return logits[send(rows, torch.int64, self._device)]


def _name(sequence: Sequence) -> tuple[int, int]:
    return sequence.number, len(sequence.token_ids)
