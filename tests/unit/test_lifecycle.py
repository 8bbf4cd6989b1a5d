"""One request's way: what it holds in memory, and that nothing is begun or answered after its time."""

from __future__ import annotations

import asyncio
import base64
import time
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from harness import make_files
from idefics2_service import lifecycle
from idefics2_service.budget import Budget
from idefics2_service.errors import (
    FileNotAnImage,
    FileStoreUnavailable,
    MemoryFull,
    RequestDeadlineExceeded,
    ServiceError,
    StartTimeout,
)
from idefics2_service.files import Files
from idefics2_service.lifecycle import Means
from idefics2_service.metrics import Metrics
from idefics2_service.queue import Turns
from idefics2_service.requests import Deadlines, GenerateInput, ImageSource, RequestName
from idefics2_service.settings import LimitSettings
from idefics2_service.validation import validate
from pictures import red_circle
from turns import let_others_run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from idefics2_service.backend import BackendEvent
    from idefics2_service.events import Happening
    from idefics2_service.requests import GenerateOutput, ImageFile, ResolvedRequest

A_LITTLE = 0.02
"""Seconds by which something is late."""
NO_DEADLINES = Deadlines()
LIMITS = LimitSettings(max_image_bytes=1_000_000)
PICTURE = red_circle() + bytes(100_000)
INLINE = ImageSource("images[0].data", data=PICTURE)
DATA_URI = ImageSource("image_url", url="data:;base64," + base64.b64encode(PICTURE).decode())
ELSEWHERE = ImageSource("image_url", url="https://example.org/cat.png")


def soon(seconds: float = 0.5) -> float:
    """Return a time on the event loop's clock, on a busy machine later than what has to come before it."""
    return asyncio.get_running_loop().time() + seconds


def wait_busily(until: float) -> None:
    """Let nobody else run before a time on the event loop's clock: not even a timeout."""
    while asyncio.get_running_loop().time() < until:
        pass


class SlowFiles(Files):
    """Fetches what is elsewhere when its gate opens, and reads what is here until a time."""

    def __init__(self) -> None:
        """Begin with the gate closed."""
        ready = make_files()
        super().__init__(LIMITS, ready._downloads, ready._library)
        self.gate, self.data, self.busy_until = asyncio.Event(), PICTURE, 0.0
        self.num_asked = 0

    async def resolve(self, source: ImageSource, key_id: str, max_image_bytes: int) -> ImageFile:
        """As Files.resolve."""
        self.num_asked += 1
        wait_busily(self.busy_until)
        if source == ELSEWHERE:
            await self.gate.wait()
            source = ImageSource(source.field, data=self.data)
        return await super().resolve(source, key_id, max_image_bytes)


