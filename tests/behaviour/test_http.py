"""What a caller over HTTP is promised beside what every face promises: bodies, statuses, words, numbers."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest
from faces.rest import APP
from faces.web import BODY, PICTURE, QUEUE, RUN, Web
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from harness import Harness, MakeSettings, red_circle_answer, run_harness
from idefics2_service.app import App
from idefics2_service.events import StageEntered
from idefics2_service.requests import Stage
from pictures import NUM_PROMPT_TOKENS, RED_CIRCLE, RED_CIRCLE_PIECES
from pydantic import TypeAdapter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    import httpx
    from idefics2_service.backend import BackendEvent
    from idefics2_service.requests import ResolvedRequest, ValidRequest

PATIENCE_SECONDS = 30
POSTS = [RUN, f"{RUN}/stream", QUEUE]
each_post = pytest.mark.parametrize("path", POSTS)


@pytest.fixture
def web(on_fake_backend: Harness) -> Web:
    """Somebody who calls."""
    return Web(on_fake_backend)


@pytest.fixture
async def alone(make_settings: MakeSettings, backend: FakeBackend, script: Script) -> AsyncIterator[Web]:
    """Somebody who calls a service that the test has for itself."""
    app = App(make_settings(http__max_receive_bytes=4_000), backend)
    async with run_harness(app, script, is_real=False) as harness:
        yield Web(harness)
        harness.check_script()


def check_faults(response: httpx.Response, *places: Sequence[str | int]) -> None:
    """Check that a request is answered 422, with the places of its faults."""
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert [fault["loc"] for fault in body["detail"]] == list(places), body
    assert all(fault["msg"] and fault["type"] for fault in body["detail"])
    assert all(fault["url"] == f"https://docs.fal.ai/errors#{fault['type']}" for fault in body["detail"])
    assert isinstance(body["message"], str)
    assert body["error_type"] == response.headers["x-fal-error-type"]
    assert "input" not in body["detail"][0]  # it may be a picture, and the caller has it


async def test_first_callers_wait_for_nothing_that_the_start_could_build_and_for_no_thread(
    alone: Web, monkeypatch: pytest.MonkeyPatch, script: Script
) -> None:
    built, handed_on = [], []
    build, hand_on = TypeAdapter.__init__, anyio.to_thread.run_sync

    def build_and_tell(adapter: TypeAdapter[Any], *args: Any, **options: Any) -> None:
        built.append(args)
        build(adapter, *args, **options)

    async def hand_on_and_tell(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        handed_on.append(call)
        return await hand_on(call, *args, **options)

    monkeypatch.setattr(TypeAdapter, "__init__", build_and_tell)
    monkeypatch.setattr(anyio.to_thread, "run_sync", hand_on_and_tell)
    script.add(red_circle_answer(), red_circle_answer())
    assert (await alone.post(RUN, json=BODY)).status_code == 200
    path = f"{QUEUE}/requests/{(await alone.submit())['request_id']}"
    await alone.read_stream("GET", f"{path}/status/stream")
    assert (await alone.get(path)).json()["output"] == RED_CIRCLE
    for path in ("/rest/storage/upload/initiate", "/rest/storage/upload/initiate-multipart"):
        response = await alone.post(path, json={"content_type": "image/png", "file_name": "a.png"})
        assert response.status_code == 200, response.text
    assert (await alone.get("/openapi.json")).status_code == 200
    assert (built, handed_on) == ([], [])


async def call_raw(web: Web, words: str) -> str:
    """Send what no client sends, and return all that comes until the other side closes."""
    host, port = web.service.app.http_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(words.encode())
    async with asyncio.timeout(PATIENCE_SECONDS):
        told = await reader.read()
    writer.close()
    await writer.wait_closed()
    return told.decode()


def write(**fields: Any) -> str:
    """Write a question with fields set on top; NaN and lone surrogates as they are."""
    return json.dumps({**BODY, **fields})


@each_post
@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("", ["body"]),
        ("null", ["body"]),
        ("[]", ["body"]),
        ('"prompt"', ["body"]),
        ("5", ["body"]),
        ("{", ["body", 1]),
        ("{} {}", ["body", 3]),
        ("{'prompt': 'x'}", ["body", 1]),
    ],
)
async def test_what_is_no_object_of_json_is_refused(
    web: Web, path: str, content: str, place: list[str | int]
) -> None:
    check_faults(await web.send(path, content), place)


@each_post
async def test_why_a_body_is_no_json_is_told(web: Web, path: str) -> None:
    response = await web.send(path, '{"prompt": What is this?}')
    check_faults(response, ["body", 11])
    assert response.json()["message"] == "body.11: JSON decode error: Expecting value"


@each_post
@pytest.mark.parametrize("content", ["null", "[]", '"prompt"', "5"])
async def test_what_is_no_object_is_told_that_it_must_be_one(web: Web, path: str, content: str) -> None:
    assert (await web.send(path, content)).json()["message"] == "body: must be an object"


@each_post
@pytest.mark.parametrize(
    ("content", "reason", "why"),
    [
        (b'{"prompt": "\xff"}', "TEXT_NOT_UNICODE", "not valid UTF-8"),
        (b'{"x": ' + b"[" * 40_000 + b"]" * 40_000 + b"}", "REQUEST_MALFORMED", "inside each other"),
        (b'{"seed": ' + b"9" * 5_000 + b"}", "REQUEST_MALFORMED", "at most 4300 digits"),
    ],
    ids=["no UTF-8", "deep nesting", "a number of 5,000 digits"],
)
async def test_what_no_parser_takes_is_refused_with_its_cause(
    web: Web, path: str, content: bytes, reason: str, why: str
) -> None:
    response = await web.send(path, content)
    check_faults(response, ["body"])
    assert response.json()["reason"] == reason
    assert why in response.json()["message"]


@each_post
@pytest.mark.parametrize(
    "content",
    [b'{"prompt": ' + b"[" * 100_000, b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
    ids=["brackets", "deep nesting"],
)
async def test_brackets_without_end_are_refused_before_they_are_parsed(
    web: Web, path: str, content: bytes
) -> None:
    response = await web.send(path, content)
    assert (response.status_code, response.json()["error_type"]) == (400, "bad_request")


@each_post
async def test_a_body_that_is_packed_is_refused_by_its_header(web: Web, path: str) -> None:
    kinds = {"content-type": "application/json"}
    for content, encoding in ((gzip.compress(write().encode()), "gzip"), (write().encode(), "br")):
        headers = {**kinds, "content-encoding": encoding}
        response = await web.post(path, content=content, headers=headers)
        check_faults(response, ["header", "content-encoding"])
        assert response.json()["reason"] == "REQUEST_MALFORMED"
        assert response.json()["message"] == f"content-encoding must be identity, not {encoding}"


async def test_a_file_that_is_packed_is_refused_by_its_header(web: Web) -> None:
    response = await web.post("/cdn/files/upload", content=b"x", headers={"content-encoding": "gzip"})
    check_faults(response, ["header", "content-encoding"])


async def test_a_body_may_say_that_it_is_not_packed(web: Web) -> None:
    web.service.expect(red_circle_answer())
    assert (await web.post(RUN, headers={"content-encoding": "Identity"})).status_code == 200


@each_post
@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"temperature": float("nan")}, ["body", "temperature"]),
        ({"temperature": float("inf")}, ["body", "temperature"]),
        ({"max_new_tokens": float("-inf")}, ["body", "max_new_tokens"]),
        ({"seed": 10**400}, ["body", "seed"]),
        ({"seed": 1e300}, ["body", "seed"]),
        ({"max_new_tokens": 1.5}, ["body", "max_new_tokens"]),
        ({"max_new_tokens": "many"}, ["body", "max_new_tokens"]),
        ({"max_new_tokens": [1]}, ["body", "max_new_tokens"]),
        ({"max_new_tokens": {}}, ["body", "max_new_tokens"]),
        ({"prompt": 5}, ["body", "prompt"]),
        ({"prompt": None}, ["body", "prompt"]),
        ({"prompt": "a \ud800 b"}, ["body", "prompt"]),
        ({"prompt": "\udfff"}, ["body", "prompt"]),
        ({"image_url": "http://a.example/\ud800"}, ["body", "image_url"]),
        ({"image_url": 5}, ["body", "image_url"]),
        ({"stop": ["\ud800"]}, ["body", "stop", 0]),
        ({"stop": "x"}, ["body", "stop"]),
        ({"stop": ["x", 5]}, ["body", "stop", 1]),
        ({"images": [5]}, ["body", "images", 0]),
        ({"images": [{"url": PICTURE}, {"url": 5}]}, ["body", "images", 1, "url"]),
        ({"images": [{}]}, ["body", "images", 0]),
        ({"images": [{"url": PICTURE}] * 9}, ["body", "images"]),
    ],
)
async def test_a_field_that_is_wrong_is_refused_by_its_place(
    web: Web, path: str, fields: dict[str, Any], place: list[str | int]
) -> None:
    check_faults(await web.send(path, write(**fields)), place)


@each_post
async def test_an_image_of_a_field_that_there_is_not_is_told_which_there_are(web: Web, path: str) -> None:
    response = await web.send(path, write(images=[{"data": "iVBORw0KGgo="}]))
    check_faults(response, ["body", "images", 0])
    assert response.json()["message"] == "images[0] has neither url nor sha256"


@pytest.mark.parametrize("field", ["image_url", "images[0].url"])
async def test_a_url_of_another_kind_is_told_of_those_that_http_takes(web: Web, field: str) -> None:
    url = "file:///etc/passwd"
    image = {"image_url": url} if field == "image_url" else {"image_url": None, "images": [{"url": url}]}
    response = await web.send(RUN, write(**image))
    assert response.json()["reason"] == "FILE_URL_UNSUPPORTED"
    assert response.json()["message"] == (
        f"{field} must be an http(s) URL, a data URI (data:image/...;base64,...) "
        "or the URL of an uploaded file (idefics2://files/...)"
    )


@each_post
async def test_every_field_that_is_wrong_is_named_at_once(web: Web, path: str) -> None:
    response = await web.post(path, json={"prompt": "", "max_new_tokens": "x", "top_p": 3, "top_k": 0})
    places = [["body", name] for name in ("max_new_tokens", "prompt", "image_url", "top_p", "top_k")]
    check_faults(response, *places)
    assert response.json()["reason"] == "REQUEST_MALFORMED"
    response = await web.post(path, json={"top_p": 3, "top_k": 0})
    check_faults(response, *(["body", name] for name in ("prompt", "image_url", "top_p", "top_k")))
    assert response.json()["reason"] == "PROMPT_MISSING"


@pytest.mark.parametrize("value", ["172800", "1e9", "inf"])
async def test_more_patience_than_a_day_is_taken_for_a_day(
    web: Web, on_fake_backend: Harness, value: str
) -> None:
    on_fake_backend.expect(Answer(("A circle",)))
    response = await web.post(RUN, headers={"x-fal-request-timeout": value})
    assert response.status_code == 200, response.text


@each_post
@pytest.mark.parametrize("value", ["abc", "", "0", "-1", "nan"])
async def test_a_bad_time_to_start_is_refused_by_its_header(web: Web, path: str, value: str) -> None:
    response = await web.post(path, headers={"x-fal-request-timeout": value})
    check_faults(response, ["header", "x-fal-request-timeout"])


@pytest.mark.parametrize(
    ("query", "headers", "place"),
    [
        ("fal_max_queue_length=x", {}, ["query", "fal_max_queue_length"]),
        ("fal_max_queue_length=-1", {}, ["query", "fal_max_queue_length"]),
        ("fal_webhook=ftp://a.example", {}, ["query", "fal_webhook"]),
        ("fal_webhook=http://127.0.0.1/", {}, ["query", "fal_webhook"]),
        ("fal_webhook=%ff", {}, ["query", "fal_webhook"]),
        ("", {"x-fal-queue-priority": "urgent"}, ["header", "x-fal-queue-priority"]),
        ("", {"idempotency-key": "x" * 256}, ["header", "idempotency-key"]),
        ("", {"x-fal-store-io": "never"}, ["header", "x-fal-store-io"]),
        ("", {"x-fal-store-io": "2"}, ["header", "x-fal-store-io"]),
    ],
)
async def test_what_is_wrong_beside_the_body_is_refused_by_its_place(
    web: Web, query: str, headers: dict[str, str], place: list[str | int]
) -> None:
    check_faults(await web.post(f"{QUEUE}?{query}", headers=headers), place)


async def test_numbers_may_come_as_text_and_unknown_fields_are_left_alone(
    alone: Web, asked: list[ValidRequest]
) -> None:
    alone.service.expect(*[red_circle_answer()] * 2)
    fields = {"max_new_tokens": "12", "temperature": "0.5", "seed": "18446744073709551615", "top_k": 7.0}
    response = await alone.send(RUN, write(**fields, sync_mode=True, limit_sequences=None, x="\ud800"))
    assert response.json() == {"output": RED_CIRCLE}
    (heard,) = asked
    assert (heard.max_new_tokens, heard.temperature, heard.seed, heard.top_k) == (12, 0.5, 2**64 - 1, 7)
    doubled = write()[:-1] + ', "prompt": "the last one", "max_new_tokens": null}'
    assert (await alone.send(RUN, doubled)).status_code == 200
    assert (asked[1].prompt, asked[1].max_new_tokens) == ("the last one", 512)


async def test_a_body_without_a_type_is_json_and_of_another_type_is_refused(web: Web) -> None:
    web.service.expect(red_circle_answer(), red_circle_answer())
    assert (await web.post(RUN, content=write().encode())).status_code == 200
    for kind, status in (
        ("application/json; charset=utf-8", 200),
        ("text/plain", 422),
        ("application/x-www-form-urlencoded", 422),
        ("multipart/form-data; boundary=x", 422),
        ("no type at all", 422),
    ):
        response = await web.post(RUN, content=write().encode(), headers={"content-type": kind})
        assert response.status_code == status, kind


@each_post
async def test_a_body_of_another_type_is_told_which_one_it_must_have(web: Web, path: str) -> None:
    kind = "application/x-www-form-urlencoded"  # curl's, where nothing else is said
    response = await web.post(path, content=write().encode(), headers={"content-type": kind})
    check_faults(response, ["header", "content-type"])
    assert response.json()["reason"] == "REQUEST_MALFORMED"
    told = f"content-type must be application/json, not {kind}"
    assert response.json()["message"] == f"header.content-type: {told}"
    assert response.json()["detail"][0]["msg"] == told


@each_post
async def test_a_body_that_is_too_large_is_refused(alone: Web, path: str) -> None:
    async def send_chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * 1_000

    for content in (b" " * 4_001, send_chunks()):
        response = await alone.post(path, content=content)
        assert (response.status_code, response.json()["error_type"]) == (413, "bad_request")
        assert "4000 bytes" in response.json()["detail"]
    check_faults(await alone.send(path, b"{}".rjust(4_000)), ["body", "prompt"], ["body", "image_url"])


async def test_each_route_that_reads_a_body_refuses_one_that_is_too_large(alone: Web) -> None:
    async def send_chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * 1_000

    paths = (await alone.get("/openapi.json")).json()["paths"]
    bodies = [path for path, methods in paths.items() if "requestBody" in methods.get("post", {})]
    assert len(bodies) >= 6
    file = "/cdn/files/{key_id}/{file_id}"
    hidden = [f"{file}/multipart/x/complete", f"{file}/a.png/multipart/x/complete"]
    for path in [*bodies, *hidden]:
        named = path.format(owner=APP.split("/")[0], alias=APP.split("/")[1], key_id="test", file_id="0" * 32)
        for content in (b" " * 4_001, send_chunks()):
            response = await alone.post(named, content=content)
            assert response.status_code == 413, (path, response.text)
            assert "4000 bytes" in response.json()["detail"]


@pytest.mark.parametrize(
    "path", [*POSTS, "/rest/storage/upload/initiate", f"/cdn/uploads/test/{'0' * 32}/complete"]
)
async def test_a_body_of_more_values_than_any_needs_is_not_built(web: Web, path: str) -> None:
    response = await web.send(path, '{"x": [' + "{}," * 25_000 + "{}]}")
    assert (response.status_code, response.json()["error_type"]) == (400, "bad_request")
    assert "50000 commas and brackets" in response.json()["detail"]


async def test_a_prompt_may_be_of_commas_alone(web: Web) -> None:
    web.service.expect(red_circle_answer())
    assert (await web.send(RUN, write(prompt="," * 32_768))).json() == {"output": RED_CIRCLE}


async def test_who_shows_no_key_may_name_ten_thousand_parts_and_send_no_more_than_that(
    on_fake_backend: Harness,
) -> None:
    stranger, path = Web(on_fake_backend, ""), f"/cdn/uploads/test/{'0' * 32}/complete"
    parts = [{"partNumber": number, "etag": f'"{"0" * 32}"'} for number in range(1, 10_001)]
    response = await stranger.post(path, json={"parts": parts})
    assert (response.status_code, response.json()["reason"]) == (404, "UPLOAD_NOT_FOUND")
    response = await stranger.post(path, content=b" " * (2**20 + 1))
    assert response.status_code == 413
    assert "1048576 bytes" in response.json()["detail"]


async def test_a_body_is_not_awaited_that_says_that_it_is_too_large(alone: Web) -> None:
    host, port = alone.service.app.http_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {RUN} HTTP/1.1\r\nHost: x\r\nAuthorization: {alone.headers['authorization']}\r\n"
    writer.write(f"{head}Content-Length: 99999999999\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/openapi.json", 200),
        ("GET", "/rest/.well-known/jwks.json", 200),
        ("POST", "/metrics", 405),
        ("POST", "/healthz/live", 405),
    ],
)
async def test_what_reads_no_body_and_needs_no_key_is_answered_and_holds_nothing_of_what_is_announced(
    alone: Web, method: str, path: str, status: int
) -> None:
    host, port = alone.service.app.http_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await reader.readline()).startswith(f"HTTP/1.1 {status} ".encode())
    writer.close()
    await writer.wait_closed()


async def test_no_path_that_needs_no_key_reads_a_body_but_where_the_parts_of_a_file_are_named(
    alone: Web,
) -> None:
    paths = (await alone.get("/openapi.json")).json()["paths"]
    bodies = {
        path for path, methods in paths.items() if any("requestBody" in each for each in methods.values())
    }
    assert [
        path for path in sorted(bodies) if not path.startswith(("/run/", "/queue/", "/rest/storage/"))
    ] == ["/cdn/uploads/{key_id}/{file_id}/complete"]


@pytest.mark.parametrize("path", [RUN, "/cdn/files/upload", "/healthz/live"])
async def test_a_body_whose_end_is_said_in_two_ways_is_refused(web: Web, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {web.headers['authorization']}\r\n"
    head += "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    told = await call_raw(web, f"{head}1\r\nx\r\n0\r\n\r\n")
    assert told.startswith("HTTP/1.1 400 ")
    assert "content-length and transfer-encoding" in told


async def test_a_body_that_goes_wrong_behind_its_answer_ends_the_connection_and_is_no_fault_of_ours(
    web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = web.service.app.http_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /healthz/live HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 405 ")
        writer.write(b"zz\r\n")
        await reader.read()
    writer.close()
    await writer.wait_closed()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("CONNECT fal.run:443", "IDEFICS2_CONNECT_PORT"),
        ("CONNECT /healthz/live", "IDEFICS2_CONNECT_PORT"),
        ("OPTIONS *", "slash, not be '*'"),
        ("GET http://fal.run/x", "slash, not be 'http://fal.run/x'"),
    ],
)
async def test_a_call_of_no_path_is_refused_in_words(
    web: Web, target: str, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = await call_raw(web, f"{target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert told.startswith("HTTP/1.1 400 ")
    assert word in told
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_submission_is_told_as_clients_want_it(web: Web) -> None:
    web.service.expect(red_circle_answer())
    taken = await web.submit()
    assert taken["status"] == "IN_QUEUE"
    assert isinstance(taken["queue_position"], int)
    assert (taken["logs"], taken["metrics"]) == (None, {})
    url = f"http://{web.service.app.http_address}{QUEUE}/requests/{taken['request_id']}"
    urls = {"response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel"}
    assert {name: taken[name] for name in urls} == urls
    await web.read_stream("GET", f"{url}/status/stream")


async def test_a_status_has_what_clients_look_for_in_each_state(
    alone: Web, backend: FakeBackend, script: Script
) -> None:
    await backend.set_healthy(healthy=False)
    script.add(Answer(("x",), holds=True), red_circle_answer())
    taken = await alone.submit()
    other = await alone.submit()
    queued = await alone.get(other["status_url"])
    assert (queued.status_code, queued.json()["status"]) == (202, "IN_QUEUE")
    assert (queued.json()["queue_position"], queued.json()["logs"]) == (1, None)
    assert queued.headers["x-fal-request-id"] == other["request_id"]
    async with alone.stream("GET", f"{taken['status_url']}/stream", params={"text": 1}) as response:
        await backend.set_healthy(healthy=True)
        async for line in response.aiter_lines():
            if '"delta"' in line:
                break
    for logs, expected in (("1", list), ("true", list), ("0", type(None)), ("false", type(None))):
        running = await alone.get(taken["status_url"], params={"logs": logs})
        assert (running.status_code, running.json()["status"]) == (202, "IN_PROGRESS")
        assert (running.json()["stage"], running.json()["metrics"]) == ("DECODE", {})
        assert "queue_position" not in running.json()
        assert isinstance(running.json()["logs"], expected)
    await alone.put(taken["cancel_url"])
    await alone.read_stream("GET", f"{other['status_url']}/stream")
    ended = await alone.get(other["status_url"], params={"logs": 1})
    status = ended.json()
    assert (ended.status_code, status["status"]) == (200, "COMPLETED")
    assert status["metrics"]["inference_time"] > 0
    assert status["metrics"]["num_prompt_tokens"] == NUM_PROMPT_TOKENS
    assert status["metrics"]["num_generated_tokens"] == len(RED_CIRCLE_PIECES) + 1
    assert status["metrics"]["finish_reason"] == "END_OF_TURN"
    assert int(status["metrics"]["seed"]) < 2**64
    assert not status.keys() & {"error", "error_type", "queue_position"}
    (line,) = status["logs"]
    assert line.keys() == {"message", "level", "source", "timestamp"}
    assert (line["level"], line["source"]) == ("INFO", "USER")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", line["timestamp"])


async def test_logs_are_asked_for_by_a_word_that_is_one(web: Web) -> None:
    web.service.expect(red_circle_answer())
    taken = await web.submit()
    await web.read_stream("GET", f"{taken['status_url']}/stream")
    for path in (taken["status_url"], f"{taken['status_url']}/stream"):
        check_faults(await web.get(path, params={"logs": "maybe"}), ["query", "logs"])


async def test_what_failed_is_completed_and_says_why(web: Web) -> None:
    failure = Answer(failure=("FILE_UNDECODABLE", "images[0] is damaged", "images[0]"))
    web.service.expect(failure)
    taken = await web.submit()
    told = await web.read_stream("GET", f"{taken['status_url']}/stream")
    response = await web.get(taken["status_url"])
    status = response.json()
    assert (response.status_code, status["status"]) == (200, "COMPLETED")
    assert (status["error"], status["error_type"]) == ("image_url is damaged", "image_load_error")
    assert told.count(b'"image_load_error"') == 1
    result = await web.get(taken["response_url"])
    check_faults(result, ["body", "image_url"])
    assert result.headers["x-fal-request-id"] == taken["request_id"]
    assert result.headers["x-fal-retryable"] == "false"


async def test_there_is_no_result_before_the_end(alone: Web, backend: FakeBackend) -> None:
    await backend.set_healthy(healthy=False)
    taken = await alone.submit()
    response = await alone.get(taken["response_url"])
    assert (response.status_code, response.json()["error_type"]) == (400, "bad_request")
    assert "QUEUED" in response.json()["detail"]
    assert response.json()["ctx"] == {"state": "QUEUED"}


async def test_what_waits_is_cancelled_and_never_begun(alone: Web, backend: FakeBackend) -> None:
    await backend.set_healthy(healthy=False)
    taken = await alone.submit()
    for _ in range(2):
        response = await alone.put(taken["cancel_url"])
        assert (response.status_code, response.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    status = await alone.get(taken["status_url"])
    assert (status.status_code, status.json()["status"]) == (200, "COMPLETED")
    assert status.json()["error_type"] == "client_cancelled"
    result = await alone.get(taken["response_url"])
    assert (result.status_code, result.json()["error_type"]) == (499, "client_cancelled")
    assert b'"COMPLETED"' in await alone.read_stream("GET", f"{taken['status_url']}/stream")


async def test_what_runs_is_cancelled_and_ends(web: Web) -> None:
    script = web.service.script
    script.add(Answer(("x",), holds=True))
    taken = await web.submit()
    async with web.stream("GET", f"{taken['status_url']}/stream", params={"text": 1}) as response:
        lines = response.aiter_lines()
        while '"delta"' not in await anext(lines):
            pass
        answer = await web.put(taken["cancel_url"], headers={"content-type": "application/json"})
        assert answer.status_code == 202
        rest = [line async for line in lines if line]
    assert '"client_cancelled"' in rest[-1]
    assert script.num_cancelled == 1


async def test_what_has_ended_stays_as_it_is(web: Web) -> None:
    web.service.expect(red_circle_answer())
    taken = await web.submit()
    await web.read_stream("GET", f"{taken['status_url']}/stream")
    response = await web.put(taken["cancel_url"])
    assert (response.status_code, response.json()["status"]) == (400, "ALREADY_COMPLETED")
    assert (await web.get(taken["response_url"])).json() == {"output": RED_CIRCLE}


async def test_what_is_not_begun_in_time_fails_as_the_caller_wished(
    make_settings: MakeSettings, backend: FakeBackend, script: Script
) -> None:
    app = App(make_settings(queue__max_running=1), backend)
    async with run_harness(app, script, is_real=False) as harness:
        web, headers = Web(harness), {"x-fal-request-timeout": "0.05"}
        script.add(Answer(("x",), holds=True))
        async with web.stream("POST", f"{RUN}/stream", json=BODY) as running:
            lines = running.aiter_lines()  # kept: who forgets it closes it
            await anext(lines)
            late = [await web.post(path, headers=headers) for path in (RUN, f"{RUN}/stream")]
        await backend.set_healthy(healthy=False)
        taken = await web.submit(headers=headers)
        await web.read_stream("GET", f"{taken['status_url']}/stream")
        late.append(await web.get(taken["response_url"]))
        for response in late:
            assert (response.status_code, response.json()["error_type"]) == (504, "request_timeout")
            assert response.headers["x-fal-request-timeout-type"] == "user"


async def test_a_submission_is_refused_where_too_many_wait(alone: Web, backend: FakeBackend) -> None:
    await backend.set_healthy(healthy=False)
    assert (await alone.post(f"{QUEUE}?fal_max_queue_length=0")).status_code == 200
    response = await alone.post(f"{QUEUE}?fal_max_queue_length=0")
    assert (response.status_code, response.json()["reason"]) == (429, "QUEUE_FULL")
    assert response.headers["retry-after"] == "1"
    assert (await alone.post(f"{QUEUE}?fal_max_queue_length=1")).status_code == 200


async def test_low_priority_waits_behind_normal(alone: Web, backend: FakeBackend) -> None:
    await backend.set_healthy(healthy=False)
    low = await alone.submit(headers={"x-fal-queue-priority": "low"})
    normal = await alone.submit(headers={"x-fal-queue-priority": "normal"})
    places = [(await alone.get(each["status_url"])).json()["queue_position"] for each in (normal, low)]
    assert places == [0, 1]


async def test_the_same_idempotency_key_makes_no_second_request(web: Web) -> None:
    web.service.expect(red_circle_answer())
    headers = {"idempotency-key": "order 66, läuft".encode()}
    first = await web.submit(headers=headers)
    again = await web.submit(headers=headers)
    assert again["request_id"] == first["request_id"]
    await web.read_stream("GET", f"{first['status_url']}/stream")
    ended = await web.submit(headers=headers)
    assert (ended["request_id"], ended["status"]) == (first["request_id"], "COMPLETED")
    for options in ({"json": {**BODY, "prompt": "Another?"}}, {"params": {"fal_max_queue_length": 9}}):
        other = await web.post(QUEUE, headers=headers, **options)
        check_faults(other, ["header", "idempotency-key"])
        assert other.json()["reason"] == "REQUEST_ID_TAKEN"


async def test_an_answer_that_shall_not_be_stored_is_there_to_be_fetched_and_then_gone(
    alone: Web, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idefics2_service.rest.queue._KEEP_UNSTORED_SECONDS", 2.0)
    kept = [await submit_to_end(alone, script, word) for word in ("1", "True")]
    passing = [await submit_to_end(alone, script, word) for word in ("0", "false", "no")]
    async with asyncio.timeout(PATIENCE_SECONDS):
        for url in passing:
            while (response := await alone.get(url)).status_code == 200:
                pass
            assert response.status_code == 404
    assert [(await alone.get(url)).status_code for url in kept] == [200, 200]


async def submit_to_end(web: Web, script: Script, store_io: str) -> str:
    """Submit a question, see its answer once, and return where it is fetched."""
    script.add(Answer(("A circle",)))
    taken = await web.submit(headers={"x-fal-store-io": store_io})
    await web.read_stream("GET", f"{taken['status_url']}/stream")
    assert (await web.get(taken["response_url"])).json() == {"output": "A circle"}
    return str(taken["response_url"])


async def test_each_answer_names_its_request(web: Web) -> None:
    web.service.expect(red_circle_answer())
    run = await web.post(RUN)
    ids = {run.headers["x-fal-request-id"]}
    for response in (await web.send(RUN, "{"), await web.get("/nowhere"), await web.get("/healthz/live")):
        ids.add(response.headers["x-fal-request-id"])
    assert len(ids) == 4
    missing = await web.get(f"{QUEUE}/requests/nobody/status")
    assert (missing.status_code, missing.headers["x-fal-request-id"]) == (404, "nobody")
    odd = await web.get(f"{QUEUE}/requests/a%20b/status")
    assert odd.status_code == 404
    assert odd.headers["x-fal-request-id"] != "a b"


@pytest.mark.parametrize("path", ["/run/fal-ai/other", "/queue/me/idefics-2-8b", "/run/fal-ai/other/stream"])
async def test_an_app_that_is_not_served_here_is_not_found(web: Web, path: str) -> None:
    response = await web.post(path)
    assert (response.status_code, response.json()["error_type"]) == (404, "app_not_found")
    assert "here is fal-ai/idefics-2-8b" in response.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", RUN, "POST"),
        ("HEAD", RUN, "POST"),
        ("OPTIONS", RUN, "POST"),
        ("BREW", RUN, "POST"),
        ("DELETE", f"{QUEUE}/requests/x", "GET"),
        ("HEAD", f"{QUEUE}/requests/x/status", "GET"),
        ("POST", f"{QUEUE}/requests/x/cancel", "PUT"),
        ("POST", "/metrics", "GET"),
        ("OPTIONS", "/cdn/files/somebody/something", "GET, HEAD"),  # by two routes
    ],
)
async def test_another_method_is_refused_with_those_that_are_taken(
    web: Web, method: str, path: str, allowed: str
) -> None:
    response = await web.call(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert response.headers["x-fal-request-id"]
    assert bool(response.content) == (method != "HEAD")


@pytest.mark.parametrize("path", ["/nowhere/at/all", "/run", "/queue/", "/run//x", "/%00", "/%ff/%2e%2e/"])
async def test_a_path_that_does_not_exist_is_not_found(web: Web, path: str) -> None:
    for method in ("GET", "POST"):
        response = await web.call(method, f"http://{web.service.app.http_address}{path}")
        assert response.status_code in {404, 405}, response.text


async def test_a_fault_of_ours_is_logged_once_and_the_answer_says_no_more(
    web: Web, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_down(*_: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(web.service.app._submissions, "get", break_down)
    for path in ("status", "status/stream"):
        caplog.clear()
        response = await web.get(f"{QUEUE}/requests/one/{path}")
        assert (response.status_code, response.json()["reason"]) == (500, "INTERNAL_ERROR")
        assert response.headers["x-fal-request-id"] == "one"
        assert "log has the details under one" in response.json()["detail"]
        assert "secret" not in response.text
        (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert "one" in line.getMessage()


async def test_a_fault_of_ours_in_the_work_says_no_more_either(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(FakeBackend):
        async def generate(self, _: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
            yield StageEntered(Stage.PREFILL)
            raise ZeroDivisionError("a secret")

    app = App(make_settings(), Broken(Script()))
    async with run_harness(app, Script(), is_real=False) as service:
        for path in (RUN, f"{RUN}/stream"):
            caplog.clear()
            response = await Web(service).post(path)
            assert response.status_code == 500
            assert "secret" not in response.text
            assert response.headers["x-fal-request-id"] in response.json()["detail"]
            assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


async def test_calls_are_counted_by_route_and_nobody_can_make_up_labels(alone: Web, script: Script) -> None:
    script.add(red_circle_answer())
    await alone.post(RUN)
    await alone.post(RUN, content=b"{")
    for number in range(5):
        await alone.get(f"/nowhere/{number}")
        await alone.get(f"/queue/a/b/requests/{number}")
        await alone.call(f"BREW{number}", RUN)
        await alone.post("/api/fal/proxy", headers={"x-fal-target-url": f"https://{number}.example"})
    lines = (await alone.get("/metrics")).text.splitlines()
    counts = [line for line in lines if line.startswith("http_requests_total{")]
    labels = [dict(re.findall(r'(\w+)="([^"]*)"', line)) for line in counts]
    run = {"handler": "/run/{owner}/{alias}", "method": "POST"}
    assert {**run, "status": "200"} in labels
    assert {**run, "status": "422"} in labels
    assert {label["method"] for label in labels} <= {"GET", "POST", "other"}
    assert not [label for label in labels if re.search(r"\d", label["handler"])]
    assert any(line.startswith("http_request_duration_seconds_count{") for line in lines)
