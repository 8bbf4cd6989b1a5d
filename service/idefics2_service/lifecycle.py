"""One request's way, top to bottom: resolve the images, take a turn, stream the answer.

Where the program counter stands is the request's stage.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from idefics2_service.backend import Backend, BackendFinished
from idefics2_service.errors import (
    BackendUnavailable,
    FileStoreUnavailable,
    RequestDeadlineExceeded,
    StartTimeout,
)
from idefics2_service.events import Happening, LogLine, QueuePosition, StageEntered, TextDelta
from idefics2_service.requests import (
    Deadlines,
    GenerateOutput,
    ImageFile,
    RequestName,
    ResolvedRequest,
    Stage,
    ValidRequest,
)
from idefics2_service.tracing.spans import NO_TRACER, Tracer, current_span, reason_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType

    from idefics2_service.budget import Budget
    from idefics2_service.files import Files
    from idefics2_service.metrics import Metrics
    from idefics2_service.queue import Turns
    from idefics2_service.settings import LimitSettings
    from idefics2_service.tracing.spans import Value

Publish = Callable[[Happening], None]
_GIVEN_UP = (asyncio.CancelledError, RequestDeadlineExceeded, StartTimeout)
"""How a request ends that is not waited for any more."""


@dataclass(frozen=True)
class Means:
    """What a request needs on its way."""

    backend: Backend
    turns: Turns
    files: Files
    budget: Budget
    limits: LimitSettings
    metrics: Metrics
    is_accepted: bool = False
    """Whether requests were accepted before, so that a full line refuses none of them."""
    tracer: Tracer = NO_TRACER
    """Begins spans of requests that no call of this replica is open for."""


class StageClock:
    """Publishes stages as they are entered, measures them, and has a span for each."""

    def __init__(self, publish: Publish) -> None:
        """Start now."""
        self.publish = publish
        self._parent = self._span = current_span()
        self._entered: list[tuple[Stage, float]] = []
        self._started = time.monotonic()

    def enter(self, stage: Stage) -> None:
        """End the stage before and begin `stage`."""
        self._entered.append((stage, time.monotonic()))
        self._end_stage()
        self._span = self._parent.begin(stage.value)
        self.publish(StageEntered(stage))

    def __enter__(self) -> Self:
        """Begin without a stage."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the last stage, and say so where the request failed in it."""
        self._end_stage(error)

    def _end_stage(self, error: BaseException | None = None) -> None:
        if self._span is self._parent:  # there was none
            return
        if error is not None:
            self._span.fail(reason_of(error))
        self._span.end()

    def has_entered(self, stage: Stage) -> bool:
        """Tell whether a stage was reached."""
        return any(entered is stage for entered, _ in self._entered)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def seconds(self) -> dict[str, float]:
        """Seconds in each stage so far, and `total`."""
        now = time.monotonic()
        ends = [start for _, start in self._entered[1:]] + [now]
        seconds = {stage.value.lower(): 0.0 for stage in Stage}
        for (stage, start), end in zip(self._entered, ends, strict=True):
            seconds[stage.value.lower()] += end - start
        return {**seconds, "total": now - self._started}


async def run(
    name: RequestName,
    request: ValidRequest,
    deadlines: Deadlines,
    means: Means,
    publish: Publish,
    *,
    goes_on: Callable[[], bool] = lambda: False,
) -> GenerateOutput:
    """Answer one request and tell `publish` what happens on the way; the end is what this returns or raises.

    Args:
        name: Whose it is, and under which id it is logged and answered.
        request: What to answer.
        deadlines: When to give up.
        means: What it needs.
        publish: Hears of each event.
        goes_on: Tells of what was cancelled whether somebody else answers the request.

    Cancelling it frees everything that the request holds.

    Raises:
        ServiceError: there is no answer.

    """
    model = means.backend.name.rpartition("/")[2]
    span = current_span().begin(f"generate_content {model}", attributes=_describe(name, request, model))
    with span, StageClock(publish) as clock, _measuring_vain_waits(clock, means.metrics, goes_on):
        output = await _run(name, request, deadlines, means, clock)
        span.describe(_describe_answer(output))
    return output


@contextmanager
def _measuring_vain_waits(clock: StageClock, metrics: Metrics, goes_on: Callable[[], bool]) -> Iterator[None]:
    """Measure how long those had waited who went without a token: `time_to_first_token` never sees them."""
    try:
        yield
    except _GIVEN_UP:
        if not clock.has_entered(Stage.DECODE) and not goes_on():
            metrics.time_without_token.observe(clock.elapsed)
        raise


def _describe(name: RequestName, request: ValidRequest, model: str) -> dict[str, Value]:
    """Say of a request what anybody may know who looks at traces."""
    return {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.request.model": model,
        "gen_ai.request.max_tokens": request.max_new_tokens,
        "gen_ai.request.temperature": request.temperature,
        "gen_ai.request.top_p": request.top_p,
        "gen_ai.request.top_k": request.top_k,
        "gen_ai.response.id": name.request_id,
        "idefics2.num_images": len(request.images),
    }


def _describe_answer(output: GenerateOutput) -> dict[str, Value]:
    usage = output.usage
    return {
        "gen_ai.response.finish_reasons": (output.finish_reason.value,),
        "gen_ai.usage.input_tokens": usage.num_prompt_tokens,
        "gen_ai.usage.output_tokens": usage.num_generated_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.num_cached_tokens,
    }


