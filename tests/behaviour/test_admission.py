"""However much comes: what is taken is answered, the rest refused in words, and no key shuts others out."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import grpc
import httpx
import pytest
from faces.web import BODY, RUN
from fakes.backend import FakeBackend
from fakes.cable import lay_cable
from fakes.script import Answer, Script
from harness import (
    Harness,
    MakeSettings,
    Refusal,
    Request,
    describe_red_circle,
    read_refusal,
    red_circle_answer,
    refuse,
    run_harness,
    talk_without_end,
)
from idefics2.v1 import (
    files_pb2,
    files_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    requests_pb2,
    requests_pb2_grpc,
)
from idefics2_service.app import App
from idefics2_service.keys.changes import create
from idefics2_service.keys.file import KeyFile
from idefics2_service.requests import GenerateInput, ValidRequest
from idefics2_service.rpc import server, streams
from idefics2_service.settings import HttpSettings
from pictures import RED_CIRCLE, red_circle
from streams import read_to_end

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
    from pathlib import Path

    from idefics2_service.backend import BackendEvent
    from idefics2_service.requests import ResolvedRequest

PATIENCE_SECONDS = 30
STALL_SECONDS = 0.2
LARGEST_BYTES = 6 * 2**20
NARROW: dict[str, Any] = {
    "limits__max_images": 1,
    "limits__max_image_bytes": 100_000,
    "grpc__max_receive_bytes": LARGEST_BYTES,
    "http__max_receive_bytes": LARGEST_BYTES,
    "gate__max_held_bytes": 14 * 2**20,
}
"""Room for one largest message of a key, and no second one."""
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
NO_WINDOW = (("grpc.http2.lookahead_bytes", 1), ("grpc.http2.bdp_probe", 0))
"""Of a client that takes nothing until it reads: gRPC's own would take megabytes."""
_Metadata = tuple[tuple[str, str], ...]


