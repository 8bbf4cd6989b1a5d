"""Files over HTTP, as clients of the hosted endpoint bring them."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httpx
import pytest
from fakes.script import Answer
from harness import Harness, MakeSettings, run_on_fake_backend
from idefics2_service import gate
from pictures import DESCRIBE, draw_red_circle, encode, red_circle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

APP = "fal-ai/idefics-2-8b"
PATIENCE_SECONDS = 30
PICTURE = red_circle()
LARGE = encode(draw_red_circle(), "BMP")  # 90 kB
NAMED = {"content_type": "image/png", "file_name": "a circle, red ö.png"}


class Client:
    """Somebody who uploads, with a key or without."""

    def __init__(self, service: Harness) -> None:
        """Call `service`."""
        self.service = service
        self.base = f"http://{service.app.http_address}"
        self.key = {"authorization": f"Key {service.app.api_key}"}
        self.http = httpx.AsyncClient(timeout=30)

    async def initiate(
        self, kind: str = "initiate", file_name: str = NAMED["file_name"], **headers: str
    ) -> dict[str, str]:
        """Ask where to bring a file."""
        url = f"{self.base}/rest/storage/upload/{kind}"
        body = {**NAMED, "file_name": file_name}
        answer = await self.http.post(url, json=body, headers={**self.key, **headers})
        assert answer.status_code == 200, answer.text
        found: dict[str, str] = answer.json()
        return found

    async def ask(self, image_url: str) -> httpx.Response:
        """Ask about a picture."""
        body = {"image_url": image_url, "prompt": DESCRIBE}
        return await self.http.post(f"{self.base}/run/{APP}", json=body, headers=self.key)

    async def wait_for(self, sign: str) -> None:
        """Wait until a line stands among the metrics."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while sign not in (await self.http.get(f"{self.base}/metrics")).text.splitlines():
                pass


@asynccontextmanager
async def serve(make_settings: MakeSettings, **settings: Any) -> AsyncIterator[Client]:
    """Run the service over the fake backend."""
    async with run_on_fake_backend(make_settings(**settings)) as service:
        client = Client(service)
        async with client.http:
            yield client
        service.check_script()


@pytest.fixture
async def client(make_settings: MakeSettings) -> AsyncIterator[Client]:
    """Somebody who uploads."""
    async with serve(make_settings) as client:
        yield client


async def test_a_file_is_brought_where_the_service_says_and_used_by_its_url(client: Client) -> None:
    addresses = await client.initiate()
    assert (await client.http.get(addresses["file_url"])).status_code == 404
    brought = await client.http.put(addresses["upload_url"], content=PICTURE)  # no key, as fal's clients
    assert brought.json()["sha256"] == hashlib.sha256(PICTURE).hexdigest()
    client.service.expect(Answer(("A circle",)))
    assert (await client.ask(addresses["file_url"])).json() == {"output": "A circle"}


async def test_a_file_whose_name_has_slashes_is_read_by_its_url(client: Client) -> None:
    addresses = await client.initiate(file_name="photos/cat.png")
    await client.http.put(addresses["upload_url"], content=PICTURE)
    answer = await client.http.get(addresses["file_url"])
    assert (answer.status_code, answer.content) == (200, PICTURE)
    assert addresses["file_url"].endswith("/cat.png")
    assert answer.headers["content-disposition"].endswith("photos%2Fcat.png")


async def test_bytes_may_be_brought_with_a_key_too(client: Client) -> None:
    addresses = await client.initiate()
    brought = await client.http.put(addresses["upload_url"], content=PICTURE, headers=client.key)
    assert brought.status_code == 200


async def test_who_knows_the_url_reads_the_file_and_no_browser_shows_it_as_a_page(client: Client) -> None:
    addresses = await client.initiate()
    await client.http.put(addresses["upload_url"], content=PICTURE, headers={"content-type": "text/html"})
    for method in ("GET", "HEAD"):
        answer = await client.http.request(method, addresses["file_url"])
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"].startswith("attachment;")
        assert answer.headers["content-length"] == str(len(PICTURE))
        assert answer.content == (PICTURE if method == "GET" else b"")


@pytest.mark.parametrize("kind", ["initiate", "initiate-multipart"])
async def test_where_to_bring_a_file_is_said_to_who_has_a_key_only(client: Client, kind: str) -> None:
    answer = await client.http.post(f"{client.base}/rest/storage/upload/{kind}", json=NAMED)
    assert (answer.status_code, answer.json()["reason"]) == (401, "API_KEY_MISSING")


