"""What every store promises; see `store/interface.py`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from idefics2_service.errors import (
    AttemptLost,
    AttemptsExhausted,
    BackendUnavailable,
    FileUndecodable,
    InternalError,
    PayloadTooLarge,
    QueueFull,
    QueueQuotaExceeded,
    RequestCancelled,
    RequestDeadlineExceeded,
    RequestIdTaken,
    RequestNotFound,
    ServiceError,
    StartTimeout,
)
from idefics2_service.events import (
    AttemptStarted,
    Event,
    Failed,
    Finished,
    Happening,
    LogLine,
    StageEntered,
    TextDelta,
)
from idefics2_service.requests import Priority, RequestName, Stage, State
from idefics2_service.store import codec, refusals
from idefics2_service.store.interface import DELIVERIES, FIRST_SILENT_LOSS, MAX_LOSSES, WORK, cancelled, grown
from idefics2_service.store.records import Ended, Lease, draw_holder
from store.submissions import (
    KEY,
    check_lost,
    claim,
    claim_all,
    make_output,
    make_request,
    make_submission,
    submit,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    from idefics2_service.store.interface import RequestStore
    from idefics2_service.store.records import Delivery, Record
    from store.conftest import OpenStore

PATIENCE_SECONDS = 20
ONE = RequestName(KEY, "one")


async def patience() -> AsyncIterator[None]:
    """Look again and again, and give up in the end."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        yield
    raise AssertionError("waited too long")


async def reap_until(
    store: RequestStore, is_done: Callable[[Record], bool], name: RequestName = ONE
) -> Record:
    """Tidy until a request is as it should become."""
    async for _ in patience():
        await store.reap()
        try:
            record = await store.get(name)
        except RequestNotFound:
            continue
        if is_done(record):
            return record
    raise AssertionError


async def history(store: RequestStore) -> list[Happening]:
    """Return all that happened to the one request; its events are numbered from 1 without gaps."""
    events = await store.events(ONE, 0, 1_000)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert (await store.get(ONE)).last_sequence == len(events)
    return [event.happening for event in events]


async def ids_of(store: RequestStore, key_id: str = KEY, state: State | None = None) -> list[str]:
    """List the names of a key's requests."""
    return [record.name.request_id for record in (await store.list_page(key_id, state, 100, None)).records]


async def test_a_submitted_request_waits_with_all_that_it_was_given(store: RequestStore) -> None:
    before = time.time()
    record = await store.submit(make_submission("one", priority=Priority.LOW))
    assert (record.name, record.state, record.priority) == (ONE, State.QUEUED, Priority.LOW)
    assert (record.queue_position, record.attempt, record.max_new_tokens) == (0, 0, 512)
    assert record.created_at == pytest.approx(before, abs=5)
    assert record.end is None
    assert await store.get(ONE) == record
    claimed = await claim(store)
    assert (claimed.name, claimed.attempt, claimed.request) == (ONE, 1, make_request())
    assert claimed.seconds_left == pytest.approx(86_400, abs=10)


async def test_the_same_submission_again_is_the_same_request(store: RequestStore) -> None:
    first = await store.submit(make_submission("one"))
    assert await store.submit(make_submission("one")) == first
    await claim(store)
    assert (await store.submit(make_submission("one"))).state is State.RUNNING
    assert await store.claim() is None


async def test_other_content_under_a_known_name_is_refused_and_changes_nothing(store: RequestStore) -> None:
    await submit(store, "one")
    with pytest.raises(RequestIdTaken, match="one"):
        await store.submit(make_submission("one", prompt="Something else?"))
    assert (await claim(store)).request == make_request()


async def test_two_keys_may_choose_the_same_name(store: RequestStore) -> None:
    await submit(store, "one", prompt="Mine?")
    await submit(store, "one", key_id="bert", prompt="Yours?")
    assert {(await claim(store)).request.prompt for _ in range(2)} == {"Mine?", "Yours?"}
    assert await ids_of(store) == ["one"]


@pytest.mark.parametrize("name", [RequestName(KEY, "none"), RequestName("bert", "one")])
async def test_an_unknown_request_and_anothers_are_the_same_error(
    store: RequestStore, name: RequestName
) -> None:
    await submit(store, "one")
    messages = set()
    for call in (store.get(name), store.events(name, 0, 10), store.log_lines(name, 1), store.cancel(name)):
        with pytest.raises(RequestNotFound) as caught:
            await call
        messages.add(caught.value.message)
    assert messages == {f"this key has no request {name.request_id!r}"}
    assert (await store.get(ONE)).state is State.QUEUED


async def test_a_keys_requests_are_bounded_until_their_end(store: RequestStore) -> None:
    async def submit_bounded(request_id: str, key_id: str = KEY) -> Record:
        return await store.submit(make_submission(request_id, key_id, max_queued_of_key=2))

    first = await submit_bounded("one")
    await submit_bounded("two")
    held = await claim(store)  # RUNNING counts, too
    with pytest.raises(QueueQuotaExceeded, match="may have 2 submitted requests") as caught:
        await submit_bounded("three")
    assert caught.value.metadata == {"bound": "2"}
    assert (await submit_bounded("one")).created_at == first.created_at
    await submit_bounded("one", "bert")
    await store.submit(make_submission("four"))  # who has no bound is not asked
    await store.cancel(RequestName(KEY, "four"))
    await store.finish(held, held.last_sequence, (), Finished(make_output()))
    await submit_bounded("three")
    assert await ids_of(store) == ["three", "four", "two", "one"]


async def test_what_waits_is_bounded(open_store: OpenStore) -> None:
    store = await open_store(max_queued=2)
    await submit(store, "one", "two")
    with pytest.raises(QueueFull, match="2 requests are waiting; at most 2 may"):
        await store.submit(make_submission("three"))
    await claim(store)
    await submit(store, "three")


async def test_a_request_may_refuse_a_long_queue(store: RequestStore) -> None:
    await submit(store, "one", "two")
    with pytest.raises(QueueFull, match="2 requests would be before it"):
        await store.submit(make_submission("three", max_queue_length=1))
    assert (await store.submit(make_submission("three", max_queue_length=2))).queue_position == 2


async def test_a_payload_is_bounded(open_store: OpenStore) -> None:
    store = await open_store(max_payload_bytes=600)
    with pytest.raises(PayloadTooLarge, match="at most 600"):
        await store.submit(make_submission("one", prompt="x" * 600))
    await submit(store, "one")