class SlowBackend(FakeBackend):
    """Ends when a time has passed, without letting anybody else run."""

    num_asked = 0
    busy_until = 0.0
    asked_last: RequestName | None = None

    async def generate(self, request: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        """As Backend.generate."""
        self.num_asked += 1
        self.asked_last = request.name
        async for event in super().generate(request):
            yield event
            wait_busily(self.busy_until)


@dataclass
class Way:
    """All that requests need on their way."""

    script: Script = field(default_factory=Script)
    turns: Turns = field(default_factory=lambda: Turns(1, 8))
    budget: Budget = field(default_factory=lambda: Budget(3_000_000))
    happenings: list[Happening] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Put it together."""
        self.backend, self.files = SlowBackend(self.script), SlowFiles()
        self.means = Means(self.backend, self.turns, self.files, self.budget, LIMITS, Metrics())

    def begin(
        self, *images: ImageSource, deadlines: Deadlines = NO_DEADLINES, key_id: str = "anna"
    ) -> asyncio.Task[GenerateOutput]:
        """Begin a request about images, by default one that came with it."""
        request = validate(GenerateInput("What is this?", images or (INLINE,)), LIMITS)
        name = RequestName(key_id, "one")
        run = lifecycle.run(name, request, deadlines, self.means, self.happenings.append)
        return asyncio.create_task(run)

    def limit_run(self, seconds: float) -> None:
        """Let requests that are begun from now on take no longer than this from their turn."""
        self.means = replace(self.means, limits=LimitSettings(max_run_seconds=seconds))

    def count_vain_waits(self) -> tuple[float, float]:
        """Count those who went without a token: all, and who had waited longer than is promised."""
        read, name = self.means.metrics.registry.get_sample_value, "idefics2_time_without_token_seconds"
        count, in_time = read(f"{name}_count"), read(f"{name}_bucket", {"le": "5.0"})
        assert count is not None
        assert in_time is not None
        return count, count - in_time

    async def begin_endless(self) -> asyncio.Task[GenerateOutput]:
        """Begin a request that has the only turn until it is cancelled."""
        self.script.add(Answer(("A",), holds=True))
        task = self.begin(key_id="holder")
        while not self.backend.num_asked:
            await let_others_run()
        return task

    def check_idle(self) -> None:
        """Fail where something was not given back, or an answer was not asked for."""
        self.script.check_used_up()
        assert (self.turns.num_running, self.turns.num_waiting, self.budget.num_bytes) == (0, 0, 0)


@pytest.fixture
async def way() -> Way:
    """One turn, and 3 MB."""
    return Way()


async def error_of(task: asyncio.Task[Any]) -> ServiceError:
    """Return how a request failed that must fail."""
    with pytest.raises(ServiceError) as caught:
        await asyncio.wait_for(task, 20)
    return caught.value


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it is gone."""
    task.cancel()
    await asyncio.wait((task,))


@pytest.mark.parametrize("image", [INLINE, ELSEWHERE])
async def test_whose_deadline_passed_before_is_not_even_looked_at(way: Way, image: ImageSource) -> None:
    error = await error_of(way.begin(image, deadlines=Deadlines(end=soon(0))))
    assert type(error) is RequestDeadlineExceeded
    assert (way.files.num_asked, way.backend.num_asked, way.happenings) == (0, 0, [])
    way.check_idle()


async def test_a_deadline_that_passes_while_an_image_is_fetched_ends_the_fetching(way: Way) -> None:
    error = await error_of(way.begin(ELSEWHERE, deadlines=Deadlines(end=soon())))
    assert type(error) is RequestDeadlineExceeded
    assert (way.files.num_asked, way.backend.num_asked) == (1, 0)
    way.check_idle()


@pytest.mark.parametrize(("field_name", "kind"), [("end", RequestDeadlineExceeded), ("start", StartTimeout)])
async def test_what_is_ready_only_after_its_deadline_never_reaches_the_model_though_a_turn_is_free(
    way: Way, field_name: str, kind: type[ServiceError]
) -> None:
    end = soon()
    way.files.busy_until = end + A_LITTLE
    deadlines = replace(NO_DEADLINES, **{field_name: end})
    assert type(await error_of(way.begin(deadlines=deadlines))) is kind
    assert (way.files.num_asked, way.backend.num_asked) == (1, 0)
    way.check_idle()


@pytest.mark.parametrize(("field_name", "kind"), [("end", RequestDeadlineExceeded), ("start", StartTimeout)])
async def test_a_deadline_that_passes_in_the_line_leaves_the_line(
    way: Way, field_name: str, kind: type[ServiceError]
) -> None:
    holder = await way.begin_endless()
    waiting = way.begin(deadlines=replace(NO_DEADLINES, **{field_name: soon()}))
    await let_others_run()
    assert way.turns.num_waiting == 1
    assert type(await error_of(waiting)) is kind
    assert way.turns.num_waiting == 0
    await cancel(holder)
    assert way.backend.num_asked == 1
    way.check_idle()


@pytest.mark.parametrize(("seconds", "num_late"), [(0, 0), (6, 1)])
@pytest.mark.parametrize("how", ["cancelled", "end", "start"])
async def test_who_goes_without_a_token_is_late_who_had_waited_longer_than_is_promised(
    way: Way, monkeypatch: pytest.MonkeyPatch, how: str, seconds: float, num_late: int
) -> None:
    holder = await way.begin_endless()
    deadlines = NO_DEADLINES if how == "cancelled" else replace(NO_DEADLINES, **{how: soon()})
    waiting = way.begin(deadlines=deadlines)
    await let_others_run()
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + seconds)
    monkeypatch.setattr(lifecycle, "time", later)
    if how == "cancelled":
        await cancel(waiting)
    else:
        await error_of(waiting)
    assert way.count_vain_waits() == (1, num_late)
    await cancel(holder)
    assert way.count_vain_waits() == (1, num_late)  # the holder had its tokens
    way.check_idle()


