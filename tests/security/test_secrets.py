"""No key, prompt, picture, URL or file's name reaches anybody but its owner: all that is written is read."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

import grpc
import pytest
from fakes.collector import Collector
from fakes.script import Answer, Script
from fakes.triton import FakeTriton
from idefics2.v1 import files_pb2, requests_pb2
from idefics2_service.keys.changes import create
from idefics2_service.keys.file import KeyFile
from idefics2_service.settings import ApiSettings
from ports import HOST
from processes import Ready, running_service
from security.callers import (
    DESCRIPTORS,
    Caller,
    Secrets,
    call_badly,
    call_files,
    call_requests,
    get,
)
from security.canaries import Canaries, find
from security.canary import OUTSIDE, Speaker
from security.web import WebCaller, use_web
from store.servers import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

WORDS = Canaries()
PLANTED = "planted-where-it-is-told"
PICTURE_FOUND = b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n"
NUM_ANSWERS = 200
"""More than are asked for."""


@dataclass
class Written:
    """All that a service wrote, while two keys used it."""

    anna: Caller
    bert: Caller
    log: bytes = b""
    pages: bytes = b""
    """Of the HTTP port: metrics, keys and whatever else may be read without a key."""
    spans: bytes = b""
    """As they were sent to who collects traces."""

    @property
    def words(self) -> dict[str, str]:
        """What stands in it nowhere, by name."""
        keys = {
            caller.key.partition(".")[0]: caller.key.partition(".")[2] for caller in (self.anna, self.bert)
        }
        return {**asdict(WORDS), **{f"key of {name}": secret for name, secret in keys.items()}}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("valkey", marks=pytest.mark.long)])
async def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Written]:
    """What a service over each store wrote, at its most talkative."""
    folder = tmp_path_factory.mktemp("secrets")
    async with AsyncExitStack() as stack:
        outside = await stack.enter_async_context(Speaker())
        collector = await stack.enter_async_context(Collector())
        async with run_service(folder, request.param, outside, collector.url) as started:
            written = await use(started, folder, outside)
            written.pages = await read_pages(started)
        written.log = (folder / "service.log").read_bytes()
        written.spans = b"".join(collector.raw)
        yield written


@asynccontextmanager
async def run_service(folder: Path, store: str, outside: Speaker, collector_url: str) -> AsyncIterator[Ready]:
    """Run the program itself, over a fake of Triton that answers in secret."""
    script = Script()
    script.add(*[Answer((WORDS.answer,))] * NUM_ANSWERS)
    async with FakeTriton(script) as triton:
        with ExitStack() as stack:
            variables = {
                "IDEFICS2_TRITON_URL": triton.url,
                "IDEFICS2_LOG_LEVEL": "debug",
                "IDEFICS2_TRACE_ENDPOINT": collector_url,
                "IDEFICS2_API_KEYS_FILE": str(folder / "keys.json"),
                "IDEFICS2_FETCH_ALLOWED_NETWORKS": f"{OUTSIDE}/32",
                "IDEFICS2_FETCH_PORTS": f"80,{outside.port}",
                "IDEFICS2_WEBHOOK_FIRST_RETRY_SECONDS": "0.01",
                "IDEFICS2_WEBHOOK_MAX_ATTEMPTS": "2",
                "IDEFICS2_WEBHOOK_SIGNING_KEY": "Y2FuYXJ5LXNpZ25pbmcta2V5LW9mLTMyLWJ5dGVzISE=",
            }
            if store != "sqlite":
                server = stack.enter_context(Server(store, "--requirepass", WORDS.store_password))
                variables["IDEFICS2_STORE_URL"] = f"redis://:{WORDS.store_password}@{HOST}:{server.port}"
            make_keys(folder)
            service = stack.enter_context(running_service(folder, **variables))
            yield await asyncio.to_thread(service.wait_until_ready)
            await asyncio.to_thread(service.stop)  # at its end it sends the last spans, which we take here


def make_keys(folder: Path) -> None:
    """Make two keys, and keep their texts beside."""
    file = KeyFile(folder / "keys.json")
    texts = {name: create(file, name, datetime.now(UTC)).text for name in ("anna", "bert")}
    (folder / "texts.json").write_text(json.dumps(texts))


async def use(started: Ready, folder: Path, outside: Speaker) -> Written:
    """Make every call, well and badly, by one key, and about the same things by another."""
    texts = json.loads((folder / "texts.json").read_text())
    secrets = Secrets(WORDS, f"{OUTSIDE}:{outside.port}")
    async with grpc.aio.insecure_channel(started.grpc) as channel:
        anna, bert = Caller(channel, texts["anna"]), Caller(channel, texts["bert"])
        file_id, request_id = await call_well(anna, secrets, outside)
        await call_files(bert, secrets, file_id)
        await call_requests(bert, request_id)
        await call_files(anna, secrets, file_id)
        await call_requests(anna, request_id)
        outside.say(b"HTTP/1.1 404 Nothing\r\nContent-Length: 0\r\n\r\n")
        await anna.call("GenerationService.Generate", secrets.request(image_url=secrets.image_url))
        await call_badly(anna, secrets)
        web = tuple(WebCaller(started.http, ApiSettings().app, caller.key) for caller in (anna, bert))
        outside.say(PICTURE_FOUND % len(secrets.picture) + secrets.picture)
        await use_web(web[0], web[1], secrets)
        for caller, same in zip((anna, bert), web, strict=True):
            caller.told += same.told
            caller.errors += same.errors
        await anna.call("FileService.DeleteFile", files_pb2.DeleteFileRequest(id=file_id))
        for key in (f"anna.{WORDS.wrong_key}", WORDS.wrong_key, f"{WORDS.wrong_key}.x", ""):
            await call_files(Caller(channel, key), secrets, file_id)
    return Written(anna, bert)


async def call_well(anna: Caller, secrets: Secrets, outside: Speaker) -> tuple[str, str]:
    """Make every call that succeeds; return the ids of a file and of a request."""
    picture = secrets.picture
    outside.say(PICTURE_FOUND % len(picture) + picture)
    file = await anna.call("FileService.Upload", secrets.upload())
    by_url, inline = secrets.request(image_url=secrets.image_url), secrets.request()
    for method in ("Generate", "GenerateStream", "CountTokens"):
        for request in (by_url, inline, secrets.request(image_url=file.url)):
            assert await anna.call(f"GenerationService.{method}", request, x_request_id=PLANTED)
    for status in (b"200", b"500"):
        outside.say(b"HTTP/1.1 %b X\r\nContent-Length: 0\r\n\r\n" % status)
        message = requests_pb2.SubmitRequest(input=inline, webhook_url=secrets.hook_url)
        taken = await anna.call("RequestService.Submit", message)
        watched = requests_pb2.WatchRequestRequest(request_id=taken.request_id)
        assert await anna.call("RequestService.WatchRequest", watched)
    return file.id, taken.request_id


async def read_pages(started: Ready) -> bytes:
    """Read all of the HTTP port that needs no key."""
    paths = ("/metrics", "/.well-known/jwks.json", "/healthz/live", "/healthz/ready", f"/{WORDS.query}")
    pages = [await get(started.http, f"{path}?q={WORDS.query}") for path in paths[:4]]
    missing = await get(started.http, paths[4], Authorization=f"Key anna.{WORDS.wrong_key}")
    return b"\n".join([*pages, missing.replace(WORDS.query.encode(), b"")])


def test_no_secret_stands_in_the_log(written: Written) -> None:
    assert find(written.words, written.log) == set()


def test_no_secret_stands_in_a_span(written: Written) -> None:
    assert find(written.words, written.spans) == set()


def test_no_secret_stands_on_a_page_that_needs_no_key(written: Written) -> None:
    assert b"idefics2_requests_total" in written.pages
    assert b'"kty"' in written.pages
    assert find(written.words, written.pages) == set()


def test_nothing_of_a_key_is_told_to_another(written: Written) -> None:
    assert len(written.bert.errors) >= 12
    assert find(written.words, b"\n".join(written.bert.told)) <= {"upload_id"}  # which bert named, too


def test_no_error_repeats_the_secrets_of_a_url_or_a_key(written: Written) -> None:
    assert len(written.anna.errors) > 60
    may_be_told = {"query"}  # what was asked for by name
    assert find(written.words, b"\n".join(written.anna.errors)) <= may_be_told


def test_every_method_was_called(written: Written) -> None:
    methods = {f"{service.name}.{method.name}" for service in DESCRIPTORS for method in service.methods}
    assert written.anna.methods == methods


def test_the_scan_finds_what_was_planted(written: Written) -> None:
    planted = {"planted": PLANTED}
    assert find(planted, written.log) == {"planted"}  # the log tells of the calls that had the secrets
    assert find(planted, written.spans) == {"planted"}  # and so do spans
    told = b"\n".join(written.anna.told)
    assert {"answer", "picture", "file_name"} <= find(written.words, told)  # they came through the service


@pytest.mark.parametrize("before", ["", "x", "xy", "xyz"])
@pytest.mark.parametrize("how", ["plain", "hex", "url", "base64", "upper case"])
def test_the_scan_finds_a_secret_however_it_is_written(how: str, before: str) -> None:
    text = f"{before}{WORDS.prompt}."
    written = {
        "plain": text.encode(),
        "hex": text.encode().hex().encode(),
        "url": quote(text, safe="").encode(),
        "base64": base64.b64encode(text.encode()),
        "upper case": text.upper().encode(),
    }[how]
    assert find(asdict(WORDS), b"{" + written + b"}") == {"prompt"}
    assert find(asdict(WORDS), b"nothing") == set()
