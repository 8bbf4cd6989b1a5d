"""Callers of a real service: some ask, some leave, some come back, some are wrong."""

from __future__ import annotations

import asyncio
import base64
import time
from collections import Counter
from contextlib import aclosing
from itertools import count, cycle
from typing import TYPE_CHECKING, Any, Self

import httpx
from bench.workloads import draw_pictures
from idefics2_client import AsyncClient, Idefics2Error, Options
from idefics2_service.settings import ApiSettings
from load.soak.record import Visit
from pictures import DESCRIBE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from processes import Ready

NUM_PICTURES = 48
"""So few that all have been seen by the end of the warm-up; each upload is a new one beside them."""
NUM_KINDS = 11
"""Of visits: so many in a row are one of each, some twice."""
KEEP_SECONDS = 20.0
"""How long requests and files are kept after their end."""
MOST_AT_ONCE = 16
"""Of visitors: where the machine is busy, the next one waits at the door."""
_PATIENCE_SECONDS = 60.0
_MAX_NEW_TOKENS = 12
_ENDLESS: Options = {"temperature": 10.0, "max_new_tokens": 1000, "min_new_tokens": 1000}
"""Of an answer whose end nobody waits for."""
_LONG: Options = {"temperature": 10.0, "max_new_tokens": 200, "min_new_tokens": 200}
"""Of an answer that is longer than visitors hear of any other."""
_APP = ApiSettings().app


class WrongAnswer(Exception):
    """A call came back with what it should not."""


