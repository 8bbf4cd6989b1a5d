"""What is promised of keys: who is let in, how much each may do, and that none sees another's."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from harness import (
    Harness,
    MakeSettings,
    Refusal,
    describe_red_circle,
    read_refusal,
    red_circle_answer,
    refuse,
    run_harness,
    run_while_triton_starts,
    talk_without_end,
)
from idefics2.v1 import files_pb2, files_pb2_grpc, requests_pb2, requests_pb2_grpc
from idefics2_service.app import App
from idefics2_service.keys import ring as ring_module
from idefics2_service.keys.changes import create, revoke, rotate
from idefics2_service.keys.file import KeyFile
from idefics2_service.keys.records import Face, Limits
from idefics2_service.settings import StoreSettings
from idefics2_service.store.redis.revocations import RedisRevocations
from pictures import RED_CIRCLE, red_circle
from store.servers import Server
from streams import read_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from idefics2_service.uploads.records import StoredFile

PATIENCE_SECONDS = 30
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


class Caller:
    """Somebody with a key."""

    def __init__(self, service: Harness, key: str) -> None:
        """Call `service` with `key`."""
        self._service = service
        self._requests: Any = requests_pb2_grpc.RequestServiceStub(service.channel)
        self._files: Any = files_pb2_grpc.FileServiceStub(service.channel)
        self._operations: Any = operations_pb2_grpc.OperationsStub(service.channel)
        self.metadata = (("authorization", f"Key {key}"),)

    async def generate(self) -> str:
        """Ask about a red circle."""
        return (await self._service.generate(describe_red_circle(), metadata=self.metadata)).output

    def stream(self) -> Any:
        """Ask for something without end."""
        return self._service.stream(talk_without_end(), metadata=self.metadata)

    async def submit(self, request_id: str) -> Any:
        """Submit a question about a red circle."""
        message = requests_pb2.SubmitRequest(request_id=request_id, input=describe_red_circle())
        return await self._requests.Submit(message, metadata=self.metadata)

    async def cancel(self, request_id: str) -> Any:
        """Cancel a request."""
        message = requests_pb2.CancelRequestRequest(request_id=request_id)
        return await self._requests.CancelRequest(message, metadata=self.metadata)

    async def list(self) -> list[str]:
        """List the names of requests."""
        page = await self._requests.ListRequests(requests_pb2.ListRequestsRequest(), metadata=self.metadata)
        return [request.request_id for request in page.requests]

    async def list_page(self, name: str, page_token: str = "") -> Any:
        """Ask for a page of a list, which has one entry."""
        given: Any = {"page_size": 1, "page_token": page_token}
        lists: Any = {
            "requests": (self._requests.ListRequests, requests_pb2.ListRequestsRequest(**given)),
            "queued requests": (
                self._requests.ListRequests,
                requests_pb2.ListRequestsRequest(state=requests_pb2.STATE_QUEUED, **given),
            ),
            "operations": (
                self._operations.ListOperations,
                operations_pb2.ListOperationsRequest(**given),
            ),
            "files": (self._files.ListFiles, files_pb2.ListFilesRequest(**given)),
        }
        call, message = lists[name]
        return await call(message, metadata=self.metadata)

    async def upload(self, data: bytes) -> files_pb2.File:
        """Upload a file."""
        start = files_pb2.UploadRequest(start=files_pb2.UploadStart(size_bytes=len(data)))
        messages = iter((start, files_pb2.UploadRequest(chunk=data)))
        file: files_pb2.File = await self._files.Upload(messages, metadata=self.metadata)
        return file

    def calls_about(self, request_id: str) -> dict[str, Callable[[], Awaitable[Any]]]:
        """Make every call that names a request."""
        requests, operations, metadata = self._requests, self._operations, self.metadata
        name = f"operations/{request_id}"

        async def watch() -> None:
            message = requests_pb2.WatchRequestRequest(request_id=request_id)
            async for _ in requests.WatchRequest(message, metadata=metadata):
                pass

        def call(stub: Any, message: Any) -> Callable[[], Awaitable[Any]]:
            return lambda: stub(message, metadata=metadata)

        return {
            "GetRequest": call(requests.GetRequest, requests_pb2.GetRequestRequest(request_id=request_id)),
            "WatchRequest": watch,
            "GetResult": call(requests.GetResult, requests_pb2.GetResultRequest(request_id=request_id)),
            "CancelRequest": call(
                requests.CancelRequest, requests_pb2.CancelRequestRequest(request_id=request_id)
            ),
            "GetOperation": call(operations.GetOperation, operations_pb2.GetOperationRequest(name=name)),
            "WaitOperation": call(operations.WaitOperation, operations_pb2.WaitOperationRequest(name=name)),
            "CancelOperation": call(
                operations.CancelOperation, operations_pb2.CancelOperationRequest(name=name)
            ),
        }


class Door:
    """A service over the fake backend, and its file of keys."""

    def __init__(self, service: Harness, file: KeyFile) -> None:
        """Make keys in `file` for callers of `service`."""
        self.service = service
        self.file = file

    def caller(self, key_id: str, **fields: Any) -> Caller:
        """Make a key, let the service know it, and return somebody who has it."""
        made = create(self.file, key_id, datetime.now(UTC), **fields)
        self.look()
        return Caller(self.service, made.text)

    def look(self) -> None:
        """Let the service look at its file now."""
        self.service.app._ring.refresh()


@pytest.fixture
def backend() -> FakeBackend:
    """A fake that a test can lose."""
    return FakeBackend(Script())


@pytest.fixture
async def door(make_settings: MakeSettings, tmp_path: Path, backend: FakeBackend) -> AsyncIterator[Door]:
    """A service that lets in who has a key of its file."""
    async with open_door(make_settings, tmp_path, backend) as opened:
        yield opened


@asynccontextmanager
async def open_door(
    make_settings: MakeSettings, folder: Path, backend: FakeBackend, **settings: Any
) -> AsyncIterator[Door]:
    """Run a service over a file of keys."""
    file = KeyFile(folder / "keys.json")
    with file.edit():
        pass
    given = make_settings(api__key=None, api__keys_file=str(folder / "keys.json"), **settings)
    async with run_harness(App(given, backend), backend._script, is_real=False) as service:
        yield Door(service, file)
        service.check_script()


async def quota_of(call: Awaitable[Any]) -> tuple[str, Refusal]:
    """Return the quota that a refused call's QuotaFailure names, and the refusal."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # it has what is needed
    assert status is not None
    failure = error_details_pb2.QuotaFailure()
    assert any(detail.Unpack(failure) for detail in status.details)
    return failure.violations[0].subject, read_refusal(caught.value)


