"""A narrow service: its engine runs one sequence at a time, so that the next one tells when that let go."""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
from bench.programs import run_service
from bench.stores import prepare_place
from faces.rest import APP
from idefics2.v1 import generation_pb2_grpc, requests_pb2, requests_pb2_grpc
from ports import HOST, free_port, wait_for_grpc
from processes import running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from idefics2.v1 import generation_pb2

_AT_ITS_END = 400
_QUIET = {"IDEFICS2_LOG_LEVEL": "error"}


class TooLate(Exception):
    """What was to be cancelled has ended: the machine is too busy to measure anything."""


class Front:
    """One replica as its callers see it."""

    def __init__(self, channel: grpc.aio.Channel, http: aiohttp.ClientSession, api_key: str) -> None:
        """Call over `channel`, or over `http`, which knows the way."""
        self.api_key = api_key
        self._metadata = (("authorization", f"Key {api_key}"),)
        self._generation: Any = generation_pb2_grpc.GenerationServiceStub(channel)
        self._requests: Any = requests_pb2_grpc.RequestServiceStub(channel)
        self._http = http
        self._num_asked = 0

    def stream(self, message: generation_pb2.GenerateRequest) -> Any:
        """Call GenerateStream, about pictures that nobody has shown before."""
        return self._generation.GenerateStream(self._make_new(message), metadata=self._metadata)

    async def submit(self, request_id: str, message: generation_pb2.GenerateRequest) -> Any:
        """Submit a request, about pictures that nobody has shown before; watch it."""
        submission = requests_pb2.SubmitRequest(request_id=request_id, input=self._make_new(message))
        await self._requests.Submit(submission, metadata=self._metadata)
        watch = requests_pb2.WatchRequestRequest(request_id=request_id)
        return self._requests.WatchRequest(watch, metadata=self._metadata)

    async def cancel(self, request_id: str) -> None:
        """Cancel a submitted request.

        Raises:
            TooLate: it has ended.

        """
        message = requests_pb2.CancelRequestRequest(request_id=request_id)
        request = await self._requests.CancelRequest(message, metadata=self._metadata)
        if request.state in {requests_pb2.STATE_SUCCEEDED, requests_pb2.STATE_FAILED}:
            raise TooLate(request_id)

    async def cancel_over_http(self, request_id: str) -> None:
        """Cancel a submitted request as fal's clients do.

        Raises:
            TooLate: it has ended.

        """
        path = f"/queue/{APP}/requests/{request_id}/cancel"
        async with self._http.put(path, headers=dict(self._metadata)) as response:
            if response.status == _AT_ITS_END:
                raise TooLate(request_id)
            response.raise_for_status()

    def _make_new(self, message: generation_pb2.GenerateRequest) -> generation_pb2.GenerateRequest:
        self._num_asked += 1
        for image in message.images:
            if image.data:
                image.data += self._num_asked.to_bytes(4, "big")
        return message


@asynccontextmanager
async def run_front(fetched_port: int, **variables: str) -> AsyncIterator[Front]:
    """Run the whole service, which may fetch from a port of this machine."""
    narrow = {
        "IDEFICS2_MODEL_MAX_RUNNING": "1",
        "IDEFICS2_QUEUE_MAX_RUNNING": "3",
        "IDEFICS2_FETCH_ALLOWED_NETWORKS": HOST,
        "IDEFICS2_FETCH_PORTS": str(fetched_port),
    }
    async with (
        run_service(**narrow, **_QUIET, **variables) as started,
        _call(started.ready.grpc, started.ready.http, started.ready.api_key) as front,
    ):
        yield front


@asynccontextmanager
async def run_pair(fetched_port: int) -> AsyncIterator[tuple[Front, Front]]:
    """Run two replicas on one Valkey; the second one has no model, and so runs no request."""
    async with AsyncExitStack() as stack:
        store = {"IDEFICS2_STORE_URL": stack.enter_context(prepare_place("valkey")).url}
        first = await stack.enter_async_context(run_front(fetched_port, **store))
        yield first, await stack.enter_async_context(_run_without_model(first.api_key, **store))


@asynccontextmanager
async def _run_without_model(api_key: str, **variables: str) -> AsyncIterator[Front]:
    grpc_port, http_port, nobodys_port = free_port(), free_port(), free_port()
    ports = ("--grpc-port", str(grpc_port), "--http-port", str(http_port))
    options = (*ports, "--triton-url", f"{HOST}:{nobodys_port}")
    with (
        tempfile.TemporaryDirectory(prefix="idefics2-bench-") as folder,
        running_service(Path(folder), *options, IDEFICS2_API_KEY=api_key, **_QUIET, **variables),
    ):
        await wait_for_grpc(f"{HOST}:{grpc_port}")
        async with _call(f"{HOST}:{grpc_port}", f"{HOST}:{http_port}", api_key) as front:
            yield front


@asynccontextmanager
async def _call(address: str, http_address: str, api_key: str) -> AsyncIterator[Front]:
    async with (
        grpc.aio.insecure_channel(address) as channel,
        aiohttp.ClientSession(f"http://{http_address}") as http,
    ):
        await channel.channel_ready()
        yield Front(channel, http, api_key)