async def test_requests_of_a_key_are_begun_in_their_order(store: RequestStore) -> None:
    await submit(store, "one", "two", "three")
    assert await claim_all(store) == ["anna/one", "anna/two", "anna/three"]


async def test_keys_take_turns(store: RequestStore) -> None:
    await submit(store, "1", "2", "3", "4")
    await claim(store)
    await submit(store, "1", "2", key_id="bert")
    await submit(store, "1", key_id="cleo")
    assert await claim_all(store) == ["anna/2", "bert/1", "cleo/1", "anna/3", "bert/2", "anna/4"]


async def test_who_cancelled_a_lot_waits_no_longer_for_it(store: RequestStore) -> None:
    await submit(store, *"12345")
    for request_id in "2345":
        await store.cancel(RequestName(KEY, request_id))
    await submit(store, "6")
    await submit(store, "1", "2", "3", key_id="bert")
    assert await claim_all(store) == ["anna/1", "bert/1", "anna/6", "bert/2", "bert/3"]


async def test_low_priority_falls_behind_but_not_for_ever(store: RequestStore) -> None:
    await submit(store, "low", priority=Priority.LOW)
    for number in range(150):
        await submit(store, f"{number}")
    assert (await store.get(RequestName(KEY, "low"))).queue_position == 100
    order = await claim_all(store)
    assert order.index("anna/low") == 100
    assert len(order) == 151


async def test_keys_that_are_passed_over_keep_their_places(store: RequestStore) -> None:
    await submit(store, *"123")
    await submit(store, "low", key_id="bert", priority=Priority.LOW)
    await submit(store, "1", "2", key_id="cleo")
    names = []
    while (claimed := await store.claim({"anna", "dora"})) is not None:
        names.append(f"{claimed.name.key_id}/{claimed.name.request_id}")
    assert names == ["cleo/1", "cleo/2", "bert/low"]
    assert (await store.get(RequestName(KEY, "2"))).queue_position == 1
    await store.release(await claim(store), "stopping", is_lost=False)
    assert await store.claim({"anna"}) is None
    assert await claim_all(store) == ["anna/1", "anna/2", "anna/3"]


async def test_a_position_is_the_number_of_those_begun_before(store: RequestStore) -> None:
    await submit(store, "1", "2", "3")
    await submit(store, "1", "2", key_id="bert")
    await store.submit(make_submission("low", "cleo", priority=Priority.LOW))
    names = [
        RequestName(*name)
        for name in [
            ("anna", "1"),
            ("anna", "2"),
            ("anna", "3"),
            ("bert", "1"),
            ("bert", "2"),
            ("cleo", "low"),
        ]
    ]
    told = {name: (await store.get(name)).queue_position for name in names}
    order = await claim_all(store)
    assert {f"{name.key_id}/{name.request_id}": position for name, position in told.items()} == {
        name: place for place, name in enumerate(order)
    }


async def test_a_request_is_claimed_once_however_many_ask(open_store: OpenStore) -> None:
    store = await open_store()
    await submit(store, *(str(number) for number in range(20)))
    claims = await asyncio.gather(*(store.claim() for _ in range(30)))
    names = [claimed.name.request_id for claimed in claims if claimed]
    assert sorted(names, key=int) == [str(number) for number in range(20)]


async def test_a_claim_whose_answer_was_lost_is_answered_again_while_it_is_held(
    open_store: OpenStore,
) -> None:
    store = await open_store(lease_seconds=0.5)
    await submit(store, "one", "two", "three")
    holder, other = draw_holder(), draw_holder()
    first = await store.claim(holder=holder)
    assert first is not None
    async for _ in patience():
        claims = await asyncio.gather(store.claim(holder=holder), store.claim(holder=other))
        assert [each and (each.name.request_id, each.attempt) for each in claims] == [("one", 1), ("two", 1)]
        await store.reap()
        if claims[0] and first.seconds_left - claims[0].seconds_left > 0.6:  # longer than one lease
            break
    again = claims[0]
    assert again is not None
    assert (again.request, again.last_sequence, again.holder) == (first.request, 1, first.holder)
    assert await store.append(again, 1, [LogLine("x")]) is Lease.HELD
    await store.finish(again, 2, [], Finished(make_output()))
    assert await history(store) == [AttemptStarted(1), LogLine("x"), Finished(make_output())]
    following = [await store.claim(holder=holder) for _ in range(2)]
    assert [each and each.name.request_id for each in following] == ["three", "three"]


async def test_a_claim_that_was_handed_back_is_not_answered_again(store: RequestStore) -> None:
    await submit(store, "one")
    holder = draw_holder()
    claims = []
    for _ in range(3):
        claimed = await store.claim(holder=holder)
        assert claimed is not None
        claims.append(claimed.attempt)
        await store.release(claimed, "stopping", is_lost=False)
    assert claims == [1, 2, 3]
    other, late = await claim(store), await store.claim(holder=holder)
    assert (other.attempt, late) == (4, None)


async def test_the_wait_is_estimated_from_the_pace_of_those_begun(store: RequestStore) -> None:
    await submit(store, *"12345")
    assert (await store.get(RequestName(KEY, "5"))).estimated_wait_seconds is None
    began = time.monotonic()
    await claim(store)
    await claim(store)
    most = time.monotonic() - began
    waiting = [await store.get(RequestName(KEY, name)) for name in "345"]
    assert [record.queue_position for record in waiting] == [0, 1, 2]
    pace, *others = [record.estimated_wait_seconds or 0 for record in waiting]
    assert 0 < pace <= most
    assert others == pytest.approx([2 * pace, 3 * pace])


async def test_a_history_grows_without_gaps_and_is_read_from_anywhere(store: RequestStore) -> None:
    await submit(store, "one")
    assert await history(store) == []
    claimed = await claim(store)
    first: list[Happening] = [StageEntered(Stage.RESOLVING), LogLine("image_url: PNG")]
    assert await store.append(claimed, 1, first) is Lease.HELD
    record = await store.get(ONE)
    assert (record.stage, record.num_generated_tokens) == (Stage.RESOLVING, 0)
    second: list[Happening] = [StageEntered(Stage.DECODE), TextDelta("A réd", 3)]
    await store.append(claimed, 3, second)
    record = await store.get(ONE)
    assert (record.stage, record.num_generated_tokens) == (Stage.DECODE, 3)
    end = Finished(make_output())
    assert await store.finish(claimed, 5, [TextDelta(" circle.", 5)], end) is Lease.HELD
    everything = [AttemptStarted(1), *first, *second, TextDelta(" circle.", 5), end]
    assert await history(store) == everything
    assert [event.happening for event in await store.events(ONE, 2, 3)] == everything[2:5]
    assert await store.events(ONE, len(everything), 10) == []


