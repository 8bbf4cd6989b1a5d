"""A front that owns its Triton ends under load: what was begun is answered before the model goes."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import apsw
import grpc
import httpx
import pytest
from faces.web import PICTURE as DATA_URI
from grpc_health.v1 import health_pb2, health_pb2_grpc
from idefics2_client import AsyncClient, Idefics2Error, Options, Retry
from idefics2_service.settings import ApiSettings
from load.drain.judge import MOST_END_SECONDS
from pictures import DESCRIBE, RED_CIRCLE, red_circle
from processes import Ready, Started, running_service, wait_until_gone

if TYPE_CHECKING:
    from pathlib import Path

NUM_CALLERS, NUM_WEB_CALLERS = 3, 2
NUM_CALLS_BEFORE = 10
"""Answered before the end begins."""
DRAIN = {"IDEFICS2_GRPC_DRAIN_DELAY_SECONDS": "0.3", "IDEFICS2_GRPC_DRAIN_TIMEOUT_SECONDS": "3"}
"""A delay that is shorter than a long answer, and a drain that is longer, but shorter than an endless one."""
NUM_LONG_TOKENS = 80
LONG: Options = {"temperature": 0.0, "max_new_tokens": NUM_LONG_TOKENS, "min_new_tokens": NUM_LONG_TOKENS}
ENDLESS: Options = {"temperature": 10.0, "max_new_tokens": 1900, "min_new_tokens": 1900}
"""Of an answer that takes longer than a front waits."""
PICTURE = red_circle()
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Crowd:
    """Those who ask again and again, until they hear that the front ends."""

    def __init__(self, ready: Ready) -> None:
        """Call the front that is `ready`; each call is made once."""
        self.losses: asyncio.Queue[Idefics2Error] = asyncio.Queue()
        """Of watches, which alone go on after one."""
        retry = Retry(max_attempts=1, on_lost=self.losses.put_nowait)
        self.client = AsyncClient(ready.grpc, ready.api_key, retry=retry)
        self.told_at = 0.0
        """When its health said that it serves no more."""
        self.is_watched = asyncio.Event()
        """Whether the model writes what is watched."""
        self._ready = ready
        self._num_answers, self._is_warm = 0, asyncio.Event()

    async def watch_health(self) -> None:
        """Hear when it serves no more."""
        async with grpc.aio.insecure_channel(self._ready.grpc) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            async for answer in stub.Watch(health_pb2.HealthCheckRequest()):
                if answer.status == NOT_SERVING:
                    self.told_at = time.monotonic()
                    return

    async def watch(self, request_id: str) -> str:
        """Watch a request until that is broken off, and return why."""
        watching = asyncio.create_task(self._read_all(request_id))
        losing = asyncio.create_task(self.losses.get())
        try:
            await asyncio.wait((watching, losing), return_when=asyncio.FIRST_COMPLETED)
            assert not watching.done(), "the request ended before its front did"
            return losing.result().reason
        finally:
            watching.cancel()
            losing.cancel()

    async def ask(self) -> None:
        """Ask over gRPC for long answers."""
        while not self.told_at:
            response = await self.client.generate(PICTURE, DESCRIBE, **LONG)
            self._note(response.output, is_whole=response.usage.num_generated_tokens == NUM_LONG_TOKENS)

    async def ask_by_web(self) -> None:
        """Ask over HTTP."""
        body = {"prompt": DESCRIBE, "image_url": DATA_URI, "temperature": 0}
        headers = {"authorization": f"Key {self._ready.api_key}"}
        async with httpx.AsyncClient(
            base_url=f"http://{self._ready.http}", headers=headers, timeout=60
        ) as web:
            while not self.told_at:
                answer = await web.post(f"/run/{ApiSettings().app}", json=body)
                output = answer.raise_for_status().json()["output"]
                self._note(output, is_whole=output == RED_CIRCLE)

    async def wait_until_warm(self) -> None:
        """Return once some have been answered."""
        await self._is_warm.wait()

    async def _read_all(self, request_id: str) -> None:
        async for event in self.client.watch(request_id):
            if event.HasField("text_delta"):
                self.is_watched.set()

    def _note(self, output: str, *, is_whole: bool) -> None:
        """Count an answer; what follows its truth, if it may not end there, is nobody's."""
        assert is_whole
        assert output.startswith(RED_CIRCLE)
        self._num_answers += 1
        if self._num_answers == NUM_CALLS_BEFORE:
            self._is_warm.set()


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_a_front_with_its_own_triton_ends_under_load_without_a_failed_call(tmp_path: Path) -> None:
    with running_service(tmp_path, **DRAIN) as service:
        started = Started(service, await asyncio.to_thread(service.wait_until_ready))
        tree, crowd = service.tree(), Crowd(started.ready)
        async with crowd.client, asyncio.TaskGroup() as group:
            for work in (
                crowd.watch_health,
                *[crowd.ask] * NUM_CALLERS,
                *[crowd.ask_by_web] * NUM_WEB_CALLERS,
            ):
                group.create_task(work())
            await crowd.wait_until_warm()
            request = await crowd.client.submit(PICTURE, DESCRIBE, **ENDLESS)
            watching = group.create_task(crowd.watch(request.request_id))
            await crowd.is_watched.wait()
            ended_at = time.monotonic()
            status = await asyncio.to_thread(service.stop, signal.SIGTERM)
            seconds = time.monotonic() - ended_at
        assert status == 0
        assert seconds < MOST_END_SECONDS
        assert watching.result() == "SERVICE_STOPPING"
        wait_until_gone(tree)
        assert service.leftovers() == []
    assert _read_state(tmp_path, request.request_id) == ("QUEUED", 0)


def _read_state(folder: Path, request_id: str) -> tuple[object, ...]:
    """Return the state of a request in a store that nobody has open, and how often who ran it was lost."""
    with closing(apsw.Connection(str(folder / "requests.sqlite"))) as connection:
        query = "SELECT state, num_losses FROM requests WHERE request_id = ?"
        (row,) = connection.execute(query, (request_id,)).fetchall()
        return row
