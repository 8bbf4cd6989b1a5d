"""Who is to be told of a request's end is told: signed, at least once, and again until somebody hears."""

from __future__ import annotations

import asyncio
import base64
import json
import runpy
import threading
import urllib.request
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from faces.face import ask, refusal_of
from faces.places import FACES
from faces.web import QUEUE, Web
from fakes.backend import FakeBackend
from fakes.hook import PATIENCE_SECONDS, Hook, run_hook, signed_message
from fakes.script import Answer, Script
from harness import (
    MakeSettings,
    describe_red_circle,
    red_circle_answer,
    run_harness,
    run_while_triton_starts,
)
from idefics2.v1 import requests_pb2, requests_pb2_grpc
from idefics2_service.app import App
from idefics2_service.fetcher import Fetcher
from idefics2_service.signatures import Signer
from pictures import RED_CIRCLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from faces.face import Face
    from harness import Harness
    from idefics2_service.store.records import Record

EXAMPLE = Path(__file__).parents[2] / "clients/examples/webhook.py"


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    """A listening one."""
    async with run_hook() as hook:
        yield hook


@asynccontextmanager
async def serve(
    make_settings: MakeSettings, hook: Hook, script: Script, **more: Any
) -> AsyncIterator[Harness]:
    """Run a service that may call the hook."""
    settings = make_settings(
        fetch__allowed_networks="127.0.0.0/8",
        fetch__ports=str(hook.port),
        **{"webhook__first_retry_seconds": 0.01, **more},
    )
    async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
        yield harness
        harness.check_script()


async def submit(harness: Harness, url: str, request_id: str = "one") -> None:
    """Submit a question whose end is to be told, under a name of one's own."""
    stub: Any = requests_pb2_grpc.RequestServiceStub(harness.channel)
    message = requests_pb2.SubmitRequest(request_id=request_id, input=describe_red_circle(), webhook_url=url)
    await stub.Submit(message, metadata=harness.metadata)


def given_up(harness: Harness) -> float | None:
    """Count the webhooks that are tried no more."""
    return harness.app.metrics.registry.get_sample_value("idefics2_webhooks_total", {"outcome": "given_up"})


async def fetch_jwks(harness: Harness) -> dict[str, Any]:
    """Fetch the set of keys that is served."""

    def get() -> Any:
        with urllib.request.urlopen(f"http://{harness.app.http_address}/.well-known/jwks.json") as answer:
            return json.load(answer)

    found: dict[str, Any] = await asyncio.to_thread(get)
    return found


async def fetch_keys(harness: Harness) -> list[Ed25519PublicKey]:
    """Read the keys that are served."""
    keys = (await fetch_jwks(harness))["keys"]
    assert all((key["kty"], key["crv"]) == ("OKP", "Ed25519") for key in keys)
    return [Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "=")) for key in keys]


async def test_the_answer_is_told_and_signed(
    make_settings: MakeSettings, make_face: Callable[..., Face], hook: Hook
) -> None:
    script = Script()
    script.add(red_circle_answer())
    async with serve(make_settings, hook, script) as harness:
        request_id = await make_face(harness).submit(ask(), webhook_url=hook.url)
        body, headers = await hook.next_call()
        assert json.loads(body) == {
            "request_id": request_id,
            "gateway_request_id": request_id,
            "status": "OK",
            "payload": {"output": RED_CIRCLE},
        }
        (key,) = await fetch_keys(harness)
        signature = bytes.fromhex(headers["X-Fal-Webhook-Signature"])
        key.verify(signature, signed_message(body, headers))  # raises where it does not fit
        assert "Authorization" not in headers