async def test_the_lines_of_a_log_are_read_without_the_rest_of_its_history(
    store: RequestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submit(store, "one")
    claimed, num_texts = await claim(store), 600
    texts = [TextDelta("LogLine", number) for number in range(num_texts)]
    await store.append(claimed, 1, [LogLine("first"), StageEntered(Stage.DECODE), *texts, LogLine("ü" * 300)])
    await store.finish(claimed, num_texts + 4, [LogLine("last")], Finished(make_output()))
    everything = await store.events(ONE, 0, 1_000)
    lines = [event for event in everything if isinstance(event.happening, LogLine)]
    assert len(lines) == 3
    decode, num_decoded = codec.decode_happening, 0

    def decode_and_count(data: bytes) -> Happening:
        nonlocal num_decoded
        num_decoded += 1
        return decode(data)

    monkeypatch.setattr(codec, "decode_happening", decode_and_count)
    assert await store.log_lines(ONE, len(everything)) == lines
    assert num_decoded == 3
    assert await store.log_lines(ONE, lines[-1].sequence) == lines
    assert await store.log_lines(ONE, lines[-1].sequence - 1) == lines[:-1]
    assert await store.log_lines(ONE, 10 * len(everything)) == lines
    assert await store.log_lines(ONE, 0) == []


async def test_what_was_written_is_not_written_again_where_its_answer_was_lost(store: RequestStore) -> None:
    await submit(store, "one")
    claimed = await claim(store)
    lines: list[Happening] = [LogLine(str(number)) for number in range(4)]
    await store.append(claimed, 1, lines[:2])
    await store.append(claimed, 1, lines[:2])
    await store.append(claimed, 1, lines[:3])
    await store.finish(claimed, 1, lines, Finished(make_output()))
    assert await history(store) == [AttemptStarted(1), *lines, Finished(make_output())]


async def test_who_wrote_what_the_store_forgot_writes_no_more_of_it_but_its_end(store: RequestStore) -> None:
    await submit(store, "one")
    claimed = await claim(store)
    kept: list[Happening] = [AttemptStarted(1), LogLine("kept")]
    await store.append(claimed, 1, kept[1:])
    for _ in range(2):
        assert await store.append(claimed, 5, [LogLine("x")]) is Lease.LOST
    assert await history(store) == kept
    for _ in range(2):
        assert await store.finish(claimed, 5, [LogLine("y")], Finished(make_output())) is Lease.HELD
    assert await history(store) == [*kept, LogLine("y"), Finished(make_output())]


async def test_an_end_whose_answer_was_lost_is_written_once_and_held_again(store: RequestStore) -> None:
    await submit(store, "one", webhook_url="https://example.org/hook")
    claimed = await claim(store)
    for _ in range(3):
        assert await store.finish(claimed, 1, [LogLine("x")], Finished(make_output())) is Lease.HELD
    assert await history(store) == [AttemptStarted(1), LogLine("x"), Finished(make_output())]
    assert (await store.statistics()).num_deliveries == 1


async def test_the_same_end_by_another_than_its_worker_is_no_end_that_the_worker_wrote(
    open_store: OpenStore,
) -> None:
    store = await open_store(lease_seconds=0.02)
    await submit(store, "handed back", "dead", "begun again")
    claims = [await claim(store) for _ in range(3)]
    for request_id in ("handed back", "dead"):
        await store.cancel(RequestName(KEY, request_id))
    await store.release(claims[0], "stopping", is_lost=False)
    await store.release(claims[2], "stopping", is_lost=False)
    end = Failed(refusals.cancelled())
    again = await claim(store)
    assert await store.finish(again, again.last_sequence, [], end) is Lease.HELD
    await reap_until(store, lambda record: record.state.is_final, claims[1].name)
    for claimed in claims:
        assert (await store.get(claimed.name)).state is State.CANCELLED
        assert await store.finish(claimed, claimed.last_sequence, [], end) is Lease.LOST


async def test_an_answer_ends_a_request(store: RequestStore) -> None:
    await submit(store, "one")
    claimed = await claim(store)
    await store.finish(claimed, claimed.last_sequence, [], Finished(make_output()))
    record = await store.get(ONE)
    assert (record.state, record.end) == (State.SUCCEEDED, Finished(make_output()))
    assert record.stage is None
    assert record.num_generated_tokens == 5
    assert record.started_at is not None
    assert record.ended_at is not None
    assert record.expires_at == pytest.approx(record.ended_at + 86_400)
    assert record.created_at <= record.started_at <= record.ended_at


async def test_an_error_ends_a_request_and_is_told_as_it_was(store: RequestStore) -> None:
    await submit(store, "one")
    error = FileUndecodable("images[0].data is damaged", field="images[0].data", bound="1", value="2")
    await store.finish(await claim(store), 1, [], Failed(error))
    record = await store.get(ONE)
    assert record.state is State.FAILED
    assert isinstance(record.end, Failed)
    assert type(record.end.error) is FileUndecodable
    assert (record.end.error.message, record.end.error.field) == (error.message, error.field)
    assert record.end.error.metadata == error.metadata


async def test_nothing_is_written_after_the_end(store: RequestStore) -> None:
    await submit(store, "one")
    claimed = await claim(store)
    await store.finish(claimed, claimed.last_sequence, [], Finished(make_output()))
    for write in (
        store.append(claimed, claimed.last_sequence, [LogLine("late")]),
        store.finish(claimed, claimed.last_sequence, [], Finished(make_output("late"))),
        store.release(claimed, "late", is_lost=False),
        store.renew(claimed),
    ):
        assert await write is Lease.LOST
    record = await store.get(ONE)
    assert record.end == Finished(make_output())
    assert await store.claim() is None
    assert len(await history(store)) == 2


async def test_a_queued_request_that_is_cancelled_never_starts(store: RequestStore) -> None:
    await submit(store, "one", "two")
    record = await store.cancel(ONE)
    assert record.state is State.CANCELLED
    assert await claim_all(store) == ["anna/two"]
    (only,) = await history(store)
    assert isinstance(only, Failed)
    assert isinstance(only.error, RequestCancelled)


async def test_who_runs_a_cancelled_request_is_told(store: RequestStore) -> None:
    await submit(store, "one")
    claimed = await claim(store)
    assert await store.renew(claimed) is Lease.HELD
    with store.listen(cancelled(ONE)) as told:
        assert (await store.cancel(ONE)).state is State.RUNNING
        async with asyncio.timeout(PATIENCE_SECONDS):
            await told.wait()
    assert await store.renew(claimed) is Lease.CANCELLED
    assert await store.append(claimed, claimed.last_sequence, [LogLine("on its way out")]) is Lease.CANCELLED
    end = Failed(RequestCancelled("the request was cancelled"))
    await store.finish(claimed, claimed.last_sequence, [], end)
    assert (await store.get(ONE)).state is State.CANCELLED


async def test_a_cancelled_request_that_is_handed_back_ends(store: RequestStore) -> None:
    await submit(store, "one")
    claimed = await claim(store)
    await store.cancel(ONE)
    assert await store.release(claimed, "this replica is shutting down", is_lost=False) is Lease.CANCELLED
    assert (await store.get(ONE)).state is State.CANCELLED
    assert await store.claim() is None


async def test_to_cancel_what_has_ended_changes_nothing(store: RequestStore) -> None:
    await submit(store, "one", "two")
    await store.finish(await claim(store), 1, [], Finished(make_output()))
    assert (await store.cancel(ONE)).state is State.SUCCEEDED
    first, second = [await store.cancel(RequestName(KEY, "two")) for _ in range(2)]
    assert (first.state, first.ended_at, first.last_sequence) == (State.CANCELLED, second.ended_at, 1)
    assert second.last_sequence == 1


async def test_a_request_that_is_handed_back_is_begun_again_before_others(store: RequestStore) -> None:
    await submit(store, "one", "two")
    first = await claim(store)
    assert await store.release(first, "this replica is shutting down", is_lost=False) is Lease.HELD
    assert (await store.get(ONE)).queue_position == 0
    second = await claim(store)
    assert (second.name, second.attempt) == (ONE, 2)
    assert await store.renew(first) is Lease.LOST
    assert await store.append(first, first.last_sequence, [LogLine("stale")]) is Lease.LOST
    assert await store.finish(first, first.last_sequence, [], Finished(make_output("stale"))) is Lease.LOST
    assert await store.release(first, "stale", is_lost=True) is Lease.LOST
    await store.finish(second, second.last_sequence, [], Finished(make_output()))
    assert await history(store) == [
        AttemptStarted(1),
        LogLine("handed back: this replica is shutting down"),
        AttemptStarted(2),
        Finished(make_output()),
    ]


async def test_a_claim_of_the_same_number_that_another_holds_writes_nothing(store: RequestStore) -> None:
    await submit(store, "one", "two")
    claims = [await claim(store), await claim(store)]
    assert claims[0].holder != claims[1].holder
    forgotten = replace(claims[0], holder=claims[1].holder)
    await check_lost(store, forgotten)
    await store.finish(claims[0], 1, [], Finished(make_output()))
    assert await history(store) == [AttemptStarted(1), Finished(make_output())]


async def test_to_be_handed_back_by_those_who_shut_down_is_no_loss(store: RequestStore) -> None:
    await submit(store, "one")
    for _ in range(2 * MAX_LOSSES):
        await store.release(await claim(store), "this replica is shutting down", is_lost=False)
    assert (await claim(store)).attempt == 2 * MAX_LOSSES + 1


async def test_what_was_lost_too_often_fails_with_the_reason(store: RequestStore) -> None:
    await submit(store, "one")
    for attempt in range(1, MAX_LOSSES + 1):
        claimed = await claim(store)
        assert claimed.attempt == attempt
        lease = await store.release(claimed, "the model's server was lost", is_lost=True)
        assert lease is (Lease.EXHAUSTED if attempt == MAX_LOSSES else Lease.HELD)
    assert await store.claim() is None
    record = await store.get(ONE)
    assert record.state is State.FAILED
    assert isinstance(record.end, Failed)
    assert isinstance(record.end.error, AttemptsExhausted)
    assert "the model's server was lost" in record.end.error.message


async def test_what_is_to_be_begun_once_fails_with_its_first_loss(store: RequestStore) -> None:
    await submit(store, "one", is_begun_once=True)
    claimed = await claim(store)
    assert await store.release(claimed, "the model's server was lost", is_lost=True) is Lease.LOST_ONCE
    assert await store.claim() is None
    record = await store.get(ONE)
    assert (record.state, record.attempt) == (State.FAILED, 1)
    assert isinstance(record.end, Failed)
    assert isinstance(record.end.error, AttemptLost)
    assert "begun once" in record.end.error.message
    assert "the model's server was lost" in record.end.error.message


async def test_what_is_to_be_begun_once_waits_again_only_where_the_model_has_not_begun_with_it(
    store: RequestStore,
) -> None:
    await submit(store, "one", is_begun_once=True)
    for stages in ((), (StageEntered(Stage.RESOLVING),), (StageEntered(Stage.QUEUED),)):
        claimed = await claim(store)
        await store.append(claimed, claimed.last_sequence, stages)
        assert await store.release(claimed, "this replica is shutting down", is_lost=False) is Lease.HELD
    for stage in (Stage.PREFILL, Stage.DECODE):
        await submit(store, stage.value, is_begun_once=True)
        claimed = await claim(store)
        await store.append(claimed, claimed.last_sequence, [StageEntered(stage)])
        lease = await store.release(claimed, "this replica is shutting down", is_lost=False)
        assert lease is Lease.LOST_ONCE
        assert (await store.get(claimed.name)).state is State.FAILED


async def test_what_is_to_be_begun_once_and_is_cancelled_ends_as_that(store: RequestStore) -> None:
    await submit(store, "one", is_begun_once=True)
    claimed = await claim(store)
    await store.cancel(ONE)
    assert await store.release(claimed, "the model's server was lost", is_lost=True) is Lease.CANCELLED
    assert (await store.get(ONE)).state is State.CANCELLED


@pytest.mark.parametrize("how", [Lease.CANCELLED, Lease.EXHAUSTED, Lease.LOST_ONCE])
async def test_a_release_whose_answer_was_lost_is_answered_again_by_the_end_that_it_was(
    store: RequestStore, how: Lease
) -> None:
    await submit(store, "one", is_begun_once=how is Lease.LOST_ONCE)
    claimed = await claim(store)
    if how is Lease.EXHAUSTED:
        for _ in range(MAX_LOSSES - 1):
            await store.release(claimed, "lost", is_lost=True)
            claimed = await claim(store)
    if how is Lease.CANCELLED:
        await store.cancel(ONE)
    assert [await store.release(claimed, "lost", is_lost=True) for _ in range(3)] == [how] * 3
    record = await store.get(ONE)
    assert isinstance(record.end, Failed)
    assert await store.finish(claimed, record.last_sequence, [], record.end) is Lease.LOST
    stranger = replace(claimed, holder=draw_holder())
    assert await store.release(stranger, "lost", is_lost=True) is Lease.LOST
    assert sum(isinstance(happening, Failed) for happening in await history(store)) == 1


async def test_a_release_after_which_somebody_else_ended_the_request_is_not_answered_by_that_end(
    store: RequestStore,
) -> None:
    await submit(store, "one", "two", is_begun_once=True)
    first, second = await claim(store), await claim(store)
    for claimed in (first, second):
        assert await store.release(claimed, "stopping", is_lost=False) is Lease.HELD
    await store.cancel(first.name)
    again = await claim(store)
    assert again.name == second.name
    assert await store.release(again, "lost", is_lost=True) is Lease.LOST_ONCE
    for claimed in (first, second):
        assert await store.release(claimed, "stopping", is_lost=False) is Lease.LOST


@pytest.mark.parametrize("told", [(), (Stage.QUEUED,), (Stage.DECODE,)])
async def test_what_is_to_be_begun_once_ends_with_its_worker_whatever_that_told(
    open_store: OpenStore, told: tuple[Stage, ...]
) -> None:
    store = await open_store(lease_seconds=0.02)
    await submit(store, "one", is_begun_once=True)
    claimed = await claim(store)
    await store.append(claimed, claimed.last_sequence, [StageEntered(stage) for stage in told])
    record = await reap_until(store, lambda record: record.state is not State.RUNNING)
    assert (record.state, record.attempt) == (State.FAILED, 1)
    assert isinstance(record.end, Failed)
    assert record.end.error.reason == "ATTEMPT_LOST"
    assert await store.finish(claimed, claimed.last_sequence, [], Finished(make_output())) is Lease.LOST


async def test_what_a_dead_worker_held_is_begun_again(open_store: OpenStore) -> None:
    store = await open_store(lease_seconds=0.05)
    await submit(store, "one")
    first = await claim(store)
    await reap_until(store, lambda record: record.state is State.QUEUED)
    second = await claim(store)
    assert second.attempt == 2
    assert await store.finish(first, first.last_sequence, [], Finished(make_output("stale"))) is Lease.LOST


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.QUEUED])
async def test_a_request_whose_workers_die_each_time_fails(open_store: OpenStore, stage: Stage) -> None:
    store = await open_store(lease_seconds=0.02)
    await submit(store, "one")
    for _ in range(MAX_LOSSES):
        claimed = await claim(store)
        await store.append(claimed, claimed.last_sequence, [StageEntered(stage)])
        await reap_until(store, lambda record: record.state is not State.RUNNING)
    record = await store.get(ONE)
    assert isinstance(record.end, Failed)
    assert isinstance(record.end.error, AttemptsExhausted)
    assert record.attempt == MAX_LOSSES


