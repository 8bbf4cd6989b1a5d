"""What is wrong is refused by name, and the next request works."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from faces.face import Picture, ask, read, read_to_end, refusal_of
from faces.places import everywhere
from fakes.script import Answer
from harness import describe_red_circle, read_refusal, red_circle_answer
from idefics2.v1 import generation_pb2
from idefics2_service.rpc import convert
from pictures import RED_CIRCLE, draw_red_circle, encode, make_empty_png, red_circle

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from faces.face import Face, Question
    from harness import Harness, Refusal

INVALID = grpc.StatusCode.INVALID_ARGUMENT
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><circle r="4"/></svg>'


def image(data: bytes) -> dict[str, Any]:
    """Inline bytes as the request's only image."""
    return {"images": [Picture(data=data)]}


def url(text: str) -> dict[str, Any]:
    """An image_url as the request's only image."""
    return {"image_url": text, "images": []}


# What is set on top of a good request, the reason it is refused with, and the field that is named.
REFUSED_BY_THE_FRONT: dict[str, tuple[dict[str, Any], str, str]] = {
    "no prompt": ({"prompt": ""}, "PROMPT_MISSING", "prompt"),
    "a prompt of white space": ({"prompt": " \n\t"}, "PROMPT_MISSING", "prompt"),
    "a prompt of 1 MB": ({"prompt": "x" * 2**20}, "PROMPT_TOO_LARGE", "prompt"),
    "a literal image marker": ({"prompt": "see <image> here"}, "PROMPT_HAS_SPECIAL_TOKEN", "prompt"),
    "a literal image boundary": (
        {"prompt": "<fake_token_around_image>"},
        "PROMPT_HAS_SPECIAL_TOKEN",
        "prompt",
    ),
    "a literal end of turn": ({"prompt": "x<end_of_utterance>"}, "PROMPT_HAS_SPECIAL_TOKEN", "prompt"),
    "no image": ({"images": []}, "IMAGE_MISSING", "image_url"),
    "an image without a source": ({"images": [Picture()]}, "IMAGE_MISSING", "images[0]"),
    "an empty image": (image(b""), "FILE_EMPTY", "images[0].data"),
    "an empty second image": (
        {"images": [Picture(data=red_circle()), Picture(data=b"")]},
        "FILE_EMPTY",
        "images[1].data",
    ),
    "nine images": (
        {"images": [Picture(data=red_circle())] * 9},
        "VALUE_OUT_OF_RANGE",
        "images",
    ),
    "text as an image": (image(b"I am no picture."), "FILE_NOT_AN_IMAGE", "images[0].data"),
    "an SVG": (image(SVG), "FILE_NOT_AN_IMAGE", "images[0].data"),
    "an SVG as a data URI": (
        url("data:image/svg+xml;base64," + base64.b64encode(SVG).decode()),
        "FILE_NOT_AN_IMAGE",
        "image_url",
    ),
    "a PNG of 30,000 x 30,000": (
        image(make_empty_png(30_000, 30_000)),
        "FILE_TOO_MANY_PIXELS",
        "images[0].data",
    ),
    "a PNG that ends in its header": (image(red_circle()[:20]), "FILE_UNDECODABLE", "images[0].data"),
    "a WEBP cut in half": (
        image(encode(draw_red_circle(), "WEBP")[:99]),
        "FILE_UNDECODABLE",
        "images[0].data",
    ),
    "an image above the caller's own limit": (
        {"max_image_bytes": 100},
        "FILE_TOO_LARGE",
        "images[0].data",
    ),
    "an image above 20 MB": (image(red_circle() + bytes(20_000_000)), "FILE_TOO_LARGE", "images[0].data"),
    "a data URI with bad base64": (url("data:image/png;base64,!!!!"), "FILE_DATA_URI_INVALID", "image_url"),
    "a data URI with cut base64": (
        url("data:image/png;base64,iVBORw0KG"),
        "FILE_DATA_URI_INVALID",
        "image_url",
    ),
    "a data URI without a comma": (url("data:image/png;base64"), "FILE_DATA_URI_INVALID", "image_url"),
    "an empty data URI": (url("data:image/png;base64,"), "FILE_EMPTY", "image_url"),
    "the address of this machine": (url("http://127.0.0.1/cat.png"), "FILE_URL_FORBIDDEN", "image_url"),
    "a cloud's metadata": (url("http://169.254.169.254/latest"), "FILE_URL_FORBIDDEN", "image_url"),
    "a web address of an odd port": (url("http://example.com:22/"), "FILE_URL_INVALID", "image_url"),
    "a web address with a password": (url("http://a:b@example.com/"), "FILE_URL_INVALID", "image_url"),
    "a web address above 2,048 bytes": (url("http://a.com/" + "x" * 2_048), "FILE_URL_INVALID", "image_url"),
    "a file's path": (url("/etc/passwd"), "FILE_URL_UNSUPPORTED", "image_url"),
    "a file address": (url("file:///etc/passwd"), "FILE_URL_UNSUPPORTED", "image_url"),
    "nine stop strings": ({"stop": ["x"] * 9}, "VALUE_OUT_OF_RANGE", "stop"),
    "an empty stop string": ({"stop": ["x", ""]}, "VALUE_OUT_OF_RANGE", "stop[1]"),
    "a stop string of 129 bytes": ({"stop": ["x" * 129]}, "VALUE_OUT_OF_RANGE", "stop[0]"),
}
OUT_OF_RANGE: dict[str, list[Any]] = {
    "max_new_tokens": [0, -1, 10**9, 4097],
    "min_new_tokens": [-1, 513],
    "temperature": [-1, math.nan, math.inf, -math.inf, 10.1, 1e-9],
    "top_p": [0, 1.5, math.nan, -0.1],
    "top_k": [0, -1, 1001],
    "repetition_penalty": [0, -1, math.nan, math.inf],
    "max_image_bytes": [0, -1, 20_000_001],
}


