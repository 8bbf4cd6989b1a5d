"""The engine: requests join and leave at every step."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING

from PIL import Image

from idefics2_engine.detokenizer import Detokenizer
from idefics2_engine.errors import EngineFault
from idefics2_engine.processor import END_OF_TURN_TOKEN, PreparedRequest, Processor
from idefics2_engine.requests import (
    Event,
    Failed,
    Finished,
    Request,
    SamplingParams,
    StageEntered,
    TextDelta,
)
from idefics2_engine.runner import Runner
from idefics2_engine.sampler import Sampler
from idefics2_engine.scheduler import Scheduler
from idefics2_engine.sequence import Sequence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idefics2_engine.config import EngineConfig

WARM_UP_TOKENS = 3

logger = logging.getLogger(__name__)


class Engine:
    """One model and all requests on it. Owned by one thread; only `processor` may be used from others."""

    def __init__(self, config: EngineConfig) -> None:
        """Load everything, ready to answer."""
        self.runner = Runner(config)
        self.processor = Processor(config, self.runner.max_context_tokens, self.runner.patch_size)
        self.scheduler = Scheduler(config.max_running)
        generation = self.runner.model.generation_config
        self._bad_words_ids: list[list[int]] | None = generation.bad_words_ids
        self._eos_token_ids = self._find_eos_token_ids(generation.eos_token_id)

    def warm_up(self) -> None:
        """Answer a small request, so that the first caller does not wait for lazy set-up.

        Raises:
            EngineFault: the model cannot answer; it must not be called ready.

        """
        picture = io.BytesIO()
        Image.effect_mandelbrot((96, 64), (-2, -1, 1, 1), 20).save(picture, "PNG")
        sampling = SamplingParams(max_new_tokens=WARM_UP_TOKENS)
        request = Request("warm-up", "What is this?", (picture.getvalue(),), sampling)
        self.add(self.processor.prepare(request))
        while not self.is_idle:
            for _, event in self.step():
                if isinstance(event, Failed):
                    raise EngineFault(event.message)

    def add(self, prepared: PreparedRequest) -> None:
        """Let a request join at the next step that has room for it."""
        sampling = prepared.request.sampling
        sampler = Sampler(sampling, prepared.num_prompt_tokens, self._bad_words_ids, self._eos_token_ids)
        detokenizer = Detokenizer(self.processor.tokenizer, sampling.stop)
        self.scheduler.add(Sequence(prepared, sampler, detokenizer))

    def cancel(self, request_id: str) -> bool:
        """Drop a request and all it holds; False if it is not here (any more)."""
        return self.scheduler.remove(request_id) is not None

    def step(self) -> Iterator[tuple[str, Event]]:
        """Make one token for each running request; yield events, with the request's id, as they happen."""
        for sequence in self.scheduler.schedule():
            try:
                for event in self._advance(sequence):
                    yield sequence.request_id, event
            except Exception:
                logger.exception("request %s failed in a step", sequence.request_id)
                self.scheduler.remove(sequence.request_id)
                yield sequence.request_id, Failed("INTERNAL_ERROR", "the engine failed in a step")

    @property
    def is_idle(self) -> bool:
        """Whether a step would do nothing."""
        return self.scheduler.is_idle

    def _advance(self, sequence: Sequence) -> Iterator[Event]:
        is_prefill = sequence.cache is None
        if is_prefill:
            yield StageEntered("PREFILL")
        logits = self.runner.forward(sequence)
        token_id = sequence.sampler.sample(logits, sequence.token_ids)
        sequence.append(token_id)
        if is_prefill:
            yield StageEntered("DECODE")
        text = sequence.detokenizer.add(token_id)
        finish_reason = self._finish_reason(sequence, token_id)
        if finish_reason:
            text += sequence.detokenizer.finish()
        if text:
            yield TextDelta(text, sequence.num_generated_tokens)
        if finish_reason:
            self.scheduler.remove(sequence.request_id)
            yield _finished(sequence, finish_reason)

    def _finish_reason(self, sequence: Sequence, token_id: int) -> str | None:
        if sequence.detokenizer.stopped:
            return "STOP_STRING"
        if token_id in self._eos_token_ids:
            return "END_OF_TURN"
        return "LENGTH" if sequence.is_full else None

    def _find_eos_token_ids(self, configured: int | list[int] | None) -> list[int]:
        ids = [configured] if isinstance(configured, int) else list(configured or [])
        turn_end = self.processor.tokenizer.convert_tokens_to_ids(END_OF_TURN_TOKEN)
        return [*ids, *({turn_end} - set(ids))]


def _finished(sequence: Sequence, finish_reason: str) -> Finished:
    return Finished(
        finish_reason=finish_reason,  # type: ignore[arg-type]  # one of the three literals
        num_prompt_tokens=sequence.prepared.num_prompt_tokens,
        num_image_tokens=sequence.prepared.num_image_tokens,
        num_generated_tokens=sequence.num_generated_tokens,
    )