async def test_the_program_of_the_readme_believes_what_the_service_tells_and_nothing_else(
    make_settings: MakeSettings, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_genuine = runpy.run_path(str(EXAMPLE))["is_genuine"]
    script = Script()
    script.add(red_circle_answer())
    async with serve(make_settings, hook, script) as harness:
        await submit(harness, hook.url)
        body, headers = await hook.next_call()
        jwks = await fetch_jwks(harness)
    assert is_genuine(headers, body, jwks)
    others: Any = Signer(bytes(32)).jwks
    assert is_genuine(headers, body, {"keys": [*others["keys"], *jwks["keys"]]})
    assert not is_genuine(headers, body, others)
    assert not is_genuine(headers, body + b" ", jwks)
    for name in (name for name in headers if name.startswith("X-Fal-Webhook-")):
        assert not is_genuine({**headers, name: headers[name] + "00"}, body, jwks), name
        assert not is_genuine({other: headers[other] for other in headers if other != name}, body, jwks)
    monkeypatch.setattr("time.time", lambda: int(headers["X-Fal-Webhook-Timestamp"]) + 301)
    assert not is_genuine(headers, body, jwks)


async def test_an_error_is_told_as_the_hosted_endpoint_does_with_the_result_as_its_payload(
    make_settings: MakeSettings, hook: Hook
) -> None:
    script = Script()
    script.add(Answer(failure=("FILE_UNDECODABLE", "images[0] is damaged", "images[0]")))
    async with serve(make_settings, hook, script) as harness:
        await submit(harness, hook.url)
        body, _ = await hook.next_call()
        told = json.loads(body)
        result = await Web(harness).get(f"{QUEUE}/requests/one")
        assert told == {
            "request_id": "one",
            "gateway_request_id": "one",
            "status": "ERROR",
            "error": "Invalid status code: 422",
            "payload": result.json(),
        }
        (detail,) = told["payload"]["detail"]
        assert detail["loc"] == ["body", "images", 0, "data"]
        assert detail["msg"] == told["payload"]["message"] == "images[0].data is damaged"


async def test_a_failure_of_the_service_is_told_by_its_status_too(
    make_settings: MakeSettings, hook: Hook
) -> None:
    script = Script()
    script.add(Answer(("x",), holds=True))
    async with serve(make_settings, hook, script, limits__max_run_seconds=0.1) as harness:
        await submit(harness, hook.url)
        told = json.loads((await hook.next_call())[0])
        assert (told["status"], told["error"]) == ("ERROR", "Invalid status code: 504")
        assert told["payload"]["error_type"] == "request_timeout"
        assert told["payload"]["detail"] == told["payload"]["message"]


async def test_a_hook_that_fails_is_called_again_until_it_hears_and_the_log_names_its_host(
    make_settings: MakeSettings, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script()
    script.add(red_circle_answer(), red_circle_answer())
    hook.statuses = [500, 302]
    async with serve(make_settings, hook, script) as harness:
        await submit(harness, hook.url)
        calls = [await hook.next_call() for _ in range(3)]
        assert len({body for body, _ in calls}) == 1
        await submit(harness, hook.url, "two")
        body, _ = await hook.next_call()
        assert json.loads(body)["request_id"] == "two"  # and "one" was not told again before
    lines = [record.getMessage() for record in caplog.records if "'problem'" in record.getMessage()]
    assert len(lines) == 2
    for line in lines:
        assert "'key_id': 'test', 'host': '127.0.0.1'" in line
        assert "/hook" not in line  # which may tell who may call it


async def test_the_metrics_say_how_many_are_yet_to_be_told(make_settings: MakeSettings, hook: Hook) -> None:
    script = Script()
    script.add(red_circle_answer())
    hook.statuses = [500]
    async with serve(make_settings, hook, script, webhook__first_retry_seconds=60) as harness:
        await submit(harness, hook.url)
        await hook.next_call()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "idefics2_store_num_webhooks_queued 1.0" not in (await Web(harness).get("/metrics")).text:
                pass


async def test_a_hook_that_never_hears_is_given_up(make_settings: MakeSettings, hook: Hook) -> None:
    script = Script()
    script.add(red_circle_answer(), red_circle_answer())
    hook.statuses = [500] * 2
    async with serve(make_settings, hook, script, webhook__max_attempts=2) as harness:
        await submit(harness, hook.url)
        for _ in range(2):
            await hook.next_call()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await harness.app._store.statistics()).num_deliveries:
                pass
        assert hook.calls.empty()
        await submit(harness, hook.url, "two")
        await hook.next_call()


async def test_a_call_that_cannot_be_written_is_given_up_like_one_that_nobody_hears(
    make_settings: MakeSettings, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script()
    script.add(red_circle_answer())

    def fail(_: Record) -> tuple[bytes, dict[str, str]]:
        raise ArithmeticError("a fault of ours")

    async with serve(make_settings, hook, script, webhook__max_attempts=2) as harness:
        webhooks = harness.app._webhooks
        monkeypatch.setattr(webhooks, "_write_call", fail)
        await submit(harness, hook.url)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await harness.app._store.statistics()).num_deliveries or not given_up(harness):
                pass


async def test_who_waits_in_vain_while_triton_starts_is_told(
    make_settings: MakeSettings, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(fetch__allowed_networks="127.0.0.0/8", fetch__ports=str(hook.port))
    async with run_while_triton_starts(App(settings), monkeypatch) as harness:
        face = FACES["rpc"](harness)
        await face.submit(ask(), webhook_url=hook.url, start_timeout_seconds=0.05)
        body, _ = await hook.next_call()
        assert "START_TIMEOUT" in body.decode()


async def test_what_a_stopped_service_owes_is_told_by_the_next(
    make_settings: MakeSettings, hook: Hook
) -> None:
    script = Script()
    script.add(red_circle_answer())
    hook.statuses = [500]
    folder = make_settings().data.folder
    same = {"data__folder": str(folder), "webhook__first_retry_seconds": 0.5}
    settings = make_settings(fetch__allowed_networks="127.0.0.0/8", fetch__ports=str(hook.port), **same)
    async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
        await submit(harness, hook.url)
        first, _ = await hook.next_call()
        before = await fetch_keys(harness)
    async with run_harness(App(settings, FakeBackend(Script())), Script(), is_real=False) as harness:
        second, headers = await hook.next_call()
        assert second == first
        (key,) = await fetch_keys(harness)
        assert [k.public_bytes_raw() for k in before] == [key.public_bytes_raw()]
        key.verify(bytes.fromhex(headers["X-Fal-Webhook-Signature"]), signed_message(second, headers))


async def test_images_on_hosts_whose_name_servers_are_silent_take_nothing_from_webhooks(
    make_settings: MakeSettings, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, end = asyncio.get_running_loop(), threading.Event()
    asked: asyncio.Queue[str] = asyncio.Queue()

    def look_up(name: str) -> list[str]:
        if name == "silent.example":
            loop.call_soon_threadsafe(asked.put_nowait, name)
            end.wait(2 * PATIENCE_SECONDS)
        return ["127.0.0.1"]

    monkeypatch.setattr("idefics2_service.app.Fetcher", partial(Fetcher, look_up=look_up))
    script = Script()
    script.add(red_circle_answer())
    async with serve(make_settings, hook, script, fetch__connect_timeout_seconds=60) as harness:
        urls = [f"http://silent.example:{hook.port}/{number}" for number in range(40)]
        calls = [harness.generate(describe_red_circle(image_url=url, images=[])) for url in urls]
        asking = [asyncio.create_task(call) for call in calls]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                for _ in range(16):
                    await asked.get()
                await submit(harness, f"http://hook.example:{hook.port}/hook")
                assert json.loads((await hook.next_call())[0])["request_id"] == "one"
        finally:
            end.set()
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def test_a_slow_name_server_refuses_no_request_be_it_new_or_asked_for_again(
    make_settings: MakeSettings, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = threading.Event()

    def look_up(_: str) -> list[str]:
        end.wait(2 * PATIENCE_SECONDS)
        return ["127.0.0.1"]

    monkeypatch.setattr("idefics2_service.app.Fetcher", partial(Fetcher, look_up=look_up))
    script = Script()
    script.add(red_circle_answer())
    async with serve(make_settings, hook, script, fetch__connect_timeout_seconds=0.2) as harness:
        try:
            for _ in range(2):
                await submit(harness, f"http://hook.example:{hook.port}/hook")
        finally:
            end.set()
        assert json.loads((await hook.next_call())[0])["request_id"] == "one"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/hook",
        "http://localhost/hook",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://2130706433/",
        "ftp://example.org/hook",
        "https://user:s3cret@example.org/hook",
        "https://example.org:22/hook",
        "not a url",
        "https://example.org/" + "x" * 2_048,
    ],
)
async def test_a_hook_that_may_not_be_called_is_refused_at_once(
    make_settings: MakeSettings, url: str
) -> None:
    script = Script()
    async with run_harness(App(make_settings(), FakeBackend(script)), script, is_real=False) as harness:
        for make_face in FACES.values():
            refusal = await refusal_of(make_face(harness).submit(ask(), webhook_url=url))
            assert (refusal.code, refusal.reason, refusal.field) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "WEBHOOK_URL_INVALID",
                "webhook_url",
            )
            assert "s3cret" not in refusal.message