async def test_who_is_refused_or_fails_has_not_waited_in_vain(way: Way) -> None:
    way.files.data = b"no picture"
    way.files.gate.set()
    assert type(await error_of(way.begin(ELSEWHERE))) is FileNotAnImage
    assert way.count_vain_waits() == (0, 0)
    way.check_idle()


@pytest.mark.parametrize(("field_name", "kind"), [("end", RequestDeadlineExceeded), ("start", StartTimeout)])
async def test_a_turn_that_comes_after_the_deadline_goes_on_to_the_next(
    way: Way, field_name: str, kind: type[ServiceError]
) -> None:
    holder = await way.begin_endless()
    end = soon()
    late, patient = way.begin(deadlines=replace(NO_DEADLINES, **{field_name: end})), way.begin()
    await let_others_run()
    assert way.turns.num_waiting == 2
    way.script.add(Answer(("B",)))
    holder.cancel()
    wait_busily(end)  # the turn is given before any timeout can be told
    assert type(await error_of(late)) is kind
    assert (await asyncio.wait_for(patient, 20)).output == "B"
    assert way.backend.num_asked == 2
    way.check_idle()


async def test_an_answer_that_is_complete_only_after_its_deadline_is_not_told(way: Way) -> None:
    way.script.add(Answer(("A",)))
    end = soon()
    way.backend.busy_until = end + A_LITTLE
    assert type(await error_of(way.begin(deadlines=Deadlines(end=end)))) is RequestDeadlineExceeded
    way.check_idle()


async def test_a_deadline_in_mid_answer_tells_the_model_to_stop(way: Way) -> None:
    way.script.add(Answer(("A",), holds=True))
    assert type(await error_of(way.begin(deadlines=Deadlines(end=soon())))) is RequestDeadlineExceeded
    assert way.script.num_cancelled == 1
    way.check_idle()


async def test_the_model_is_told_whose_a_request_is(way: Way) -> None:
    way.script.add(Answer(("A",)))
    await way.begin(key_id="bert")
    assert way.backend.asked_last == RequestName("bert", "one")


async def test_what_was_begun_in_time_is_not_ended_by_its_start_timeout(way: Way) -> None:
    way.script.add(Answer(("A",)))
    start = soon()
    way.backend.busy_until = start + A_LITTLE
    assert (await way.begin(deadlines=Deadlines(start=start))).output == "A"


async def test_what_takes_longer_than_any_request_may_is_ended_and_the_model_is_told_to_stop(
    way: Way,
) -> None:
    way.limit_run(0.02)
    way.script.add(Answer(("A",), holds=True))
    error = await error_of(way.begin())
    assert type(error) is RequestDeadlineExceeded
    assert error.metadata == {"bound": "0.02"}
    assert "within 0.02 s of its turn on the model" in error.message
    assert way.script.num_cancelled == 1
    way.check_idle()


async def test_what_a_request_waits_for_before_its_turn_is_not_counted_as_its_run(way: Way) -> None:
    holder = await way.begin_endless()
    way.limit_run(0.1)
    waiting = way.begin(ELSEWHERE)
    await let_others_run()
    wait_busily(soon(0.2))
    way.files.gate.set()
    while not way.turns.num_waiting:
        await let_others_run()
    wait_busily(soon(0.2))
    way.script.add(Answer(("B",)))
    await cancel(holder)
    assert (await asyncio.wait_for(waiting, 20)).output == "B"
    way.check_idle()


@pytest.mark.parametrize("max_run_seconds", [0.02, 600])
async def test_the_bound_that_passes_first_ends_a_request(way: Way, max_run_seconds: float) -> None:
    way.limit_run(max_run_seconds)
    way.script.add(Answer(("A",), holds=True))
    seconds = 0.02 if max_run_seconds == 600 else 60
    error = await error_of(way.begin(deadlines=Deadlines(end=soon(seconds))))
    assert type(error) is RequestDeadlineExceeded
    assert error.metadata == ({} if max_run_seconds == 600 else {"bound": "0.02"})
    way.check_idle()