async def _run(
    name: RequestName, request: ValidRequest, deadlines: Deadlines, means: Means, clock: StageClock
) -> GenerateOutput:
    try:
        async with asyncio.timeout_at(deadlines.end), _starting(deadlines.start) as begin:
            _check_time(deadlines.end)
            clock.enter(Stage.RESOLVING)
            async with hold_images(name.key_id, request, means, clock.publish) as images:
                clock.enter(Stage.QUEUED)
                async with _turn(name.key_id, means, clock.publish):
                    _check_time(deadlines.end)
                    begin()
                    resolved = ResolvedRequest(name, request, images)
                    async with _within(means.limits.max_run_seconds):
                        output = await _answer(resolved, means, clock)
            _check_time(deadlines.end)
    except TimeoutError as error:
        message = f"the deadline passed after {clock.elapsed:.3f} s"
        raise RequestDeadlineExceeded(message) from error
    return output


def _check_time(deadline: float | None) -> None:
    """Look at the clock: asyncio's timeouts end what waits, and a task that is ready runs before they do.

    Raises:
        TimeoutError: the deadline has passed.

    """
    if deadline is not None and asyncio.get_running_loop().time() >= deadline:
        raise TimeoutError


@asynccontextmanager
async def _starting(deadline: float | None) -> AsyncIterator[Callable[[], None]]:
    """Give up at `deadline` what was not begun; what is yielded is called when it is."""
    start = asyncio.timeout_at(deadline)
    is_late = False

    def begin() -> None:
        nonlocal is_late
        is_late = True
        _check_time(deadline)
        is_late = False
        start.reschedule(None)

    try:
        async with start:
            yield begin
    except TimeoutError as error:
        if not (start.expired() or is_late):
            raise
        raise StartTimeout("the request was not begun within its start_timeout") from error


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    """Give up what takes longer than any request may once it has its turn.

    Raises:
        RequestDeadlineExceeded: it does; names the bound.

    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        bound = f"{seconds:g}"
        message = f"the request did not end within {bound} s of its turn on the model; none may take longer"
        raise RequestDeadlineExceeded(message, bound=bound) from error


@asynccontextmanager
async def hold_images(
    key_id: str, request: ValidRequest, means: Means, publish: Publish
) -> AsyncIterator[tuple[ImageFile, ...]]:
    """Read all images of a key's request, and hold their bytes in the budget.

    That is done before the request takes a turn: a slow file never holds the model.

    Raises:
        InvalidInput: FILE_*, of the first image that cannot be read.
        FileNotUploaded: names all that are missing.
        MemoryFull: there is no room for images that came with the request; where all are elsewhere, it waits.

    """
    sources, most = request.images, request.max_image_bytes
    # A call holds what it sent; what was accepted before has no call.
    num_sent = sum(source.num_sent_bytes for source in sources) if means.is_accepted else 0
    num_bytes = num_sent + sum(source.most_added_bytes(most) for source in sources)
    async with AsyncExitStack() as stack:
        if all(source.is_elsewhere for source in sources):
            room = await stack.enter_async_context(means.budget.reserve(key_id, num_bytes))
        else:
            held = means.budget.hold(key_id, num_bytes, is_accepted=means.is_accepted)
            room = stack.enter_context(held)
        images = await _read_images(key_id, request, means, publish)
        added = (len(i.data) for i, source in zip(images, sources, strict=True) if source.data is None)
        room.shrink(num_sent + sum(added))
        yield images


def _turn(key_id: str, means: Means, publish: Publish) -> AbstractAsyncContextManager[None]:
    return means.turns.take(key_id, lambda n: publish(QueuePosition(n)), is_accepted=means.is_accepted)


async def _read_images(
    key_id: str, request: ValidRequest, means: Means, publish: Publish
) -> tuple[ImageFile, ...]:
    images = []
    try:
        found = await means.files.find(request.images, key_id, request.max_image_bytes)
    except FileStoreUnavailable:
        if not means.is_accepted:
            raise
        found = (None,) * len(request.images)  # what is ours was copied before the request was accepted
    for source in await means.files.load(request.images, found):
        image = await means.files.resolve(source, key_id, request.max_image_bytes)
        means.metrics.record_image(image)
        publish(
            LogLine(f"{image.field}: {image.format}, {image.width} x {image.height}, {len(image.data)} bytes")
        )
        images.append(image)
    return tuple(images)


async def _answer(resolved: ResolvedRequest, means: Means, clock: StageClock) -> GenerateOutput:
    text, finished = await _stream(resolved, means, clock)
    return GenerateOutput(
        output=text,
        finish_reason=finished.finish_reason,
        usage=finished.usage,
        stage_seconds={
            **clock.seconds(),
            "preprocessing": finished.preprocessing_seconds,
            "vision": finished.vision_seconds,
        },
        request_id=resolved.name.request_id,
        seed=resolved.request.seed,
    )


async def _stream(resolved: ResolvedRequest, means: Means, clock: StageClock) -> tuple[str, BackendFinished]:
    """Pass on what the backend says; return the text and how it ended."""
    pieces: list[str] = []
    async with aclosing(means.backend.generate(resolved)) as events:
        async for event in events:
            match event:
                case StageEntered(stage):
                    clock.enter(stage)
                    if stage is Stage.DECODE:
                        means.metrics.time_to_first_token.observe(clock.elapsed)
                case TextDelta(text):
                    pieces.append(text)
                    clock.publish(event)
                case BackendFinished():
                    return "".join(pieces), event
    raise BackendUnavailable("the model's server ended the answer without finishing it")