async def test_who_tidies_hears_what_became_of_each_request(open_store: OpenStore) -> None:
    store = await open_store(lease_seconds=0.02)
    await submit(store, "lost", "cancelled", "requeued")
    lost, _, _ = [await claim(store) for _ in range(3)]
    for _ in range(MAX_LOSSES - 1):
        await store.release(lost, "the model's server was lost", is_lost=True)
        lost = await claim(store)
    await store.append(lost, lost.last_sequence, [StageEntered(Stage.RESOLVING)])
    await store.cancel(RequestName(KEY, "cancelled"))
    await submit(store, "late", start_timeout_seconds=0.01)
    num_requeued, reasons = 0, {}
    async for _ in patience():
        reaped = await store.reap()
        num_requeued += reaped.num_requeued
        for ended in reaped.ended:
            reasons[ended.name] = ended.end.error.reason
            assert 0 < ended.seconds < PATIENCE_SECONDS
        if len(reasons) == 3 and num_requeued:
            break
    assert num_requeued == 1
    assert {name.request_id: reason for name, reason in reasons.items()} == {
        "lost": "ATTEMPTS_EXHAUSTED",
        "cancelled": "REQUEST_CANCELLED",
        "late": "START_TIMEOUT",
    }


@pytest.mark.parametrize("told", [(), (Stage.RESOLVING, Stage.QUEUED)])
async def test_a_claim_that_nobody_heard_of_or_that_only_waited_is_no_loss_but_not_for_ever(
    open_store: OpenStore, told: tuple[Stage, ...]
) -> None:
    store = await open_store(lease_seconds=0.02)
    await submit(store, "one")
    attempts = []
    while (claimed := await store.claim()) is not None:
        attempts.append(claimed.attempt)
        await store.append(claimed, claimed.last_sequence, [StageEntered(stage) for stage in told])
        await reap_until(store, lambda record: record.state is not State.RUNNING)
    assert attempts == list(range(1, FIRST_SILENT_LOSS + MAX_LOSSES))
    end = (await store.get(ONE)).end
    assert isinstance(end, Failed)
    assert end.error.reason == "ATTEMPTS_EXHAUSTED"


