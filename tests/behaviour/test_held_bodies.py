"""What is held of a call is what it is counted for, and nothing of it stays, whatever becomes of it."""

from __future__ import annotations

import asyncio
import base64
import errno
import gc
import json
import os
import tracemalloc
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from faces.web import QUEUE, RUN
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from harness import Harness, MakeSettings, refuse, run_harness, run_on_fake_backend
from idefics2.v1 import files_pb2, files_pb2_grpc, generation_pb2, requests_pb2, requests_pb2_grpc
from idefics2_service import outcomes
from idefics2_service.app import App
from idefics2_service.metrics import Metrics
from pictures import make_empty_png
from ports import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

PATIENCE_SECONDS = 30
WIDE = "\U0001f600"
"""Takes four bytes in Python, and so does each character of a text that it stands in."""
NUM_BYTES = 6 * 2**20
PICTURE = "data:image/png;base64," + base64.b64encode(make_empty_png(8, 8) + bytes(NUM_BYTES)).decode()
MOST_BESIDE = 2**20
"""That a call and a connection take beside what is sent."""


def write(**fields: Any) -> bytes:
    """Write a question in wide characters, with fields set on top."""
    question = {"prompt": f"What is {WIDE}?", "image_url": PICTURE, **fields}
    return json.dumps(question, ensure_ascii=False).encode()


@asynccontextmanager
async def send(service: Harness, path: str, body: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """Send a call, of which nothing is held here; yield what its answer is read from."""
    host, _, port = service.app.http_address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Key {service.app.api_key}\r\n"
    writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode())
    for begin in range(0, len(body), 65_536):
        writer.write(body[begin : begin + 65_536])
        await writer.drain()
    yield reader
    writer.close()
    await writer.wait_closed()


async def wait_until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0)


def read_figure(service: Harness, name: str, **labels: str) -> float:
    return service.app.metrics.registry.get_sample_value(name, labels) or 0


def count_ended(service: Harness) -> float:
    (family,) = [f for f in service.app.metrics.registry.collect() if f.name == "idefics2_requests"]
    return sum(sample.value for sample in family.samples if sample.name.endswith("_total"))


async def check_held(service: Harness) -> None:
    """Return once no more is held than is counted: another thread may be about to let go of something."""
    most = read_figure(service, "idefics2_held_bytes") + MOST_BESIDE
    await wait_until(lambda: tracemalloc.get_traced_memory()[0] <= most)
    assert tracemalloc.get_traced_memory()[0] > NUM_BYTES  # or this would say nothing


@pytest.fixture
async def service(make_settings: MakeSettings) -> AsyncIterator[Harness]:
    script = Script()
    async with run_harness(App(make_settings(), FakeBackend(script)), script, is_real=False) as harness:
        yield harness


@pytest.mark.parametrize("path", [RUN, f"{RUN}/stream"])
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="a prompt of wide characters"),
        pytest.param({"unknown": WIDE + "a" * NUM_BYTES}, id="a field that nobody knows"),
    ],
)
async def test_what_waits_for_its_answer_holds_no_more_than_it_is_counted_for(
    service: Harness, path: str, fields: dict[str, str]
) -> None:
    service.script.add(Answer(("A",), holds=True))
    body = write(**fields)
    tracemalloc.start()
    try:
        async with send(service, path, body), asyncio.timeout(PATIENCE_SECONDS):
            await service.script.asked.wait()
            await check_held(service)
        await service.script.wait_until_cancelled(1)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("fields", [{}, {"unknown": WIDE + "a" * NUM_BYTES}])
async def test_what_is_written_to_the_store_is_held_no_more_than_it_is_counted_for(
    service: Harness, monkeypatch: pytest.MonkeyPatch, fields: dict[str, str]
) -> None:
    is_written, may_go_on = asyncio.Event(), asyncio.Event()
    submit = service.app._store.submit

    async def wait_and_submit(*args: Any) -> Any:
        is_written.set()
        await may_go_on.wait()
        return await submit(*args)

    monkeypatch.setattr(service.app._store, "submit", wait_and_submit)
    service.script.add(Answer(("A",)))
    body = write(**fields)
    tracemalloc.start()
    try:
        async with send(service, QUEUE, body) as reader, asyncio.timeout(PATIENCE_SECONDS):
            await is_written.wait()
            await check_held(service)
            may_go_on.set()
            assert b" 200 " in await reader.readline()
    finally:
        tracemalloc.stop()


