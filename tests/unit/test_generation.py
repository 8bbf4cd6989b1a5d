"""The core without a wire: each request ends once, is counted once, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from harness import make_files
from idefics2_service.budget import Budget
from idefics2_service.errors import (
    BackendUnavailable,
    FileNotAnImage,
    InternalError,
    PromptMissing,
    QueueFull,
    RequestCancelled,
    RequestDeadlineExceeded,
    ServiceError,
    ServiceStopping,
    StartTimeout,
)
from idefics2_service.events import Failed, Finished, LogLine, QueuePosition, StageEntered, TextDelta
from idefics2_service.generation import Generation
from idefics2_service.lifecycle import Means
from idefics2_service.metrics import Metrics
from idefics2_service.queue import Turns
from idefics2_service.requests import (
    Deadlines,
    FinishReason,
    GenerateInput,
    ImageSource,
    RequestName,
    Stage,
    Usage,
)
from idefics2_service.settings import LimitSettings
from pictures import MAX_CONTEXT_TOKENS, NUM_IMAGE_TOKENS, NUM_PROMPT_TOKENS, red_circle
from turns import let_others_run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from idefics2_service.backend import BackendEvent
    from idefics2_service.events import Event, Happening
    from idefics2_service.requests import ResolvedRequest

NO_DEADLINES = Deadlines()
SECRET_PROMPT = "What did the patient say?"
PICTURE = red_circle()


class GatedBackend(FakeBackend):
    """Begins to answer, and goes on when its gate opens."""

    def __init__(self, script: Script) -> None:
        """Begin with the gate closed."""
        super().__init__(script)
        self.gate = asyncio.Event()

    async def generate(self, request: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        """As Backend.generate."""
        yield TextDelta("at the gate", 0)
        await self.gate.wait()
        async for event in super().generate(request):
            yield event


@dataclass
class Core:
    """A Generation and all that it works with."""

    script: Script = field(default_factory=Script)
    turns: Turns = field(default_factory=lambda: Turns(1, 1))
    budget: Budget = field(default_factory=lambda: Budget(2**30))
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        """Put it together."""
        self.backend = GatedBackend(self.script)
        self.backend.gate.set()
        self.generation = Generation(
            Means(self.backend, self.turns, make_files(), self.budget, LimitSettings(), self.metrics)
        )

    def attach(self, deadlines: Deadlines = NO_DEADLINES, **fields: Any) -> Any:
        """Attach to a good request with `fields` set on top."""
        return self.generation.attach(RequestName("anna", "one"), ask(**fields), deadlines)

    async def run(self, **fields: Any) -> list[Happening]:
        """Watch a request to its end."""
        async with self.attach(**fields) as events:
            return [event.happening async for event in events]

    async def num_ended(self) -> dict[str, float]:
        """Count the requests that ended, by reason, when all did: each is counted after its last event."""
        await asyncio.gather(*self.generation._tasks, return_exceptions=True)
        (metric,) = self.metrics.requests.collect()
        return {s.labels["reason"]: s.value for s in metric.samples if s.name.endswith("_total") and s.value}

    def count_of(self, name: str, **labels: str) -> float | None:
        """Count what a histogram was told."""
        return self.metrics.registry.get_sample_value(f"{name}_count", labels)

    def check_idle(self) -> None:
        self.script.check_used_up()
        assert (self.turns.num_running, self.turns.num_waiting, self.budget.num_bytes) == (0, 0, 0)


@pytest.fixture
def core() -> Core:
    """One turn at a time, and one who may wait."""
    return Core()


def ask(**fields: Any) -> GenerateInput:
    """Ask about a red circle, with `fields` set on top."""
    image = ImageSource("images[0].data", data=PICTURE)
    return GenerateInput(**{"prompt": SECRET_PROMPT, "images": (image,), "seed": 7, **fields})


async def watch_until(events: AsyncIterator[Event], kind: type[Happening]) -> Happening:
    """Watch until something of `kind` happens."""
    async for event in events:
        if isinstance(event.happening, kind):
            return event.happening
    raise AssertionError(kind)


async def read_end(events: AsyncIterator[Event]) -> Happening:
    """Watch to the last event."""
    return [event async for event in events][-1].happening


def check_failed(happening: Happening, kind: type[ServiceError]) -> ServiceError:
    assert isinstance(happening, Failed)
    assert type(happening.error) is kind
    return happening.error


async def test_an_answer_is_told_from_its_first_stage_to_its_end(core: Core) -> None:
    core.script.add(Answer(("A", " red"), "LENGTH"))
    happenings = await core.run()
    assert happenings[:-1] == [
        StageEntered(Stage.RESOLVING),
        LogLine(f"images[0].data: PNG, 200 x 150, {len(PICTURE)} bytes"),
        StageEntered(Stage.QUEUED),
        QueuePosition(0),
        TextDelta("at the gate", 0),
        StageEntered(Stage.PREFILL),
        StageEntered(Stage.DECODE),
        TextDelta("A", 1),
        TextDelta(" red", 2),
    ]
    last = happenings[-1]
    assert isinstance(last, Finished)
    assert last.output.output == "at the gateA red"
    assert (last.output.finish_reason, last.output.usage) == (
        FinishReason.LENGTH,
        Usage(NUM_PROMPT_TOKENS, NUM_IMAGE_TOKENS, 3),
    )
    assert (last.output.request_id, last.output.seed) == ("one", 7)
    assert set(last.output.stage_seconds) == {
        "resolving",
        "queued",
        "prefill",
        "decode",
        "total",
        "preprocessing",
        "vision",
    }
    core.check_idle()


async def test_a_request_that_is_cancelled_before_its_first_step_has_its_last_event_all_the_same(
    core: Core,
) -> None:
    async with core.attach() as events:
        pass
    (event,) = [event async for event in events]
    check_failed(event.happening, RequestCancelled)
    assert await core.num_ended() == {"REQUEST_CANCELLED": 1}
    core.check_idle()


async def test_a_caller_who_leaves_ends_the_request_and_frees_its_turn(core: Core) -> None:
    core.script.add(Answer(("A",), holds=True), Answer(("B",)))
    async with core.attach() as events:
        assert await watch_until(events, StageEntered) == StageEntered(Stage.RESOLVING)
        while await watch_until(events, TextDelta) != TextDelta("A", 1):
            pass
        assert core.turns.num_running == 1
    await core.script.cancelled.wait()
    assert isinstance((await core.run())[-1], Finished)
    assert core.script.num_cancelled == 1
    assert await core.num_ended() == {"REQUEST_CANCELLED": 1, "OK": 1}
    core.check_idle()


async def test_a_caller_who_leaves_the_line_leaves_it_to_the_others(core: Core) -> None:
    core.script.add(Answer(("A",)), Answer(("C",)))
    core.backend.gate.clear()
    async with core.attach() as first:
        await watch_until(first, TextDelta)
        async with core.attach() as second:
            await watch_until(second, QueuePosition)
            assert core.turns.num_waiting == 1
        check_failed(await read_end(second), RequestCancelled)
        core.backend.gate.set()
        assert isinstance(await read_end(first), Finished)
    assert isinstance((await core.run())[-1], Finished)
    assert await core.num_ended() == {"REQUEST_CANCELLED": 1, "OK": 2}
    core.check_idle()


async def test_a_deadline_ends_a_request_and_frees_what_it_holds(core: Core) -> None:
    core.script.add(Answer(("A",), holds=True))
    async with core.attach(Deadlines(end=asyncio.get_running_loop().time())) as events:
        check_failed(await read_end(events), RequestDeadlineExceeded)
    assert await core.num_ended() == {"REQUEST_DEADLINE_EXCEEDED": 1}
    assert core.turns.num_running == 0


async def test_a_request_without_a_turn_at_its_start_deadline_ends_and_one_with_a_turn_goes_on(
    core: Core,
) -> None:
    core.script.add(Answer(("A",)))
    core.backend.gate.clear()
    soon = Deadlines(start=asyncio.get_running_loop().time() + 0.05)
    async with core.attach(soon) as begun, core.attach(soon) as waiting:
        check_failed(await read_end(waiting), StartTimeout)
        core.backend.gate.set()
        assert isinstance(await read_end(begun), Finished)
    assert await core.num_ended() == {"START_TIMEOUT": 1, "OK": 1}
    core.check_idle()


async def test_a_bad_image_is_refused_without_waiting_for_a_turn(core: Core) -> None:
    core.script.add(Answer(holds=True))
    async with core.attach() as running:
        await watch_until(running, QueuePosition)
        bad = ImageSource("images[0].data", data=b"no picture")
        happenings = await core.run(images=(bad,))
        assert happenings[0] == StageEntered(Stage.RESOLVING)
        assert check_failed(happenings[-1], FileNotAnImage).field == "images[0].data"
        assert len(happenings) == 2
        assert core.turns.num_running == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(failure=("FILE_UNDECODABLE", "images[0] is damaged", "images[0]")), "FILE_UNDECODABLE"),
        (Answer(failure=("INTERNAL_ERROR", "broken at images[0]", "images[0]")), "INTERNAL_ERROR"),
        (Answer(("A",), is_lost=True), "BACKEND_UNAVAILABLE"),
    ],
)
async def test_what_the_backend_says_is_the_last_event_and_is_counted_once(
    core: Core, answer: Answer, kind: str
) -> None:
    core.script.add(answer, Answer(("next",)))
    last = (await core.run())[-1]
    assert isinstance(last, Failed)
    assert last.error.reason == kind
    assert await core.num_ended() == {kind: 1}
    assert isinstance((await core.run())[-1], Finished)
    core.check_idle()


async def test_a_backend_that_ends_without_finishing_is_unavailable(core: Core) -> None:
    async def break_off(_: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        yield StageEntered(Stage.PREFILL)

    core.backend.generate = break_off  # type: ignore[assignment]
    check_failed((await core.run())[-1], BackendUnavailable)
    core.check_idle()


async def test_an_unknown_fault_is_told_by_the_requests_id_alone_and_logged_once(core: Core) -> None:
    async def fail(_: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        yield StageEntered(Stage.PREFILL)
        raise ZeroDivisionError("a secret")

    core.backend.generate = fail  # type: ignore[assignment]
    with structlog.testing.capture_logs() as lines:
        error = check_failed((await core.run())[-1], InternalError)
    assert "one" in error.message
    assert "secret" not in error.message
    (logged,) = [line for line in lines if line["log_level"] == "error"]
    assert isinstance(logged["exc_info"], ZeroDivisionError)
    assert logged["request_id"] == "one"
    assert await core.num_ended() == {"INTERNAL_ERROR": 1}
    core.check_idle()


async def test_what_an_answer_used_is_measured_once(core: Core) -> None:
    core.script.add(Answer(("A", "B")), Answer(failure=("INTERNAL_ERROR", "broken", "images[0]")))
    await core.run()
    await core.run()
    assert await core.num_ended() == {"OK": 1, "INTERNAL_ERROR": 1}
    for name in ("time_to_first_token_seconds", "request_prompt_tokens", "request_generation_tokens"):
        assert core.count_of(f"idefics2_{name}") == 1, name
    for stage in ("resolving", "queued", "prefill", "decode", "total"):
        assert core.count_of("idefics2_stage_seconds", stage=stage) == 1
    assert core.count_of("idefics2_image_bytes", format="PNG") == 2
    assert core.metrics.registry.get_sample_value("idefics2_request_prompt_tokens_sum") == NUM_PROMPT_TOKENS
    assert core.metrics.registry.get_sample_value("idefics2_request_generation_tokens_sum") == 3


async def test_a_request_has_one_line_in_the_log_without_its_prompt(core: Core) -> None:
    core.script.add(Answer(("A red",)))
    with structlog.testing.capture_logs() as lines:
        await core.run()
        await core.run(images=(ImageSource("image_url", url="ftp://host/x?signature=abc"),))
    ended = [line for line in lines if line["event"] == "request ended"]
    assert [line["reason"] for line in ended] == ["OK", "FILE_URL_UNSUPPORTED"]
    assert [(line["request_id"], line["key_id"]) for line in ended] == [("one", "anna")] * 2
    assert ended[0]["num_generated_tokens"] == 2
    assert ended[1]["field"] == "image_url"
    for secret in (SECRET_PROMPT, "A red", "signature"):
        assert secret not in str(lines)


async def test_what_is_not_taken_is_refused_before_it_begins(core: Core) -> None:
    with pytest.raises(PromptMissing):
        await core.run(prompt="")
    await core.backend.set_healthy(healthy=False)
    assert not core.generation.is_serving
    with pytest.raises(BackendUnavailable):
        await core.run()
    assert await core.num_ended() == {"PROMPT_MISSING": 1, "BACKEND_UNAVAILABLE": 1}
    core.check_idle()


async def test_one_more_than_may_wait_is_not_taken(core: Core) -> None:
    core.script.add(Answer(holds=True))
    async with core.attach() as running:
        await watch_until(running, QueuePosition)
        async with core.attach() as waiting:
            await watch_until(waiting, QueuePosition)
            with pytest.raises(QueueFull):
                await core.run()
            await core.generation.count_tokens("anna", ask())  # needs no turn


@pytest.mark.parametrize(
    ("max_new_tokens", "fits"),
    [
        (1, True),
        (MAX_CONTEXT_TOKENS - NUM_PROMPT_TOKENS, True),
        (MAX_CONTEXT_TOKENS - NUM_PROMPT_TOKENS + 1, False),
    ],
)
async def test_counting_tells_whether_the_answer_would_fit(
    core: Core, max_new_tokens: int, *, fits: bool
) -> None:
    count, told = await core.generation.count_tokens("anna", ask(max_new_tokens=max_new_tokens))
    assert (count.num_prompt_tokens, count.max_context_tokens) == (NUM_PROMPT_TOKENS, MAX_CONTEXT_TOKENS)
    assert told is fits
    assert await core.num_ended() == {}


async def test_stopping_lets_what_runs_finish_and_takes_nothing_new(core: Core) -> None:
    core.script.add(Answer(("A",)), Answer(("B",)))
    core.backend.gate.clear()
    async with core.attach() as running, core.attach() as waiting:
        await watch_until(running, TextDelta)
        await watch_until(waiting, QueuePosition)
        stopping = asyncio.create_task(core.generation.stop(60))
        await let_others_run()
        for refused in (core.run(), core.generation.count_tokens("anna", ask())):
            with pytest.raises(ServiceStopping):
                await refused
        assert not stopping.done()
        core.backend.gate.set()
        await stopping
        assert isinstance(await read_end(running), Finished)
        assert isinstance(await read_end(waiting), Finished)
    assert await core.num_ended() == {"OK": 2, "SERVICE_STOPPING": 1}
    core.check_idle()


async def test_stopping_ends_what_does_not_finish_in_time(core: Core) -> None:
    core.script.add(Answer(("A",), holds=True))
    async with core.attach() as running:
        while await watch_until(running, TextDelta) != TextDelta("A", 1):
            pass
        await core.generation.stop(0)
        assert core.script.num_cancelled == 1
        core.check_idle()
        assert isinstance(await read_end(running), Failed)
    assert sum((await core.num_ended()).values()) == 1


async def test_stopping_with_nothing_to_do_returns_and_takes_nothing_new(core: Core) -> None:
    assert core.generation.is_serving
    await core.generation.stop(60)
    assert not core.generation.is_serving
    with pytest.raises(ServiceStopping):
        await core.run()


async def test_stopping_tells_who_was_cut_short_to_ask_another_replica(core: Core) -> None:
    core.script.add(Answer(("A",), holds=True))
    async with core.attach() as running, core.attach() as waiting:
        while await watch_until(running, TextDelta) != TextDelta("A", 1):
            pass
        await watch_until(waiting, QueuePosition)
        await core.generation.stop(0)
        core.check_idle()
        check_failed(await read_end(running), ServiceStopping)
        check_failed(await read_end(waiting), ServiceStopping)
    assert await core.num_ended() == {"SERVICE_STOPPING": 2}