async def test_parts_come_in_any_order_and_at_once(client: Client) -> None:
    addresses = await client.initiate("initiate-multipart")
    pieces = [PICTURE[start : start + 300] for start in range(0, len(PICTURE), 300)]
    answers = await asyncio.gather(
        *(
            client.http.put(f"{addresses['upload_url']}/{number}", content=piece)
            for number, piece in reversed(list(enumerate(pieces, 1)))
        )
    )
    parts = [answer.json() for answer in answers]
    assert [answer.headers["etag"] for answer in answers] == [part["etag"] for part in parts]
    done = await client.http.post(f"{addresses['upload_url']}/complete", json={"parts": parts})
    assert done.json() == {"sha256": hashlib.sha256(PICTURE).hexdigest(), "size_bytes": len(PICTURE)}
    assert (await client.http.get(addresses["file_url"])).content == PICTURE


async def test_the_cdn_takes_the_token_that_the_service_gives(client: Client) -> None:
    url = f"{client.base}/rest/storage/auth/token"
    told = (await client.http.post(url, json={}, headers=client.key)).json()
    assert told["base_url"] == f"{client.base}/cdn"
    assert datetime.fromisoformat(told["expires_at"]) > datetime.now(UTC)
    shown = {"authorization": f"{told['token_type']} {told['token']}", "x-fal-file-name": "b.png"}
    brought = await client.http.post(f"{told['base_url']}/files/upload", content=PICTURE, headers=shown)
    access_url = brought.json()["access_url"]
    assert access_url.endswith("/b.png")
    assert (await client.http.get(access_url)).content == PICTURE


@pytest.mark.parametrize("name", ["large.png", "", "..", "photos/large.png"])
async def test_the_cdn_takes_a_file_by_parts(client: Client, name: str) -> None:
    begun = await client.http.post(
        f"{client.base}/cdn/files/upload/multipart", headers={**client.key, "x-fal-file-name": name}
    )
    base = f"{begun.json()['access_url']}/multipart/{begun.json()['uploadId']}"
    answers = [
        await client.http.put(f"{base}/{number}", content=piece, headers=client.key)
        for number, piece in ((2, PICTURE[400:]), (1, PICTURE[:400]))
    ]
    parts = [
        {"partNumber": number, "etag": answer.headers["etag"]}
        for number, answer in zip((2, 1), answers, strict=True)
    ]
    assert (await client.http.post(f"{base}/complete", json={"parts": parts})).status_code == 200
    assert (await client.http.get(begun.json()["access_url"])).content == PICTURE


async def test_the_cdn_takes_nothing_from_who_has_no_key(client: Client) -> None:
    for path in ("files/upload", "files/upload/multipart"):
        answer = await client.http.post(f"{client.base}/cdn/{path}", content=PICTURE)
        assert (answer.status_code, answer.json()["reason"]) == (401, "API_KEY_MISSING")


@asynccontextmanager
async def bringing(
    client: Client, url: str, *, sign: str, method: str = "PUT", **headers: str
) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """Bring half of a picture, until `sign` stands among the metrics; at the block's end, the rest."""
    go_on = asyncio.Event()

    async def send() -> AsyncIterator[bytes]:
        yield LARGE[:40_000]
        await go_on.wait()
        yield LARGE[40_000:]

    headers["content-length"] = str(len(LARGE))
    call = asyncio.create_task(client.http.request(method, url, content=send(), headers=headers))
    await client.wait_for(sign)
    try:
        yield call
    finally:
        go_on.set()
        await call


async def test_who_brings_a_file_takes_a_place_of_the_key_that_announced_it(
    make_settings: MakeSettings,
) -> None:
    async with serve(make_settings, gate__max_open_calls=3) as client:
        ids = [await client.initiate() for _ in range(3)]
        first = bringing(client, ids[0]["upload_url"], sign="idefics2_open_calls 1.0")
        second = bringing(client, f"{ids[1]['upload_url']}/1", sign="idefics2_open_calls 2.0")
        async with first as whole, second as part:
            refused = await client.http.put(ids[2]["upload_url"], content=PICTURE)
            assert (refused.status_code, refused.json()["reason"]) == (429, "CALLS_FULL")
            unknown = f"{ids[2]['upload_url'][:-32]}{'0' * 32}"
            assert (await client.http.put(unknown, content=PICTURE)).status_code == 404
        assert [(await whole).status_code, (await part).status_code] == [200, 200]
        assert (await client.http.put(ids[2]["upload_url"], content=PICTURE)).status_code == 200
        assert "idefics2_open_calls 0.0" in (await client.http.get(f"{client.base}/metrics")).text