async def call_http(service: Harness, path: str) -> None:
    """Call, and hear the first line of the answer."""
    async with send(service, path, write()) as reader:
        await reader.readline()


async def call_rpc(service: Harness, method: str, **fields: Any) -> None:
    """Call, with fields set on top, and hear all of the answer."""
    picture = generation_pb2.Image(data=make_empty_png(8, 8) + bytes(NUM_BYTES))
    question = generation_pb2.GenerateRequest(prompt=f"What is {WIDE}?", images=[picture], **fields)
    with suppress(grpc.aio.AioRpcError):
        match method:
            case "Generate":
                await service.generate(question)
            case "GenerateStream":
                async for _ in service.stream(question):
                    pass
            case "Submit":
                stub: Any = requests_pb2_grpc.RequestServiceStub(service.channel)
                await stub.Submit(requests_pb2.SubmitRequest(input=question), metadata=service.metadata)


@asynccontextmanager
async def letting_go() -> AsyncIterator[None]:
    """Check that soon after the block no more is held than before it."""
    gc.collect()
    gc.disable()  # it comes late, and nobody counts what it finds
    tracemalloc.start()
    try:
        yield
        await wait_until(lambda: tracemalloc.get_traced_memory()[0] < MOST_BESIDE)
    finally:
        tracemalloc.stop()
        gc.enable()


CALLS = [
    *(pytest.param(partial(call_http, path=path), id=path) for path in (RUN, f"{RUN}/stream", QUEUE)),
    *(
        pytest.param(partial(call_rpc, method=name), id=name)
        for name in ("Generate", "GenerateStream", "Submit")
    ),
]


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([Answer(("A",))], id="an answer"),
        pytest.param(
            [Answer(failure=("FILE_UNDECODABLE", "images[0] is damaged", "images[0]"))],
            id="a failure",
        ),
        pytest.param([Answer(("A",), is_lost=True)] * 3, id="a lost backend"),
    ],
)
@pytest.mark.parametrize("call", CALLS)
async def test_what_has_ended_is_let_go_at_once(
    service: Harness, call: Callable[[Harness], Awaitable[None]], answers: list[Answer]
) -> None:
    async with letting_go():
        service.script.add(*answers)
        await call(service)
        await wait_until(lambda: count_ended(service) == 1)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(write()[:-1], id="no JSON"),
        pytest.param(write(prompt=[WIDE]), id="a prompt that is none"),
        pytest.param(write(temperature=[], top_p=7, top_k=-1), id="several faults"),
        pytest.param(write(temperature=-1, top_p=7), id="several numbers"),
    ],
)
@pytest.mark.parametrize("path", [RUN, f"{RUN}/stream", QUEUE])
async def test_what_is_refused_over_http_is_let_go_at_once(service: Harness, path: str, body: bytes) -> None:
    async with letting_go(), send(service, path, body) as reader:
        assert b" 422 " in await reader.readline()


@pytest.mark.parametrize("path", [RUN, QUEUE])
async def test_what_came_of_a_body_that_breaks_off_is_let_go_at_once(service: Harness, path: str) -> None:
    host, _, port = service.app.http_address.partition(":")
    body = write()
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Key {service.app.api_key}\r\n"
    async with letting_go():
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{head}content-length: {len(body) + 1}\r\n\r\n".encode() + body)
        await writer.drain()
        await wait_until(lambda: read_figure(service, "idefics2_held_bytes") > NUM_BYTES)
        writer.transport.abort()


@pytest.mark.parametrize("method", ["Generate", "GenerateStream", "Submit"])
async def test_what_is_refused_for_several_reasons_is_let_go_at_once(service: Harness, method: str) -> None:
    async with letting_go():
        await call_rpc(service, method, temperature=-1, top_p=7)


