"""The engine: requests join and leave at every step."""

from __future__ import annotations

import io
import itertools
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import torch
from PIL import Image

from idefics2_engine import gauges
from idefics2_engine.detokenizer import Detokenizer
from idefics2_engine.errors import EngineFault
from idefics2_engine.image_cache import ImageCache
from idefics2_engine.meters import Meters, StepMeter
from idefics2_engine.names import about
from idefics2_engine.prefix_cache import BLOCK_TOKENS, PrefixCache
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
from idefics2_engine.runner import MakeModel, Runner, load_model
from idefics2_engine.sampler import Sampler
from idefics2_engine.scheduler import Plan, Scheduler
from idefics2_engine.sequence import Sequence
from idefics2_engine.transfer import send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from idefics2_engine.config import EngineConfig
    from idefics2_engine.sequence import CropSpan

WARM_UP_TOKENS = 3
MAX_BROKEN_STEPS = 5
"""In a row: then it is not the requests that are at fault."""
MAX_BLIND_STEPS = 5
"""In a row, with pictures that failed and, after them, the engine's own one: a fault may pass, and each
further step costs requests that an engine loaded anew would answer."""

logger = logging.getLogger(__name__)

Told = tuple[str, Event]
Step = list[tuple[Sequence, int]]
Made = list[tuple[Sequence, int | None]]
"""Tokens that were chosen; None where the logits were no numbers."""


