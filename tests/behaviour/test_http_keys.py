"""Who may call over HTTP, how often, and from which pages."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from faces.rest import APP
from faces.web import BODY, QUEUE, RUN, Web
from fakes.script import Answer
from harness import Harness, MakeSettings, red_circle_answer, run_harness
from idefics2_service.app import App
from idefics2_service.keys.changes import create, revoke, rotate
from idefics2_service.keys.file import KeyFile
from idefics2_service.keys.records import Face, Limits
from pictures import RED_CIRCLE, red_circle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fakes.backend import FakeBackend


PATIENCE_SECONDS = 30
REQUEST = f"{QUEUE}/requests/one"
GUARDED = [
    ("POST", RUN),
    ("POST", f"{RUN}/stream"),
    ("POST", QUEUE),
    ("GET", f"{REQUEST}/status"),
    ("GET", f"{REQUEST}/status/stream"),
    ("GET", REQUEST),
    ("PUT", f"{REQUEST}/cancel"),
    ("GET", "/run/nowhere"),
    ("GET", "/queue/nowhere"),
]
ORIGIN = "https://page.example"


class Door:
    """A service over the fake backend, and its file of keys."""

    def __init__(self, service: Harness, file: KeyFile) -> None:
        """Make keys in `file` for callers of `service`."""
        self.service = service
        self._file = file

    def caller(self, key_id: str, **fields: Any) -> Web:
        """Make a key, let the service know it, and return somebody who has it."""
        made = create(self._file, key_id, datetime.now(UTC), **fields)
        self.service.app._ring.refresh()
        return Web(self.service, made.text)

    def revoke(self, key_id: str) -> None:
        """Take a key back, and let the service know it."""
        revoke(self._file, key_id, datetime.now(UTC))
        self.service.app._ring.refresh()

    def rotate(self, key_id: str, *, at_once: bool = False) -> None:
        """Give a key another secret, and let the service know it."""
        rotate(self._file, key_id, datetime.now(UTC), at_once=at_once)
        self.service.app._ring.refresh()


@pytest.fixture
async def door(make_settings: MakeSettings, tmp_path: Path, backend: FakeBackend) -> AsyncIterator[Door]:
    """A service that lets in who has a key of its file."""
    async with open_door(make_settings, tmp_path, backend) as opened:
        yield opened


@asynccontextmanager
async def open_door(make_settings: MakeSettings, folder: Path, backend: FakeBackend) -> AsyncIterator[Door]:
    """Run a service over a file of keys."""
    file = KeyFile(folder / "keys.json")
    with file.edit():
        pass
    settings = make_settings(api__key=None, api__keys_file=str(folder / "keys.json"))
    async with run_harness(App(settings, backend), backend._script, is_real=False) as service:
        yield Door(service, file)
        service.check_script()


def check_refused(response: httpx.Response, status: int, reason: str) -> None:
    """Check what every refusal has."""
    body = response.json()
    assert (response.status_code, body["reason"]) == (status, reason), body
    assert isinstance(body["detail"], str)
    assert body["detail"] == body["message"]
    assert response.headers["x-fal-error-type"] == body["error_type"]
    assert response.headers["x-fal-request-id"]


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_nobody_calls_without_a_key(on_fake_backend: Harness, method: str, path: str) -> None:
    for key, reason in (
        ("", "API_KEY_MISSING"),
        ("nobody.0123456789abcdef", "API_KEY_INVALID"),
        ("test.wrong", "API_KEY_INVALID"),
        ("test", "API_KEY_INVALID"),
    ):
        response = await Web(on_fake_backend, key).call(method, path, content=b"{")
        check_refused(response, 401, reason)
        assert response.headers["www-authenticate"] == "Key"


@pytest.mark.parametrize("authorization", ["Basic dGVzdA==", "Key", "Bearer", "Key test", "x" * 4_000])
async def test_other_words_of_authorization_are_refused(on_fake_backend: Harness, authorization: str) -> None:
    response = await Web(on_fake_backend, "").post(RUN, headers={"authorization": authorization})
    check_refused(response, 401, "API_KEY_INVALID")
    assert "xxx" not in response.text


async def test_bearer_is_as_good_as_key(on_fake_backend: Harness) -> None:
    on_fake_backend.expect(red_circle_answer())
    headers = {"authorization": f"Bearer {on_fake_backend.app.api_key}"}
    assert (await Web(on_fake_backend, "").post(RUN, headers=headers)).json() == {"output": RED_CIRCLE}


async def test_nothing_is_read_of_what_a_stranger_sends(on_fake_backend: Harness) -> None:
    """A caller who waits to be asked for the body is refused without being asked."""
    host, port = on_fake_backend.app.http_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST {RUN} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        "Authorization: Key test.wrong\r\nContent-Length: 1000\r\n\r\n".encode()
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await reader.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
    writer.close()
    await writer.wait_closed()


async def test_who_is_let_in_is_asked_for_the_body(on_fake_backend: Harness) -> None:
    host, port = on_fake_backend.app.http_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST {RUN} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        f"Authorization: Key {on_fake_backend.app.api_key}\r\nContent-Length: 2\r\n\r\n".encode()
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await reader.readline()).startswith(b"HTTP/1.1 100 ")
    writer.close()
    await writer.wait_closed()


async def test_keys_that_are_not_in_force_are_refused_by_reason(door: Door) -> None:
    anna = door.caller("anna")
    assert (await anna.get(f"{REQUEST}/status")).status_code == 404
    door.revoke("anna")
    check_refused(await anna.get(f"{REQUEST}/status"), 401, "API_KEY_REVOKED")
    bert = door.caller("bert", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    check_refused(await bert.post(RUN), 401, "API_KEY_EXPIRED")
    cleo = door.caller("cleo", faces=(Face.GRPC,))
    check_refused(await cleo.post(RUN), 403, "FACE_NOT_ALLOWED")


async def test_a_fast_key_is_told_when_to_come_back(door: Door) -> None:
    door.service.expect(red_circle_answer())
    anna = door.caller("anna", limits=Limits(calls_per_second=0.01))
    assert (await anna.post(RUN)).status_code == 200
    for path in (RUN, QUEUE, f"{RUN}/stream"):
        response = await anna.post(path)
        check_refused(response, 429, "RATE_LIMITED")
        assert 100 - PATIENCE_SECONDS < int(response.headers["retry-after"]) <= 100
        assert response.headers["x-fal-retryable"] == "true"


async def test_who_looks_or_cancels_is_not_counted(door: Door) -> None:
    anna = door.caller("anna", limits=Limits(calls_per_second=0.01, max_concurrent=1))
    for _ in range(20):
        assert (await anna.get(f"{REQUEST}/status")).status_code == 404
        assert (await anna.get(REQUEST)).status_code == 404
        assert (await anna.put(f"{REQUEST}/cancel")).status_code == 404
    assert (await anna.get(f"{REQUEST}/status/stream")).status_code == 404  # the one call that was left
    check_refused(await anna.get(f"{REQUEST}/status/stream"), 429, "RATE_LIMITED")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/run/x/cancel"),
        ("PUT", "/run/x/cancel"),
        ("POST", "/queue/x/cancel"),
        ("POST", f"{REQUEST}/cancel"),
        ("POST", "/rest/x/cancel"),
    ],
)
async def test_what_only_looks_like_cancelling_is_counted(door: Door, method: str, path: str) -> None:
    anna = door.caller("anna", limits=Limits(calls_per_second=0.01))
    assert (await anna.call(method, path)).status_code in {404, 405}
    check_refused(await anna.call(method, path), 429, "RATE_LIMITED")


@pytest.mark.parametrize("end", ["%0A", "%0a/", "%0A%0A", "%0D", "%00", "%7F", "%C2%85"])
async def test_a_path_with_control_characters_leads_nowhere(door: Door, end: str) -> None:
    anna, stranger = door.caller("anna", limits=Limits(max_concurrent=1)), Web(door.service, "")
    for caller in (anna, stranger):
        for method, path in (*GUARDED, ("POST", "/cdn/files/upload"), ("GET", "/healthz/live"), ("GET", "/")):
            target = {"x-fal-target-url": f"https://queue.fal.run{path.removeprefix('/queue')}{end}"}
            here = f"http://{door.service.app.http_address}{path}{end}"
            for response in (
                await caller.call(method, here, content=b"{}"),
                await caller.call(method, "/api/fal/proxy", content=b"{}", headers=target),
            ):
                assert (response.status_code, response.json()["error_type"]) == (404, "not_found")


async def test_a_line_break_behind_any_path_is_no_fault_of_ours(on_fake_backend: Harness) -> None:
    stranger = Web(on_fake_backend, "")
    paths = list((await stranger.get("/openapi.json")).json()["paths"])
    file = "/cdn/files/{key_id}/{file_id}"
    paths += [f"{file}/a.png", f"{file}/multipart/x/complete", f"{file}/a.png/multipart/x/1", "/page/page.js"]
    assert len(paths) > 15
    for path in paths:
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
            assert (await stranger.call(method, f"{path}%0A")).status_code < 500


async def test_open_calls_are_bounded_and_give_their_place_back(door: Door) -> None:
    script = door.service.script
    script.add(Answer(("x",), holds=True))
    anna = door.caller("anna", limits=Limits(max_concurrent=1))
    async with anna.stream("POST", f"{RUN}/stream", json=BODY) as response:
        lines = response.aiter_lines()  # kept: who forgets it closes it
        await anext(lines)
        refused = await anna.post(RUN)
        check_refused(refused, 429, "CONCURRENCY_EXCEEDED")
        assert refused.headers["retry-after"] == "1"
    async with asyncio.timeout(PATIENCE_SECONDS):
        await script.cancelled.wait()
    script.add(red_circle_answer())
    assert (await anna.post(RUN)).status_code == 200
    assert (await anna.send(RUN, "{")).status_code == 422
    script.add(red_circle_answer())
    assert (await anna.post(RUN)).status_code == 200


async def test_who_brings_a_file_is_an_open_call_of_the_key_that_announced_it(door: Door) -> None:
    anna, stranger = door.caller("anna", limits=Limits(max_concurrent=1)), Web(door.service, "")
    taken = [await anna.post("/rest/storage/upload/initiate", json={}) for _ in range(2)]
    urls = [each.json()["upload_url"] for each in taken]
    go_on = asyncio.Event()

    async def send() -> AsyncIterator[bytes]:
        yield red_circle()[:100]
        await go_on.wait()
        yield red_circle()[100:]

    bringing = asyncio.create_task(stranger.put(urls[0], content=send()))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "idefics2_open_calls 1.0" not in (await stranger.get("/metrics")).text:
            pass
    check_refused(await stranger.put(urls[1], content=red_circle()), 429, "CONCURRENCY_EXCEEDED")
    check_refused(await anna.post(RUN), 429, "CONCURRENCY_EXCEEDED")
    go_on.set()
    assert (await bringing).status_code == 200
    assert (await stranger.put(urls[1], content=red_circle())).status_code == 200


async def test_submitted_requests_are_bounded_until_their_end(door: Door, backend: FakeBackend) -> None:
    await backend.set_healthy(healthy=False)
    anna, bert = (door.caller(name, limits=Limits(max_queued=1)) for name in ("anna", "bert"))
    taken = await anna.submit()
    check_refused(await anna.post(QUEUE), 429, "QUEUE_QUOTA_EXCEEDED")
    left = {bert: await bert.submit()}
    assert (await anna.put(taken["cancel_url"])).status_code == 202
    left[anna] = await anna.submit()
    door.service.expect(red_circle_answer(), red_circle_answer())
    await backend.set_healthy(healthy=True)
    for caller, other in left.items():
        await caller.read_stream("GET", f"{other['status_url']}/stream")


async def test_anothers_request_is_as_unknown_as_one_that_never_was(door: Door) -> None:
    door.service.expect(red_circle_answer())
    anna, bert = door.caller("anna"), door.caller("bert")
    taken = await anna.submit()
    await anna.read_stream("GET", taken["status_url"] + "/stream")
    for method, url in (
        ("GET", taken["status_url"]),
        ("GET", taken["status_url"] + "/stream"),
        ("GET", taken["response_url"]),
        ("PUT", taken["cancel_url"]),
    ):
        theirs = await bert.call(method, url)
        never = await bert.call(method, url.replace(taken["request_id"], "never"))
        assert (theirs.status_code, never.status_code) == (404, 404)
        assert theirs.text == never.text.replace("never", taken["request_id"])
    assert (await anna.get(taken["response_url"])).json() == {"output": RED_CIRCLE}


async def test_an_idempotency_key_belongs_to_its_api_key(door: Door) -> None:
    door.service.expect(red_circle_answer(), red_circle_answer())
    ids = set()
    for caller in (door.caller("anna"), door.caller("bert")):
        for _ in range(2):
            taken = await caller.submit(headers={"idempotency-key": "same"})
            ids.add(taken["request_id"])
        await caller.read_stream("GET", taken["status_url"] + "/stream")
    assert len(ids) == 2


async def test_an_answer_to_a_key_that_was_revoked_meanwhile_is_kept_back(
    door: Door, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, anna = backend.generate, door.caller("anna")

    async def revoke_first(request: Any) -> AsyncIterator[Any]:
        door.revoke("anna")
        async for event in generate(request):
            yield event

    monkeypatch.setattr(backend, "generate", revoke_first)
    door.service.expect(red_circle_answer())
    response = await anna.post(RUN)
    check_refused(response, 401, "API_KEY_REVOKED")
    assert RED_CIRCLE not in response.text


@pytest.mark.parametrize("end", ["revoked", "another secret at once"])
async def test_a_key_or_secret_that_is_ended_in_mid_flight_hears_no_more(
    door: Door, pieces: asyncio.Semaphore, end: str
) -> None:
    door.service.expect(Answer(("first", "second")))
    async with door.caller("anna").stream("POST", f"{RUN}/stream", json=BODY) as response:
        lines = response.aiter_lines()
        assert "first" in await anext(lines)
        if end == "revoked":
            door.revoke("anna")
        else:
            door.rotate("anna", at_once=True)
        pieces.release()
        await check_broken_off(lines, "second")


async def check_broken_off(lines: AsyncIterator[str], text: str) -> None:
    """Check that a stream is cut before some text."""

    async def read_on() -> None:
        async for line in lines:
            assert text not in line

    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        await read_on()


async def test_who_showed_the_older_secret_hears_on_as_long_as_it_is_good(
    door: Door, pieces: asyncio.Semaphore
) -> None:
    door.service.expect(Answer(("first", "second", "third")))
    async with door.caller("anna").stream("POST", f"{RUN}/stream", json=BODY) as response:
        lines = (line async for line in response.aiter_lines() if line)
        assert "first" in await anext(lines)
        door.rotate("anna")
        pieces.release()
        assert "second" in await anext(lines)
        door.rotate("anna")
        pieces.release()
        await check_broken_off(lines, "third")


async def test_no_secret_is_told_or_logged(
    door: Door, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    door.service.expect(red_circle_answer())
    anna = door.caller("anna", limits=Limits(calls_per_second=0.001))
    secret = anna.headers["authorization"].partition(".")[2]
    told = [await anna.post(RUN), await anna.post(RUN), await Web(door.service, f"bert.{secret}").post(RUN)]
    told.append(await anna.get("/api/fal/proxy", headers={"x-fal-target-url": "https://["}))
    door.revoke("anna")
    told += [await anna.post(RUN), await anna.get("/metrics")]
    assert [response.status_code for response in told] == [200, 429, 401, 400, 401, 200]
    for text in (caplog.text, *capfd.readouterr(), *(f"{each.headers} {each.text}" for each in told)):
        assert secret not in text


async def test_pages_of_any_origin_may_call_with_a_key(on_fake_backend: Harness) -> None:
    asked = "authorization, content-type, x-fal-target-url, x-fal-queue-priority, idempotency-key"
    for path in (RUN, QUEUE, f"{REQUEST}/status", "/api/fal/proxy", "/nowhere", "/metrics"):
        for method in ("GET", "POST", "PUT"):
            headers = {
                "origin": ORIGIN,
                "access-control-request-method": method,
                "access-control-request-headers": asked,
            }
            response = await Web(on_fake_backend, "").call("OPTIONS", path, headers=headers)
            assert response.status_code == 200, response.text
            assert response.headers["access-control-allow-origin"] in {"*", ORIGIN}
            assert method in response.headers["access-control-allow-methods"]
            allowed = response.headers["access-control-allow-headers"].lower()
            assert set(asked.split(", ")) <= set(allowed.replace(" ", "").split(","))


async def test_pages_may_read_what_is_said_beside_answers_and_refusals(on_fake_backend: Harness) -> None:
    for key, path, status in ((None, RUN, 422), ("", RUN, 401), (None, "/api/fal/proxy", 400)):
        caller = Web(on_fake_backend, key)
        response = await caller.post(path, content=b"", headers={"origin": ORIGIN})
        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] in {"*", ORIGIN}
        exposed = response.headers["access-control-expose-headers"].lower()
        for name in ("x-fal-request-id", "x-fal-request-timeout-type", "x-fal-error-type", "retry-after"):
            assert name in exposed


async def test_pages_of_other_origins_are_kept_out_where_some_are_named(
    make_settings: MakeSettings, backend: FakeBackend
) -> None:
    app = App(make_settings(http__allowed_origins=f"{ORIGIN}, https://other.example"), backend)
    async with run_harness(app, backend._script, is_real=False) as service:
        for origin, allowed in ((ORIGIN, ORIGIN), ("https://evil.example", None)):
            response = await Web(service).get(f"/queue/{APP}/requests/x", headers={"origin": origin})
            assert response.headers.get("access-control-allow-origin") == allowed
