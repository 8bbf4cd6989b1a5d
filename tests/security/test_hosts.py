"""Hosts with bad manners: what a caller is told, and that the next request works."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from pictures import RED_CIRCLE, draw_red_circle, encode, red_circle
from security.conftest import run_target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from harness import MakeSettings
    from security.canary import Canary, Speaker
    from security.names import NameServer
    from security.target import Target

PICTURE = red_circle()
SMALL = {"limits__max_image_bytes": 1_000_000}
HASTE = {**SMALL, "fetch__timeout_seconds": 0.5, "fetch__min_bytes_per_second": 1_000_000}


@pytest.fixture(scope="module")
async def patient(
    make_settings: MakeSettings, canary: Canary, outside: Speaker, names: NameServer
) -> AsyncIterator[Target]:
    """A service that takes small pictures."""
    async with run_target(make_settings, canary, outside, names, **SMALL) as target:
        yield target


@pytest.fixture(scope="module")
async def hasty(
    make_settings: MakeSettings, canary: Canary, outside: Speaker, names: NameServer
) -> AsyncIterator[Target]:
    """One that waits for nobody long."""
    async with run_target(make_settings, canary, outside, names, **HASTE) as target:
        yield target


def answer(body: bytes = PICTURE, *headers: str, status: int = 200, length: int | None = None) -> bytes:
    """Write an answer of a host; `length` is what it says of its body."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes) -> bytes:
    """Write an answer whose body comes in chunks, which are in `body` already."""
    return b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n" + body


BOMB = gzip.compress(bytes(50_000_000))
CHUNK = b"%x\r\n" % len(PICTURE) + PICTURE + b"\r\n"
ENDED: dict[str, tuple[bytes, str]] = {
    "401": (answer(b"", status=401), "FILE_BLOCKED"),
    "402": (answer(b"", status=402), "FILE_UNREACHABLE"),
    "451": (answer(b"", status=451), "FILE_BLOCKED"),
    "404 with a picture": (answer(status=404), "FILE_NOT_FOUND"),
    "429 with a time": (answer(b"", "Retry-After: 7", status=429), "FILE_RATE_LIMITED"),
    "500": (answer(b"", status=500), "FILE_UNREACHABLE"),
    "502": (answer(b"", status=502), "FILE_UNREACHABLE"),
    "503": (answer(b"", status=503), "FILE_UNREACHABLE"),
    "504 with a picture": (answer(status=504), "FILE_UNREACHABLE"),
    "599": (answer(b"", status=599), "FILE_UNREACHABLE"),
    "999": (answer(b"", status=999), "FILE_UNREACHABLE"),
    "204": (answer(b"", status=204), "FILE_EMPTY"),
    "205": (answer(b"", status=205), "FILE_EMPTY"),
    "206 with a part": (
        answer(PICTURE[:20], "Content-Range: bytes 0-19/900", status=206),
        "FILE_UNDECODABLE",
    ),
    "300 without a place": (answer(b"", status=300), "FILE_UNREACHABLE"),
    "304": (answer(b"", status=304), "FILE_UNREACHABLE"),
    "101": (b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", "FILE_UNREACHABLE"),
    "an empty body": (answer(b""), "FILE_EMPTY"),
    "nothing": (b"", "FILE_UNREACHABLE"),
    "a page": (answer(b"<!doctype html><script>alert(1)</script>"), "FILE_NOT_AN_IMAGE"),
    "a page that calls itself a picture": (answer(b"<html>", "Content-Type: image/png"), "FILE_NOT_AN_IMAGE"),
    "a length that is too short": (answer(length=20), "FILE_UNREACHABLE"),
    "a length that is too long": (answer(length=len(PICTURE) + 1), "FILE_UNREACHABLE"),
    "a length of a gigabyte": (answer(length=2**30), "FILE_TOO_LARGE"),
    "a length that is none": (b"HTTP/1.1 200 X\r\nContent-Length: all\r\n\r\n" + PICTURE, "FILE_UNREACHABLE"),
    "a length below zero": (b"HTTP/1.1 200 X\r\nContent-Length: -9\r\n\r\n" + PICTURE, "FILE_UNREACHABLE"),
    "two lengths": (answer(PICTURE, "Content-Length: 3"), "FILE_UNREACHABLE"),
    "a length and chunks": (answer(CHUNK + b"0\r\n\r\n", "Transfer-Encoding: chunked"), "FILE_UNREACHABLE"),
    "a gzip bomb": (answer(BOMB, "Content-Encoding: gzip"), "FILE_UNREACHABLE"),
    "a gzip bomb in two layers": (
        answer(gzip.compress(BOMB), "Content-Encoding: gzip, gzip"),
        "FILE_UNREACHABLE",
    ),
    "a gzip bomb without a word": (answer(BOMB), "FILE_NOT_AN_IMAGE"),
    "a gzip bomb on its way": (
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: gzip, chunked\r\n\r\n%x\r\n" % len(BOMB)
        + BOMB
        + b"\r\n0\r\n\r\n",
        "FILE_NOT_AN_IMAGE",
    ),
    "brotli": (answer(b"\x0b\x02\x80", "Content-Encoding: br"), "FILE_UNREACHABLE"),
    "chunks of garbage": (chunked(b"garbage\r\n" * 100), "FILE_UNREACHABLE"),
    "chunks that stop": (chunked(CHUNK), "FILE_UNREACHABLE"),
    "a chunk of sixteen exabytes": (chunked(b"ffffffffffffffff\r\nabc"), "FILE_UNREACHABLE"),
    "a chunk of more digits": (chunked(b"f" * 40 + b"\r\nabc"), "FILE_UNREACHABLE"),
    "a chunk below zero": (chunked(b"-5\r\nabcde\r\n"), "FILE_UNREACHABLE"),
    "chunks above the limit": (chunked((b"10000\r\n" + bytes(65_536) + b"\r\n") * 20), "FILE_TOO_LARGE"),
    "one header of 10 MB": (answer(PICTURE, "X: " + "y" * 10_000_000), "FILE_UNREACHABLE"),
    "10 MB of headers": (answer(PICTURE, *["X-Header: yyyyyyyyyy"] * 450_000), "FILE_UNREACHABLE"),
    "10 MB of a status": (b"HTTP/1.1 200 " + b"OK" * 5_000_000 + b"\r\n\r\n", "FILE_UNREACHABLE"),
    "a header with a zero": (answer(PICTURE, "X: a\0b"), "FILE_UNREACHABLE"),
    "HTTP/0.9": (PICTURE, "FILE_UNREACHABLE"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(90), "FILE_UNREACHABLE"),
    "SSH": (b"SSH-2.0-OpenSSH_9.9\r\n", "FILE_UNREACHABLE"),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x46", "FILE_UNREACHABLE"),
    "Redis": (b"-ERR unknown command 'GET'\r\n", "FILE_UNREACHABLE"),
}
ENDLESS: dict[str, tuple[bytes, bytes, str]] = {
    "a body of unknown length": (b"HTTP/1.1 200 X\r\n\r\n" + PICTURE, bytes(65_536), "FILE_TOO_LARGE"),
    "chunks": (chunked(b""), b"10000\r\n" + bytes(65_536) + b"\r\n", "FILE_TOO_LARGE"),
    "tiny chunks": (chunked(b""), b"1\r\nx\r\n", "FILE_TOO_SLOW"),
    "a chunk's extension": (chunked(b"5;"), b"x" * 1_000, "FILE_TOO_SLOW"),
    "a trailer": (chunked(b"0\r\n"), b"X: y\r\n", "FILE_UNREACHABLE"),
    "headers": (b"HTTP/1.1 200 X\r\n", b"X: y\r\n", "FILE_UNREACHABLE"),
    "one header": (b"HTTP/1.1 200 X\r\nX: ", b"y" * 1_000, "FILE_UNREACHABLE"),
    "a status": (b"HTTP/1.1 200 ", b"y" * 1_000, "FILE_UNREACHABLE"),
    "announcements": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "FILE_TOO_SLOW"),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "FILE_TOO_SLOW"),
    "empty lines": (b"", b"\r\n", "FILE_TOO_SLOW"),
}
STALLING: dict[str, bytes] = {
    "no answer": b"",
    "half a status": b"HTTP/1.1 2",
    "half a header": b"HTTP/1.1 200 X\r\nContent-Le",
    "no body": b"HTTP/1.1 200 X\r\nContent-Length: 900\r\n\r\n",
    "half a body": answer(length=2 * len(PICTURE)),
    "half a chunk": chunked(b"ff\r\nabc"),
    "no last chunk": chunked(CHUNK),
    "a body without an end": b"HTTP/1.1 200 X\r\n\r\n" + PICTURE,
    "another announcement": b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
}