@pytest.mark.parametrize("call", CALLS)
async def test_what_ends_by_a_fault_of_ours_is_let_go_at_once(
    service: Harness, monkeypatch: pytest.MonkeyPatch, call: Callable[[Harness], Awaitable[None]]
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(Metrics, "record_image", fail)
    monkeypatch.setattr(outcomes.logger, "exception", lambda *_, **__: None)  # which shows what frames hold
    async with letting_go():
        await call(service)
        await wait_until(lambda: count_ended(service) == 1)


@pytest.mark.parametrize("is_lost", [False, True])
async def test_what_is_for_somebody_else_to_run_is_let_go_at_once(
    make_settings: MakeSettings, *, is_lost: bool
) -> None:
    async with run_on_fake_backend(make_settings(store__renew_seconds=0.1)) as service, letting_go():
        workers, store = service.app._workers, service.app._store
        service.script.add(Answer(("A",), holds=True), Answer(("A",)))
        await call_rpc(service, "Submit")
        await service.script.asked.wait()
        (run,) = workers._runs.values()
        if is_lost:
            await store.release(run.claim, "taken away", is_lost=True)
        else:
            run.hand_back()
        del run
        await wait_until(lambda: count_ended(service) == 1)
        await wait_until(lambda: not workers.num_running)


async def test_what_waits_for_a_backend_that_was_lost_is_not_held_meanwhile(
    service: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers, store = service.app._workers, service.app._store
    backend: Any = service.app._backend
    claim = store.claim

    async def claim_and_lose_backend(*args: Any) -> Any:
        claimed = await claim(*args)
        if claimed is not None:
            await backend.set_healthy(healthy=False)
        return claimed

    monkeypatch.setattr(store, "claim", claim_and_lose_backend)
    async with letting_go():
        await call_rpc(service, "Submit")
        await wait_until(lambda: not (backend.is_healthy or workers.num_running))


@asynccontextmanager
async def failing_in_the_midst(*, stalls: bool) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """Be a host that `stalls`, or else hangs up, in the midst of a picture; yield its port."""
    may_fail = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * NUM_BYTES))
        for _ in range(NUM_BYTES // 2**16):
            writer.write(bytes(2**16))
            await writer.drain()
        await (reader.read() if stalls else may_fail.wait())
        writer.close()

    async with await asyncio.start_server(answer, HOST) as server:
        yield server.sockets[0].getsockname()[1], may_fail


@pytest.mark.parametrize("num_callers", [1, 2])
@pytest.mark.parametrize("stalls", [False, True])
async def test_what_came_of_a_picture_whose_host_fails_is_let_go_at_once(
    make_settings: MakeSettings, num_callers: int, *, stalls: bool
) -> None:
    async with failing_in_the_midst(stalls=stalls) as (port, may_fail):
        settings = make_settings(
            fetch__allowed_networks="127.0.0.0/8",
            fetch__ports=f"{port}",
            fetch__timeout_seconds=2,
            fetch__min_bytes_per_second=10**6,
        )
        question = generation_pb2.GenerateRequest(
            prompt="What?", image_url=f"http://{HOST}:{port}/picture.png"
        )
        async with run_on_fake_backend(settings) as service, letting_go():
            calls = [asyncio.create_task(refuse(service.generate(question))) for _ in range(num_callers)]
            if not stalls:
                await wait_until(lambda: tracemalloc.get_traced_memory()[0] > NUM_BYTES)
                may_fail.set()
            reasons = {refusal.reason for refusal in await asyncio.gather(*calls)}
            assert reasons == {"FILE_TOO_SLOW" if stalls else "FILE_UNREACHABLE"}


def write_upload() -> Iterator[files_pb2.UploadRequest]:
    first = make_empty_png(8, 8)
    yield files_pb2.UploadRequest(start=files_pb2.UploadStart(size_bytes=len(first) + 2 * NUM_BYTES))
    yield files_pb2.UploadRequest(chunk=first)
    for _ in range(2 * NUM_BYTES // 2**19):
        yield files_pb2.UploadRequest(chunk=bytes(2**19))


async def test_what_a_disk_does_not_take_is_let_go_at_once(
    service: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    stub: Any = files_pb2_grpc.FileServiceStub(service.channel)
    async with letting_go():
        refusal = await refuse(stub.Upload(write_upload(), metadata=service.metadata))
        assert refusal.reason == "FILE_STORE_UNAVAILABLE"