async def wait_until_running(caller: Caller, request_id: str) -> None:
    """Watch a request until it runs."""
    message = requests_pb2.WatchRequestRequest(request_id=request_id)
    await read_until(caller._requests.WatchRequest(message, metadata=caller.metadata), "text_delta")


async def test_keys_of_the_file_are_let_in_and_there_is_no_other(door: Door) -> None:
    assert door.service.app.api_key is None
    door.service.script.add(red_circle_answer())
    assert await door.caller("anna").generate() == RED_CIRCLE
    stranger = Caller(door.service, f"anna.{'x' * 43}")
    assert (await refuse(stranger.generate())).reason == "API_KEY_INVALID"


async def test_the_single_key_is_let_in_beside_those_of_the_file(
    make_settings: MakeSettings, tmp_path: Path, backend: FakeBackend
) -> None:
    made = create(KeyFile(tmp_path / "keys.json"), "anna", datetime.now(UTC))
    settings = make_settings(data__folder=str(tmp_path))
    async with run_harness(App(settings, backend), backend._script, is_real=False) as service:
        backend._script.add(red_circle_answer(), red_circle_answer())
        for key in (made.text, str(service.app.api_key)):
            assert await Caller(service, key).generate() == RED_CIRCLE


async def test_a_fast_key_is_told_when_to_come_back(door: Door) -> None:
    door.service.script.add(red_circle_answer())
    anna = door.caller("anna", limits=Limits(calls_per_second=0.01))
    await anna.generate()
    for call in (anna.generate(), anna.submit("one"), anna.list()):
        subject, refusal = await quota_of(call)
        assert (refusal.code, refusal.reason, subject) == (EXHAUSTED, "RATE_LIMITED", "calls_per_second")
        assert 100 - PATIENCE_SECONDS < (refusal.retry_seconds or 0) <= 100