class Engine:
    """One model and all requests on it. Owned by one thread; only `processor` may be used from others."""

    def __init__(self, config: EngineConfig, make_model: MakeModel = load_model) -> None:
        """Load everything, ready to answer."""
        self.runner = Runner(config, make_model)
        memory = self.runner.memory
        self.images = ImageCache(memory.image_cache)
        self.prefixes = PrefixCache(memory.prefix_cache)
        self.processor = Processor(
            config, self.runner.max_context_tokens, self.runner.patch_size, self.images
        )
        self.runner.prepare_vision(self.processor.image_processor)
        self.scheduler = Scheduler(memory.num_slots, config.max_step_tokens, config.max_step_patches)
        generation = self.runner.model.generation_config
        self._eos_token_ids = self._find_eos_token_ids(generation.eos_token_id)
        banned = [ids[0] for ids in generation.bad_words_ids or [] if len(ids) == 1]
        self.sampler = Sampler(memory.num_slots, self.runner.vocab_size, banned, self._eos_token_ids)
        self.sampler.to(self.runner.device)
        self.meters = Meters()
        self._step_meter = StepMeter(self.meters)
        self._numbers = itertools.count()
        self._num_broken_steps = 0
        self._num_blind_steps = 0
        self._has_broken = self._has_worked = False  # in this step, for anybody
        self._has_missed = self._has_seen = False  # in this step, any picture
        self._lacks_memory = False  # as what failed last did

    @classmethod
    def start(cls, config: EngineConfig, make_model: MakeModel = load_model) -> Engine:
        """Load everything and answer a first request, ready for whichever thread comes to own it.

        That happens in a thread that ends with it. Every thread that computes gets workers of its own from
        OpenMP; while those of two threads are there, they outnumber the cores, stop spinning at barriers,
        and a step of a small model takes twice as long.

        Raises:
            EngineFault: the model cannot answer; it must not be called ready.

        """

        def make() -> Engine:
            engine = cls(config, make_model)
            engine.warm_up()
            return engine

        with ThreadPoolExecutor(1, thread_name_prefix="start") as thread:
            return thread.submit(make).result()

    def warm_up(self) -> None:
        """Answer a small request, so that the first caller does not wait for lazy set-up.

        Raises:
            EngineFault: the model cannot answer; it must not be called ready.

        """
        self.runner.capture()
        picture = io.BytesIO()
        Image.effect_mandelbrot((96, 64), (-2, -1, 1, 1), 20).save(picture, "PNG")
        sampling = SamplingParams(max_new_tokens=WARM_UP_TOKENS)
        request = Request("warm-up", "What is this?", (picture.getvalue(),), sampling)
        self.add(self.processor.prepare(request))
        while not self.is_idle:
            for _, event in self.step():
                if isinstance(event, Failed):
                    raise EngineFault(event.message)
        self.runner.check_sight()
        self.meters.clear()
        self.meters.set("start_time_seconds", time.time())

    def close(self) -> None:
        """Stop the processes that decode images."""
        self.processor.close()

    def add(self, prepared: PreparedRequest) -> None:
        """Let a request join at the next step that has room for it."""
        detokenizer = Detokenizer(self.processor.tokenizer, prepared.sampling.stop)
        self.scheduler.add(Sequence(prepared, next(self._numbers), detokenizer))
        self.meters.observe("preprocess_seconds", prepared.seconds["preprocess"])
        self.meters.add("mm_cache_queries_total", prepared.num_images)
        self.meters.add("mm_cache_hits_total", prepared.num_cached_images)

    def cancel(self, request_id: str) -> bool:
        """Drop a request and all it holds; False if it is not here (any more)."""
        sequence = self.scheduler.find(request_id)
        if sequence is None:
            return False
        self._step_meter.cancel(sequence)
        self._release(sequence)
        return True

    def measure(self) -> tuple[float, ...]:
        """Return all figures of now, in the order of `metrics.SERIES`; beside the engine's thread, too."""
        gauges.look(self)
        return self.meters.read()

    def step(self) -> Iterator[Told]:
        """Admit who fits, look at images, read prompts, make a token for each who can; yield what happens.

        Raises:
            EngineFault: step after step nothing works for anybody, or no picture is seen: the device is lost.

        """
        yield from self._admit()
        begun = time.monotonic()
        plan = self.scheduler.plan(self._take_over)
        self._step_meter.begin(plan)
        self._has_broken = self._has_worked = False
        self._has_missed = self._has_seen = False
        yield from self._look(plan)
        yield from self._advance(plan)
        self._step_meter.end(plan, begun)
        self._judge_step()
        self._judge_sight()

    def _judge_step(self) -> None:
        """Count steps in which nobody got a token and somebody failed; one that only reads shows nothing."""
        if self._has_worked:
            self._num_broken_steps = 0
        elif self._has_broken:
            self._num_broken_steps += 1
        if self._num_broken_steps >= MAX_BROKEN_STEPS:
            raise EngineFault(f"{MAX_BROKEN_STEPS} steps in a row failed for everybody")

    def _judge_sight(self) -> None:
        """Count steps in which pictures failed, and the engine's own one would have, too.

        Callers' pictures alone, however many, do not show that the tower is at fault: anybody may send a size
        for which a kernel fails, or a content that overflows float16. A lack of memory shows nothing at all.
        """
        if self._has_seen:
            self._num_blind_steps = 0
        elif self._has_missed:
            if self._succeeds(self.runner.check_sight, "could not look at the engine's own picture"):
                self._num_blind_steps = 0
            elif not self._lacks_memory:
                self._num_blind_steps += 1
        if self._num_blind_steps >= MAX_BLIND_STEPS:
            raise EngineFault(f"{MAX_BLIND_STEPS} times in a row the engine could not see its own picture")

    @property
    def is_idle(self) -> bool:
        """Whether a step would do nothing."""
        return self.scheduler.is_idle

    def _admit(self) -> Iterator[Told]:
        while sequence := self.scheduler.admit():
            try:
                self._begin(sequence)
            except torch.OutOfMemoryError:  # whoever runs already goes on
                logger.exception("could not begin a request", extra=about(sequence.request_id))
                yield self._fail(sequence, "step", "the engine has no memory left to begin the request")
                continue
            sequence.clock.enter("queue")
            yield sequence.request_id, StageEntered("PREFILL")

    def _begin(self, sequence: Sequence) -> None:
        """Make ready what a sequence needs on the device; where there is no room, again after making some."""
        begin = partial(self.sampler.begin, sequence.slot, sequence.token_ids)
        if not self._succeeds(begin, "could not begin a request", of=sequence):
            begin()
        self.meters.add("prefix_cache_queries_total", sequence.num_prompt_tokens)

    def _take_over(self, sequence: Sequence, max_blocks: int) -> int:
        """Let a sequence have what is known of its prompt beyond what was read of it, up to so many blocks.

        What cannot be taken over is read.
        """
        first = sequence.num_read_tokens // BLOCK_TOKENS
        load = partial(self._load_prefix, sequence, first, first + max_blocks)
        self._succeeds(load, "could not take over what is known of a prompt", of=sequence)
        return sequence.num_read_tokens // BLOCK_TOKENS - first

    def _load_prefix(self, sequence: Sequence, first: int, end: int) -> None:
        keys = sequence.prefix_keys[:end]
        num_blocks = self.prefixes.load(keys, self.runner.cache, sequence.slot, first)
        if num_blocks:
            known = (first + num_blocks) * BLOCK_TOKENS
            self.meters.add("prefix_cache_hits_total", known - sequence.num_read_tokens)
            sequence.num_cached_tokens += known - sequence.num_read_tokens
            sequence.num_read_tokens = known

    def _look(self, plan: Plan) -> Iterator[Told]:
        """Encode crops; where that fails, those who show the one at fault fail."""
        if not plan.crops:
            return
        failed = self._encode(plan.crops)
        for span in plan.crops:
            if span.image.is_encoded:
                self.images.keep(span.image)
        for sequence, _ in plan.reading:
            sequence.clock.enter("vision")
            if failed.intersection(sequence.spans):
                yield self._fail(sequence, "image", "the engine failed at an image")

    def _encode(self, spans: list[CropSpan]) -> set[CropSpan]:
        """Look at crops, together or else one by one; return those that cannot be looked at."""
        failed: set[CropSpan] = set()
        for part in (spans, *([span] for span in spans)):
            unseen = [span for span in part if not span.is_seen]
            encode = partial(self.runner.encode, unseen)
            if unseen and not self._succeeds(encode, "could not encode %d crops", len(unseen)):
                self.meters.add("steps_replayed_total", part is spans, "vision")
                failed.update(unseen if part is not spans else ())
                self._has_missed |= not self._lacks_memory
        return failed

    def _advance(self, plan: Plan) -> Iterator[Told]:
        """Make the plan's tokens, together or else one by one; who breaks a step fails alone."""
        decoding = [sequence for sequence in plan.decoding if self._is_running(sequence)]
        reading = [part for part in plan.reading if self._is_running(part[0])]
        if not decoding and not reading:
            return
        made: Made = []
        broken: list[Sequence] = []
        compute, num_requests = partial(self._compute, decoding, reading, made), len(decoding) + len(reading)
        if not self._succeeds(compute, "a step of %d requests failed; each is tried alone", num_requests):
            self.meters.add("steps_replayed_total", label="text")
            made, broken = self._compute_one_by_one(decoding, reading)
        for sequence in broken:
            self._has_broken = True
            yield self._fail(sequence, "step", "the engine failed in a step")
        self._launch(made)
        for sequence, token_id in made:
            if token_id is None:
                self._blame(sequence)
                yield self._fail(sequence, "not_finite", "the model's logits are not finite")
            else:
                self._has_worked = True
                self._has_seen |= sequence.shows_news
                yield from self._tell_safely(sequence, token_id)

    def _blame(self, sequence: Sequence) -> None:
        """Note whether logits are no numbers by what was seen, or by the model that read it."""
        if self._succeeds(sequence.check_sight, "no numbers were seen in a picture", of=sequence):
            self._has_broken = True
        else:
            self._has_missed |= not self._lacks_memory

    def _compute_one_by_one(self, decoding: list[Sequence], reading: Step) -> tuple[Made, list[Sequence]]:
        """Do again, for each alone, what failed for all: what was written meanwhile is written anew."""
        made: Made = []
        broken: list[Sequence] = []
        alone: list[tuple[Sequence, list[Sequence], Step]] = [
            (sequence, [sequence], []) for sequence in decoding
        ]
        alone += [(part[0], [], [part]) for part in reading]
        for sequence, some, part in alone:
            compute = partial(self._compute, some, part, made)
            if not self._succeeds(compute, "a request failed alone", of=sequence):
                broken.append(sequence)
        return made, broken

    def _compute(self, decoding: list[Sequence], reading: Step, made: Made) -> None:
        """Run the model, and add the tokens that it chooses; nothing counts as done before all of it is."""
        logits = self.runner.forward(decoding, reading)
        is_done = [True] * len(decoding)
        is_done += [s.num_read_tokens + count == s.num_prompt_tokens for s, count in reading]
        members = [*decoding, *(sequence for sequence, _ in reading)]
        choosing = [sequence for sequence, done in zip(members, is_done, strict=True) if done]
        if not all(is_done):
            rows = [row for row, done in enumerate(is_done) if done]
            logits = logits[send(rows, torch.int64, logits.device)]
        tokens = self.sampler.choose(logits, [sequence.row for sequence in choosing]) if choosing else []
        for sequence, count in [*((sequence, 1) for sequence in decoding), *reading]:
            sequence.num_read_tokens += count
        for sequence, token_id in zip(choosing, tokens, strict=True):
            made.append((sequence, token_id))
            if token_id is not None:
                sequence.token_ids.append(token_id)

    def _launch(self, made: Made) -> None:
        """Begin the next step of those who go on, as far as is known yet: the device need not wait for us.

        Who ends by a stop string, or is cancelled now, was decoded once too often, which nobody sees.
        """
        going_on = [
            sequence
            for sequence, token_id in made
            if not (token_id is None or token_id in self._eos_token_ids or sequence.is_full)
        ]
        if going_on:
            try:
                self.runner.launch(going_on)
            except Exception:
                logger.exception("a step could not be begun ahead of time; it is done in its turn")

    def _tell_safely(self, sequence: Sequence, token_id: int) -> Iterator[Told]:
        try:
            yield from self._tell(sequence, token_id)
        except Exception:
            logger.exception("a request failed at a token", extra=about(sequence.request_id))
            if self._is_running(sequence):
                yield self._fail(sequence, "token", "the engine failed at a token")

    def _tell(self, sequence: Sequence, token_id: int) -> Iterator[Told]:
        """Add the last token's text to an answer; yield what there is to show."""
        is_first = sequence.num_generated_tokens == 1
        if is_first:
            self._keep_prefix(sequence)
            sequence.spans = ()
            sequence.clock.enter("prefill")
            yield sequence.request_id, StageEntered("DECODE")
        text = sequence.detokenizer.add(token_id)
        finish_reason = self._finish_reason(sequence, token_id)
        if finish_reason:
            text += sequence.detokenizer.finish()
            finish_reason = self._finish_reason(sequence, token_id)  # half a character may end a stop string
        if text:
            yield sequence.request_id, TextDelta(text, sequence.num_generated_tokens)
        if finish_reason:
            self._release(sequence)
            sequence.clock.enter("decode")
            yield sequence.request_id, _finished(sequence, finish_reason)

    def _keep_prefix(self, sequence: Sequence) -> None:
        """Keep what was read of a prompt; a lack of memory costs only that."""
        store = partial(self.prefixes.store, sequence.prefix_keys, self.runner.cache, sequence.slot)
        self._succeeds(store, "could not keep a prompt", of=sequence)

    def _fail(self, sequence: Sequence, why: str, message: str) -> Told:
        """End a request that broke something, and forget what it may have spoilt."""
        self.meters.add("requests_failed_total", label=why)
        logger.error("a request failed: %s", message, extra=about(sequence.request_id))
        for span in sequence.spans:  # what was seen in them may be at fault
            self.images.drop(span.image)
        self._release(sequence)
        return sequence.request_id, Failed("INTERNAL_ERROR", message)

    def _release(self, sequence: Sequence) -> None:
        """Take back a slot; the last one moves into the hole. Where nobody is, nothing stays.

        What stayed might not be numbers, which is known only of who made a token. A step that failed may have
        written more tokens than are counted as read, but never more than a sequence has.
        """
        moved = self.scheduler.remove(sequence)
        if sequence.slot >= 0:  # it had one
            self.runner.cache.clear(sequence.slot, len(sequence.token_ids))
        if moved is not None:
            # All: one more than is counted as read may be on its way there.
            self.runner.cache.move(moved.slot, sequence.slot, len(moved.token_ids))
            self.runner.cache.clear(moved.slot, len(moved.token_ids))
            self.sampler.move(moved.slot, sequence.slot)
            moved.slot = sequence.slot
        sequence.spans = ()

    def _is_running(self, sequence: Sequence) -> bool:
        """Whether a sequence that was planned for is there still."""
        running = self.scheduler.running
        return sequence.slot < len(running) and running[sequence.slot] is sequence

    def _succeeds(
        self, action: Callable[[], None], failure: str, *numbers: int, of: Sequence | None = None
    ) -> bool:
        """Do it, and tell whether it worked; after a lack of memory, let go of what nobody needs at once.

        Only once the error is gone: its frames hold what the action had made by then.
        """
        try:
            action()
        except Exception as error:
            logger.exception(failure, *numbers, extra=about(of.request_id) if of else None)
            self._lacks_memory = isinstance(error, torch.OutOfMemoryError)
        else:
            return True
        if self._lacks_memory:
            self.meters.add("out_of_memory_total")
            self.images.clear()
            self.prefixes.clear()
            torch.cuda.empty_cache()
        return False

    def _finish_reason(self, sequence: Sequence, token_id: int) -> str | None:
        if sequence.detokenizer.stopped:
            return "STOP_STRING"
        if token_id in self._eos_token_ids:
            return "END_OF_TURN"
        return "LENGTH" if sequence.is_full else None

    def _find_eos_token_ids(self, configured: int | list[int] | None) -> list[int]:
        """List the tokens that end an answer, of those that the model can make.

        transformers' processor gives any tokenizer an end of turn, of which a base checkpoint has no row.
        """
        ids = [configured] if isinstance(configured, int) else list(configured or [])
        turn_end = self.processor.tokenizer.convert_tokens_to_ids(END_OF_TURN_TOKEN)
        ids += {turn_end} - set(ids)
        return [token_id for token_id in ids if token_id < self.runner.vocab_size]


def _finished(sequence: Sequence, finish_reason: str) -> Finished:
    return Finished(
        finish_reason=finish_reason,  # type: ignore[arg-type]  # one of the three literals
        num_prompt_tokens=sequence.num_prompt_tokens,
        num_image_tokens=sequence.num_image_tokens,
        num_generated_tokens=sequence.num_generated_tokens,
        num_cached_tokens=sequence.num_cached_tokens,
        num_cached_images=sequence.num_cached_images,
        seconds=sequence.clock.seconds,
    )
