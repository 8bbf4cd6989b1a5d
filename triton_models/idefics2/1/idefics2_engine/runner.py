"""The model on its device: what a step's plan asks for, as few large products."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText

from idefics2_engine.config import ENVIRONMENT_PREFIX
from idefics2_engine.container import count_cores
from idefics2_engine.decode_graph import DecodeGraphs
from idefics2_engine.errors import EngineFault
from idefics2_engine.image_cache import split_states
from idefics2_engine.images import Crop
from idefics2_engine.kv_cache import KVCache, KVShape
from idefics2_engine.memory import measure_free, plan_memory
from idefics2_engine.model import flash
from idefics2_engine.model.connector import Connector
from idefics2_engine.model.text import PackedAttention, Stretch, TextModel
from idefics2_engine.model.vision import Normalization, VisionTower
from idefics2_engine.transfer import send

if TYPE_CHECKING:
    from torch import Tensor

    from idefics2_engine.config import EngineConfig
    from idefics2_engine.model.text import Attention
    from idefics2_engine.sequence import CropSpan, Sequence

_MAX_DEFAULT_CONTEXT_TOKENS = 8192
"""Slots are as long as a context may be; few requests need what the longest checkpoints were trained for."""

_TRIED_PATCHES = (2, 3, 128, 129)
"""The compiler makes kernels for the first number and for all others; cuDNN, which took 0.7 s for one on an
H100, seems to for multiples of 128 and for others. For each further number it plans some 45 ms."""

logger = logging.getLogger(__name__)


MakeModel = Callable[[str, torch.dtype, torch.device], Any]
"""Makes transformers' `Idefics2ForConditionalGeneration` of a checkpoint's name, on a device."""


def load_model(checkpoint: str, dtype: torch.dtype, device: torch.device) -> Any:
    """Load a checkpoint: transformers' model, whose modules we use and whose `forward` we do not."""
    return AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=dtype).to(device).eval()