async def test_open_calls_are_bounded_and_free_their_place_when_cancelled(door: Door) -> None:
    script = door.service.script
    script.add(Answer(("x",), holds=True))
    anna = door.caller("anna", limits=Limits(max_concurrent=1))
    running = anna.stream()
    await read_until(running, "text_delta")
    subject, refusal = await quota_of(anna.generate())
    assert (refusal.code, refusal.reason, subject) == (EXHAUSTED, "CONCURRENCY_EXCEEDED", "max_concurrent")
    assert refusal.retry_seconds == 1
    running.cancel()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await script.cancelled.wait()
    script.add(red_circle_answer())
    assert await anna.generate() == RED_CIRCLE


async def test_open_calls_free_their_place_at_an_error(door: Door) -> None:
    anna = door.caller("anna", limits=Limits(max_concurrent=1))
    for _ in range(3):
        bad = door.service.generate(describe_red_circle(prompt=""), metadata=anna.metadata)
        assert (await refuse(bad)).reason == "PROMPT_MISSING"
    door.service.script.add(Answer(("A",), is_lost=True), red_circle_answer())
    assert (await refuse(anna.generate())).reason == "BACKEND_UNAVAILABLE"
    assert await anna.generate() == RED_CIRCLE


async def test_no_limit_keeps_a_key_from_cancelling(door: Door, backend: FakeBackend) -> None:
    await backend.set_healthy(healthy=False)
    anna = door.caller("anna", limits=Limits(calls_per_second=0.001))
    await anna.submit("one")
    assert (await anna.cancel("one")).state == requests_pb2.STATE_CANCELLED
    await backend.set_healthy(healthy=True)


async def test_submitted_requests_are_bounded_until_their_end(door: Door) -> None:
    script = door.service.script
    script.add(Answer(("x",), holds=True), Answer(("x",), holds=True))
    anna = door.caller("anna", limits=Limits(max_queued=2))
    await anna.submit("one")
    await anna.submit("two")
    for request_id in ("one", "two"):
        await wait_until_running(anna, request_id)  # running is not the end
    subject, refusal = await quota_of(anna.submit("three"))
    assert (refusal.code, refusal.reason, subject) == (EXHAUSTED, "QUEUE_QUOTA_EXCEEDED", "max_queued")
    assert "2" in refusal.message
    await anna.submit("two")  # is the same one
    await anna.cancel("one")
    await anna.calls_about("one")["WatchRequest"]()
    script.add(red_circle_answer())
    await anna.submit("three")
    await anna.calls_about("three")["WatchRequest"]()
    await anna.cancel("two")


async def test_a_full_key_does_not_fill_the_queue_of_another(door: Door, backend: FakeBackend) -> None:
    await backend.set_healthy(healthy=False)
    anna, bert = (door.caller(name, limits=Limits(max_queued=1)) for name in ("anna", "bert"))
    await anna.submit("one")
    assert (await refuse(anna.submit("two"))).reason == "QUEUE_QUOTA_EXCEEDED"
    await bert.submit("one")
    for caller in (anna, bert):
        await caller.cancel("one")
    await backend.set_healthy(healthy=True)


async def test_a_key_of_another_face_is_let_in_nowhere(door: Door) -> None:
    anna = door.caller("anna", faces=(Face.HTTP,))
    refusal = await refuse(anna.generate())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "FACE_NOT_ALLOWED")
    assert "only over http" in refusal.message


