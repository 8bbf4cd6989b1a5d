"""A request that is to be begun once is not begun again, whatever it was lost by, in every store."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from faces.web import QUEUE, Web
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from harness import MakeSettings, red_circle_answer, run_harness
from idefics2_service import workers
from idefics2_service.app import App
from idefics2_service.rest.bodies import GenerateBody
from idefics2_service.rest.queue import read_options
from pictures import RED_CIRCLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

PATIENCE_SECONDS = 30
ONCE = {"x-fal-no-retry": "1"}
LOST = Answer(("A", " blue"), is_lost=True)
MANY_PIECES = 100


@asynccontextmanager
async def serve(
    make_settings: MakeSettings, script: Script, backend: FakeBackend | None = None, /, **more: Any
) -> AsyncIterator[Web]:
    """Run a service over a fake, and call it."""
    app = App(make_settings(**more), backend or FakeBackend(script))
    async with run_harness(app, script, is_real=False) as harness:
        yield Web(harness)
        harness.check_script()


async def submit(web: Web, **headers: str) -> str:
    """Submit a question; return its id."""
    return str((await web.submit(headers=headers))["request_id"])


async def read_until(web: Web, request_id: str, word: str) -> None:
    """Watch a request until a word is told of it."""
    watching = web.stream("GET", f"{QUEUE}/requests/{request_id}/status/stream", params={"text": 1})
    async with asyncio.timeout(PATIENCE_SECONDS), watching as response:
        async for line in response.aiter_lines():
            if f'"{word}"' in line:
                return
    raise AssertionError(f"no {word} came")


async def read_result(web: Web, request_id: str) -> httpx.Response:
    """Wait for a request's end, and ask for its result."""
    await read_until(web, request_id, "COMPLETED")
    return await web.get(f"{QUEUE}/requests/{request_id}")


async def check_lost(web: Web, request_id: str, why: str) -> None:
    """Check that a request ends as one whose only attempt was lost."""
    result = await read_result(web, request_id)
    assert (result.status_code, result.json()["reason"]) == (503, "ATTEMPT_LOST")
    status = (await web.get(f"{QUEUE}/requests/{request_id}/status")).json()
    assert status["error_type"] == result.json()["error_type"] == "runner_disconnected"
    assert why in status["error"]


def check_counted(web: Web) -> None:
    """Check that the one that was lost is not counted as lost again and again, of which an alert tells."""
    measured = web.service.app.metrics.registry.get_sample_value
    assert measured("idefics2_requests_total", {"reason": "ATTEMPT_LOST"}) == 1
    assert measured("idefics2_requests_total", {"reason": "ATTEMPTS_EXHAUSTED"}) == 0


async def check_answered(web: Web, request_id: str) -> None:
    """Check that a request ends with its answer."""
    assert (await read_result(web, request_id)).json() == {"output": RED_CIRCLE}


