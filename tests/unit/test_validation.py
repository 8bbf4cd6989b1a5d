"""What becomes of a request on its way to a ValidRequest, at the edges of each bound."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pytest
from idefics2_engine import bounds
from idefics2_engine.bounds import check_sampling
from idefics2_engine.config import EngineConfig
from idefics2_engine.errors import InvalidRequest
from idefics2_engine.requests import SamplingParams
from idefics2_service import validation
from idefics2_service.errors import (
    FileDataUriInvalid,
    FileEmpty,
    FileUrlInvalid,
    ImageMissing,
    InvalidInput,
    PromptHasSpecialToken,
    PromptMissing,
    PromptTooLarge,
    TextNotUnicode,
    ValueOutOfRange,
)
from idefics2_service.prompts import SPECIAL_TOKENS
from idefics2_service.requests import GenerateInput, ImageSource, ValidRequest
from idefics2_service.settings import GrpcSettings, LimitSettings
from idefics2_service.validation import validate

ROOT = Path(__file__).parents[2]
LIMITS = LimitSettings()
IMAGE = ImageSource("image_url", url="data:,x")
JUST_ABOVE_0 = math.ulp(0.0)
DEFAULTS = {
    "max_new_tokens": 512,
    "repetition_penalty": 1.2,
    "temperature": 0.4,
    "top_p": 0.8,
    "top_k": 0,
    "max_image_bytes": 20_000_000,
    "min_new_tokens": 0,
}
ACCEPTED: dict[str, list[Any]] = {
    "max_new_tokens": [1, 4096],
    "repetition_penalty": [0.01, 1.0, 10.0],
    "temperature": [0.0, 0.001, 10.0],
    "top_p": [JUST_ABOVE_0, 1.0],
    "top_k": [1, 1000],
    "seed": [0, 2**64 - 1],
    "max_image_bytes": [1, 20_000_000],
    "min_new_tokens": [0, 512],
}
REFUSED: dict[str, list[Any]] = {
    "max_new_tokens": [0, -1, 4097],
    "repetition_penalty": [
        JUST_ABOVE_0,
        0.0,
        -0.0,
        -1.0,
        math.nextafter(0.01, 0),
        math.nextafter(10, 11),
        math.nan,
        math.inf,
    ],
    "temperature": [
        JUST_ABOVE_0,
        math.nextafter(0.001, 0),
        math.nextafter(10, 11),
        -1.0,
        math.nan,
        math.inf,
        -math.inf,
    ],
    "top_p": [0.0, -0.0, -0.1, math.nextafter(1, 2), math.nan, math.inf],
    "top_k": [0, -1, 1001],
    "seed": [-1, 2**64],
    "max_image_bytes": [0, -1, 20_000_001],
    "min_new_tokens": [-1, 513],
}
# The sampling parameters that the engine checks as well; there, top_k 0 stands for no such limit.
CHECKED_TWICE = ("max_new_tokens", "repetition_penalty", "temperature", "top_p", "top_k", "min_new_tokens")


def ask(**fields: Any) -> ValidRequest:
    """Validate a good request with `fields` set on top."""
    given: dict[str, Any] = {"prompt": "What is this?", "images": (IMAGE,), **fields}
    return validate(GenerateInput(**given), LIMITS)


def flatten(values: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    """List every field with each of its values."""
    return [(field, value) for field, several in values.items() for value in several]


def field_comments() -> dict[str, str]:
    """Read the comment of each field of GenerateRequest from the text of the proto."""
    text = (ROOT / "proto/idefics2/v1/generation.proto").read_text()
    body = text.partition("message GenerateRequest {")[2].partition("\n}")[0]
    matches = re.finditer(r"((?:^ +//.*\n)+) +(?:optional |repeated )?\w+ (\w+) = \d+;", body, re.MULTILINE)
    return {match[2]: re.sub(r"\s*\n *// ?", " ", match[1]) for match in matches}


def numbers_of(comment: str) -> set[float]:
    """Find the numbers that a comment states."""
    return {
        float(text.replace(",", "")) for text in re.findall(r"(?<![\w-])\d[\d,]*(?:\.\d+)?(?<!,)", comment)
    }


@pytest.mark.parametrize(("field", "default"), DEFAULTS.items())
def test_what_was_left_out_gets_its_default(field: str, default: float) -> None:
    assert getattr(ask(), field) == default


def test_a_seed_that_was_left_out_is_drawn_anew_within_its_bounds() -> None:
    seeds = {ask().seed for _ in range(50)}
    assert len(seeds) == 50
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert max(seeds) >= 2**32


@pytest.mark.parametrize(("field", "value"), flatten(ACCEPTED))
def test_a_value_within_its_bounds_is_taken_as_it_is(field: str, value: float) -> None:
    assert getattr(ask(**{field: value}), field) == value


@pytest.mark.parametrize(("field", "value"), flatten(REFUSED))
def test_a_value_outside_its_bounds_is_refused_with_field_bound_and_value(field: str, value: float) -> None:
    with pytest.raises(ValueOutOfRange) as caught:
        ask(**{field: value})
    error = caught.value
    assert error.field == field == error.metadata["field"]
    assert error.message == f"{field} must be {error.metadata['bound']}, not {value}"
    assert error.metadata["value"] == str(value)


def test_zero_is_not_the_same_as_unset() -> None:
    assert ask(temperature=0.0).temperature == 0 != ask().temperature
    for field in ("max_new_tokens", "repetition_penalty", "top_p", "top_k", "max_image_bytes"):
        with pytest.raises(ValueOutOfRange):
            ask(**{field: 0})
    assert ask(seed=0).seed == 0
    assert ask(split_images=False).split_images is False
    assert ask().split_images is None


def test_minus_zero_is_a_temperature_of_zero() -> None:
    assert math.copysign(1, ask(temperature=-0.0).temperature) == 1


def test_min_new_tokens_may_reach_max_new_tokens_and_no_further() -> None:
    assert ask(max_new_tokens=7, min_new_tokens=7).min_new_tokens == 7
    with pytest.raises(ValueOutOfRange) as caught:
        ask(max_new_tokens=7, min_new_tokens=8)
    assert "7" in caught.value.metadata["bound"]


def test_every_limit_of_an_operator_is_the_bound_that_is_kept() -> None:
    limits = LimitSettings(
        max_prompt_bytes=4, max_new_tokens=600, max_images=1, max_image_bytes=50, max_image_pixels=9
    )
    good = GenerateInput("four", (IMAGE,), max_new_tokens=600)
    assert validate(good, limits).max_image_bytes == 50
    for changed in (
        {"prompt": "fives"},
        {"max_new_tokens": 601},
        {"images": (IMAGE, IMAGE)},
        {"max_image_bytes": 51},
    ):
        with pytest.raises(InvalidInput) as caught:
            validate(dataclasses.replace(good, **changed), limits)
        assert [caught.value.field] == list(changed)


@pytest.mark.parametrize("prompt", ["", " ", "\n\t \u3000"])
def test_a_prompt_of_nothing_is_refused(prompt: str) -> None:
    with pytest.raises(PromptMissing) as caught:
        ask(prompt=prompt)
    assert caught.value.field == "prompt"


def test_a_prompt_is_measured_in_bytes() -> None:
    assert ask(prompt="é" * 16_384).prompt == "é" * 16_384
    with pytest.raises(PromptTooLarge) as caught:
        ask(prompt="é" * 16_384 + "x")
    assert caught.value.metadata == {"field": "prompt", "bound": "32768", "value": "32769"}


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_a_marker_of_the_template_is_refused_wherever_it_stands(token: str) -> None:
    with pytest.raises(PromptHasSpecialToken) as caught:
        ask(prompt=f"before{token}after")
    assert caught.value.metadata["value"] == token
    assert ask(prompt=token[1:-1]).prompt == token[1:-1]


@pytest.mark.parametrize(
    ("fields", "named"), [({"prompt": "a\ud800"}, "prompt"), ({"stop": ("x", "\udfff")}, "stop[1]")]
)
def test_a_lone_surrogate_is_refused_by_the_name_of_its_field(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(TextNotUnicode) as caught:
        ask(**fields)
    assert caught.value.field == named


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("data:image/png;name=\u00fc.png;base64,AAAA", FileDataUriInvalid),
        ("data:image/png;base64,AAAA\U0001f600", FileDataUriInvalid),
        ("data:image/png;base64,\ud800", TextNotUnicode),
        ("https://example.com/" + "\u00fc" * 1_015, FileUrlInvalid),
        ("iVBORw0KGgo" * 200, FileUrlInvalid),
    ],
)
def test_a_url_that_would_take_more_memory_than_bytes_does_not_wait_for_its_turn(
    url: str, kind: type[InvalidInput]
) -> None:
    with pytest.raises(kind) as caught:
        ask(images=(ImageSource("images[0].url", url=url),))
    assert caught.value.field == "images[0].url"
    if kind is FileUrlInvalid:
        assert caught.value.metadata["bound"] == "2048"
        assert caught.value.metadata["value"] == str(len(url.encode()))


def test_a_url_is_measured_in_bytes_and_a_data_uri_by_its_picture() -> None:
    for url in ("https://example.com/" + "\u00fc" * 1_014, "data:image/png;base64," + "A" * 10_000):
        assert ask(images=(ImageSource("image_url", url=url),)).images[0].url == url


def test_a_stop_string_is_measured_in_bytes() -> None:
    stop = ("x", "é" * 64, *"abcdef")
    assert ask(stop=stop).stop == stop
    for bad, named in ((("x", ""), "stop[1]"), (("é" * 64 + "x",), "stop[0]"), (("x",) * 9, "stop")):
        with pytest.raises(ValueOutOfRange) as caught:
            ask(stop=bad)
        assert caught.value.field == named


def test_images_are_counted_and_each_must_have_something_in_it() -> None:
    assert len(ask(images=(IMAGE,) * 8).images) == 8
    with pytest.raises(ValueOutOfRange) as too_many:
        ask(images=(IMAGE,) * 9)
    assert too_many.value.metadata["value"] == "9"
    with pytest.raises(ImageMissing) as missing:
        ask(images=())
    assert missing.value.field == "image_url"
    with pytest.raises(ImageMissing, match="has neither url nor data nor sha256") as unset:
        ask(images=(IMAGE, ImageSource("images[0]")))
    assert unset.value.field == "images[0]"
    for empty in (ImageSource("images[0].data", data=b""), ImageSource("images[0].data", url="")):
        with pytest.raises(FileEmpty) as caught:
            ask(images=(IMAGE, empty))
        assert caught.value.field == "images[0].data"


def test_only_validation_makes_a_valid_request() -> None:
    makers = set()
    for path in (ROOT / "service").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and "ValidRequest" in (
                getattr(node.func, "id", ""),
                getattr(node.func, "attr", ""),
            ):
                makers.add(path.name)
    assert makers == {"validation.py"}


# What fits of a WEBP, and of a progressive JPEG of the most and of the fewest coefficients: costs.py.
FORMATS_PIXELS = {15_000_000, 17_000_000, 25_000_000}


@pytest.mark.parametrize(
    ("field", "stated"),
    [
        ("image_url", {LIMITS.max_image_bytes, LIMITS.max_image_pixels, *FORMATS_PIXELS}),
        ("prompt", {1, LIMITS.max_prompt_bytes}),
        ("max_new_tokens", {1, LIMITS.max_new_tokens, validation.DEFAULT_MAX_NEW_TOKENS}),
        # 1 changes nothing.
        (
            "repetition_penalty",
            {
                1,
                validation.MIN_REPETITION_PENALTY,
                validation.MAX_REPETITION_PENALTY,
                validation.DEFAULT_REPETITION_PENALTY,
            },
        ),
        (
            "temperature",
            {0, validation.MIN_TEMPERATURE, validation.MAX_TEMPERATURE, validation.DEFAULT_TEMPERATURE},
        ),
        ("top_p", {0, 1, validation.DEFAULT_TOP_P}),
        ("top_k", {1, validation.MAX_TOP_K}),
        ("seed", set()),
        ("stop", {validation.MAX_STOPS, 1, validation.MAX_STOP_BYTES}),
        ("images", {LIMITS.max_images}),
        ("split_images", set()),
        ("max_image_bytes", {1, LIMITS.max_image_bytes}),
        ("min_new_tokens", {0}),
    ],
)
def test_the_protos_comment_states_the_bounds_that_are_kept(field: str, stated: set[float]) -> None:
    assert numbers_of(field_comments()[field]) == stated


def test_every_field_of_a_request_has_its_bounds_in_the_proto() -> None:
    fields = {field.name for field in dataclasses.fields(ValidRequest)}
    assert set(field_comments()) == fields | {"image_url", "image_sha256"}


def test_the_proto_states_how_large_a_message_may_be() -> None:
    text = (ROOT / "proto/idefics2/v1/generation.proto").read_text()
    match = re.search(r"A message has at most (\d+) MiB", text)
    assert match is not None
    assert int(match[1]) * 2**20 == GrpcSettings().max_receive_bytes
    # Room for one image of the largest size as a data URI, as it says.
    assert GrpcSettings().max_receive_bytes > LIMITS.max_image_bytes * 4 / 3 + LIMITS.max_prompt_bytes


def test_the_engine_keeps_the_same_bounds() -> None:
    names = ("MAX_TOP_K", "MIN_TEMPERATURE", "MAX_TEMPERATURE", "MAX_REPETITION_PENALTY")
    for name in (*names, "MIN_REPETITION_PENALTY", "MAX_STOPS", "MAX_STOP_BYTES"):
        assert getattr(bounds, name) == getattr(validation, name), name
    engine = EngineConfig()
    for name in ("max_new_tokens", "max_images", "max_image_pixels", "max_prompt_bytes"):
        assert getattr(engine, name) == getattr(LIMITS, name), name


def test_the_engine_has_the_same_defaults() -> None:
    sampling = SamplingParams()
    for field, default in DEFAULTS.items():
        if field != "max_image_bytes":
            assert getattr(sampling, field) == default, field


@pytest.mark.parametrize(("field", "value"), [case for case in flatten(ACCEPTED) if case[0] in CHECKED_TWICE])
def test_the_engine_takes_what_the_front_takes(field: str, value: float) -> None:
    check_sampling(SamplingParams(**{field: value}), LIMITS.max_new_tokens)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [case for case in flatten(REFUSED) if case[0] in CHECKED_TWICE and case != ("top_k", 0)],
)
def test_the_engine_refuses_what_the_front_refuses(field: str, value: float) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_sampling(SamplingParams(**{field: value}), LIMITS.max_new_tokens)  # type: ignore[arg-type]
    assert (caught.value.reason, caught.value.field) == ("VALUE_OUT_OF_RANGE", field)
    assert str(value) in caught.value.message
    assert caught.value.value == str(value)
    assert caught.value.bound in caught.value.message


@pytest.mark.parametrize(
    ("stop", "words"),
    [(("x",) * 9, "at most 8 texts, not 9"), (("fine", "é" * 65), "at most 128 bytes, not of 130")],
)
def test_the_engine_refuses_stop_strings_that_would_hold_up_everybody(
    stop: tuple[str, ...], words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        check_sampling(SamplingParams(stop=stop), LIMITS.max_new_tokens)
    assert (caught.value.reason, caught.value.field) == ("VALUE_OUT_OF_RANGE", "stop")
    assert words.endswith(f"{caught.value.value}")
    assert caught.value.bound in caught.value.message


def test_the_default_gives_way_to_a_smaller_limit_of_the_operator() -> None:
    given = GenerateInput("Hello", (ImageSource("image_url", url="data:,x"),))
    assert validate(given, LimitSettings(max_new_tokens=256)).max_new_tokens == 256


def test_everything_that_is_wrong_is_told_at_once_in_the_order_of_the_fields() -> None:
    given = GenerateInput(" ", (), temperature=-1, top_p=2, stop=("",), min_new_tokens=5000, max_new_tokens=0)
    with pytest.raises(InvalidInput) as caught:
        validate(given, LIMITS)
    first = caught.value
    wrong = ["image_url", "stop[0]", "max_new_tokens", "min_new_tokens", "temperature", "top_p"]
    assert (first.field, [other.field for other in first.others]) == ("prompt", wrong)