async def test_a_key_of_other_apps_is_told_what_it_may_be_used_for(door: Door) -> None:
    anna = door.caller("anna", apps=("me/mine", "me/other"))
    for call in (anna.generate(), anna.submit("one"), anna.list(), anna.upload(red_circle())):
        refusal = await refuse(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "APP_NOT_ALLOWED")
        assert "not be used for fal-ai/idefics-2-8b, only for me/mine and me/other" in refusal.message
    door.service.script.add(red_circle_answer())
    bert = door.caller("bert", apps=("me/mine", "fal-ai/idefics-2-8b"))
    assert await bert.generate() == RED_CIRCLE


async def test_a_service_is_called_by_the_name_that_it_is_set_to(
    make_settings: MakeSettings, tmp_path: Path, backend: FakeBackend
) -> None:
    async with open_door(make_settings, tmp_path, backend, api__app="me/mine") as door:
        await door.caller("anna", apps=("me/mine",)).list()
        bert = door.caller("bert", apps=("fal-ai/idefics-2-8b",))
        assert (await refuse(bert.list())).reason == "APP_NOT_ALLOWED"


async def test_a_key_may_store_as_much_as_its_own_limits_say(door: Door) -> None:
    picture = red_circle()
    anna = door.caller("anna", limits=Limits(max_stored_bytes=len(picture) - 1))
    bert = door.caller("bert", limits=Limits(max_stored_files=1))
    quota, refusal = await quota_of(anna.upload(picture))
    assert (quota, refusal.reason) == ("files", "FILE_QUOTA_EXCEEDED")
    assert f"at most {len(picture) - 1} are allowed" in refusal.message
    await bert.upload(picture)
    _, refusal = await quota_of(bert.upload(picture + b"x"))
    assert "at most 1 are allowed" in refusal.message


async def test_an_expired_key_is_refused(door: Door) -> None:
    anna = door.caller("anna", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    refusal = await refuse(anna.generate())
    assert (refusal.code, refusal.reason) == (UNAUTHENTICATED, "API_KEY_EXPIRED")


async def test_anothers_request_is_not_found_by_any_call(door: Door) -> None:
    door.service.script.add(red_circle_answer())
    anna, bert = door.caller("anna"), door.caller("bert")
    await anna.submit("one")
    await anna.calls_about("one")["WatchRequest"]()
    unknown = bert.calls_about("none")
    for method, call in bert.calls_about("one").items():
        refusal = await refuse(call())
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "REQUEST_NOT_FOUND"), method
        never = await refuse(unknown[method]())
        assert never.message.replace("none", "one") == refusal.message
    assert (await bert.list(), await anna.list()) == ([], ["one"])
    operations = await bert._operations.ListOperations(
        operations_pb2.ListOperationsRequest(), metadata=bert.metadata
    )
    assert not operations.operations
    for call in anna.calls_about("one").values():
        await call()


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("requests", "files"),
        ("queued requests", "requests"),
        ("operations", "queued requests"),
        ("files", "requests"),
    ],
)
async def test_a_page_token_is_good_for_the_list_that_gave_it_and_for_its_key(
    door: Door, backend: FakeBackend, name: str, other: str
) -> None:
    await backend.set_healthy(healthy=False)
    anna, bert = door.caller("anna"), door.caller("bert")
    for caller in (anna, bert):
        for number in range(2):
            await caller.submit(f"{number}")
            await caller.upload(red_circle() + bytes([number]))
    token = (await anna.list_page(name)).next_page_token
    assert token
    assert not (await anna.list_page(name, token)).next_page_token
    for call in (bert.list_page(name, token), anna.list_page(other, token)):
        refusal = await refuse(call)
        assert (refusal.code, refusal.reason, refusal.field) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "PAGE_TOKEN_INVALID",
            "page_token",
        )