async def test_what_is_held_of_a_file_on_its_way_counts_for_the_key(make_settings: MakeSettings) -> None:
    least = {
        "grpc__max_receive_bytes": 1_000,
        "http__max_receive_bytes": 1_000,
        "limits__max_images": 1,
        "limits__max_image_bytes": 50_000,
    }
    async with serve(make_settings, gate__max_held_bytes=150_000, **least) as client:
        ids = [await client.initiate() for _ in range(2)]
        to_cdn = f"{client.base}/cdn/files/upload"
        sign = f"idefics2_held_bytes {float(len(LARGE))}"
        for call in (
            bringing(client, ids[0]["upload_url"], sign=sign),
            bringing(client, to_cdn, sign=sign, method="POST", **client.key),
        ):
            async with call as brought:
                for refused in (
                    await client.http.put(ids[1]["upload_url"], content=LARGE),
                    await client.http.post(to_cdn, content=LARGE, headers=client.key),
                ):
                    assert (refused.status_code, refused.json()["reason"]) == (429, "MEMORY_FULL")
            assert (await brought).status_code == 200
        assert (await client.http.put(ids[1]["upload_url"], content=LARGE)).status_code == 200
        assert "idefics2_held_bytes 0.0" in (await client.http.get(f"{client.base}/metrics")).text


async def test_parts_are_joined_within_what_the_key_that_announced_them_may_hold(
    make_settings: MakeSettings,
) -> None:
    least = {
        "grpc__max_receive_bytes": 1_000,
        "http__max_receive_bytes": 1_000,
        "limits__max_images": 1,
        "limits__max_image_bytes": 50_000,
    }
    async with serve(make_settings, gate__max_held_bytes=6 * 2**20, **least) as client:
        ids = [await client.initiate() for _ in range(2)]
        etag = (await client.http.put(f"{ids[0]['upload_url']}/1", content=LARGE)).json()["etag"]
        parts, to_join = {"parts": [{"partNumber": 1, "etag": etag}]}, f"{ids[0]['upload_url']}/complete"
        sign = f"idefics2_held_bytes {float(len(LARGE))}"
        async with bringing(client, ids[1]["upload_url"], sign=sign):
            refused = await client.http.post(to_join, json=parts)  # reads two pieces of 4 MiB
            assert (refused.status_code, refused.json()["reason"]) == (429, "MEMORY_FULL")
        assert (await client.http.post(to_join, json=parts)).status_code == 200
        assert (await client.http.post(to_join, json=parts)).status_code == 200  # which holds nothing


async def test_a_body_without_a_key_counts_for_the_address_it_comes_from(
    make_settings: MakeSettings,
) -> None:
    least = {
        "grpc__max_receive_bytes": 1_000,
        "http__max_receive_bytes": 2**20,
        "limits__max_images": 1,
        "limits__max_image_bytes": 50_000,
    }
    # What comes without a key has a 16th of it: 30 MiB.
    async with serve(make_settings, gate__max_held_bytes=16 * 30 * 2**20, **least) as client:
        to_join, most = f"{client.base}/cdn/uploads/test/{'0' * 32}/complete", 2**20
        port = int(client.base.rpartition(":")[2])
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(15)]
        head = f"POST /cdn/uploads/test/{'0' * 32}/complete HTTP/1.1\r\nhost: a\r\n"
        head += f"content-type: application/json\r\ncontent-length: {most}\r\n\r\n"
        for _, writer in slow:
            writer.write(head.encode() + b"{")
        async with asyncio.timeout(PATIENCE_SECONDS):
            sign = f"idefics2_held_bytes {float(15 * most)}"
            while sign not in (await client.http.get(f"{client.base}/metrics")).text.splitlines():
                pass
        refused = await client.http.post(to_join, content=b"x" * most)
        assert (refused.status_code, refused.json()["reason"]) == (429, "MEMORY_FULL")
        picture = await client.http.post(
            f"{client.base}/cdn/files/upload", content=LARGE, headers={**client.key, "x-fal-file-name": "a"}
        )
        assert picture.status_code == 200  # those who have a key find room
        for _, writer in slow:
            writer.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "idefics2_held_bytes 0.0" not in (await client.http.get(f"{client.base}/metrics")).text:
                pass