async def test_what_a_lost_backend_did_not_finish_ends(
    make_settings: MakeSettings, store_place: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_PAUSE_AFTER_LOSS_SECONDS", 0)
    script = Script()
    script.add(LOST, LOST, red_circle_answer())
    async with serve(make_settings, script, **store_place) as web:
        await check_lost(web, await submit(web, **ONCE), "the model's server was lost")
        await check_answered(web, await submit(web))
        check_counted(web)


async def test_what_waits_behind_what_a_lost_engine_had_is_answered_by_the_next_one(
    make_settings: MakeSettings,
    store_place: dict[str, str],
    script: Script,
    backend: FakeBackend,
    pieces: asyncio.Semaphore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "_PAUSE_AFTER_LOSS_SECONDS", 0)
    script.add(LOST, *[Answer(is_refused=True)] * 3, *[red_circle_answer()] * 3)
    async with serve(make_settings, script, backend, **store_place, queue__max_running=1) as web:
        begun = await submit(web, **ONCE)
        await read_until(web, begun, "DECODE")
        waiting = [await submit(web, **ONCE) for _ in range(3)]
        for request_id in waiting:
            await read_until(web, request_id, "QUEUED")
        for _ in range(MANY_PIECES):
            pieces.release()
        await check_lost(web, begun, "the model's server was lost")
        for request_id in waiting:
            await check_answered(web, request_id)


async def test_what_a_dead_replica_held_ends(
    make_settings: MakeSettings, store_place: dict[str, str]
) -> None:
    script = Script()
    backend = FakeBackend(script)
    short = {"store__lease_seconds": 0.4, "store__renew_seconds": 0.1}
    async with serve(make_settings, script, backend, **store_place, **short) as web:
        await backend.set_healthy(healthy=False)  # nobody here claims it
        request_id = await submit(web, **ONCE)
        claim = await web.service.app._store.claim()  # by somebody who is heard of no more
        assert claim is not None
        await check_lost(web, request_id, "what ran the request was lost")
        check_counted(web)
        reaped = ("idefics2_store_reaped_total", {"outcome": "lost_once"})
        assert web.service.app.metrics.registry.get_sample_value(*reaped) == 1


async def test_what_a_replica_that_leaves_has_begun_ends_and_what_waits_there_is_begun_by_the_next(
    make_settings: MakeSettings, store_place: dict[str, str]
) -> None:
    same = {
        "data__folder": str(make_settings().data.folder),
        "queue__max_running": 1,
        "grpc__drain_timeout_seconds": 0.01,
        **store_place,
    }
    first, second = Script(), Script()
    first.add(Answer(("A", " bl"), holds=True))
    second.add(red_circle_answer())
    async with serve(make_settings, first, **same) as web:
        begun = await submit(web, **ONCE)
        await read_until(web, begun, "delta")
        waiting = await submit(web, **ONCE)
        await read_until(web, waiting, "QUEUED")
    check_counted(web)
    async with serve(make_settings, second, **same) as web:
        await check_lost(web, begun, "this replica is shutting down")
        await check_answered(web, waiting)


async def test_what_repeats_are_known_by_has_the_names_that_stores_keep() -> None:
    options = await read_options(
        1.5, "low", "https://example.com/told", 7, is_stored=False, is_begun_once=True
    )
    others = {
        "is_begun_once": True,
        "keep_seconds": 360.0,
        "max_queue_length": 7,
        "priority": "LOW",
        "start_timeout": 1.5,
        "webhook_url": "https://example.com/told",
    }
    content = json.dumps([{"prompt": "What is this?"}, others])
    submission = options.apply_to(GenerateBody(prompt="What is this?"), "one")
    assert submission.fingerprint == hashlib.sha256(content.encode()).digest()


@pytest.mark.parametrize(
    ("word", "is_begun_again"),
    [("1", False), ("true", False), ("yes", False), ("YES", False), ("0", True), ("false", True)],
)
async def test_the_wish_is_said_in_the_hosted_endpoints_words(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, word: str, *, is_begun_again: bool
) -> None:
    monkeypatch.setattr(workers, "_PAUSE_AFTER_LOSS_SECONDS", 0)
    script = Script()
    script.add(LOST, *[red_circle_answer()] * is_begun_again)
    async with serve(make_settings, script) as web:
        result = await read_result(web, await submit(web, **{"x-fal-no-retry": word}))
        assert result.is_success is is_begun_again


async def test_another_word_is_refused_and_the_wish_is_a_part_of_what_is_submitted(
    make_settings: MakeSettings,
) -> None:
    script = Script()
    script.add(red_circle_answer())
    async with serve(make_settings, script) as web:
        refused = await web.post(QUEUE, headers={"x-fal-no-retry": "maybe"})
        (fault,) = refused.json()["detail"]
        assert (refused.status_code, fault["loc"]) == (422, ["header", "x-fal-no-retry"])
        named = {"idempotency-key": "once"}
        first, again = [await submit(web, **ONCE, **named) for _ in range(2)]
        assert first == again
        other = await web.post(QUEUE, headers=named)
        assert (other.status_code, other.json()["reason"]) == (422, "REQUEST_ID_TAKEN")
        await check_answered(web, first)