async def refuse(target: Target) -> str:
    """Return why the picture of the host outside cannot be had."""
    refusal = await target.refuse(target.outside.url)
    assert refusal.message.startswith("image_url")
    assert len(refusal.message) < 300
    for secret in ("secret", "cat.png"):
        assert secret not in refusal.message
    await target.check_alive()
    return refusal.reason


@pytest.mark.parametrize("case", ENDED)
async def test_an_answer_without_a_picture_is_refused_by_name(patient: Target, case: str) -> None:
    words, reason = ENDED[case]
    patient.outside.say(words)
    assert await refuse(patient) == reason


@pytest.mark.parametrize("case", ENDLESS)
async def test_an_answer_without_end_is_given_up(patient: Target, hasty: Target, case: str) -> None:
    words, endless, reason = ENDLESS[case]
    target = hasty if reason == "FILE_TOO_SLOW" else patient
    target.outside.say(words, endless=endless)
    assert await refuse(target) == reason


@pytest.mark.parametrize("case", STALLING)
async def test_a_host_that_keeps_still_is_given_up(hasty: Target, case: str) -> None:
    hasty.outside.say(STALLING[case], stalls=True)
    assert await refuse(hasty) == "FILE_TOO_SLOW"


async def test_a_host_that_sends_on_for_ever_is_followed_three_times(patient: Target) -> None:
    patient.outside.redirect("?again")
    patient.outside.num_connections = 0
    assert await refuse(patient) == "FILE_UNREACHABLE"
    assert patient.outside.num_connections == 4


@pytest.mark.parametrize(
    "words",
    [
        answer(),
        answer(PICTURE, status=206),
        answer(PICTURE, status=203),
        answer(PICTURE, "Content-Type: text/html"),
        answer(PICTURE, "Content-Encoding: identity"),
        answer(PICTURE, "Set-Cookie: a=b", "Location: http://127.0.0.1/"),
        answer(encode(draw_red_circle(), "JPEG"), "Content-Type: image/png"),
        answer(PICTURE, "X: a", " b"),
        chunked(CHUNK + b"0\r\n\r\n"),
        chunked(CHUNK + b"0\r\nX: y\r\n\r\n"),
        b"HTTP/1.0 200 X\r\n\r\n" + PICTURE,
        b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\n" + PICTURE,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(),
    ],
    ids=[
        *("plain", "206", "203", "another type", "identity", "cookies", "another picture", "two lines"),
        *("chunks", "a trailer", "HTTP/1.0", "until the end", "early hints"),
    ],
)
async def test_a_host_that_gives_a_picture_in_some_way_is_understood(patient: Target, words: bytes) -> None:
    patient.outside.say(words)
    assert await patient.fetch(patient.outside.url) == RED_CIRCLE