class Visitors:
    """All of them, over one client of gRPC and one of HTTP, as an async context."""

    def __init__(self, ready: Ready) -> None:
        """Call a service that answers."""
        self._pictures = draw_pictures(NUM_PICTURES, (320, 240))
        self._grpc = AsyncClient(ready.grpc, ready.api_key)
        self._http = httpx.AsyncClient(
            base_url=f"http://{ready.http}",
            headers={"authorization": f"Key {ready.api_key}"},
            timeout=_PATIENCE_SECONDS,
        )
        self._numbers = count()
        self._room = asyncio.Semaphore(MOST_AT_ONCE)
        self.visits: list[Visit] = []
        """Who has gone; times are `time.monotonic`'s."""
        self.problems: Counter[str] = Counter()
        """What nobody should get, by kind and reason."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._grpc.close()
        await self._http.aclose()

    async def crowd(self) -> None:
        """Be as many at once as there may be, each for long: what is kept of the most is kept from then on.

        That are pages of the model's cache, which are taken when they are first written to, threads and
        connections of pools, and what the C library keeps of all their memory.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(MOST_AT_ONCE):
                await self._room.acquire()
                group.create_task(self._visit(self._stay))

    async def come(self, rate: float, seconds: float) -> None:
        """Let `rate` of them begin each second, or fewer if too many are there; return when all have gone."""
        loop = asyncio.get_running_loop()
        ends_at, next_at, kinds = loop.time() + seconds, loop.time(), cycle(self._kinds)
        async with asyncio.TaskGroup() as group:
            while next_at < ends_at:
                await asyncio.sleep(next_at - loop.time())
                await self._room.acquire()
                group.create_task(self._visit(next(kinds)))
                next_at = max(next_at + 1 / rate, loop.time())

    async def _visit(self, visit: Callable[[int], Awaitable[None]]) -> None:
        """Make one, for which there is room, and note how it went."""
        kind, began_at = visit.__name__.removeprefix("_"), time.monotonic()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await visit(next(self._numbers))
        except Idefics2Error as error:
            self.problems[f"{kind}: {error.code} {error.reason}: {error.message}"] += 1
        except (TimeoutError, WrongAnswer, httpx.HTTPError) as error:
            self.problems[f"{kind}: {error!r}"] += 1
        self._room.release()
        self.visits.append(Visit(began_at, kind, time.monotonic() - began_at))

    @property
    def _kinds(self) -> tuple[Callable[[int], Awaitable[None]], ...]:
        return (
            *(self._ask, self._submit, self._leave_stream, self._run, self._come_back, self._upload),
            *(self._ask, self._poll, self._mistake, self._cancel, self._count),
        )

    def _show(self, number: int) -> bytes:
        return self._pictures[number % NUM_PICTURES]

    async def _ask(self, number: int) -> None:
        response = await self._grpc.generate(self._show(number), DESCRIBE, max_new_tokens=_MAX_NEW_TOKENS)
        _check(bool(response.output), "no text")

    async def _stay(self, number: int) -> None:
        await self._grpc.generate(self._show(number), DESCRIBE, **_LONG)

    async def _leave_stream(self, number: int) -> None:
        """Hear the first words, and hang up."""
        events = self._grpc.stream(self._show(number), DESCRIBE, **_ENDLESS)
        async with aclosing(events):
            async for event in events:
                if event.HasField("text_delta"):
                    return
        raise WrongAnswer("no text")

    async def _submit(self, number: int) -> None:
        request = await self._grpc.submit(self._show(number), DESCRIBE, max_new_tokens=_MAX_NEW_TOKENS)
        response = await self._grpc.result(request.request_id, wait=True)
        _check(bool(response.output), "no text")

    async def _come_back(self, number: int) -> None:
        """Watch, hang up at the first event, and watch on."""
        request = await self._grpc.submit(self._show(number), DESCRIBE, max_new_tokens=_MAX_NEW_TOKENS)
        seen, is_over = [0], False
        while not is_over:
            async with aclosing(self._grpc.watch(request.request_id, after=seen[-1])) as events:
                event = await anext(event async for event in events if event.sequence)
            seen.append(event.sequence)
            is_over = event.HasField("finished")
        _check(seen == list(range(len(seen))), f"events {seen}")

    async def _cancel(self, number: int) -> None:
        request = await self._grpc.submit(self._show(number), DESCRIBE, **_ENDLESS)
        await self._grpc.cancel(request.request_id)
        try:
            await self._grpc.result(request.request_id, wait=True)
        except Idefics2Error as error:
            if error.reason != "REQUEST_CANCELLED":
                raise
        else:
            raise WrongAnswer("a cancelled request has a result")

    async def _upload(self, number: int) -> None:
        """Bring a picture that nobody brought before, and ask about it."""
        content = self._show(number) + number.to_bytes(8, "big")  # behind the picture, where nobody looks
        file = await self._grpc.upload(content, ttl_seconds=KEEP_SECONDS)
        await self._grpc.generate(file, DESCRIBE, max_new_tokens=1)
        if number % 2:
            await self._grpc.delete_file(file)

    async def _count(self, number: int) -> None:
        _check((await self._grpc.count_tokens(self._show(number), DESCRIBE)).fits, "it does not fit")

    async def _mistake(self, number: int) -> None:
        """Send what is no picture."""
        try:
            await self._grpc.generate(b"BM" + bytes(200), DESCRIBE, max_new_tokens=1)
        except Idefics2Error as error:
            if error.code != "INVALID_ARGUMENT":
                raise
        else:
            raise WrongAnswer("what is no picture was answered")

    async def _run(self, number: int) -> None:
        answer = await self._call("POST", f"/run/{_APP}", json=self._body(number))
        _check(bool(answer["output"]), "no text")

    async def _poll(self, number: int) -> None:
        taken = await self._call("POST", f"/queue/{_APP}", json=self._body(number))
        path = f"/queue/{_APP}/requests/{taken['request_id']}"
        while (await self._call("GET", f"{path}/status?logs=1"))["status"] != "COMPLETED":  # noqa: ASYNC110  # as fal's own clients
            await asyncio.sleep(0.1)
        _check(bool((await self._call("GET", path))["output"]), "no text")

    async def _call(self, method: str, path: str, **options: Any) -> Any:
        response = await self._http.request(method, path, **options)
        _check(not response.is_error, f"{response.status_code} {response.text}")
        return response.json()

    def _body(self, number: int) -> dict[str, Any]:
        picture = "data:image/jpeg;base64," + base64.b64encode(self._show(number)).decode()
        return {"prompt": DESCRIBE, "image_url": picture, "max_new_tokens": _MAX_NEW_TOKENS}


def _check(holds: bool, problem: str) -> None:  # noqa: FBT001  # as an assertion
    if not holds:
        raise WrongAnswer(problem)
