"""What fal's clients get of a service that does what they ask."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fakes.hook import signed_message
from fal.clients import read_output
from fal.questions import PIECES, QUESTION, SOON, TEXT
from processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from fakes.hook import Hook
    from fal.clients import Call, Client
    from fal.services import Fake


def read_words(call: Call) -> list[str]:
    """Return the states that a caller saw, one after another."""
    return [word for word, _ in itertools.groupby(told["status"] for told in call.find("update"))]


async def test_a_call_that_waits_returns_the_answer(client: Client, fake: Fake) -> None:
    fake.expect(*PIECES)
    assert read_output(await client.call("run", input=QUESTION)) == TEXT


async def test_a_subscriber_sees_it_wait_then_run_with_its_log_then_complete(
    client: Client, fake: Fake
) -> None:
    fake.expect(*PIECES)
    fake.hold_answers()
    await fake.hold_queue()
    call = client.begin("subscribe", input=QUESTION, logs=True, interval_ms=SOON)
    waiting = await call.wait_for("update", status="IN_QUEUE")
    assert waiting.get("position", waiting.get("queue_position")) == 0  # Python's name is another
    await fake.release_queue()
    running = await call.wait_for("update", status="IN_PROGRESS")
    assert isinstance(running["logs"], list)
    fake.release_answers()
    assert read_output(await call.finish()) == TEXT
    assert read_words(call) == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    last = call.find("update")[-1]
    assert [line["message"].partition(",")[0] for line in last["logs"]] == ["image_url: PNG"]
    assert {"message", "level", "source", "timestamp"} == set(last["logs"][0])
    assert last["metrics"]["inference_time"] >= 0


async def test_a_subscriber_who_wants_no_log_gets_none(client: Client, fake: Fake) -> None:
    fake.expect(*PIECES)
    call = client.begin("subscribe", input=QUESTION, interval_ms=SOON)
    assert read_output(await call.finish()) == TEXT
    assert [told["logs"] for told in call.find("update") if told["status"] == "COMPLETED"] == [None]


@pytest.mark.where("is_javascript")  # Python's polls only
async def test_statuses_can_be_streamed(client: Client, fake: Fake) -> None:
    fake.expect(*PIECES)
    fake.hold_answers()
    await fake.hold_queue()
    call = client.begin("subscribe", input=QUESTION, logs=True, mode="streaming")
    await call.wait_for("update", status="IN_QUEUE")
    await fake.release_queue()
    await call.wait_for("update", status="IN_PROGRESS")
    fake.release_answers()
    assert read_output(await call.finish()) == TEXT
    assert read_words(call) == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    assert [line["message"].partition(",")[0] for line in call.find("update")[-1]["logs"]] == [
        "image_url: PNG"
    ]


async def test_what_was_submitted_is_found_by_its_id(client: Client, fake: Fake) -> None:
    fake.expect(*PIECES)
    await fake.hold_queue()
    request_id = (await client.call("submit", input=QUESTION, priority="low"))["request_id"]
    assert (await client.call("status", request_id=request_id))["status"] == "IN_QUEUE"
    await fake.release_queue()
    assert await client.wait_for_answer(request_id) == TEXT


async def test_an_answer_is_streamed_as_it_is_written(client: Client, fake: Fake) -> None:
    fake.expect(*PIECES)
    call = client.begin("stream", input=QUESTION)
    await call.finish()
    events = [told["event"] for told in call.find("event")]
    assert [event["delta"] for event in events[:-1]] == list(PIECES)
    assert events[-1] == {"output": TEXT}


async def test_an_answer_that_is_late_is_streamed_as_one_that_comes_at_once(
    client: Client, fake: Fake, hushed: asyncio.Event
) -> None:
    fake.expect(*PIECES)
    call = client.begin("stream", input=QUESTION)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await hushed.wait()
    fake.release_answers()
    await call.finish()
    events = [told["event"] for told in call.find("event")]
    assert [event["delta"] for event in events[:-1]] == list(PIECES)
    assert events[-1] == {"output": TEXT}


async def test_an_image_can_lie_on_another_host(client: Client, fake: Fake, hook: Hook) -> None:
    fake.expect(*PIECES)
    given = {**QUESTION, "image_url": hook.picture_url}
    assert read_output(await client.call("subscribe", input=given, interval_ms=SOON)) == TEXT


async def test_numbers_may_be_text_and_unknown_fields_are_ignored(client: Client, fake: Fake) -> None:
    fake.expect(*PIECES)
    given = {**QUESTION, "max_new_tokens": "512", "temperature": "0.4", "sync_mode": True, "x": None}
    assert read_output(await client.call("subscribe", input=given, interval_ms=SOON)) == TEXT


async def test_a_webhook_is_told_the_answer_and_can_verify_it(client: Client, fake: Fake, hook: Hook) -> None:
    fake.expect(*PIECES)
    submitted = await client.call("submit", input=QUESTION, webhook_url=f"{hook.url}?a=1&b=2")
    body, headers = await hook.next_call()
    told = json.loads(body)
    assert (told["request_id"], told["status"]) == (submitted["request_id"], "OK")
    assert told["payload"] == {"output": TEXT}
    door = fake.find_door(client.way.door)
    (key,) = (await fetch_keys(fake))["keys"]
    assert door.api_key.startswith(headers["X-Fal-Webhook-User-Id"])
    verifier = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    verifier.verify(bytes.fromhex(headers["X-Fal-Webhook-Signature"]), signed_message(body, headers))


async def fetch_keys(fake: Fake) -> dict[str, list[dict[str, str]]]:
    """Fetch the keys, where the hosted endpoint has them."""
    settings = fake.harness.app._settings.http
    scheme = "https" if settings.has_tls else "http"
    async with httpx.AsyncClient(verify=not settings.has_tls) as client:
        answer = await client.get(f"{scheme}://{fake.harness.app.http_address}/rest/.well-known/jwks.json")
    keys: dict[str, list[dict[str, str]]] = answer.json()
    return keys
