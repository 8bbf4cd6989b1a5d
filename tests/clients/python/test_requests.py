"""What a caller says, as the wire has it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from idefics2.v1.generation_pb2 import GenerateRequest, Image
from idefics2_client import ImageUnreadable, InvalidRequest
from idefics2_client.images import MAX_IMAGE_BYTES
from idefics2_client.requests import Options, make_request
from idefics2_client.submission import make_submission
from idefics2_service.errors import InvalidInput
from idefics2_service.requests import GenerateInput, ImageSource
from idefics2_service.settings import LimitSettings
from idefics2_service.validation import validate

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://example.com/cat.png"
DATA_URI = "data:image/png;base64,aGk="


def test_what_is_left_out_is_unset_on_the_wire() -> None:
    assert make_request(URL, "What?", {}) == GenerateRequest(image_url=URL, prompt="What?")


def test_every_option_that_is_none_is_unset_on_the_wire() -> None:
    nothing: Any = dict.fromkeys(Options.__annotations__)
    assert make_request(URL, "What?", nothing) == GenerateRequest(image_url=URL, prompt="What?")


@pytest.mark.parametrize(
    ("field", "zero"),
    [
        ("max_new_tokens", 0),
        ("min_new_tokens", 0),
        ("repetition_penalty", 0.0),
        ("temperature", 0.0),
        ("top_p", 0.0),
        ("top_k", 0),
        ("seed", 0),
        ("split_images", False),
        ("max_image_bytes", 0),
    ],
)
def test_zero_is_set_on_the_wire(field: Any, zero: Any) -> None:
    request = make_request(URL, "What?", {field: zero})  # type: ignore[misc]
    assert request.HasField(field)
    assert getattr(request, field) == zero


def test_every_option_has_its_field() -> None:
    options: Options = {
        "max_new_tokens": 1,
        "min_new_tokens": 1,
        "repetition_penalty": 2.0,
        "temperature": 3,
        "top_p": 0.5,
        "top_k": 4,
        "seed": 2**64 - 1,
        "stop": ["a", "b"],
        "split_images": True,
        "max_image_bytes": 5,
    }
    assert make_request(URL, "What?", options) == GenerateRequest(image_url=URL, prompt="What?", **options)  # type: ignore[arg-type]


def test_the_options_are_the_fields_of_the_contract() -> None:
    assert Options.__annotations__.keys() == {*GenerateRequest.DESCRIPTOR.fields_by_name} - {
        "image_url",
        "image_sha256",
        "prompt",
    }


@pytest.mark.parametrize("url", [URL, "HTTP://example.com/cat", DATA_URI, "s3://bucket/cat.png"])
def test_a_url_goes_as_image_url(url: str) -> None:
    assert make_request(url, "What?", {}) == GenerateRequest(image_url=url, prompt="What?")


def test_a_path_goes_as_bytes(picture: Path) -> None:
    expected = GenerateRequest(images=[Image(data=b"\x89PNG picture")], prompt="What?")
    assert make_request(picture, "What?", {}) == expected
    assert make_request(str(picture), "What?", {}) == expected


def test_bytes_go_as_they_are_even_none_of_them() -> None:
    assert make_request(b"GIF", "What?", {}).images == [Image(data=b"GIF")]
    assert make_request(b"", "What?", {}).images == [Image(data=b"")]


def test_images_keep_their_order_whatever_their_form(picture: Path) -> None:
    request = make_request(URL, "What?", {"images": [b"1", DATA_URI, picture]})
    assert request.image_url == URL
    assert request.images == [Image(data=b"1"), Image(url=DATA_URI), Image(data=b"\x89PNG picture")]
    request = make_request(b"0", "What?", {"images": [URL]})
    assert request.image_url == ""
    assert request.images == [Image(data=b"0"), Image(url=URL)]


@pytest.mark.parametrize(
    ("path", "why"),
    [("nowhere/cat.png", "No such file"), (".", "directory"), ("", "directory"), ("a\0b", "null")],
)
def test_an_image_that_cannot_be_read_is_named(path: str, why: str) -> None:
    with pytest.raises(ImageUnreadable, match=why) as caught:
        make_request(path, "What?", {})
    assert path in caught.value.message
    assert caught.value.code == "INVALID_ARGUMENT"


def test_an_image_that_is_too_large_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(MAX_IMAGE_BYTES + 1)
    for image in (path, bytes(MAX_IMAGE_BYTES + 1)):
        with pytest.raises(InvalidRequest, match="20,000,000 bytes") as caught:
            make_request(image, "What?", {})
        assert caught.value.reason == "FILE_TOO_LARGE"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("max_new_tokens", 2**31, "VALUE_OUT_OF_RANGE"),
        ("seed", -1, "VALUE_OUT_OF_RANGE"),
        ("stop", ["\udc80"], "TEXT_NOT_UNICODE"),
    ],
)
def test_what_the_wire_cannot_hold_names_its_field(field: Any, value: Any, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=field) as caught:
        make_request(URL, "What?", {field: value})  # type: ignore[misc]
    assert (caught.value.field, caught.value.reason) == (field, reason)


@pytest.mark.parametrize(
    ("field", "value", "bound", "told"),
    [
        ("seed", -1, "0 to 18446744073709551615", "-1"),
        ("seed", 2**64, "0 to 18446744073709551615", "18446744073709551616"),
        ("top_k", 2**31, "-2147483648 to 2147483647", "2147483648"),
        ("max_image_bytes", 2**63, f"{-(2**63)} to {2**63 - 1}", "9223372036854775808"),
        ("top_p", 10**309, "-1.7976931348623157e+308 to 1.7976931348623157e+308", "1" + "0" * 79),
        pytest.param("seed", 10**5_000, f"0 to {2**64 - 1}", "a number of thousands of digits", id="long"),
        ("keep_seconds", math.nan, "0 to 315576000000 seconds", "nan"),
        ("time_budget_seconds", 1e15, "0 to 315576000000 seconds", "1000000000000000.0"),
        ("keep_seconds", 315_576_000_001, "0 to 315576000000 seconds", "315576000001"),
        ("keep_seconds", -0.5, "0 to 315576000000 seconds", "-0.5"),
        ("start_timeout_seconds", -math.inf, "0 to 315576000000 seconds", "-inf"),
        ("priority", "high", "one of normal, low", "high"),
    ],
)
def test_a_value_that_the_wire_cannot_hold_is_told_with_its_bound_as_the_service_tells_it(
    field: Any, value: Any, bound: str, told: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_submission(URL, "What?", {field: value})  # type: ignore[misc]
    name = field.removesuffix("_seconds")
    assert str(caught.value) == f"{name} must be {bound}, not {told}"
    assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", "VALUE_OUT_OF_RANGE")
    assert caught.value.field == name
    assert caught.value.metadata == {"field": name, "bound": bound, "value": told}


def test_what_the_service_says_of_a_seed_below_zero_is_what_the_client_says() -> None:
    with pytest.raises(InvalidRequest) as here:
        make_request(URL, "What?", {"seed": -1})
    with pytest.raises(InvalidInput) as there:
        validate(GenerateInput("What?", (ImageSource("image_url", URL),), seed=-1), LimitSettings())
    assert (str(here.value), here.value.metadata) == (there.value.message, there.value.metadata)


@pytest.mark.parametrize(
    ("image", "prompt", "images", "field"),
    [
        (URL, "\udc80", [], "prompt"),
        (URL, b"\xff", [], "prompt"),
        (f"{URL}\udc80", "What?", [], "image_url"),
        (b"1", "What?", [URL, f"{URL}\udc80"], "images"),
    ],
)
def test_a_text_that_is_not_unicode_names_its_field(
    image: Any, prompt: Any, images: list[Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_request(image, prompt, {"images": images})
    assert (caught.value.field, caught.value.reason) == (field, "TEXT_NOT_UNICODE")


@pytest.mark.parametrize(
    "options",
    [{"max_tokens": 3}, {"stop": "text"}, {"images": "cat.png"}, {"top_k": 1.5}, {"image_url": URL}],
)
def test_what_a_type_checker_would_refuse_is_a_type_error(options: Any) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        make_request(URL, "What?", options)
