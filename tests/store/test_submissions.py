"""What the core of submitted requests promises over every store."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from idefics2_service.blobs.directory import DirectoryBlobs
from idefics2_service.budget import Budget
from idefics2_service.errors import MemoryFull, PayloadTooLarge, StoreUnavailable, ValueOutOfRange
from idefics2_service.events import AttemptStarted, Finished, LogLine, QueuePosition, TextDelta
from idefics2_service.metrics import Metrics
from idefics2_service.requests import GenerateInput, ImageSource, RequestName, State
from idefics2_service.settings import FileSettings
from idefics2_service.submissions import MAX_AFTER, SubmitInput
from idefics2_service.uploads.library import Library
from idefics2_service.uploads.records import URL_PREFIX, StoredFile
from store.submissions import KEY, claim, make_output, make_submissions, submit
from structlog.testing import capture_logs

if TYPE_CHECKING:
    from pathlib import Path

    from idefics2_service.store.interface import OnEnded
    from idefics2_service.store.records import Record, Submission
    from store.conftest import OpenStore

ONE = RequestName(KEY, "one")
FILE_BYTES = 100_000
QUESTION = SubmitInput(
    GenerateInput("What is this?", (ImageSource("image_url", url="https://example.com/cat.png"),)),
    fingerprint=b"x",
    request_id="one",
)


class Shelf(Library):
    """Has a file of every name, and hands it out when its gate is open."""

    def __init__(self, blobs: DirectoryBlobs) -> None:
        """Begin with the gate open."""
        super().__init__(blobs, FileSettings())
        self.gate, self.is_asked = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def find(self, key_id: str, file_id: str) -> StoredFile | None:
        """As Library.find."""
        return StoredFile(key_id, file_id, "", FILE_BYTES, "", "", 0, 0, ())

    async def read(self, file: StoredFile) -> bytes:
        """As Library.read."""
        self.is_asked.set()
        await self.gate.wait()
        return bytes(file.size_bytes)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """One whose gate is open."""
    return Shelf(DirectoryBlobs(tmp_path / "files"))


def ask_about(*file_ids: str) -> SubmitInput:
    """Submit a question about uploaded files."""
    images = [ImageSource(f"images[{n}].url", url=URL_PREFIX + name) for n, name in enumerate(file_ids)]
    return SubmitInput(GenerateInput("What is this?", tuple(images)), fingerprint=b"x", request_id="one")


async def test_uploaded_files_that_are_more_than_the_store_takes_are_refused_before_any_is_read(
    open_store: OpenStore, shelf: Shelf
) -> None:
    submissions = make_submissions(await open_store(max_payload_bytes=300_000), shelf)
    with pytest.raises(PayloadTooLarge, match="prompt and images have 300013 bytes; at most 300000 are kept"):
        await submissions.submit(KEY, ask_about("a", "a", "a"))
    assert not shelf.is_asked.is_set()
    await submissions.submit(KEY, ask_about("a", "a"))


async def test_uploaded_files_are_counted_while_they_are_on_their_way_into_the_store(
    open_store: OpenStore, shelf: Shelf
) -> None:
    store, budget = await open_store(), Budget(4 * FILE_BYTES)
    submissions = make_submissions(store, shelf, budget)
    shelf.gate.clear()
    submitting = asyncio.create_task(submissions.submit(KEY, ask_about("a", "b")))
    await shelf.is_asked.wait()
    assert budget.num_bytes == 2 * FILE_BYTES
    with pytest.raises(MemoryFull):
        await submissions.submit(KEY, ask_about("a"))
    shelf.gate.set()
    await submitting
    assert budget.num_bytes == 0
    assert [image.data for image in (await claim(store)).request.images] == [bytes(FILE_BYTES)] * 2


async def test_a_submission_that_is_not_taken_is_counted_and_logged_as_a_failure(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, metrics = await open_store(), Metrics()

    async def fail(_: Submission) -> Record:
        raise StoreUnavailable("no memory is left")

    submissions = make_submissions(store, metrics=metrics)
    with monkeypatch.context() as patch, capture_logs() as lines:
        patch.setattr(store, "submit", fail)
        with pytest.raises(StoreUnavailable):
            await submissions.submit(KEY, QUESTION)
    (line,) = [line for line in lines if line["event"] == "request ended"]
    assert (line["request_id"], line["reason"]) == ("one", "STORE_UNAVAILABLE")
    read = metrics.registry.get_sample_value
    assert read("idefics2_requests_total", {"reason": "STORE_UNAVAILABLE"}) == 1
    assert read("idefics2_key_requests_total", {"key": KEY, "end": "failed"}) == 1
    await submissions.submit(KEY, QUESTION)
    assert read("idefics2_requests_total", {"reason": "STORE_UNAVAILABLE"}) == 1


async def test_a_request_that_is_cancelled_while_it_waits_is_counted_and_logged_once(
    open_store: OpenStore,
) -> None:
    store, metrics = await open_store(), Metrics()
    submissions = make_submissions(store, metrics=metrics)
    await submit(store, "runs", "one")
    running = await claim(store)
    with capture_logs() as lines:
        for name in (ONE, ONE, running.name):
            await submissions.cancel(name)
    (line,) = [line for line in lines if line["event"] == "request ended"]
    assert (line["request_id"], line["reason"]) == ("one", "REQUEST_CANCELLED")
    read = metrics.registry.get_sample_value
    assert read("idefics2_requests_total", {"reason": "REQUEST_CANCELLED"}) == 1
    assert read("idefics2_key_requests_total", {"key": KEY, "end": "cancelled"}) == 1


async def test_who_cancels_and_leaves_has_cancelled_and_that_is_counted(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, metrics = await open_store(), Metrics()
    is_asked, goes_on, cancel = asyncio.Event(), asyncio.Event(), store.cancel

    async def cancel_slowly(name: RequestName, on_ended: OnEnded) -> Record:
        is_asked.set()
        await goes_on.wait()
        record: Record = await cancel(name, on_ended)
        return record

    monkeypatch.setattr(store, "cancel", cancel_slowly)
    await submit(store, "one")
    cancelling = asyncio.create_task(make_submissions(store, metrics=metrics).cancel(ONE))
    await is_asked.wait()
    cancelling.cancel()
    await asyncio.wait((cancelling,))
    goes_on.set()
    ended = ("idefics2_requests_total", {"reason": "REQUEST_CANCELLED"})
    async with asyncio.timeout(10):
        while metrics.registry.get_sample_value(*ended) != 1:
            await store.get(ONE)
    assert (await store.get(ONE)).state is State.CANCELLED


async def test_who_knows_more_than_the_store_has_kept_is_told_all_anew_and_the_end(
    open_store: OpenStore,
) -> None:
    store = await open_store()
    submissions = make_submissions(store)
    await submit(store, "one")
    claimed = await claim(store)
    await store.append(claimed, 1, [TextDelta("A red", 2)])
    early, late = submissions.watch(ONE, after=10), submissions.watch(ONE, after=12)
    seen = [await anext(early), await anext(early)]
    end = Finished(make_output())
    await store.finish(claimed, 2, [], end)
    seen += [event async for event in early]
    assert [event.sequence for event in seen] == [11, 12, 13]
    assert [event.happening for event in seen] == [AttemptStarted(1), TextDelta("A red", 2), end]
    again = [event async for event in late]
    assert [event.sequence for event in again] == [13, 14, 15]
    assert [event.happening for event in again] == [event.happening for event in seen]
    assert [event async for event in submissions.watch(ONE, after=3)] == []


@pytest.mark.parametrize("after", [-1, MAX_AFTER + 1])
async def test_who_asks_after_no_number_of_an_event_is_refused(open_store: OpenStore, after: int) -> None:
    with pytest.raises(ValueOutOfRange, match=f"after must be 0 to {MAX_AFTER}, not {after}"):
        await anext(make_submissions(await open_store()).watch(ONE, after))


async def test_who_watches_is_told_again_that_a_request_waits_that_was_handed_back_to_its_old_place(
    open_store: OpenStore,
) -> None:
    store = await open_store()
    await submit(store, "one")
    async with aclosing(make_submissions(store).watch(ONE)) as events:
        seen = [await anext(events)]
        await store.release(await claim(store), "x", is_lost=False)
        async with asyncio.timeout(10):
            seen += [await anext(events) for _ in range(3)]
    places = [QueuePosition(0), AttemptStarted(1), LogLine("handed back: x"), QueuePosition(0)]
    assert [event.happening for event in seen] == places