class GatedBackend(FakeBackend):
    """Begins to answer, and goes on when its gate opens."""

    def __init__(self, script: Script) -> None:
        """Begin with the gate closed."""
        super().__init__(script)
        self.gate = asyncio.Event()
        self.num_begun = 0

    async def generate(self, request: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        """As Backend.generate."""
        self.num_begun += 1
        await self.gate.wait()
        async for event in super().generate(request):
            yield event


@dataclass(frozen=True)
class Hall:
    """A service over a gated backend, and the keys of two callers."""

    service: Harness
    backend: GatedBackend
    anna: _Metadata
    bert: _Metadata

    def metric(self, name: str, **labels: str) -> float:
        """Read a metric; 0 where nothing was counted."""
        return self.service.app.metrics.registry.get_sample_value(name, labels) or 0

    async def wait_for_metric(self, name: str, value: float, **labels: str) -> None:
        """Return when a metric has a value."""
        async for _ in patience():
            if self.metric(name, **labels) == value:
                return

    def ask(self, key: _Metadata, request: Request | None = None, **options: Any) -> asyncio.Task[str]:
        """Ask, and wait for the answer elsewhere."""

        async def run() -> str:
            made = request or describe_red_circle()
            return (await self.service.generate(made, metadata=key, **options)).output

        return asyncio.create_task(run())

    def answer(self, key: _Metadata, request_id: str | None) -> asyncio.Task[str]:
        """Ask, by submitting it under a name where one is given, and wait for the answer elsewhere."""
        return self.ask(key) if request_id is None else asyncio.create_task(self._submit(key, request_id))

    async def _submit(self, key: _Metadata, request_id: str) -> str:
        requests: Any = requests_pb2_grpc.RequestServiceStub(self.service.channel)
        submission = requests_pb2.SubmitRequest(request_id=request_id, input=describe_red_circle())
        await requests.Submit(submission, metadata=key)
        watch = requests_pb2.WatchRequestRequest(request_id=request_id)
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for event in requests.WatchRequest(watch, metadata=key):
                if event.HasField("finished"):
                    output: str = event.finished.response.output
                    return output
        raise AssertionError("the watch ended before the request")


@asynccontextmanager
async def open_hall(make_settings: MakeSettings, folder: Path, **settings: Any) -> AsyncIterator[Hall]:
    """Run a service."""
    file, script = KeyFile(folder / "keys.json"), Script()
    keys = [create(file, key_id, datetime.now(UTC)).text for key_id in ("anna", "bert")]
    anna, bert = ((("authorization", f"Key {key}"),) for key in keys)
    backend = GatedBackend(script)
    given = make_settings(api__key=None, api__keys_file=str(folder / "keys.json"), **settings)
    async with run_harness(App(given, backend), script, is_real=False) as service:
        yield Hall(service, backend, anna, bert)
        service.check_script()


async def patience() -> AsyncIterator[None]:
    """Look again and again, for a while."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            yield
            await asyncio.sleep(0.002)


async def outcome_of(call: Awaitable[str]) -> str:
    """Return the answer, or the reason of a refusal that says all that it must."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        refusal = read_refusal(error)
        trailing: Any = error.trailing_metadata()
        pushback = dict(trailing)["grpc-retry-pushback-ms"]
    assert (refusal.code, refusal.num_error_infos) == (EXHAUSTED, 1)
    assert int(pushback) == 1000 * (refusal.retry_seconds or 0) == 1000
    return refusal.reason


async def wait_until_ended(calls: list[asyncio.Task[str]], number: int) -> None:
    """Return when so many of them have ended."""
    async for _ in patience():
        if sum(call.done() for call in calls) >= number:
            return


async def test_under_overload_nothing_accepted_is_lost_and_the_rest_is_told_to_come_back(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    async with open_hall(make_settings, tmp_path, queue__max_running=2, queue__max_waiting=8) as hall:
        deepest = 0

        async def call() -> str:
            nonlocal deepest
            outcome = await outcome_of(hall.ask(hall.anna))
            deepest = max(deepest, int(hall.metric("idefics2_num_requests_waiting")))
            return outcome

        calls = [asyncio.create_task(call()) for _ in range(200)]
        hall.service.script.add(*[red_circle_answer()] * 6)
        await wait_until_ended(calls, 194)
        hall.backend.gate.set()
        outcomes = await asyncio.gather(*calls)
        assert Counter(outcomes) == {
            "QUEUE_FULL": 194,
            RED_CIRCLE: 6,
        }  # a key alone waits in half of the line
        assert deepest == 4
        hall.service.script.add(red_circle_answer())
        assert await outcome_of(hall.ask(hall.anna)) == RED_CIRCLE
        assert (hall.metric("idefics2_open_calls"), hall.metric("idefics2_held_bytes")) == (0, 0)


async def test_a_flood_of_one_key_does_not_keep_another_out(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    async with open_hall(
        make_settings, tmp_path, queue__max_running=1, queue__max_waiting=8, gate__max_open_calls=8
    ) as hall:
        flood = [asyncio.create_task(outcome_of(hall.ask(hall.anna))) for _ in range(50)]
        await wait_until_ended(flood, 46)
        assert {task.result() for task in flood if task.done()} == {"CALLS_FULL"}
        others = [hall.ask(hall.bert) for _ in range(2)]
        await hall.wait_for_metric("idefics2_num_requests_waiting", 5)
        assert hall.metric("idefics2_open_calls") == 6
        assert await outcome_of(hall.ask(hall.bert)) == "CALLS_FULL"
        hall.service.script.add(*[red_circle_answer()] * 6)
        hall.backend.gate.set()
        assert await asyncio.gather(*others) == [RED_CIRCLE] * 2
        assert Counter(await asyncio.gather(*flood))[RED_CIRCLE] == 4


@pytest.mark.parametrize("is_light_submitted", [False, True])
@pytest.mark.parametrize("is_flood_submitted", [False, True])
async def test_who_comes_beside_a_flood_of_another_key_has_the_next_turn(
    make_settings: MakeSettings, tmp_path: Path, *, is_flood_submitted: bool, is_light_submitted: bool
) -> None:
    async with open_hall(make_settings, tmp_path, queue__max_running=2, queue__max_waiting=64) as hall:
        hall.backend.gate.set()
        endless, short = Answer(("x",), holds=True), Answer(("short",))
        hall.service.script.add(endless, endless, Answer(("next",)), *[short] * 10)
        first, second = [hall.service.stream(talk_without_end(), metadata=hall.anna) for _ in range(2)]
        await hall.wait_for_metric("idefics2_num_requests_running", 2)
        names = [f"flood-{number}" for number in range(10)]
        flood = [hall.answer(hall.anna, name if is_flood_submitted else None) for name in names]
        await hall.wait_for_metric("idefics2_num_requests_waiting", 10)
        light = hall.answer(hall.bert, "light" if is_light_submitted else None)
        await hall.wait_for_metric("idefics2_num_requests_waiting", 11)
        first.cancel()
        assert await light == "next"
        assert await asyncio.gather(*flood) == ["short"] * 10
        second.cancel()


async def test_callers_are_told_how_many_are_begun_before_them_as_keys_take_turns(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    async with open_hall(make_settings, tmp_path, queue__max_running=2, queue__max_waiting=64) as hall:
        hall.backend.gate.set()
        hall.service.script.add(*[Answer(("x",), holds=True)] * 4)
        running = [hall.service.stream(talk_without_end(), metadata=hall.anna) for _ in range(2)]
        await hall.wait_for_metric("idefics2_num_requests_running", 2)
        flood = []
        for position in range(2):
            flood.append(hall.service.stream(describe_red_circle(), metadata=hall.anna))
            assert await read_position(flood[-1]) == position
        light = hall.service.stream(describe_red_circle(), metadata=hall.bert)
        assert await read_position(light) == 0
        assert [await read_position(call) for call in flood] == [1, 2]
        running[0].cancel()
        assert [await read_position(call) for call in flood] == [0, 1]
        running[1].cancel()
        assert await read_position(flood[1]) == 0
        flood[1].cancel()
        await hall.wait_for_metric("idefics2_num_requests_waiting", 0)
        light.cancel()
        flood[0].cancel()


async def read_position(call: Any) -> int | None:
    """Read on to the next position; None: it has ended without one."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while event := await call.read():
            if event.HasField("queue_position"):
                position: int = event.queue_position.position
                return position
    return None


async def test_each_call_of_a_burst_is_answered_in_words(make_settings: MakeSettings, tmp_path: Path) -> None:
    async with open_hall(make_settings, tmp_path) as hall:
        bad = describe_red_circle(prompt="")
        calls = [hall.service.generate(bad, metadata=hall.anna) for _ in range(1_500)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        reasons = Counter(read_refusal(outcome).reason for outcome in outcomes)  # type: ignore[arg-type]  # errors
        assert set(reasons) <= {"PROMPT_MISSING", "CALLS_FULL"}


async def test_no_number_of_open_calls_keeps_a_key_from_cancelling(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    async with open_hall(make_settings, tmp_path, gate__max_open_calls=1) as hall:
        requests: Any = requests_pb2_grpc.RequestServiceStub(hall.service.channel)
        submission = requests_pb2.SubmitRequest(request_id="one", input=describe_red_circle())
        await requests.Submit(submission, metadata=hall.anna)
        running = hall.service.stream(talk_without_end(), metadata=hall.bert)
        await running.read()
        refusal = await refuse(requests.Submit(submission, metadata=hall.anna))
        assert (refusal.reason, refusal.metadata) == ("CALLS_FULL", {"bound": "1", "value": "1"})
        cancel = requests_pb2.CancelRequestRequest(request_id="one")
        await requests.CancelRequest(cancel, metadata=hall.anna)
        running.cancel()


async def test_files_that_do_not_fit_are_refused_until_others_are_given_back(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    small = {
        "limits__max_images": 1,
        "limits__max_image_bytes": 200_000,
        "grpc__max_receive_bytes": 300_000,
        "http__max_receive_bytes": 300_000,
    }
    async with open_hall(make_settings, tmp_path, gate__max_held_bytes=1_000_000, **small) as hall:
        large = describe_red_circle(images=[generation_pb2.Image(data=red_circle() + bytes(150_000))])
        held = [hall.ask(hall.anna, large) for _ in range(3)]
        await hall.wait_for_metric("idefics2_num_requests_running", 3)
        assert 450_000 < hall.metric("idefics2_held_bytes") < 500_000
        assert await outcome_of(hall.ask(hall.anna, large)) == "MEMORY_FULL"
        url = f"http://{hall.service.app.http_address}/run/fal-ai/idefics-2-8b"
        async with httpx.AsyncClient() as web:
            refused = await web.post(url, content=bytes(200_000), headers=dict(hall.anna))
            assert (refused.status_code, refused.json()["reason"]) == (429, "MEMORY_FULL")
        assert hall.metric("idefics2_refused_calls_total", reason="MEMORY_FULL") == 2
        others = [hall.ask(hall.bert, large), hall.ask(hall.anna)]  # another key's, and a small one
        hall.service.script.add(*[red_circle_answer()] * 6)
        hall.backend.gate.set()
        assert set(await asyncio.gather(*held, *others)) == {RED_CIRCLE}
        assert await outcome_of(hall.ask(hall.anna, large)) == RED_CIRCLE
        assert hall.metric("idefics2_held_bytes") == 0


async def test_a_body_in_chunks_is_counted_by_what_came_once_it_is_whole(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    async with open_hall(make_settings, tmp_path) as hall:
        url = f"http://{hall.service.app.http_address}{RUN}"
        headers = {**dict(hall.anna), "content-type": "application/json"}
        body, rest = json.dumps(BODY).encode(), asyncio.Event()

        async def write(padding: int) -> AsyncIterator[bytes]:
            yield body[:-1] + b" " * padding
            await rest.wait()
            yield body[-1:]

        async with httpx.AsyncClient() as web, asyncio.TaskGroup() as callers:
            for padding in (0, 300_000):
                callers.create_task(web.post(url, content=write(padding), headers=headers))
            await hall.wait_for_metric("idefics2_held_bytes", 2 * HttpSettings().max_receive_bytes)
            rest.set()
            await hall.wait_for_metric("idefics2_num_requests_running", 2)
            assert 300_000 < hall.metric("idefics2_held_bytes") < 310_000
            hall.service.script.add(*[red_circle_answer()] * 2)
            hall.backend.gate.set()
        assert hall.metric("idefics2_held_bytes") == 0


async def test_files_of_a_caller_who_leaves_are_given_back(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    async with open_hall(make_settings, tmp_path) as hall:
        large = describe_red_circle(images=[generation_pb2.Image(data=red_circle() + bytes(150_000))])
        call = hall.service.stream(large, metadata=hall.anna)
        await call.read()
        assert hall.metric("idefics2_held_bytes") > 150_000
        call.cancel()
        await hall.wait_for_metric("idefics2_held_bytes", 0)
        await hall.wait_for_metric("idefics2_open_calls", 0)


@asynccontextmanager
async def without_collection() -> AsyncIterator[None]:
    """Leave memory to reference counts, and fail where a request outlives them."""
    gc.collect()
    gc.disable()
    try:
        num_before = count_requests()
        yield
        async for _ in patience():
            if count_requests() == num_before:
                return
    finally:
        gc.enable()


def count_requests() -> int:
    """Count the requests in memory, as they came and as they were checked."""
    # Not by isinstance, which asks each thing: some of torch's, where it is imported, warn of their age.
    return sum(type(thing) in {GenerateInput, ValidRequest} for thing in gc.get_objects())


@pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
@pytest.mark.parametrize("end", ["answer", "refusal", "bad file", "full", "cancel", "deadline", "lost"])
async def test_a_request_is_gone_from_memory_as_soon_as_it_ends(
    make_settings: MakeSettings, tmp_path: Path, method: str, end: str
) -> None:
    async with open_hall(make_settings, tmp_path, queue__max_running=1, queue__max_waiting=1) as hall:
        request = describe_red_circle()
        if end in {"answer", "lost"}:
            hall.service.script.add(Answer(("A",), is_lost=end == "lost"))
            hall.backend.gate.set()
        elif end == "refusal":
            request.prompt = ""
        elif end == "bad file":
            request.images[0].data = b"no picture"
        elif end == "full":
            others = [hall.ask(key) for key in (hall.anna, hall.bert)]
            await hall.wait_for_metric("idefics2_num_requests_waiting", 1)

        async def call_to_its_end() -> None:
            options = {"metadata": hall.anna, "timeout": 0.3 if end == "deadline" else None}
            call = getattr(hall.service.stub, method)(request, **options)
            if end == "cancel":
                await hall.wait_for_metric("idefics2_num_requests_running", 1)
                call.cancel()
            with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
                await (call if method == "Generate" else read_to_end(call))

        async with without_collection():
            await call_to_its_end()
        if end == "full":
            for other in others:
                other.cancel()


@pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
async def test_who_has_no_key_is_refused_before_a_message_is_read(
    make_settings: MakeSettings, tmp_path: Path, method: str
) -> None:
    async with open_hall(make_settings, tmp_path) as hall:
        path = f"/idefics2.v1.GenerationService/{method}"
        channel: Any = hall.service.channel
        silent = channel.stream_stream(path)()
        assert (await refuse(silent.read())).reason == "API_KEY_MISSING"
        large = Request(prompt="x" * 20_000_000)
        stub = getattr(hall.service.stub, method)
        call = stub(large) if method == "Generate" else stub(large).read()
        assert (await refuse(call)).reason == "API_KEY_MISSING"


@pytest.mark.parametrize("is_sending", [True, False])
async def test_a_call_without_a_message_is_malformed(
    make_settings: MakeSettings, tmp_path: Path, *, is_sending: bool
) -> None:
    async with open_hall(make_settings, tmp_path) as hall:
        path = "/idefics2.v1.GenerationService/Generate"
        channel: Any = hall.service.channel
        call = channel.stream_unary(path)(metadata=hall.anna)
        if is_sending:
            await call.write(b"\xff")
        await call.done_writing()
        assert (await refuse(call)).reason == "REQUEST_MALFORMED"


@pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
async def test_a_caller_of_whom_no_message_comes_is_given_up(
    make_settings: MakeSettings, tmp_path: Path, method: str
) -> None:
    async with open_hall(make_settings, tmp_path, grpc__message_timeout_seconds=STALL_SECONDS) as hall:
        channel: Any = hall.service.channel
        silent = channel.stream_stream(f"/idefics2.v1.GenerationService/{method}")(metadata=hall.anna)
        refusal = await refuse(silent.read())
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "SENDER_STALLED")
        await hall.wait_for_metric("idefics2_open_calls", 0)


async def test_who_stops_in_the_middle_of_an_upload_is_given_up_and_holds_nothing(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    async with open_hall(make_settings, tmp_path, grpc__message_timeout_seconds=STALL_SECONDS) as hall:
        files: Any = files_pb2_grpc.FileServiceStub(hall.service.channel)
        call = files.Upload(metadata=hall.anna)
        await call.write(files_pb2.UploadRequest(start=files_pb2.UploadStart(size_bytes=10_000)))
        await call.write(files_pb2.UploadRequest(chunk=red_circle()[:100]))
        assert (await refuse(call)).reason == "SENDER_STALLED"
        await hall.wait_for_metric("idefics2_open_calls", 0)
        assert hall.metric("idefics2_held_bytes") == 0


async def test_a_message_that_is_slow_to_come_counts_as_the_largest(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_AT_ONCE_SECONDS", STALL_SECONDS)
    async with (
        open_hall(make_settings, tmp_path, **NARROW) as hall,
        lay_cable(hall.service.app.grpc_address) as (cable, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        cable.choke(5 * 2**20)
        stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)
        large = Request(prompt="x" * (LARGEST_BYTES - 1_000))
        slow = stub.Generate(large, metadata=hall.anna)
        await hall.wait_for_metric("idefics2_held_bytes", LARGEST_BYTES)
        path = "/idefics2.v1.GenerationService/Generate"
        other: Any = hall.service.channel
        assert (await refuse(other.stream_unary(path)(metadata=hall.anna))).reason == "MEMORY_FULL"
        hall.service.script.add(red_circle_answer())
        hall.backend.gate.set()
        assert await hall.ask(hall.bert) == RED_CIRCLE
        cable.cut()
        with pytest.raises(grpc.aio.AioRpcError):
            await slow
        await hall.wait_for_metric("idefics2_held_bytes", 0)


async def test_an_upload_whose_chunk_is_slow_to_come_counts_as_the_largest_message_to_its_end(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_AT_ONCE_SECONDS", STALL_SECONDS)
    async with open_hall(make_settings, tmp_path, **NARROW) as hall:
        files: Any = files_pb2_grpc.FileServiceStub(hall.service.channel)
        picture = red_circle()
        start = files_pb2.UploadRequest(start=files_pb2.UploadStart(size_bytes=len(picture)))
        first = files.Upload(metadata=hall.anna)
        await first.write(start)
        await hall.wait_for_metric("idefics2_held_bytes", LARGEST_BYTES)
        half = len(picture) // 2
        await first.write(files_pb2.UploadRequest(chunk=picture[:half]))
        second = files.Upload(metadata=hall.anna)
        await second.write(start)
        assert (await refuse(second)).reason == "MEMORY_FULL"
        await first.write(files_pb2.UploadRequest(chunk=picture[half:]))
        await first.done_writing()
        assert (await first).size_bytes == len(picture)
        await hall.wait_for_metric("idefics2_held_bytes", 0)


@pytest.mark.parametrize("is_blocking", [True, False])
async def test_who_is_refused_while_sending_large_chunks_hears_why(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_blocking: bool
) -> None:
    monkeypatch.setattr(streams, "_AT_ONCE_SECONDS", STALL_SECONDS)
    monkeypatch.setattr(streams, "_HEAR_OUT_SECONDS", PATIENCE_SECONDS)
    start = files_pb2.UploadRequest(start=files_pb2.UploadStart())
    chunks = [files_pb2.UploadRequest(chunk=bytes(LARGEST_BYTES // 2))] * 4
    async with (
        open_hall(make_settings, tmp_path, **NARROW) as hall,
        lay_cable(hall.service.app.grpc_address) as (cable, address),
    ):
        files: Any = files_pb2_grpc.FileServiceStub(hall.service.channel)
        holding = files.Upload(metadata=hall.anna)
        await holding.write(files_pb2.UploadRequest(start=files_pb2.UploadStart(size_bytes=1_000)))
        await hall.wait_for_metric("idefics2_held_bytes", LARGEST_BYTES)
        cable.slow(LARGEST_BYTES)  # half a second for each chunk
        refusal = await upload_from_afar(address, [start, *chunks], hall.anna, is_blocking=is_blocking)
        assert refusal.reason == "MEMORY_FULL"
        holding.cancel()


async def upload_from_afar(
    address: str, messages: list[files_pb2.UploadRequest], key: _Metadata, *, is_blocking: bool
) -> Refusal:
    """Send an upload by either of grpc's clients, and return why it is refused."""

    def block() -> Refusal:
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
            files_pb2_grpc.FileServiceStub(channel).Upload(iter(messages), metadata=key)
        return read_refusal(cast("Any", caught.value))

    if is_blocking:
        return await asyncio.to_thread(block)
    async with grpc.aio.insecure_channel(address) as channel:
        files: Any = files_pb2_grpc.FileServiceStub(channel)
        call = files.Upload(metadata=key)
        for message in messages:
            await call.write(message)
        await call.done_writing()
        return await refuse(call)


async def test_a_caller_who_vanishes_without_a_word_is_given_up(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_ALIVE_SECONDS", STALL_SECONDS)
    async with (
        open_hall(make_settings, tmp_path, grpc__keepalive_seconds=STALL_SECONDS) as hall,
        lay_cable(hall.service.app.grpc_address) as (cable, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        watching = await submit(hall, channel)
        await hall.wait_for_metric("idefics2_open_calls", 1)
        cable.silence()
        await hall.wait_for_metric("idefics2_open_calls", 0)
        cable.cut()
        with pytest.raises(grpc.aio.AioRpcError):
            await read_to_end(watching)
        requests: Any = requests_pb2_grpc.RequestServiceStub(hall.service.channel)
        await requests.CancelRequest(requests_pb2.CancelRequestRequest(request_id="one"), metadata=hall.anna)


async def submit(hall: Hall, channel: grpc.aio.Channel) -> Any:
    """Submit a request, and watch it over another channel."""
    requests: Any = requests_pb2_grpc.RequestServiceStub(hall.service.channel)
    submission = requests_pb2.SubmitRequest(request_id="one", input=describe_red_circle())
    await requests.Submit(submission, metadata=hall.anna)
    watching: Any = requests_pb2_grpc.RequestServiceStub(channel)
    return watching.WatchRequest(requests_pb2.WatchRequestRequest(request_id="one"), metadata=hall.anna)


async def stream(hall: Hall, channel: grpc.aio.Channel) -> Any:
    """Ask for a stream over another channel."""
    stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)
    return stub.GenerateStream(describe_red_circle(), metadata=hall.anna)


async def download(hall: Hall, channel: grpc.aio.Channel) -> Any:
    """Upload a file, and download it over another channel."""
    picture = red_circle() + bytes(500_000)
    chunks = [
        files_pb2.UploadRequest(start=files_pb2.UploadStart(name="a.png", size_bytes=len(picture))),
        files_pb2.UploadRequest(chunk=picture),
    ]
    files: Any = files_pb2_grpc.FileServiceStub(hall.service.channel)
    file = await files.Upload(iter(chunks), metadata=hall.anna)
    reading: Any = files_pb2_grpc.FileServiceStub(channel)
    return reading.DownloadFile(files_pb2.DownloadFileRequest(id=file.id), metadata=hall.anna)


@pytest.mark.parametrize(
    ("begin", "method"),
    [(stream, "GenerateStream"), (submit, "WatchRequest"), (download, "DownloadFile")],
)
async def test_a_stream_that_is_not_read_is_ended_while_others_are_answered(
    make_settings: MakeSettings, tmp_path: Path, begin: Any, method: str
) -> None:
    async with (
        open_hall(make_settings, tmp_path, grpc__stall_timeout_seconds=STALL_SECONDS) as hall,
        grpc.aio.insecure_channel(hall.service.app.grpc_address, options=NO_WINDOW) as channel,
    ):
        hall.service.script.add(Answer(("x" * 1_000,) * 100, holds=True), red_circle_answer())
        if method == "DownloadFile":
            hall.service.script.take()
        hall.backend.gate.set()
        call = await begin(hall, channel)
        if method != "DownloadFile":
            await hall.wait_for_metric("idefics2_num_requests_running", 1)
        assert await hall.ask(hall.bert) == RED_CIRCLE
        await hall.wait_for_metric("idefics2_stalled_streams_total", 1, method=method)
        await hall.wait_for_metric("idefics2_open_calls", 0)
        assert hall.metric("idefics2_held_bytes") == 0
        if method == "GenerateStream":
            async with asyncio.timeout(PATIENCE_SECONDS):
                await hall.service.script.cancelled.wait()
            await hall.wait_for_metric("idefics2_num_requests_running", 0)
        refusal = await refuse(read_to_end(call))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "READER_STALLED")
        if method == "WatchRequest":
            assert hall.metric("idefics2_num_requests_running") == 1  # it goes on without its watcher
            requests: Any = requests_pb2_grpc.RequestServiceStub(hall.service.channel)
            cancel = requests_pb2.CancelRequestRequest(request_id="one")
            await requests.CancelRequest(cancel, metadata=hall.anna)


async def test_a_caller_who_hangs_up_instead_of_reading_is_no_fault(
    make_settings: MakeSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_hall(make_settings, tmp_path) as hall:
        hall.service.script.add(Answer(("x" * 1_000,) * 100, holds=True))
        hall.backend.gate.set()
        async with grpc.aio.insecure_channel(hall.service.app.grpc_address, options=NO_WINDOW) as channel:
            call = await stream(hall, channel)
            await hall.wait_for_metric("idefics2_num_requests_running", 1)
            call.cancel()
        await hall.wait_for_metric("idefics2_open_calls", 0)
        await hall.wait_for_metric("idefics2_num_requests_running", 0)
        ended = {"grpc_service": "idefics2.v1.GenerationService", "grpc_method": "GenerateStream"}
        assert hall.metric("grpc_server_handled_total", **ended, grpc_code="CANCELLED") == 1
        assert "call failed" not in caplog.text


async def test_a_call_whose_deadline_passes_in_the_line_never_reaches_the_model(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    async with open_hall(make_settings, tmp_path, queue__max_running=1) as hall:
        running = hall.ask(hall.anna)
        await hall.wait_for_metric("idefics2_num_requests_running", 1)
        late = hall.ask(hall.anna, timeout=0.3)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await late
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await hall.wait_for_metric("idefics2_num_requests_waiting", 0)
        hall.service.script.add(red_circle_answer())
        hall.backend.gate.set()
        assert await running == RED_CIRCLE
        assert hall.backend.num_begun == 1


async def test_of_a_call_that_is_read_when_nobody_waits_any_more_nothing_else_is_read(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    async with open_hall(make_settings, tmp_path) as hall:

        def ask() -> None:
            with grpc.insecure_channel(hall.service.app.grpc_address) as channel:
                stub: Any = requests_pb2_grpc.RequestServiceStub(channel)
                with suppress(grpc.RpcError):
                    stub.GetRequest(requests_pb2.GetRequestRequest(), metadata=hall.anna, timeout=0.3)

        asking = threading.Thread(target=ask)
        asking.start()
        asking.join()  # in the service's own thread, which reads no call until its caller has left
        told = {"grpc_service": "idefics2.v1.RequestService", "grpc_method": "GetRequest"}
        handled = "grpc_server_handled_total"
        await hall.wait_for_metric(handled, 1, grpc_code="DEADLINE_EXCEEDED", **told)
        assert not hall.metric("grpc_server_handling_seconds_count", **told)