async def test_every_call_that_names_a_request_was_tried(door: Door) -> None:
    services = (
        requests_pb2.DESCRIPTOR.services_by_name["RequestService"],
        operations_pb2.DESCRIPTOR.services_by_name["Operations"],
    )
    methods = {method.name for service in services for method in service.methods}
    nameless = {"Submit", "ListRequests", "ListOperations", "DeleteOperation"}  # the last deletes nothing
    assert set(door.caller("anna").calls_about("one")) == methods - nameless


async def test_both_may_choose_the_same_name(door: Door) -> None:
    door.service.script.add(red_circle_answer(), Answer(("Mine.",)))
    anna, bert = door.caller("anna"), door.caller("bert")
    outputs = []
    for caller in (anna, bert):
        await caller.submit("one")
        await caller.calls_about("one")["WatchRequest"]()
        outputs.append((await caller.calls_about("one")["GetResult"]()).output)
    assert outputs == [RED_CIRCLE, "Mine."]


async def test_what_is_revoked_is_refused_by_every_replica(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "LOOK_AGAIN_SECONDS", 0.01)
    script = Script()
    async with (
        open_door(make_settings, tmp_path, FakeBackend(script)) as first,
        open_door(make_settings, tmp_path, FakeBackend(script)) as second,
    ):
        anna = first.caller("anna")
        second.look()
        callers = [Caller(door.service, anna.metadata[0][1].removeprefix("Key ")) for door in (first, second)]
        assert [await caller.list() for caller in callers] == [[], []]
        revoke(first.file, "anna", datetime.now(UTC))
        for caller in callers:
            refusal = await refuse(call_until_refused(caller))
            assert (refusal.code, refusal.reason) == (UNAUTHENTICATED, "API_KEY_REVOKED")


async def test_what_the_store_revokes_is_refused_by_every_replica_whatever_its_file_says(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "LOOK_AGAIN_SECONDS", 0.01)
    script = Script()
    with Server("valkey") as server:
        place = {"store__url": server.url}
        async with (
            open_door(make_settings, tmp_path, FakeBackend(script), **place) as first,
            open_door(make_settings, tmp_path, FakeBackend(script), **place) as second,
        ):
            anna = first.caller("anna")
            second.look()
            keys = anna.metadata[0][1].removeprefix("Key ")
            callers = [Caller(door.service, keys) for door in (first, second)]
            assert [await caller.list() for caller in callers] == [[], []]
            RedisRevocations(StoreSettings(url=server.url)).add("anna")
            for caller in callers:
                refusal = await refuse(call_until_refused(caller))
                assert (refusal.code, refusal.reason) == (UNAUTHENTICATED, "API_KEY_REVOKED")
            assert first.file.read()[0].revoked_at is None
        async with open_door(make_settings, tmp_path / "late", FakeBackend(script), **place) as third:
            refusal = await refuse(third.caller("anna").list())
            assert refusal.reason == "API_KEY_REVOKED", "also by one that starts later"


async def call_until_refused(caller: Caller) -> None:
    """Call again and again, as long as it is let in."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            await caller.list()


async def test_the_file_of_keys_is_followed_while_triton_starts(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "LOOK_AGAIN_SECONDS", 0.01)
    file, now = KeyFile(tmp_path / "keys.json"), datetime.now(UTC)
    anna_key = create(file, "anna", now).text
    settings = make_settings(api__key=None, api__keys_file=str(tmp_path / "keys.json"))
    async with run_while_triton_starts(App(settings), monkeypatch) as service:
        revoke(file, "anna", now)
        refusal = await refuse(call_until_refused(Caller(service, anna_key)))
        assert (refusal.code, refusal.reason) == (UNAUTHENTICATED, "API_KEY_REVOKED")
        await call_until_let_in(Caller(service, create(file, "bert", now).text))


async def call_until_let_in(caller: Caller) -> None:
    """Call again and again, as long as it is refused."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(grpc.aio.AioRpcError):
                await caller.list()
                return