async def test_a_lease_that_is_renewed_is_kept(open_store: OpenStore) -> None:
    store = await open_store(lease_seconds=0.4)
    await submit(store, "renewed", "left")
    held, _ = await claim(store), await claim(store)
    left = RequestName(KEY, "left")
    async for _ in patience():
        assert await store.renew(held) is Lease.HELD
        await store.reap()
        if (await store.get(left)).state is State.QUEUED:
            break
    assert (await store.get(held.name)).state is State.RUNNING


async def test_a_cancelled_request_whose_worker_died_is_not_begun_again(open_store: OpenStore) -> None:
    store = await open_store(lease_seconds=0.02)
    await submit(store, "one")
    await claim(store)
    await store.cancel(ONE)
    await reap_until(store, lambda record: record.state is State.CANCELLED)
    assert await store.claim() is None


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"start_timeout_seconds": 0.01}, StartTimeout),
        ({"time_budget_seconds": 0.01}, RequestDeadlineExceeded),
    ],
)
async def test_a_request_whose_time_passed_fails_and_is_never_begun(
    store: RequestStore, fields: dict[str, Any], kind: type[ServiceError]
) -> None:
    await submit(store, "one", "two", **fields)
    await asyncio.to_thread(_wait_for_clock, 0.02)
    assert await store.claim() is None
    for name in (ONE, RequestName(KEY, "two")):
        end = (await store.get(name)).end
        assert isinstance(end, Failed)
        assert type(end.error) is kind