class Runner:
    """Transformers' weights, our order of work."""

    def __init__(self, config: EngineConfig, make_model: MakeModel) -> None:
        """Put the model onto the device and reserve its memory."""
        torch.set_num_threads(config.num_threads or max(1, count_cores() // 2))
        self.device = _choose_device(config.device)
        dtype = _choose_dtype(config.dtype, self.device)
        self.model = make_model(config.checkpoint, dtype, self.device)
        dtype = self.model.dtype  # that of quantized weights' kernels may be another one than was asked for
        text = self.model.config.text_config
        longest: int = text.max_position_embeddings
        self.max_context_tokens: int = config.max_context_tokens or min(longest, _MAX_DEFAULT_CONTEXT_TOKENS)
        self.vocab_size: int = text.vocab_size
        self.patch_size: int = self.model.config.vision_config.patch_size
        self.own_crop = _draw_crop(self.patch_size)
        inner = self.model.model
        self._text = TextModel(inner.text_model, self.model.lm_head)
        self._connector = Connector(inner.connector)
        self._vision = VisionTower(inner.vision_model)
        shape = KVShape(text.num_hidden_layers, self._text.num_kv_heads, self._text.head_dim, dtype)
        slot_bytes = shape.bytes_per_token * self.max_context_tokens
        self.memory = plan_memory(config, measure_free(self.device), slot_bytes)
        logger.info("memory: %s", self.memory)
        flashes = flash.can_run(self.device, dtype, self._text.head_dim)
        self.cache = KVCache(
            shape, self.memory.num_slots, self.max_context_tokens, self.device, by_token=flashes
        )
        self._graphs = DecodeGraphs(self._text, self.cache) if flashes else None

    def prepare_vision(self, image_processor: object) -> None:
        """Take the checkpoint's way to turn bytes into numbers; before the first `encode`."""
        self._normalize = Normalization(image_processor, self.device)

    def capture(self) -> None:
        """Compile what can be compiled and record what can be replayed, before anybody waits for it."""
        if self._graphs is not None:
            self._text.fused.compile(self._try_text)
            self._vision.fused.compile(self._try_vision)
            self._connector.fused.compile(self._try_vision)
            self._graphs.capture()

    @torch.inference_mode()
    def _try_text(self) -> None:
        """Read as many tokens as there are kernels for: the first number, all others, and a single one."""
        for count in (2, 3, 1):
            ids = torch.zeros(count, dtype=torch.int64, device=self.device)
            self._text(self._text.embed(ids), ids, lambda _, q, __: q.flatten(1), None)

    @torch.inference_mode()
    def _try_vision(self) -> None:
        """Look at as many patches as there are kernels for."""
        for count in _TRIED_PATCHES:
            x = self.cache.keys[0].new_zeros(count, self._vision.hidden_size)
            self._connector(self._vision.read(x, [count]), [count])

    @torch.inference_mode()
    def encode(self, spans: list[CropSpan]) -> None:
        """Look at crops; what the text model reads of them is kept with their images."""
        spans = sorted(spans, key=lambda span: span.crop.grid)  # equal ones attend together
        states = self.look([span.crop for span in spans])
        for span, part in zip(spans, split_states(states), strict=True):
            span.image.add(span.number, part)

    @torch.inference_mode()
    def look(self, crops: list[Crop]) -> Tensor:
        """Return [num_crops, num_latents, hidden]: what the text model reads of each crop."""
        patches = self._vision(crops, self._normalize)
        return self._connector(patches, [len(crop.patches) for crop in crops])

    def check_sight(self) -> None:
        """Look at a picture of our own, in which no caller has a part.

        Raises:
            EngineFault: what is seen in it are no numbers.

        """
        if not self.look([self.own_crop]).isfinite().all():
            raise EngineFault("what the engine sees in its own picture are no numbers")

    @torch.inference_mode()
    def launch(self, sequences: list[Sequence]) -> None:
        """Let a GPU begin to decode, while others are told what it made before; `forward` then takes that.

        Args:
            sequences: those that will very likely decode next, one or more.

        """
        if self._graphs is not None:
            self._graphs.launch(sequences)

    @torch.inference_mode()
    def forward(self, decoding: list[Sequence], reading: list[tuple[Sequence, int]]) -> Tensor:
        """Read the last token of some sequences, and the next few of others' prompts.

        Args:
            decoding: sequences all of whose tokens but the last are read, in the order of their slots.
            reading: sequences, and how many tokens of the prompt each reads.

        Returns:
            [num_sequences, vocab_size] float32: for each, the logits after the last token read.

        """
        if self._graphs is None:
            return self._pack(decoding, reading)
        parts = [self._graphs.take(decoding)] if decoding else []
        parts += [self._read(reading)] if reading else []
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _pack(self, decoding: list[Sequence], reading: list[tuple[Sequence, int]]) -> Tensor:
        """Do all in one pass."""
        ids = [sequence.token_ids[-1] for sequence in decoding]
        stretches = [Stretch(s.slot, s.num_read_tokens, count) for s, count in reading]
        places = [(s.slot, len(s.token_ids) - 1) for s in decoding]
        attention = PackedAttention(self.cache, places, stretches, self._text.sliding_window)
        return self._read_all(ids, reading, attention.positions, attention)

    def _read(self, reading: list[tuple[Sequence, int]]) -> Tensor:
        """Read parts of prompts alone."""
        stretches = [Stretch(s.slot, s.num_read_tokens, count) for s, count in reading]
        attention, positions = flash.look_back_from_stretches(
            self.cache, stretches, self._text.sliding_window
        )
        return self._read_all([], reading, positions, attention)

    def _read_all(
        self, ids: list[int], reading: list[tuple[Sequence, int]], positions: Tensor, attention: Attention
    ) -> Tensor:
        """Return the logits of single tokens, and after the last one of each part of a prompt."""
        begins = list(itertools.accumulate((count for _, count in reading), initial=len(ids)))
        wanted = None
        if reading:
            wanted = send([*range(len(ids)), *(end - 1 for end in begins[1:])], torch.int64, self.device)
        for sequence, count in reading:
            ids += sequence.token_ids[sequence.num_read_tokens : sequence.num_read_tokens + count]
        x = self._text.embed(send(ids, torch.int64, self.device))
        for (sequence, count), begin in zip(reading, begins, strict=False):
            self._show(sequence, x[begin : begin + count])
        return self._text(x, positions, attention, wanted)

    def _show(self, sequence: Sequence, x: Tensor) -> None:
        """Put what was seen where the prompt has its image tokens; `x` begins with the first unread one."""
        start, end = sequence.num_read_tokens, sequence.num_read_tokens + len(x)
        for span in sequence.find_shown(end):
            states = span.image.hidden_states[span.number]
            if states is None:
                raise LookupError(f"crop {span.number} of request {sequence.request_id} was not encoded")
            first, last = max(span.start, start), min(span.start + len(states), end)
            x[first - start : last - start] = states[first - span.start : last - span.start]


def _draw_crop(patch_size: int) -> Crop:
    """Make a crop of all values that a byte has, of as many patches as kernels were tried with."""
    rows, columns = 8, 16
    patches = np.resize(np.arange(256, dtype=np.uint8), (rows * columns, 3 * patch_size**2))
    return Crop((rows, columns), patches)


def _choose_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise _refuse("device", "auto or a device of torch", name) from error


def _choose_dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise _refuse("dtype", "auto or a type of torch", name)
    return dtype


def _refuse(name: str, bound: str, value: str) -> ValueError:
    variable = ENVIRONMENT_PREFIX + name.upper()
    return ValueError(f"{variable} (or engine parameter {name!r}) must be {bound}, not {value!r}")