async def test_a_key_that_is_revoked_in_mid_flight_hears_no_more(
    door: Door, pieces: asyncio.Semaphore
) -> None:
    door.service.script.add(Answer(("first", "second")))
    running = door.caller("anna").stream()
    await read_until(running, "text_delta")
    revoke(door.file, "anna", datetime.now(UTC))
    door.look()
    pieces.release()
    refusal = await refuse(read_no_text(running))
    assert (refusal.code, refusal.reason) == (UNAUTHENTICATED, "API_KEY_REVOKED")


async def read_no_text(call: Any) -> None:
    """Read events to the end; none may have text."""
    while event := await call.read():
        assert not event.HasField("text_delta"), event


async def test_who_showed_a_secret_that_was_ended_at_once_hears_no_more(
    door: Door, pieces: asyncio.Semaphore
) -> None:
    door.service.script.add(Answer(("first", "second")))
    running = door.caller("anna").stream()
    await read_until(running, "text_delta")
    rotate(door.file, "anna", datetime.now(UTC), at_once=True)
    door.look()
    pieces.release()
    refusal = await refuse(read_no_text(running))
    assert (refusal.code, refusal.reason) == (UNAUTHENTICATED, "API_KEY_INVALID")


async def test_who_showed_the_older_secret_hears_on_as_long_as_it_is_good(
    door: Door, pieces: asyncio.Semaphore
) -> None:
    door.service.script.add(Answer(("first", "second", "third")))
    running = door.caller("anna").stream()
    await read_until(running, "text_delta")
    rotate(door.file, "anna", datetime.now(UTC))
    door.look()
    pieces.release()
    await read_until(running, "text_delta")
    rotate(door.file, "anna", datetime.now(UTC))
    door.look()
    pieces.release()
    refusal = await refuse(read_no_text(running))
    assert (refusal.code, refusal.reason) == (UNAUTHENTICATED, "API_KEY_INVALID")


async def test_an_answer_to_a_key_that_was_revoked_meanwhile_is_kept_back(
    door: Door, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, anna = backend.generate, door.caller("anna")

    async def revoke_first(request: Any) -> AsyncIterator[Any]:
        revoke(door.file, "anna", datetime.now(UTC))
        door.look()
        async for event in generate(request):
            yield event

    monkeypatch.setattr(backend, "generate", revoke_first)
    door.service.script.add(red_circle_answer())
    refusal = await refuse(anna.generate())
    assert (refusal.code, refusal.reason) == (UNAUTHENTICATED, "API_KEY_REVOKED")
    assert RED_CIRCLE not in refusal.message


async def test_an_answer_to_a_key_that_was_revoked_while_its_file_was_completed_is_kept_back(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, anna = door.service.app._library, door.caller("anna")
    keep = library.keep

    async def revoke_first(file: StoredFile) -> StoredFile:
        revoke(door.file, "anna", datetime.now(UTC))
        door.look()
        return await keep(file)

    monkeypatch.setattr(library, "keep", revoke_first)
    refusal = await refuse(anna.upload(red_circle()))
    assert (refusal.code, refusal.reason) == (UNAUTHENTICATED, "API_KEY_REVOKED")


async def test_refusals_are_counted_by_reason_and_hold_no_secret(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    anna = door.caller("anna", limits=Limits(calls_per_second=0.001))
    secret = anna.metadata[0][1].partition(".")[2]
    await anna.list()
    told = [await refuse(anna.list()), await refuse(Caller(door.service, f"b.{secret}").list())]
    revoke(door.file, "anna", datetime.now(UTC))
    door.look()
    told.append(await refuse(anna.list()))
    reasons = [refusal.reason for refusal in told]
    assert reasons == ["RATE_LIMITED", "API_KEY_INVALID", "API_KEY_REVOKED"]
    metrics = door.service.app.metrics.render().decode()
    for reason in reasons:
        assert f'idefics2_refused_calls_total{{reason="{reason}"}} 1.0' in metrics
    assert "idefics2_api_keys_current 1.0" in metrics
    assert "keys read" in caplog.text
    for text in (metrics, caplog.text, *(f"{refusal}" for refusal in told)):
        assert secret not in text