async def test_who_asks_for_files_without_a_key_takes_a_place_until_the_file_is_found(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "_MAX_STRANGERS", 2)  # one for each address
    async with serve(make_settings) as client:
        kept, to_come = await client.initiate(), await client.initiate()
        await client.http.put(kept["upload_url"], content=PICTURE)
        library = client.service.app._library
        is_asked, may_go_on, find = asyncio.Event(), asyncio.Event(), library.find

        async def find_late(*name: str) -> Any:
            is_asked.set()
            await may_go_on.wait()
            return await find(*name)

        async with bringing(client, to_come["upload_url"], sign="idefics2_open_calls 1.0"):
            monkeypatch.setattr(library, "find", find_late)
            guess = asyncio.create_task(
                client.http.get(f"{kept['file_url'].rpartition('/')[0][:-32]}{'0' * 32}")
            )
            await is_asked.wait()
            refused = await client.http.get(kept["file_url"])
            assert (refused.status_code, refused.json()["reason"]) == (429, "CALLS_FULL")
            may_go_on.set()
            assert (await guess).status_code == 404
            assert (await client.http.get(kept["file_url"])).content == PICTURE  # while one is brought


async def test_a_file_is_brought_once(client: Client) -> None:
    addresses = await client.initiate()
    await client.http.put(addresses["upload_url"], content=PICTURE)
    again = await client.http.put(addresses["upload_url"], content=PICTURE)
    assert again.status_code == 200  # the same, as after a lost answer
    other = await client.http.put(addresses["upload_url"], content=red_circle() + b"more")
    assert (other.status_code, other.json()["reason"]) == (400, "FILE_ALREADY_COMPLETE")
    assert (await client.http.get(addresses["file_url"])).content == PICTURE


async def test_what_is_no_picture_is_refused_by_name(client: Client) -> None:
    addresses = await client.initiate()
    refused = await client.http.put(addresses["upload_url"], content=b"hello")
    assert (refused.status_code, refused.json()["reason"]) == (422, "FILE_NOT_AN_IMAGE")
    assert (await client.http.put(addresses["upload_url"], content=PICTURE)).status_code == 200


async def test_what_the_cdn_refuses_or_loses_takes_no_place_among_the_files_of_its_key(
    make_settings: MakeSettings,
) -> None:
    async with serve(make_settings, file__max_key_files=1) as client:

        async def break_off() -> AsyncIterator[bytes]:
            yield PICTURE
            await client.wait_for("idefics2_open_calls 1.0")
            raise ConnectionError

        to_cdn = f"{client.base}/cdn/files/upload"
        refused = await client.http.post(to_cdn, content=b"hello", headers=client.key)
        assert (refused.status_code, refused.json()["reason"]) == (422, "FILE_NOT_AN_IMAGE")
        headers = {**client.key, "content-length": "1000000"}
        with pytest.raises(ConnectionError):
            await client.http.post(to_cdn, content=break_off(), headers=headers)
        await client.wait_for("idefics2_open_calls 0.0")
        answer = await client.http.post(to_cdn, content=PICTURE, headers=client.key)
        assert answer.status_code == 200, answer.text
        assert (await client.http.get(answer.json()["access_url"])).content == PICTURE


async def test_an_address_that_nobody_announced_takes_nothing(client: Client) -> None:
    made_up = f"{client.base}/cdn/uploads/test/{'0' * 32}"
    answer = await client.http.put(made_up, content=PICTURE)
    assert (answer.status_code, answer.json()["reason"]) == (404, "UPLOAD_NOT_FOUND")


async def test_a_file_that_is_too_large_is_refused(make_settings: MakeSettings) -> None:
    async with serve(make_settings, file__max_file_bytes=100) as client:
        addresses = await client.initiate()
        refused = await client.http.put(addresses["upload_url"], content=PICTURE)
        assert (refused.status_code, refused.json()["reason"]) == (422, "FILE_TOO_LARGE")


