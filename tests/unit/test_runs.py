"""A claimed request is written as it happens, and ended, handed back or let go, whatever the store does."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from harness import make_files
from idefics2_service import runs
from idefics2_service.budget import Budget
from idefics2_service.errors import StartTimeout, StoreUnavailable
from idefics2_service.events import AttemptStarted, Failed, Finished, LogLine, StageEntered, TextDelta
from idefics2_service.lifecycle import Means
from idefics2_service.metrics import Metrics
from idefics2_service.queue import Turns
from idefics2_service.requests import ImageSource, RequestName, Stage, State
from idefics2_service.runs import Recorder, Run
from idefics2_service.settings import LimitSettings, StoreSettings
from idefics2_service.store import codec
from idefics2_service.store.interface import MAX_LOSSES
from idefics2_service.store.records import Claim
from idefics2_service.store.sqlite.store import SqliteStore
from idefics2_service.workers import Workers
from pictures import red_circle
from store.submissions import make_request, make_submission
from structlog.testing import capture_logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path

    from idefics2_service.store.interface import RequestStore
    from idefics2_service.store.records import Statistics
    from idefics2_service.uploads.records import StoredFile

ONE = RequestName("anna", "one")
PATIENCE_SECONDS = 20
MANY = 2**31


class UnreliableStore:
    """A store that counts its calls, and is away for some of them, before or after it did what was asked."""

    def __init__(self, store: RequestStore) -> None:
        """Stand before `store`."""
        self._store = store
        self.calls: Counter[str] = Counter()
        self.away_before: Counter[str] = Counter()
        self.away_after: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        """Pass a call on, or fail."""
        method = getattr(self._store, name)
        if not asyncio.iscoroutinefunction(method):
            return method

        async def call(*arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            if self.away_before[name]:
                self.away_before[name] -= 1
                raise StoreUnavailable("away")
            answer = await method(*arguments, **options)
            if self.away_after[name]:
                self.away_after[name] -= 1
                raise StoreUnavailable("the answer was lost")
            return answer

        return call


class Bench:
    """A store with one request, and all that is needed to run it."""

    def __init__(self, store: RequestStore) -> None:
        """Put it together."""
        self.script = Script()
        self.store: Any = UnreliableStore(store)
        self.settings = StoreSettings(lease_seconds=2, renew_seconds=0.01)
        self.turns = Turns(4, 4)
        self.num_released_before_loss: list[int] = []
        self.backend, budget = FakeBackend(self.script), Budget(2**30)
        self.means = Means(self.backend, self.turns, make_files(), budget, LimitSettings(), Metrics())

    async def submit(
        self, request_id: str = "one", key_id: str = ONE.key_id, num_image_bytes: int = 0, **submitted: Any
    ) -> None:
        """Submit a question about a red circle, in a file that is filled up to `num_image_bytes`."""
        request = make_request()
        image = ImageSource("images[0].data", data=red_circle().ljust(num_image_bytes, b"\0"))
        fields = {**vars(request), "images": (image,), "max_image_bytes": 10**6}
        submission = make_submission(request_id, key_id, request=type(request)(**fields), **submitted)
        await self.store.submit(submission)

    async def begin(self, **submitted: Any) -> tuple[Claim, asyncio.Task[None]]:
        """Submit, claim and run the request."""
        await self.submit(**submitted)
        claim = await self.store.claim()
        assert claim is not None
        run = Run(claim, self.store, self.means, self.settings, lambda *_: None, self._note_loss)
        return claim, asyncio.create_task(run.run())

    def _note_loss(self) -> None:
        self.num_released_before_loss.append(self.store.calls["release"])

    def set_clock(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the store go by a clock, which may leap when somebody looks what is in the store."""
        count = self.store.statistics

        async def leap_and_count() -> Statistics:
            statistics: Statistics = await count()
            clock.seconds, clock.leap = clock.seconds + clock.leap, 0.0
            return replace(statistics, now=clock.seconds)

        monkeypatch.setattr(self.store, "statistics", leap_and_count, raising=False)
        for name in ("workers", "store.sqlite.ledger"):
            monkeypatch.setattr(f"idefics2_service.{name}.time", SimpleNamespace(time=clock.tell))

    async def happenings(self) -> list[Any]:
        """Return what is written, whose numbers have no gap."""
        events = await self.store.events(ONE, 0, 1_000)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        return [event.happening for event in events]

    def measured(self, name: str, **labels: str) -> float | None:
        """Read a metric."""
        return self.means.metrics.registry.get_sample_value(f"idefics2_{name}", labels)

    async def wait_for_calls(self, *names: str) -> None:
        """Return when each of them was called anew, and was answered, or refused, once at least."""
        until = self.store.calls + Counter(dict.fromkeys(names, 2))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while any(self.store.calls[name] < until[name] for name in names):
                await self.store._store.statistics()

    async def wait_for_text(self) -> None:
        """Return when some of the answer is written."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any(isinstance(h, TextDelta) for h in await self.happenings()):
                pass


class Clock:
    """Stands still but for its leaps."""

    seconds = 1e9
    leap = 0.0

    def tell(self) -> float:
        """Tell the time."""
        return self.seconds


@asynccontextmanager
async def at_work(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let them go on, and end them."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """One over SQLite."""
    store = SqliteStore(tmp_path, StoreSettings(lease_seconds=2))
    await store.start()
    yield Bench(store)
    await store.stop()


def recorder() -> Recorder:
    """After one event."""
    return Recorder(Claim(ONE, 1, make_request(), last_sequence=1))


def test_text_joins_text_but_nothing_else_and_nothing_that_is_being_written() -> None:
    notes = recorder()
    for happening in (TextDelta("a", 1), TextDelta("b", 2), LogLine("x"), TextDelta("c", 3)):
        notes.add(happening)
    assert notes.take() == [TextDelta("ab", 2), LogLine("x"), TextDelta("c", 3)]
    notes.add(TextDelta("d", 4))
    notes.add(TextDelta("e", 5))
    assert notes.take() == [TextDelta("ab", 2), LogLine("x"), TextDelta("c", 3), TextDelta("de", 5)]


def test_what_is_confirmed_is_not_written_again() -> None:
    notes = recorder()
    notes.add(LogLine("x"))
    assert (notes.after, notes.take()) == (1, [LogLine("x")])
    notes.add(LogLine("y"))
    notes.confirm()
    assert (notes.after, notes.take()) == (2, [LogLine("y")])


async def test_many_tokens_are_few_writes(bench: Bench) -> None:
    bench.script.add(Answer(("word ",) * 400))
    _, running = await bench.begin()
    await running
    written = await bench.happenings()
    assert "".join(h.text for h in written if isinstance(h, TextDelta)) == "word " * 400
    assert bench.store.calls["append"] < 20
    assert isinstance(written[-1], Finished)


@pytest.mark.parametrize("when", ["away_before", "away_after"])
@pytest.mark.parametrize("method", ["append", "finish"])
async def test_a_store_that_is_away_for_a_while_loses_and_repeats_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, when: str, method: str
) -> None:
    monkeypatch.setattr(runs, "_RETRY_SECONDS", 0)
    getattr(bench.store, when)[method] = 3
    bench.script.add(Answer(("A", " red", " circle")))
    _, running = await bench.begin()
    await running
    written = await bench.happenings()
    assert written[0] == AttemptStarted(1)
    stages = [h.stage for h in written if isinstance(h, StageEntered)]
    assert stages == [Stage.RESOLVING, Stage.QUEUED, Stage.PREFILL, Stage.DECODE]
    assert "".join(h.text for h in written if isinstance(h, TextDelta)) == "A red circle"
    assert sum(isinstance(h, LogLine) for h in written) == 1
    assert isinstance(written[-1], Finished)


async def test_an_answer_that_took_several_writes_is_counted_and_logged_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_RETRY_SECONDS", 0)
    bench.store.away_after["finish"] = 3
    bench.script.add(Answer(("x",)))
    with capture_logs() as lines:
        _, running = await bench.begin()
        await running
    assert [line["reason"] for line in lines if line["event"] == "request ended"] == ["OK"]
    assert bench.measured("requests_total", reason="OK") == 1
    assert bench.measured("store_attempts_total", outcome="ended") == 1
    assert not bench.measured("store_attempts_total", outcome="lost")


async def test_an_answer_that_was_lost_with_its_lease_is_no_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_RETRY_SECONDS", 0)
    bench.store.away_before["finish"] = MANY
    bench.script.add(Answer(("x",)))
    with capture_logs() as lines:
        claim, running = await bench.begin()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not bench.store.calls["finish"]:
                await bench.store.get(ONE)
        await bench.store.release(claim, "taken away", is_lost=True)
        again = await bench.store.claim()
        bench.store.away_before["finish"] = 0
        await running
    assert (again.attempt, (await bench.store.get(ONE)).state) == (2, State.RUNNING)
    assert not [line for line in lines if line["event"] == "request ended"]
    assert not bench.measured("requests_total", reason="OK")
    assert not bench.measured("key_requests_total", key=ONE.key_id, end="answered")
    assert bench.measured("store_attempts_total", outcome="lost") == 1
    assert not bench.measured("store_attempts_total", outcome="ended")


async def test_who_cancels_stops_the_backend(bench: Bench) -> None:
    bench.script.add(Answer(("x",), holds=True))
    _, running = await bench.begin()
    await bench.wait_for_text()
    await bench.store.cancel(ONE)
    await running
    assert bench.script.num_cancelled == 1
    assert (await bench.store.get(ONE)).state is State.CANCELLED
    assert (bench.turns.num_running, bench.turns.num_waiting) == (0, 0)


async def test_a_claim_that_is_lost_stops_the_backend_and_writes_nothing_more(bench: Bench) -> None:
    bench.script.add(Answer(("x",), holds=True))
    claim, running = await bench.begin()
    await bench.wait_for_text()
    await bench.store.release(claim, "taken away", is_lost=True)
    again = await bench.store.claim()
    before = await bench.happenings()
    await running
    assert bench.script.num_cancelled == 1
    assert await bench.happenings() == before
    assert (again.attempt, (await bench.store.get(ONE)).state) == (2, State.RUNNING)
    assert bench.measured("store_attempts_total", outcome="lost") == 1


async def test_the_time_in_the_queue_is_part_of_the_answers_seconds(bench: Bench) -> None:
    bench.script.add(Answer(("x",)))
    claim, running = await bench.begin()
    await running
    end = (await bench.store.get(ONE)).end
    assert isinstance(end, Finished)
    assert end.output.stage_seconds["queued"] >= claim.seconds_queued > 0
    assert end.output.stage_seconds["total"] >= end.output.stage_seconds["queued"]
    assert bench.measured("store_attempts_total", outcome="ended") == 1
    assert bench.measured("key_requests_total", key=ONE.key_id, end="answered") == 1
    seconds = bench.measured("e2e_request_latency_seconds_sum", kind="submitted")
    assert seconds is not None
    assert seconds >= claim.seconds_queued


async def test_a_fault_of_ours_fails_the_request_and_says_no_more_than_its_name(bench: Bench) -> None:
    _, running = await bench.begin()  # the script has no answer for it
    await running
    written = await bench.happenings()
    assert written[-1].error.reason == "INTERNAL_ERROR"
    assert "one" in written[-1].error.message


async def test_workers_that_stop_hand_back_what_they_run(bench: Bench) -> None:
    bench.script.add(Answer(("x",), holds=True))
    workers = Workers(bench.store, bench.means, bench.settings)
    working = asyncio.create_task(workers.work())
    await bench.submit()
    await bench.wait_for_text()
    assert workers.num_running == 1
    await workers.stop(0)
    record = await bench.store.get(ONE)
    assert (record.state, record.attempt) == (State.QUEUED, 1)
    assert bench.measured("store_attempts_total", outcome="handed_back") == 1
    assert bench.script.num_cancelled == 1
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_what_is_handed_back_while_it_waits_for_its_turn_was_not_given_up(bench: Bench) -> None:
    turns = Turns(1, 8)
    bench.means = replace(bench.means, turns=turns)
    async with turns.take("somebody", lambda _: None):
        workers = Workers(bench.store, bench.means, bench.settings)
        working = asyncio.create_task(workers.work())
        await bench.submit()
        while not turns.num_waiting:
            await bench.happenings()
        await workers.stop(0)
    assert bench.measured("store_attempts_total", outcome="handed_back") == 1
    assert bench.measured("time_without_token_seconds_count") == 0
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_what_is_claimed_while_the_workers_stop_is_handed_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, is_claimed, may_answer = bench.store._store.claim, asyncio.Event(), asyncio.Event()

    async def claim_and_answer_late(*arguments: Any) -> Claim | None:
        claimed: Claim | None = await claim(*arguments)
        is_claimed.set()
        await may_answer.wait()
        return claimed

    async def let_answer() -> None:
        may_answer.set()

    monkeypatch.setattr(bench.store, "claim", claim_and_answer_late, raising=False)
    workers = Workers(bench.store, bench.means, bench.settings)
    await bench.submit()
    async with at_work(workers.work()), asyncio.timeout(PATIENCE_SECONDS):
        await is_claimed.wait()
        await asyncio.gather(workers.stop(0), let_answer())
    record = await bench.store.get(ONE)
    assert (record.state, record.attempt, workers.num_running) == (State.QUEUED, 1, 0)
    assert bench.measured("store_attempts_total", outcome="handed_back") == 1


async def test_a_claim_whose_answer_was_lost_is_run_by_who_claimed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idefics2_service.workers._LOOK_AGAIN_SECONDS", 0)
    bench.script.add(Answer(("x",)), Answer(("y",)))
    bench.store.away_after["claim"] = 3
    workers = Workers(bench.store, bench.means, bench.settings)
    await bench.submit(is_begun_once=True)
    await bench.submit("two")
    async with at_work(workers.work()), asyncio.timeout(PATIENCE_SECONDS):
        for name in (ONE, RequestName("anna", "two")):
            while not (await bench.store.get(name)).state.is_final:
                pass
            record = await bench.store.get(name)
            assert (record.state, record.attempt) == (State.SUCCEEDED, 1)
        await workers.stop(0)
    assert not bench.measured("store_attempts_total", outcome="lost")


async def test_a_claim_that_is_never_answered_holds_up_no_stop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idefics2_service.workers._RELEASE_SECONDS", 0.01)
    is_asked, is_left = asyncio.Event(), asyncio.Event()

    async def hang(*_: Any) -> None:
        is_asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            is_left.set()

    monkeypatch.setattr(bench.store, "claim", hang, raising=False)
    workers = Workers(bench.store, bench.means, bench.settings)
    async with at_work(workers.work()), asyncio.timeout(PATIENCE_SECONDS):
        await is_asked.wait()
        await workers.stop(0)
        await is_left.wait()


async def test_workers_that_stopped_while_the_model_was_away_claim_nothing_when_it_is_back(
    bench: Bench,
) -> None:
    await bench.backend.set_healthy(healthy=False)
    workers = Workers(bench.store, bench.means, bench.settings)
    working = asyncio.create_task(workers.work())
    await bench.submit()
    await workers.stop(0)
    await bench.backend.set_healthy(healthy=True)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await working
    assert bench.store.calls["claim"] == 0


async def test_slow_images_of_a_key_hold_up_nobody_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = bench.means.files.find

    async def find_nothing_for_anna(
        sources: tuple[ImageSource, ...], key_id: str, most: int
    ) -> tuple[StoredFile | None, ...]:
        if key_id == ONE.key_id:
            await asyncio.Event().wait()
        return await find(sources, key_id, most)

    monkeypatch.setattr(bench.means.files, "find", find_nothing_for_anna)
    bench.script.add(Answer(("x",)))
    workers = Workers(bench.store, bench.means, bench.settings)
    working = asyncio.create_task(workers.work())
    for number in range(40):
        await bench.submit(f"{number}")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while workers.num_running < 32:  # half of the places: a key alone has no more
            await bench.store.statistics()
        await bench.submit("one", "bert")
        while not (await bench.store.get(RequestName("bert", "one"))).state.is_final:
            pass
    assert (await bench.store.get(RequestName("bert", "one"))).state is State.SUCCEEDED
    assert (await bench.store.statistics()).num_queued == 8
    await workers.stop(0)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_large_images_of_a_keys_backlog_leave_memory_to_all_others(bench: Bench) -> None:
    bench.means = replace(bench.means, budget=Budget(4_000_000))
    bench.script.add(*[Answer(("x",), holds=True)] * 3, Answer(("x",)))
    workers = Workers(bench.store, bench.means, bench.settings)
    for number in range(6):
        await bench.submit(f"{number}", num_image_bytes=800_000)
    async with at_work(workers.work()), asyncio.timeout(PATIENCE_SECONDS):
        while workers.num_running < 3:  # they hold more than half: a key alone has no more
            await bench.store.statistics()
        await bench.submit("one", "bert", num_image_bytes=800_000)
        while not (await bench.store.get(RequestName("bert", "one"))).state.is_final:
            pass
        assert (await bench.store.get(RequestName("bert", "one"))).state is State.SUCCEEDED
        assert (await bench.store.statistics()).num_queued == 3
        with bench.means.budget.hold("carl", 800_000):  # a call, which would be refused
            pass
        await workers.stop(0)


async def test_nothing_is_claimed_while_all_memory_is_held_and_the_next_as_soon_as_some_is_free(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idefics2_service.workers._LOOK_AGAIN_SECONDS", 2 * PATIENCE_SECONDS)
    bench.means = replace(bench.means, budget=Budget(500_000))
    bench.script.add(Answer(("x",)))
    workers = Workers(bench.store, bench.means, bench.settings)
    with ExitStack() as held:
        held.enter_context(bench.means.budget.hold("zoe", 500_000, is_accepted=True))
        async with at_work(workers.work()), asyncio.timeout(PATIENCE_SECONDS):
            await bench.submit(num_image_bytes=800_000)  # more than all, and so let in when nothing is held
            for _ in range(20):
                await bench.store.get(ONE)
            assert bench.store.calls["claim"] == 0
            held.close()
            while not (await bench.store.get(ONE)).state.is_final:
                pass
    assert (await bench.store.get(ONE)).state is State.SUCCEEDED


async def test_what_is_claimed_before_its_turn_fails_when_its_start_timeout_passes(bench: Bench) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(bench.turns.take("bert", lambda _: None))
        claim, running = await bench.begin(start_timeout_seconds=0.2)
        assert claim.start_seconds_left is not None
        await running
    end = (await bench.store.get(ONE)).end
    assert isinstance(end, Failed)
    assert isinstance(end.error, StartTimeout)


async def test_a_lost_backend_is_told_of_before_the_request_waits_again(bench: Bench) -> None:
    bench.script.add(Answer(("x",), is_lost=True))
    _, running = await bench.begin()
    await running
    assert bench.num_released_before_loss == [0]
    assert (await bench.store.get(ONE)).state is State.QUEUED


async def test_the_last_loss_is_counted_and_logged_as_the_end_that_it_is(bench: Bench) -> None:
    assert bench.measured("requests_total", reason="ATTEMPTS_EXHAUSTED") == 0
    bench.script.add(*[Answer(("x",), is_lost=True)] * MAX_LOSSES)
    with capture_logs() as lines:
        for _ in range(MAX_LOSSES):
            _, running = await bench.begin()
            await running
    assert (await bench.store.get(ONE)).state is State.FAILED
    assert bench.measured("requests_total", reason="ATTEMPTS_EXHAUSTED") == 1
    (line,) = [line for line in lines if line["event"] == "request ended"]
    assert (line["reason"], line["request_id"]) == ("ATTEMPTS_EXHAUSTED", "one")
    assert line["key_id"] == ONE.key_id


async def test_an_end_by_handing_back_that_took_several_calls_is_counted_and_logged_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_RETRY_SECONDS", 0)
    bench.store.away_after["release"] = 3
    bench.script.add(Answer(("x",), is_lost=True))
    with capture_logs() as lines:
        _, running = await bench.begin(is_begun_once=True)
        await running
    assert [line["reason"] for line in lines if line["event"] == "request ended"] == ["ATTEMPT_LOST"]
    assert bench.measured("requests_total", reason="ATTEMPT_LOST") == 1


async def test_what_is_found_to_have_ended_while_tidying_is_counted_and_logged(bench: Bench) -> None:
    workers = Workers(bench.store, bench.means, bench.settings)
    await bench.submit(start_timeout_seconds=0.01)
    with capture_logs() as lines:
        tidying = asyncio.create_task(workers.tidy())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not bench.measured("store_reaped_total", outcome="overdue"):
                await bench.store.get(ONE)
        tidying.cancel()
        await asyncio.gather(tidying, return_exceptions=True)
    assert bench.measured("requests_total", reason="START_TIMEOUT") == 1
    (line,) = [line for line in lines if line["event"] == "request ended"]
    assert (line["reason"], line["request_id"]) == ("START_TIMEOUT", "one")


async def test_what_ended_instead_of_being_claimed_is_counted_and_logged(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.script.add(Answer(("x",)))
    workers = Workers(bench.store, bench.means, bench.settings)
    await bench.submit("late", start_timeout_seconds=0.000_001)
    with monkeypatch.context() as damage:
        damage.setattr(codec, "encode_request", lambda _: b"\xc1")
        await bench.submit("damaged")
    await bench.submit()
    with capture_logs() as lines:
        working = asyncio.create_task(workers.work())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not bench.measured("requests_total", reason="OK"):
                await bench.store.get(ONE)
        await workers.stop(0)
        await working
    ended = [line for line in lines if line["event"] == "request ended"]
    reasons = {line["request_id"]: line["reason"] for line in ended}
    assert reasons == {"late": "START_TIMEOUT", "damaged": "INTERNAL_ERROR", "one": "OK"}
    assert len(ended) == 3
    assert bench.measured("requests_total", reason="START_TIMEOUT") == 1
    assert bench.measured("requests_total", reason="INTERNAL_ERROR") == 1
    assert bench.measured("store_reaped_total", outcome="overdue") == 1


async def test_to_wait_for_a_backend_that_is_lost_meanwhile_is_no_loss(bench: Bench) -> None:
    await bench.backend.set_healthy(healthy=False)
    for attempt in range(1, 2 * MAX_LOSSES + 1):
        claim, running = await bench.begin()
        await running
        assert claim.attempt == attempt
        assert (await bench.store.get(ONE)).state is State.QUEUED


async def test_to_be_told_that_the_engine_was_lost_before_is_no_loss(bench: Bench) -> None:
    bench.script.add(*[Answer(is_refused=True)] * 2 * MAX_LOSSES, Answer(("x",)))
    for attempt in range(1, 2 * MAX_LOSSES + 1):
        claim, running = await bench.begin()
        await running
        assert claim.attempt == attempt
        assert (await bench.store.get(ONE)).state is State.QUEUED
    _, running = await bench.begin()
    await running
    assert (await bench.store.get(ONE)).state is State.SUCCEEDED


@pytest.mark.parametrize(
    ("away", "seconds"),
    [
        (("statistics", "reap"), (0.9, 0.9, 0.9)),
        (("claim",), (0.9, 0.9, 0.9)),  # its disk is full: it can be read
        ((), (3.0,)),  # machines were asleep, or the store's clock was set forward
    ],
)
async def test_leases_that_ended_while_nobody_could_renew_them_are_taken_back_from_the_dead_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, away: tuple[str, ...], seconds: tuple[float, ...]
) -> None:
    clock = Clock()
    begun_at = clock.seconds
    bench.set_clock(clock, monkeypatch)
    for pause in ("runs._RETRY_SECONDS", "workers._REAP_SECONDS", "workers._LOOK_AGAIN_SECONDS"):
        monkeypatch.setattr(f"idefics2_service.{pause}", 0)
    bench.script.add(*[Answer(("x",), holds=True)] * 2)
    await bench.submit("of the dead", "bert")
    await bench.store.claim()
    _, running = await bench.begin()
    settings = StoreSettings(lease_seconds=2, renew_seconds=1)
    replica = Workers(bench.store, bench.means, settings)
    async with at_work(replica.tidy(), replica.work()):
        await bench.wait_for_calls("statistics", "claim")
        bench.store.away_before["renew"] = MANY  # the living come last when it is back
        for leap in seconds:
            bench.store.away_before.update(dict.fromkeys(away, MANY))
            clock.leap = leap
            await bench.wait_for_calls("statistics", "claim")
            for name in away:
                del bench.store.away_before[name]
            await bench.wait_for_calls("statistics", "claim")
        assert clock.seconds > begun_at + settings.lease_seconds
        shared = settings.model_copy(update={"url": "redis://shared"})
        newcomer = Workers(bench.store, bench.means, shared)
        async with at_work(newcomer.tidy()):
            for _ in range(3):
                await bench.wait_for_calls("statistics")
        assert not bench.measured("store_reaped_total", outcome="requeued")
        del bench.store.away_before["renew"]
        for _ in range(3):
            await bench.wait_for_calls("renew")
            clock.leap = 0.9
            await bench.wait_for_calls("statistics")
        assert bench.measured("store_reaped_total", outcome="requeued") == 1
        assert (await bench.store.get(ONE)).attempt == 1
        await bench.store.cancel(ONE)
        await running
        await replica.stop(0)


@pytest.mark.parametrize("url", ["", "redis://shared"])
async def test_who_begins_takes_back_at_once_where_nobody_else_can_live(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr("idefics2_service.workers._REAP_SECONDS", 0)
    clock = Clock()
    bench.set_clock(clock, monkeypatch)
    settings = StoreSettings(url=url, lease_seconds=2, renew_seconds=1)
    async with at_work(Workers(bench.store, bench.means, settings).tidy()):
        await bench.wait_for_calls("statistics")
        assert bool(bench.store.calls["reap"]) is not bool(url)
        clock.leap = settings.lease_seconds / 2
        await bench.wait_for_calls("statistics")
        clock.leap = settings.lease_seconds / 2
        await bench.wait_for_calls("reap")


async def test_what_a_replica_counts_is_no_sign_that_the_store_is_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idefics2_service.workers._REAP_SECONDS", 0)
    of_store, of_replica = asyncio.Event(), asyncio.Event()

    async def count() -> Statistics:
        statistics: Statistics = await bench.store._store.statistics()
        of_replica.set()
        return replace(statistics, may_be_behind=not of_store.is_set())

    monkeypatch.setattr(bench.store, "statistics", count, raising=False)
    replica = Workers(bench.store, bench.means, bench.settings)
    async with at_work(replica.tidy()), asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(3):
            of_replica.clear()
            await of_replica.wait()
        assert bench.store.calls["reap"] == 0
        assert bench.measured("store_oldest_queued_seconds") is None
        of_store.set()
        await bench.wait_for_calls("reap")


@pytest.mark.parametrize("away", ["statistics", "reap", "claim"])
async def test_how_long_requests_have_waited_is_told_only_while_they_could_be_claimed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    for pause in ("_REAP_SECONDS", "_LOOK_AGAIN_SECONDS"):
        monkeypatch.setattr(f"idefics2_service.workers.{pause}", 0)
    await bench.submit()
    replica = Workers(bench.store, bench.means, bench.settings)
    async with at_work(replica.tidy()), asyncio.timeout(PATIENCE_SECONDS):
        while not bench.measured("store_oldest_queued_seconds"):
            await bench.store.get(ONE)
        bench.store.away_before.update({away: MANY, "claim": MANY})
        async with at_work(*([replica.work()] if away == "claim" else [])):
            while bench.measured("store_oldest_queued_seconds") is not None:
                await bench.store.get(ONE)
        bench.store.away_before.clear()
        while not bench.measured("store_oldest_queued_seconds"):
            await bench.store.get(ONE)


async def test_how_many_wait_is_told_only_while_it_can_be_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idefics2_service.workers._REAP_SECONDS", 0)
    await bench.submit()
    names = ("store_num_requests_queued", "store_num_webhooks_queued")
    async with at_work(Workers(bench.store, bench.means, bench.settings).tidy()):
        for away, counts in (("", [1, 0]), ("statistics", [None, None]), ("reap", [1, 0])):
            bench.store.away_before.clear()
            bench.store.away_before[away] = MANY
            await bench.wait_for_calls("statistics")
            assert [bench.measured(name) for name in names] == counts
