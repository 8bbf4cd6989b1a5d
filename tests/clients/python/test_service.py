"""What both clients promise, against the service itself, with a fake backend and a real folder of files."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from typing import TYPE_CHECKING

import pytest
from bench import uploading
from clients.python.callers import KINDS, make_caller
from conftest import API_KEY
from fakes.backend import FakeBackend
from fakes.script import Script
from harness import Harness, red_circle_answer, run_harness
from idefics2_client import (
    AuthenticationFailed,
    DeadlineExceeded,
    ImageNotFound,
    InvalidRequest,
    NotFound,
    Overloaded,
    TransferUpdate,
    read_failure,
)
from idefics2_client.images import INLINE_BYTES
from idefics2_client.pictures import encode_picture
from idefics2_client.upload import SMALL_BYTES
from idefics2_service.app import App
from pictures import DESCRIBE, RED_CIRCLE, draw_red_circle, encode
from PIL import Image
from processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from harness import MakeSettings
    from idefics2_client import AsyncClient, FileName, Idefics2Error

LARGE = b"BM" + bytes(range(251)) * 12_000
"""Begins like a picture, which is enough for an upload."""


@pytest.fixture
async def service(make_settings: MakeSettings) -> AsyncIterator[Harness]:
    """Return the service, which expects the answers of one test."""
    script = Script()
    settings = make_settings(file__max_file_bytes=100_000_000, file__max_key_files=3)
    async with run_harness(App(settings, FakeBackend(script)), script, is_real=False) as harness:
        yield harness
        harness.check_script()


@pytest.fixture(params=KINDS)
async def asker(request: pytest.FixtureRequest, service: Harness) -> AsyncIterator[AsyncClient]:
    """Return each of the clients of the service."""
    async with make_caller(request.param, service.app.grpc_address, api_key=API_KEY) as caller:
        yield caller


def large_picture() -> bytes:
    """Return a picture that is too large to be part of a message."""
    size = (2000, INLINE_BYTES // 6000 + 1)
    return encode(draw_red_circle(size), "BMP")


@pytest.mark.parametrize("kind", KINDS)
async def test_an_upload_takes_little_memory_however_large_it_is(
    service: Harness, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "large.bmp"
    with path.open("wb") as file:
        file.write(b"BM")
        file.truncate(90_000_000)
    upload = await asyncio.create_subprocess_exec(
        *(sys.executable, uploading.__file__, kind, service.app.grpc_address, API_KEY, str(path)),
        env=clean_environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await upload.communicate()
    assert upload.returncode == 0
    assert json.loads(told)["num_bytes"] < 32_000_000


async def test_a_picture_of_pil_is_asked_about(service: Harness, asker: AsyncClient) -> None:
    for mode in ("RGB", "RGBA", "P", "L", "1", "CMYK", "YCbCr", "F"):
        service.expect(red_circle_answer())
        answer = await asker.generate(draw_red_circle().convert(mode), DESCRIBE, temperature=0)
        assert answer.output == RED_CIRCLE


async def test_a_large_picture_is_uploaded_and_asked_about(
    service: Harness, asker: AsyncClient, tmp_path: Path
) -> None:
    path = tmp_path / "large.bmp"
    path.write_bytes(large_picture())
    service.expect(red_circle_answer(), red_circle_answer(), red_circle_answer())
    assert (await asker.generate(path, DESCRIBE)).output == RED_CIRCLE
    assert (await asker.subscribe(path, DESCRIBE)).output == RED_CIRCLE
    events = [event async for event in asker.stream(path, DESCRIBE)]
    assert events[-1].finished.response.output == RED_CIRCLE
    assert (await asker.count_tokens(path, DESCRIBE)).fits
    assert [file.name async for file in asker.list_files()] == ["large.bmp"]


async def test_an_uploaded_picture_is_asked_about_by_every_name(service: Harness, asker: AsyncClient) -> None:
    file = await asker.upload(encode(draw_red_circle()))
    for image in (file, file.url, f"sha256:{file.sha256}"):
        service.expect(red_circle_answer())
        assert (await asker.generate(image, DESCRIBE)).output == RED_CIRCLE


async def test_what_was_uploaded_comes_back_until_it_is_deleted(asker: AsyncClient, tmp_path: Path) -> None:
    path = tmp_path / "large.bmp"
    path.write_bytes(LARGE)
    file = await asker.upload(path)
    assert (file.name, file.size_bytes, file.content_type) == ("large.bmp", len(LARGE), "image/bmp")
    names: list[FileName] = [file, file.id, file.url, f"sha256:{file.sha256}"]
    for name in names:
        out = io.BytesIO()
        assert await asker.download(name, out) == await asker.get_file(name) == file
        assert out.getvalue() == LARGE
    assert await asker.delete_file(file) == file
    for call in (asker.get_file(file), asker.download(file, out), asker.delete_file(file)):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.reason == "FILE_NOT_UPLOADED"


async def test_an_upload_that_was_left_is_gone_on_with_by_whoever_comes_next(
    service: Harness, asker: AsyncClient
) -> None:
    def leave(update: TransferUpdate) -> None:
        if update.num_bytes > SMALL_BYTES:
            raise ZeroDivisionError

    updates: list[TransferUpdate] = []
    with pytest.raises(ZeroDivisionError):
        await asker.upload(LARGE, on_progress=leave)
    async with make_caller("blocking", service.app.grpc_address, api_key=API_KEY) as other:
        file = await other.upload(LARGE, on_progress=updates.append)
        out = io.BytesIO()
        await other.download(file, out)
    assert updates[0].num_bytes >= SMALL_BYTES
    assert out.getvalue() == LARGE


async def test_the_same_bytes_are_sent_once(asker: AsyncClient) -> None:
    first = await asker.upload(LARGE, name="first")
    updates: list[TransferUpdate] = []
    again = await asker.upload(LARGE, on_progress=updates.append)
    assert again.id == first.id
    assert again.expire_time.ToNanoseconds() > first.expire_time.ToNanoseconds()
    assert updates == [TransferUpdate("", len(LARGE), len(LARGE))]


async def test_two_may_upload_the_same_at_a_time(asker: AsyncClient) -> None:
    files = await asyncio.gather(*(asker.upload(LARGE) for _ in range(3)))
    out = io.BytesIO()
    await asker.download(files[0], out)
    assert out.getvalue() == LARGE


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "VALUE_OUT_OF_RANGE"),
        (b"no picture", "FILE_NOT_AN_IMAGE"),
        (bytes(9_000_000), "FILE_NOT_AN_IMAGE"),
    ],
)
async def test_what_the_service_does_not_take_is_refused_by_name(
    asker: AsyncClient, data: bytes, reason: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await asker.upload(data)
    assert caught.value.reason == reason
    assert caught.value.request_id


async def test_a_quota_says_what_to_do(asker: AsyncClient) -> None:
    for size in (20, 21, 22):
        await asker.upload(encode(draw_red_circle((size, size))))
    with pytest.raises(Overloaded) as caught:
        await asker.upload(encode(draw_red_circle((23, 23))))
    assert caught.value.reason == "FILE_QUOTA_EXCEEDED"
    assert "idefics2 files" in caught.value.advice


@pytest.mark.parametrize("image", ["http://127.0.0.1/cat.png", b"\x89PNG\r\n\x1a\nbroken"])
async def test_a_request_that_failed_is_the_same_error_whoever_tells_of_it(
    asker: AsyncClient, image: str | bytes
) -> None:
    told: list[Idefics2Error] = []
    for call in (
        asker.subscribe(image, DESCRIBE, request_id="r-1"),
        asker.result("r-1", wait=True),
        asker.result("r-1"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await call
        told.append(caught.value)
    told.append(read_failure((await asker.get_request("r-1")).failure, "r-1"))
    first, *others = [(type(error), {**vars(error), "request_id": ""}) for error in told]
    assert others == [first] * 3
    assert told[0].metadata["field"] == told[0].field != ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("key", "reason"),
    [("", "API_KEY_MISSING"), ("test.wrong", "API_KEY_INVALID"), (f"x{API_KEY}", "API_KEY_INVALID")],
)
async def test_a_wrong_or_missing_key_is_refused_by_every_call(
    service: Harness, kind: str, key: str, reason: str
) -> None:
    async with make_caller(kind, service.app.grpc_address, api_key=key) as caller:
        for call in (
            caller.generate(b"", "What?"),
            caller.upload(LARGE),
            caller.upload(b"BM"),
            caller.download("abc", io.BytesIO()),
            caller.submit(b"", "What?"),
            caller.result("r-1", wait=True),
        ):
            with pytest.raises(AuthenticationFailed) as caught:
                await call
            assert caught.value.reason == reason
            assert "IDEFICS2_API_KEY" in caught.value.advice


async def test_a_key_in_the_form_of_the_hosted_endpoint_is_taken(
    service: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id, _, secret = API_KEY.partition(".")
    for names in ({"FAL_KEY": f"{key_id}:{secret}"}, {"FAL_KEY_ID": key_id, "FAL_KEY_SECRET": secret}):
        with monkeypatch.context() as patch:
            for name, value in names.items():
                patch.setenv(name, value)
            async with make_caller("asyncio", service.app.grpc_address, api_key="") as caller:
                assert [file async for file in caller.list_files()] == []


async def test_a_deadline_that_has_passed_is_told_as_one(asker: AsyncClient) -> None:
    for call in (
        asker.generate(encode(draw_red_circle()), DESCRIBE, timeout_seconds=0),
        asker.upload(LARGE, timeout_seconds=0),
        asker.download("abc", io.BytesIO(), timeout_seconds=0),
        asker.result("r-1", timeout_seconds=0),
    ):
        with pytest.raises(DeadlineExceeded, match="timeout"):
            await call


async def test_a_file_that_there_is_not_is_the_error_that_python_has_for_it(asker: AsyncClient) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        await asker.generate("nowhere/cat.png", DESCRIBE)
    assert isinstance(caught.value, ImageNotFound)
    assert (caught.value.filename, caught.value.strerror) == ("nowhere/cat.png", "No such file or directory")


def test_a_picture_of_pil_stays_as_it_is_turned() -> None:
    picture = draw_red_circle((40, 20))
    exif = picture.getexif()
    exif[0x0112], exif[0x010E] = 6, "a secret"
    picture.save(out := io.BytesIO(), "JPEG", exif=exif, icc_profile=b"a secret")
    written = Image.open(io.BytesIO(encode_picture(Image.open(out))))
    assert "icc_profile" not in written.info
    assert dict(written.getexif()) == {0x0112: 6}
    assert written.format == "PNG"