async def test_a_file_is_gone_after_the_time_that_was_asked_for(client: Client) -> None:
    lifecycle = {"x-fal-object-lifecycle": '{"expiration_duration_seconds": 0.2, "initial_acl": {}}'}
    addresses = await client.initiate(**lifecycle)
    await client.http.put(addresses["upload_url"], content=PICTURE)
    async with asyncio.timeout(30):
        while (await client.http.get(addresses["file_url"])).status_code == 200:
            pass
    assert (await client.http.get(addresses["file_url"])).status_code == 404


async def test_a_file_that_is_wanted_for_no_time_of_its_own_is_kept_as_usual(client: Client) -> None:
    addresses = await client.initiate(**{LIFECYCLE: '{"expiration_duration_seconds": 0}'})
    await client.http.put(addresses["upload_url"], content=PICTURE)
    assert (await client.http.get(addresses["file_url"])).content == PICTURE


LONG = "画面" * 60 + "\n.png"


async def test_a_name_that_a_file_cannot_have_here_is_made_to_fit(client: Client) -> None:
    addresses = await client.initiate(file_name=LONG)
    await client.http.put(addresses["upload_url"], content=PICTURE)
    named = (await client.http.get(addresses["file_url"])).headers["content-disposition"]
    name = unquote(named.partition("filename*=")[2].partition("''")[2])
    assert name == LONG.replace("\n", "")[-len(name) :]
    assert 253 <= len(name.encode()) <= 255
    headers = {**client.key, "x-fal-file-name": "x" * 300 + ".png"}
    brought = await client.http.post(f"{client.base}/cdn/files/upload", content=PICTURE, headers=headers)
    assert brought.json()["access_url"].endswith("x.png")


LIFECYCLE = "x-fal-object-lifecycle"
PAST = '{"expiration_duration_seconds": -1}'
WRONG: dict[str, tuple[str, dict[str, Any], list[str | int]]] = {
    "a type": (
        "POST rest/storage/upload/initiate",
        {"json": {"content_type": "x"}},
        ["body", "content_type"],
    ),
    "a time": (
        "POST rest/storage/upload/initiate",
        {"json": NAMED, "headers": {LIFECYCLE: PAST}},
        ["header", LIFECYCLE],
    ),
    "a time by the header's other name": (
        "POST cdn/files/upload",
        {"content": PICTURE, "headers": {f"{LIFECYCLE}-preference": PAST}},
        ["header", f"{LIFECYCLE}-preference"],
    ),
    "a type in a header": (
        "POST cdn/files/upload",
        {"content": PICTURE, "headers": {"content-type": "text/plain"}},
        ["header", "content-type"],
    ),
    "the number of a part": ("PUT {upload_url}/0", {"content": PICTURE}, ["path", "number"]),
    "the number of a part that is named": (
        "POST {upload_url}/complete",
        {"json": {"parts": [{"partNumber": 0, "etag": "x"}]}},
        ["body", "parts", 0, "partNumber"],
    ),
    "an etag that cannot be written": (
        "POST {upload_url}/complete",
        {"content": '{"parts": [{"partNumber": 1, "etag": "\\ud800"}]}'},
        ["body", "parts", 0, "etag"],
    ),
    "a length": ("PUT {upload_url}", {"content": bytes(1_001)}, ["header", "content-length"]),
    "bytes": ("PUT {upload_url}", {"content": b"hello"}, ["body"]),
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_wrong_is_named_by_where_the_caller_wrote_it(
    make_settings: MakeSettings, case: str
) -> None:
    target, given, place = WRONG[case]
    async with serve(make_settings, file__max_file_bytes=1_000) as client:
        addresses = await client.initiate()
        await client.http.put(f"{addresses['upload_url']}/1", content=PICTURE[:300])
        method, _, path = target.format(**addresses).partition(" ")
        url = path if path.startswith("http") else f"{client.base}/{path}"
        headers = {**client.key, **given.get("headers", {})}
        answer = await client.http.request(method, url, **{**given, "headers": headers})
    assert answer.status_code == 422, answer.text
    assert [fault["loc"] for fault in answer.json()["detail"]] == [place]


async def test_a_lifecycle_that_is_no_json_is_refused_by_name(client: Client) -> None:
    answer = await client.http.post(
        f"{client.base}/rest/storage/upload/initiate",
        json=NAMED,
        headers={**client.key, "x-fal-object-lifecycle": "soon"},
    )
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][:2] == ["header", "x-fal-object-lifecycle"]