def _wait_for_clock(seconds: float) -> None:
    end = time.time() + seconds
    while time.time() < end:
        pass


async def test_a_claim_tells_how_long_the_model_may_be_waited_for(store: RequestStore) -> None:
    await submit(store, "one", start_timeout_seconds=60)
    held = await claim(store)
    assert held.start_seconds_left == pytest.approx(60, abs=10)
    await store.append(held, held.last_sequence, [StageEntered(Stage.QUEUED)])
    await store.release(held, "stopping", is_lost=False)
    held = await claim(store)
    assert held.start_seconds_left == pytest.approx(60, abs=10)
    await store.append(held, held.last_sequence, [StageEntered(Stage.PREFILL)])
    await store.release(held, "stopping", is_lost=False)
    assert (await claim(store)).start_seconds_left is None  # it was begun in time


async def test_however_many_wait_in_vain_the_next_one_is_begun(store: RequestStore) -> None:
    late = (make_submission(str(number), start_timeout_seconds=0.001) for number in range(120))
    await asyncio.gather(*map(store.submit, late))
    await submit(store, "patient")
    assert (await claim(store)).name.request_id == "patient"
    assert len(await ids_of(store, state=State.FAILED)) == 100
    assert (await store.statistics()).num_queued == 0


async def test_a_claim_holds_up_nobody_else_however_many_have_waited_in_vain(store: RequestStore) -> None:
    await submit(store, "held")
    held = await claim(store)
    late = (make_submission(str(number), start_timeout_seconds=0.001) for number in range(350))
    await asyncio.gather(*map(store.submit, late))
    ended: list[Ended] = []
    claiming = asyncio.create_task(store.claim(on_ended=ended.append))
    heard = [0]
    while not claiming.done():
        assert await store.renew(held) is Lease.HELD
        heard.append(len(ended))
    assert await claiming is None
    assert len(ended) == 350
    assert max(after - before for before, after in pairwise([*heard, len(ended)])) <= 200