async def test_an_image_by_url_holds_all_that_may_come_and_then_what_came(way: Way) -> None:
    holder = await way.begin_endless()
    waiting = way.begin(ELSEWHERE)
    await let_others_run()
    assert way.budget.num_bytes == 1_000_000
    way.files.gate.set()
    await let_others_run()
    assert (way.turns.num_waiting, way.budget.num_bytes) == (1, len(PICTURE))
    await cancel(waiting)
    await cancel(holder)
    way.check_idle()


async def test_images_by_url_wait_for_room_and_each_is_answered(way: Way) -> None:
    way.script.add(*[Answer(("A",))] * 6)
    tasks = [way.begin(ELSEWHERE, ELSEWHERE) for _ in range(6)]
    await let_others_run()
    assert (way.files.num_asked, way.budget.num_bytes) == (1, 2_000_000)
    way.files.gate.set()
    outputs = await asyncio.wait_for(asyncio.gather(*tasks), 20)
    assert [output.output for output in outputs] == ["A"] * 6
    way.check_idle()


@pytest.mark.parametrize("deadlines", ["none", "end", "start"])
async def test_who_waits_for_room_is_ended_as_everywhere(way: Way, deadlines: str) -> None:
    holder = way.begin(ELSEWHERE, ELSEWHERE)
    given = NO_DEADLINES if deadlines == "none" else replace(NO_DEADLINES, **{deadlines: soon()})
    waiting = way.begin(ELSEWHERE, ELSEWHERE, deadlines=given)
    await let_others_run()
    if deadlines == "none":
        await cancel(waiting)
    else:
        await error_of(waiting)
    assert (way.files.num_asked, way.budget.num_bytes) == (1, 2_000_000)
    await cancel(holder)
    way.check_idle()


async def test_a_data_uri_holds_what_it_is_decoded_to_and_what_came_inline_is_its_calls(way: Way) -> None:
    holder = await way.begin_endless()
    assert way.budget.num_bytes == 0
    waiting = way.begin(DATA_URI)
    await let_others_run()
    while not way.turns.num_waiting:  # decoded in a thread
        await let_others_run()
    assert way.budget.num_bytes == len(PICTURE)
    await cancel(waiting)
    await cancel(holder)
    way.check_idle()


async def test_what_came_with_the_request_is_refused_where_there_is_no_room(way: Way) -> None:
    with way.budget.hold("anna", 1_500_000):
        for images in ((DATA_URI,), (INLINE, ELSEWHERE)):
            assert type(await error_of(way.begin(*images))) is MemoryFull
    assert way.files.num_asked == 0
    way.check_idle()


@pytest.mark.parametrize("is_accepted", [True, False])
async def test_a_link_that_may_be_ours_is_read_from_its_host_while_files_cannot_be_looked_up(
    way: Way, monkeypatch: pytest.MonkeyPatch, *, is_accepted: bool
) -> None:
    async def fail(*_: object) -> None:
        raise FileStoreUnavailable("it is away")

    monkeypatch.setattr(way.files, "find", fail)
    way.means = replace(way.means, is_accepted=is_accepted)
    way.files.gate.set()
    if is_accepted:
        way.script.add(Answer(("A circle",)))
        assert (await asyncio.wait_for(way.begin(ELSEWHERE), 20)).output == "A circle"
    else:
        assert type(await error_of(way.begin(ELSEWHERE))) is FileStoreUnavailable
    way.check_idle()


async def test_what_was_accepted_before_is_counted_with_all_its_bytes_and_not_refused(way: Way) -> None:
    holder = await way.begin_endless()
    way.means = replace(way.means, is_accepted=True)
    with way.budget.hold("anna", 3_000_000):
        waiting = way.begin(INLINE)
        await let_others_run()
        assert way.budget.num_bytes == 3_000_000 + len(PICTURE)
        await cancel(waiting)
    await cancel(holder)
    way.check_idle()


async def test_a_bad_image_gives_back_what_it_held(way: Way) -> None:
    way.files.data = b"no picture"
    way.files.gate.set()
    assert type(await error_of(way.begin(ELSEWHERE))) is FileNotAnImage
    way.check_idle()