async def refuse(call: Awaitable[Any]) -> Refusal:
    """Return the error of a call that must fail."""
    refusal = await refusal_of(call)
    assert refusal.code is INVALID
    assert refusal.num_error_infos == 1
    return refusal


async def submit(face: Face, question: Question) -> None:
    """Submit a question and fetch the answer."""
    request_id = await face.submit(question)
    await read(face, request_id)
    await face.result(request_id)


async def check_next_request_works(face: Face) -> None:
    face.service.expect(red_circle_answer())
    assert await face.run(ask()) == RED_CIRCLE


@pytest.mark.parametrize("case", REFUSED_BY_THE_FRONT)
async def test_bad_input_is_refused_by_name(face: Face, case: str) -> None:
    fields, reason, field = REFUSED_BY_THE_FRONT[case]
    refusal = await refuse(face.run(ask(**fields)))
    assert (refusal.reason, refusal.field) == (reason, field)
    assert field.split("[")[0] in refusal.message
    await check_next_request_works(face)


@pytest.mark.parametrize("face", ["rpc-on_fake_backend", "rest-on_fake_backend"], indirect=True)
@pytest.mark.parametrize("case", REFUSED_BY_THE_FRONT)
async def test_a_submission_fails_as_the_plain_call_does(face: Face, case: str) -> None:
    question = ask(**REFUSED_BY_THE_FRONT[case][0])
    assert await refuse(submit(face, question)) == await refuse(face.run(question))


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in OUT_OF_RANGE.items() for value in values]
)
async def test_a_number_out_of_range_is_refused_with_bound_and_value(
    face: Face, field: str, value: float
) -> None:
    refusal = await refuse(face.run(ask(**{field: value})))
    assert (refusal.reason, refusal.field) == ("VALUE_OUT_OF_RANGE", field)
    assert refusal.metadata["value"] in refusal.message
    assert refusal.metadata["bound"] in refusal.message
    assert math.isclose(float(refusal.metadata["value"]), value) or math.isnan(value)
    await check_next_request_works(face)


@everywhere
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
async def test_a_truncated_picture_is_refused_by_name(face: Face, kind: str) -> None:
    whole = encode(draw_red_circle((600, 400)), kind)
    face.service.expect(Answer(failure=("FILE_UNDECODABLE", "images[0] is damaged", "images[0]")))
    refusal = await refuse(face.run(ask(**image(whole[: len(whole) * 2 // 3]))))
    assert (refusal.reason, refusal.field) == ("FILE_UNDECODABLE", "images[0].data")
    assert "images[0].data" in refusal.message
    await check_next_request_works(face)


@everywhere
async def test_the_stream_refuses_as_the_plain_call_does(face: Face) -> None:
    refusal = await refuse(read_to_end(face.stream(ask(prompt=""))))
    assert (refusal.reason, refusal.field) == ("PROMPT_MISSING", "prompt")


async def test_counting_refuses_as_generating_does(service: Harness) -> None:
    request = describe_red_circle(images=[generation_pb2.Image(data=SVG)])
    call = service.stub.CountTokens(request, metadata=service.metadata)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert read_refusal(caught.value).reason == "FILE_NOT_AN_IMAGE"


def raw_field(number: int, data: bytes) -> bytes:
    """Write one length-delimited field."""
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


@pytest.mark.parametrize(
    ("message", "reason", "field"),
    [
        (raw_field(2, b"a \xed\xa0\x80 b"), "TEXT_NOT_UNICODE", "prompt"),  # U+D800, a lone surrogate
        (raw_field(1, b"data:\xff"), "TEXT_NOT_UNICODE", "image_url"),
        (raw_field(12, b"\xed\xbf\xbf"), "TEXT_NOT_UNICODE", "stop[0]"),
        (raw_field(13, raw_field(1, b"\xff")), "TEXT_NOT_UNICODE", "images[0].url"),
        (b"\xff\xff\xff\xff", "REQUEST_MALFORMED", ""),
    ],
)
async def test_bytes_that_are_no_text_or_no_message_are_refused_by_name(
    service: Harness, message: bytes, reason: str, field: str
) -> None:
    call = service.channel.unary_unary("/idefics2.v1.GenerationService/Generate", None, None)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(message, metadata=service.metadata)
    refusal = read_refusal(caught.value)
    assert (refusal.code, refusal.reason, refusal.field) == (INVALID, reason, field)
    service.expect(red_circle_answer())
    assert (await service.generate(describe_red_circle())).output == RED_CIRCLE


IMAGES = b"\x6a\x00" * 200_000
"""Empty ones, of two bytes each."""


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("GenerationService/Generate", IMAGES),
        ("GenerationService/GenerateStream", IMAGES),
        ("GenerationService/CountTokens", IMAGES),
        ("RequestService/Submit", b"\x12\x80\xb5\x18" + IMAGES),
    ],
)
async def test_images_without_number_are_refused_and_none_is_made(
    service: Harness, method: str, message: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(convert, "ImageSource", made.append)
    channel: Any = service.channel
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_stream(f"/idefics2.v1.{method}")(message, metadata=service.metadata).read()
    refusal = read_refusal(caught.value)
    assert (refusal.code, refusal.reason, refusal.field) == (INVALID, "REQUEST_MALFORMED", "images")
    assert f"more than {refusal.metadata['bound']} fields" in refusal.message
    assert not made


async def test_every_field_that_is_wrong_is_named_at_once(face: Face) -> None:
    refusal = await refuse(face.run(ask(prompt="", temperature=-1, top_p=2)))
    assert refusal.fields == ("prompt", "temperature", "top_p")