async def test_who_claims_hears_of_each_request_that_ended_instead(
    store: RequestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = (make_submission(str(number), start_timeout_seconds=0.001) for number in range(120))
    await asyncio.gather(*map(store.submit, late))
    with monkeypatch.context() as damage:
        damage.setattr(codec, "encode_request", lambda _: b"\xc1")
        await submit(store, "damaged")
    await submit(store, "patient")
    ended: list[Ended] = []
    claimed = await store.claim(on_ended=ended.append)
    assert claimed is not None
    assert claimed.name.request_id == "patient"
    reasons = {each.name.request_id: each.end.error.reason for each in ended}
    expected = {**{str(number): "START_TIMEOUT" for number in range(120)}, "damaged": "INTERNAL_ERROR"}
    assert (len(ended), reasons) == (121, expected)
    assert all(0 < each.seconds < PATIENCE_SECONDS for each in ended)
    assert (await store.reap()).ended == ()  # nobody hears of them twice


async def test_who_cancels_hears_of_an_end_only_where_that_was_it(store: RequestStore) -> None:
    await submit(store, "runs", "waits", "ends")
    await claim(store)
    await store.cancel(RequestName(KEY, "ends"))
    ended: list[Ended] = []
    for request_id in ("runs", "waits", "waits", "ends"):
        await store.cancel(RequestName(KEY, request_id), ended.append)
    (only,) = ended
    assert (only.name.request_id, only.end.error.reason) == ("waits", "REQUEST_CANCELLED")
    assert 0 < only.seconds < PATIENCE_SECONDS


@pytest.mark.parametrize("fields", [{"start_timeout_seconds": 0.01}, {"time_budget_seconds": 0.01}])
async def test_a_request_whose_time_passed_fails_even_if_nobody_claims(
    store: RequestStore, fields: dict[str, Any]
) -> None:
    await submit(store, "one", **fields)
    await submit(store, "patient")
    await reap_until(store, lambda record: record.state is State.FAILED)
    assert await claim_all(store) == ["anna/patient"]


async def test_a_request_is_forgotten_after_its_time_and_its_name_is_free(open_store: OpenStore) -> None:
    store = await open_store(keep_seconds=0.02)
    await submit(store, "one", "two")
    await store.finish(await claim(store), 1, [], Finished(make_output()))
    async for _ in patience():
        await store.reap()
        if await ids_of(store) == ["two"]:
            break
    with pytest.raises(RequestNotFound):
        await store.get(ONE)
    with pytest.raises(RequestNotFound):
        await store.events(ONE, 0, 10)
    assert (await store.submit(make_submission("one", prompt="Something else?"))).state is State.QUEUED


async def test_a_request_is_not_forgotten_before_its_webhook_is_settled(open_store: OpenStore) -> None:
    store = await open_store(keep_seconds=0.001, lease_seconds=0.01)
    await submit(store, "one", "two", webhook_url="https://example.org/hook")
    await submit(store, "untold")
    for _ in range(3):
        await store.finish(await claim(store), 1, [], Finished(make_output()))
    delivery = await store.claim_delivery(60)
    assert delivery is not None
    async for _ in patience():
        await store.reap()
        if await ids_of(store) == ["two", "one"]:
            break
    assert (await store.statistics()).num_deliveries == 2
    await store.settle_delivery(delivery, None)
    async for _ in patience():
        await store.reap()
        if await ids_of(store) == ["two"]:
            break
    await store.settle_delivery(delivery, None)  # who settles late finds nothing
    assert (await store.get(RequestName(KEY, "two"))).end == Finished(make_output())
    async for _ in patience():
        if (again := await store.claim_delivery(60)) is not None:
            break
    assert again is not None
    assert again.record.end == Finished(make_output())


async def test_a_request_is_kept_no_longer_than_was_asked_for_nor_than_the_store_keeps_others(
    open_store: OpenStore,
) -> None:
    store = await open_store(keep_seconds=60)
    for name, keep in (("short", 0.02), ("usual", None), ("long", 3_600.0)):
        await store.submit(make_submission(name, keep_seconds=keep))
        await store.finish(await claim(store), 1, [], Finished(make_output()))
    async for _ in patience():
        await store.reap()
        if await ids_of(store) == ["long", "usual"]:
            break
    record = await store.get(RequestName(KEY, "long"))
    assert record.ended_at is not None
    assert record.expires_at == pytest.approx(record.ended_at + 60)


async def test_a_request_that_cannot_be_read_fails_and_holds_up_nobody(
    store: RequestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as damage:
        damage.setattr(codec, "encode_request", lambda _: b"\xc1")
        await submit(store, "one")
    await submit(store, "two")
    assert await claim_all(store) == ["anna/two"]
    record = await store.get(ONE)
    assert record.state is State.FAILED
    assert isinstance(record.end, Failed)
    assert isinstance(record.end.error, InternalError)
    assert "one" in record.end.error.message


async def test_an_end_that_cannot_be_read_is_told_as_a_fault_of_ours(
    store: RequestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submit(store, "one", webhook_url="https://example.org/hook")
    await store.finish(await claim(store), 1, [], Finished(make_output()))
    monkeypatch.delitem(codec._PLAIN, "Finished")
    delivery = await store.claim_delivery(60)
    assert delivery is not None
    (listed,) = (await store.list_page(KEY, None, 10, None)).records
    for record in (delivery.record, await store.get(ONE), listed):
        assert record.state is State.SUCCEEDED
        assert isinstance(record.end, Failed)
        assert isinstance(record.end.error, InternalError)


async def test_lists_are_paged_newest_first_and_by_state(store: RequestStore) -> None:
    await submit(store, *"12345")
    await submit(store, "foreign", key_id="bert")
    await store.finish(await claim(store), 1, [], Finished(make_output()))
    await claim(store)
    await claim(store)
    assert await ids_of(store) == ["5", "4", "3", "2", "1"]
    assert await ids_of(store, state=State.QUEUED) == ["5", "4", "3"]
    assert await ids_of(store, state=State.SUCCEEDED) == ["1"]
    assert await ids_of(store, "nobody") == []
    pages, before = [], None
    while True:
        page = await store.list_page(KEY, None, 2, before)
        pages.append([record.name.request_id for record in page.records])
        if (before := page.next_before) is None:
            break
    assert pages == [["5", "4"], ["3", "2"], ["1"]]


async def test_a_list_tells_of_each_request_all_that_is_told_of_it_alone(store: RequestStore) -> None:
    await submit(store, *"1234")
    await store.finish(await claim(store), 1, [], Finished(make_output()))
    await store.finish(await claim(store), 1, [], Finished(make_output("A blue square.")))
    await store.cancel((await claim(store)).name)
    page = await store.list_page(KEY, None, 10, None)
    assert list(page.records) == [await store.get(RequestName(KEY, name)) for name in "4321"]
    assert [record.end for record in page.records] == [
        *(None, None),
        *(Finished(make_output(text)) for text in ("A blue square.", "A red circle.")),
    ]


async def test_a_list_tells_how_requests_failed(store: RequestStore) -> None:
    await submit(store, *"12")
    error = FileUndecodable("images[0].data is damaged", field="images[0].data", bound="1", value="2")
    await store.finish(await claim(store), 1, [], Failed(error))
    await store.cancel(RequestName(KEY, "2"))
    for state, reason in ((State.FAILED, FileUndecodable.reason), (State.CANCELLED, RequestCancelled.reason)):
        (record,) = (await store.list_page(KEY, state, 10, None)).records
        assert isinstance(record.end, Failed)
        assert record.end.error.reason == reason


async def test_a_list_tells_positions(store: RequestStore) -> None:
    await submit(store, *"123")
    page = await store.list_page(KEY, State.QUEUED, 10, None)
    assert [record.queue_position for record in page.records] == [2, 1, 0]


@pytest.mark.parametrize(
    "change",
    ["append", "finish", "cancel", "release"],
)
async def test_who_listens_to_a_request_hears_of_each_change(store: RequestStore, change: str) -> None:
    await submit(store, "one")
    claimed = await claim(store) if change != "cancel" else None
    with store.listen(grown(ONE)) as told, store.listen(grown(RequestName(KEY, "two"))) as other:
        match change:
            case "append":
                assert claimed
                await store.append(claimed, claimed.last_sequence, [LogLine("x")])
            case "finish":
                assert claimed
                await store.finish(claimed, claimed.last_sequence, [], Finished(make_output()))
            case "release":
                assert claimed
                await store.release(claimed, "x", is_lost=False)
            case "cancel":
                await store.cancel(ONE)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await told.wait()
        assert not other.is_set()


async def test_workers_hear_of_work(store: RequestStore) -> None:
    with store.listen(WORK) as told:
        await submit(store, "one")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await told.wait()
    claimed = await claim(store)
    with store.listen(WORK) as told:
        await store.release(claimed, "x", is_lost=False)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await told.wait()


async def end_with_webhooks(store: RequestStore, *names: str) -> None:
    """End requests, given as `<key_id>/<request_id>`, whose webhooks are to be told; one after the other."""
    for name in names:
        key_id, _, request_id = name.partition("/")
        await submit(store, request_id, key_id=key_id, webhook_url="https://example.org/hook")
        await store.cancel(RequestName(key_id, request_id))


async def claim_delivery(store: RequestStore, but_of: Collection[str] = ()) -> Delivery:
    """Claim the next webhook, which must be due."""
    claimed = await store.claim_delivery(60, but_of)
    assert claimed is not None
    return claimed


async def test_a_webhook_is_due_at_the_end_and_comes_again_until_it_is_settled(store: RequestStore) -> None:
    await submit(store, "one", webhook_url="https://example.org/hook")
    await submit(store, "two")
    assert await store.claim_delivery(60) is None
    with store.listen(DELIVERIES) as told:
        await store.finish(await claim(store), 1, [], Finished(make_output()))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await told.wait()
    await store.finish(await claim(store), 1, [], Failed(BackendUnavailable("lost")))
    delivery = await store.claim_delivery(60)
    assert delivery is not None
    assert (delivery.webhook_url, delivery.attempt) == ("https://example.org/hook", 1)
    assert (delivery.record.name, delivery.record.end) == (ONE, Finished(make_output()))
    assert await store.claim_delivery(60) is None
    assert (await store.statistics()).num_deliveries == 1
    await store.settle_delivery(delivery, 0)
    again = await store.claim_delivery(60)
    assert again is not None
    assert again.attempt == 2
    await store.settle_delivery(again, 3_600)
    assert await store.claim_delivery(60) is None
    await store.settle_delivery(again, None)
    assert (await store.statistics()).num_deliveries == 0


async def test_whoever_works_for_a_request_knows_in_which_trace(store: RequestStore) -> None:
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await submit(store, "one", webhook_url="https://example.org/hook", traceparent=traceparent)
    await submit(store, "two", webhook_url="https://example.org/hook")
    claims = [await claim(store), await claim(store)]
    assert [claimed.traceparent for claimed in claims] == [traceparent, ""]
    for claimed in claims:
        await store.finish(claimed, 1, [], Finished(make_output()))
    deliveries = [await store.claim_delivery(60), await store.claim_delivery(60)]
    told = {each.record.name.request_id: each.traceparent for each in deliveries if each is not None}
    assert told == {"one": traceparent, "two": ""}


async def test_a_webhook_that_nobody_settled_comes_again_when_it_was_to_whatever_the_lease(
    open_store: OpenStore,
) -> None:
    store = await open_store(lease_seconds=0.02)
    await submit(store, "late", "soon", webhook_url="https://example.org/hook")
    for request_id in ("late", "soon"):
        await store.cancel(RequestName(KEY, request_id))
    taken = [await store.claim_delivery(seconds) for seconds in (3_600, 0.2)]
    assert [each.record.name.request_id for each in taken if each is not None] == ["late", "soon"]
    async for _ in patience():
        if (again := await store.claim_delivery(3_600)) is not None:
            assert (again.record.name.request_id, again.attempt) == ("soon", 2)
            break


async def test_what_became_of_an_earlier_attempt_changes_nothing_of_the_next_one(store: RequestStore) -> None:
    await end_with_webhooks(store, "anna/one")
    first = await store.claim_delivery(60)
    assert first is not None
    await store.settle_delivery(first, 0)
    second = await store.claim_delivery(60)
    assert second is not None
    for retry_after_seconds in (0, None):  # repeated late, for the answer was lost
        await store.settle_delivery(first, retry_after_seconds)
        assert await store.claim_delivery(60) is None
        assert (await store.statistics()).num_deliveries == 1
    await store.settle_delivery(second, 0)
    third = await store.claim_delivery(60)
    assert third is not None
    assert third.attempt == 3


async def test_what_became_of_a_webhook_says_nothing_of_a_later_request_of_the_same_name(
    open_store: OpenStore,
) -> None:
    store = await open_store(keep_seconds=0.001)
    await end_with_webhooks(store, "anna/one")
    first = await store.claim_delivery(60)
    assert first is not None
    await store.settle_delivery(first, None)
    async for _ in patience():
        await store.reap()
        if not await ids_of(store):
            break
    await end_with_webhooks(store, "anna/one")
    assert await store.claim_delivery(60) is not None
    for retry_after_seconds in (0, None):
        await store.settle_delivery(first, retry_after_seconds)
        assert await store.claim_delivery(60) is None
        assert (await store.statistics()).num_deliveries == 1


async def test_keys_take_turns_when_their_webhooks_are_claimed(store: RequestStore) -> None:
    await end_with_webhooks(store, *(f"anna/{number}" for number in range(4)), "bert/1", "cleo/1", "bert/2")
    claimed = [await claim_delivery(store) for _ in range(3)]
    assert [delivery.record.name.key_id for delivery in claimed] == ["anna", "bert", "cleo"]
    for delivery in claimed:
        await store.settle_delivery(delivery, None)
    await end_with_webhooks(store, "anna/4", "dora/1")
    rest = [(await claim_delivery(store)).record.name for _ in range(6)]
    assert ["/".join(name) for name in rest] == [
        *("anna/1", "bert/2", "dora/1"),
        *("anna/2", "anna/3", "anna/4"),
    ]
    assert await store.claim_delivery(60) is None


async def test_webhooks_of_keys_that_are_passed_over_stay_due(store: RequestStore) -> None:
    await end_with_webhooks(store, "anna/1", "anna/2", "bert/1", "cleo/1")
    assert (await claim_delivery(store, {"bert", "anna", "nobody"})).record.name == ("cleo", "1")
    assert await store.claim_delivery(60, {"bert", "anna"}) is None
    assert (await claim_delivery(store, {"anna"})).record.name == ("bert", "1")
    assert await store.claim_delivery(60, {"anna"}) is None
    for request_id in "12":
        delivery = await claim_delivery(store, {"bert", "cleo"})
        assert (delivery.record.name, delivery.attempt) == (("anna", request_id), 1)


async def test_statistics_count_what_is_there(store: RequestStore) -> None:
    empty = await store.statistics()
    assert (empty.num_queued, empty.oldest_queued_seconds, empty.num_deliveries) == (0, 0, 0)
    await submit(store, *"123", webhook_url="https://example.org/hook")
    await store.finish(await claim(store), 1, [], Finished(make_output()))
    counted = await store.statistics()
    assert (counted.num_queued, counted.num_deliveries) == (2, 1)
    assert 0 < counted.oldest_queued_seconds < PATIENCE_SECONDS
    assert (await store.get(RequestName(KEY, "3"))).created_at < counted.now < time.time() + PATIENCE_SECONDS


async def test_everything_is_there_after_a_restart(open_store: OpenStore) -> None:
    store = await open_store()
    await submit(store, *"1234")
    await submit(store, "1", key_id="bert")
    await store.finish(await claim(store), 1, [LogLine("x")], Finished(make_output()))
    running = await claim(store)
    await store.stop()
    store = await open_store()
    assert [event for event in await store.events(RequestName(KEY, "1"), 0, 10) if isinstance(event, Event)]
    assert (await store.get(RequestName(KEY, "1"))).end == Finished(make_output())
    assert await store.renew(running) is Lease.HELD
    assert await claim_all(store) == ["anna/2", "anna/3", "anna/4"]
