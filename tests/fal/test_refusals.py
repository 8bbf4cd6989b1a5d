"""What fal's clients raise: their own errors, with all that the service says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from fakes.script import Answer
from fal.clients import ClientError, read_error_type, read_faults, read_output, run_client
from fal.questions import PIECES, QUESTION, SOON, TEXT
from fal.workplaces import prepare
from processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from fal.clients import Client
    from fal.node import Node
    from fal.services import Fake
    from fal.ways import Way

UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def refuse(awaitable: Awaitable[Any]) -> ClientError:
    """Expect that a call fails, and return how."""
    with pytest.raises(ClientError) as caught:
        await awaitable
    return caught.value


def name_error(client: Client, kind: str = "ApiError") -> str:
    """Return what the client calls an error of HTTP."""
    return "FalClientHTTPError" if client.way.is_python else kind


async def test_a_key_is_known_as_the_hosted_endpoints_are_written(way: Way, node: Node, fake: Fake) -> None:
    door = fake.find_door(way.door)
    fake.expect(*PIECES)
    with prepare(node, way, door, door.api_key.replace(".", ":")) as workplace:
        async with run_client(workplace) as client:
            assert read_output(await client.call("run", input=QUESTION)) == TEXT


async def test_a_wrong_key_is_refused_whatever_is_called(way: Way, node: Node, fake: Fake) -> None:
    with prepare(node, way, fake.find_door(way.door), "wrong.0123456789abcdef0123456789abcdef") as workplace:
        async with run_client(workplace) as client:
            for flow in ("run", "subscribe", "submit"):
                await check_unknown_key(client, client.call(flow, input=QUESTION))
            for flow in ("status", "result", "cancel"):
                await check_unknown_key(client, client.call(flow, request_id=UNKNOWN))


async def check_unknown_key(client: Client, awaitable: Awaitable[Any]) -> None:
    """Expect that a key is not known."""
    error = await refuse(awaitable)
    assert (error["name"], error["status"]) == (name_error(client), 401)
    assert "key" in error["message"].lower()


async def test_all_that_is_wrong_with_an_input_is_told_at_once(client: Client) -> None:
    given = {"prompt": "", "max_new_tokens": 0, "temperature": "warm", "top_p": 2}
    error = await refuse(client.call("subscribe", input=given))
    assert (error["name"], error["status"]) == (name_error(client, "ValidationError"), 422)
    faults = {fault["loc"][-1]: fault["msg"] for fault in read_faults(error)}
    assert set(faults) == {"image_url", "prompt", "max_new_tokens", "temperature", "top_p"}
    assert all(fault["loc"][0] == "body" for fault in read_faults(error))
    assert "1" in faults["top_p"]
    assert "2" in faults["top_p"]
    if not client.way.is_python:
        assert all(name in error["message"] for name in faults)
        assert [fault["loc"] for fault in error["image_errors"]] == [["body", "image_url"]]


@pytest.mark.where("is_javascript")  # Python's cannot leave it out
async def test_the_snippet_without_input_is_told_that_the_body_is_missing(client: Client) -> None:
    error = await refuse(client.call("subscribe"))
    assert (error["name"], error["status"]) == ("ValidationError", 422)
    assert [fault["loc"] for fault in error["fieldErrors"]] == [["body"]]
    assert "body" in error["message"]


async def test_an_image_that_cannot_be_fetched_is_named(client: Client) -> None:
    given = {**QUESTION, "image_url": "http://127.0.0.1:1/cat.png"}
    error = await refuse(client.call("subscribe", input=given, interval_ms=SOON))
    assert (error["name"], error["status"]) == (name_error(client, "ValidationError"), 422)
    (fault,) = read_faults(error)
    assert (fault["loc"], fault["type"]) == (["body", "image_url"], "file_download_error")


async def test_a_request_that_is_cancelled_while_it_waits_ends_for_who_waits(
    client: Client, fake: Fake
) -> None:
    await fake.hold_queue()
    call = client.begin("subscribe", input=QUESTION, interval_ms=SOON)
    request_id = (await call.wait_for("enqueued"))["request_id"]
    await call.wait_for("update", status="IN_QUEUE")
    await client.call("cancel", request_id=request_id)
    await check_cancelled(client, request_id, call.finish())


async def test_a_request_that_is_cancelled_while_it_runs_ends_for_who_waits(
    client: Client, fake: Fake
) -> None:
    fake.expect("never told")
    fake.hold_answers()
    call = client.begin("subscribe", input=QUESTION, interval_ms=SOON)
    request_id = (await call.wait_for("enqueued"))["request_id"]
    await call.wait_for("update", status="IN_PROGRESS")
    await client.call("cancel", request_id=request_id)
    await check_cancelled(client, request_id, call.finish())


async def check_cancelled(client: Client, request_id: str, end: Awaitable[Any]) -> None:
    """Expect the end of a request that was cancelled, and that its status says why."""
    error = await refuse(end)
    assert (error["name"], error["status"]) == (name_error(client), 499)
    assert read_error_type(error) == "client_cancelled"
    status = await client.call("status", request_id=request_id)
    assert (status["status"], status["error_type"]) == ("COMPLETED", "client_cancelled")


async def test_what_is_at_its_end_cannot_be_cancelled(client: Client, fake: Fake) -> None:
    fake.expect("done")
    call = client.begin("subscribe", input=QUESTION, interval_ms=SOON)
    await call.finish()
    (told,) = call.find("enqueued")
    error = await refuse(client.call("cancel", request_id=told["request_id"]))
    assert (error["name"], error["status"]) == (name_error(client), 400)


@pytest.mark.where("has_options")
async def test_a_request_that_does_not_begin_in_time_says_that_its_caller_wanted_so(
    client: Client, fake: Fake
) -> None:
    await fake.hold_queue()
    error = await refuse(client.call("subscribe", input=QUESTION, interval_ms=SOON, start_timeout=1.1))
    assert (error["name"], error["status"]) == (name_error(client), 504)
    assert read_error_type(error) == "request_timeout"
    if client.way.is_python:
        assert error["headers"]["x-fal-request-timeout-type"] == "user"
    else:
        assert error["isUserTimeout"] is True


@pytest.mark.parametrize("flow", ["status", "result", "cancel"])
async def test_a_request_that_is_not_there_is_not_found(client: Client, flow: str) -> None:
    error = await refuse(client.call(flow, request_id=UNKNOWN))
    assert (error["name"], error["status"]) == (name_error(client), 404)


async def test_a_stream_of_bad_input_is_refused(client: Client) -> None:
    error = await refuse(client.call("stream", input={"prompt": "?"}))
    if client.way.is_python:
        assert error["name"] == "SSEError"  # it hides what was answered
        return
    assert (error["name"], error["status"]) == ("ValidationError", 422)
    assert [fault["loc"][-1] for fault in error["fieldErrors"]] == ["image_url"]


async def test_a_stream_that_fails_in_mid_answer_is_not_taken_for_the_whole(
    client: Client, fake: Fake
) -> None:
    fake.harness.expect(Answer(PIECES, is_lost=True))
    call = client.begin("stream", input=QUESTION)
    await refuse(call.finish())
    *pieces, failure = [told["event"] for told in call.find("event")]
    assert [event["delta"] for event in pieces] == list(PIECES)
    assert (failure["status_code"], failure["reason"]) == (503, "BACKEND_UNAVAILABLE")


async def test_a_stream_that_fails_without_a_word_after_it_began_is_an_error(
    client: Client, fake: Fake, hushed: asyncio.Event
) -> None:
    fake.harness.expect(Answer(is_lost=True))
    call = client.begin("stream", input=QUESTION)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await hushed.wait()
    fake.release_answers()
    await refuse(call.finish())
    (failure,) = [told["event"] for told in call.find("event")]
    assert (failure["status_code"], failure["reason"]) == (503, "BACKEND_UNAVAILABLE")
