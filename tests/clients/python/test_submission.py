"""What a caller says of a request that is submitted, as the wire has it."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from idefics2.v1.generation_pb2 import GenerateRequest
from idefics2.v1.requests_pb2 import PRIORITY_LOW, SubmitRequest
from idefics2_client import InvalidRequest, SubmitOptions
from idefics2_client.submission import make_submission

URL = "https://example.com/cat.png"
INPUT = GenerateRequest(image_url=URL, prompt="What?")


def test_what_is_left_out_or_none_is_unset_on_the_wire() -> None:
    assert make_submission(URL, "What?", {}) == SubmitRequest(input=INPUT)
    nothing: Any = dict.fromkeys(SubmitOptions.__annotations__)
    assert make_submission(URL, "What?", nothing) == SubmitRequest(input=INPUT)


def test_every_option_has_its_field() -> None:
    submission = make_submission(
        URL,
        "What?",
        {
            "request_id": "r-1",
            "priority": "low",
            "start_timeout_seconds": 1.5,
            "time_budget_seconds": 60,
            "webhook_url": "https://example.com/hook",
            "max_queue_length": 0,
            "keep_seconds": 7,
            "temperature": 0,
        },
    )
    assert submission == SubmitRequest(
        request_id="r-1",
        input=GenerateRequest(image_url=URL, prompt="What?", temperature=0),
        priority=PRIORITY_LOW,
        start_timeout=Duration(seconds=1, nanos=500_000_000),
        time_budget=Duration(seconds=60),
        webhook_url="https://example.com/hook",
        max_queue_length=0,
        keep=Duration(seconds=7),
    )


def test_the_options_are_the_fields_of_the_contract() -> None:
    options = SubmitOptions.__annotations__.keys() - {"images"}
    fields = {*SubmitRequest.DESCRIPTOR.fields_by_name, *GenerateRequest.DESCRIPTOR.fields_by_name}
    assert {name.removesuffix("_seconds") for name in options} == fields - {
        "input",
        "image_url",
        "image_sha256",
        "prompt",
        "images",
    }


@pytest.mark.parametrize(
    ("option", "value", "field", "reason"),
    [
        ("priority", "high", "priority", "VALUE_OUT_OF_RANGE"),
        ("priority", "unspecified", "priority", "VALUE_OUT_OF_RANGE"),
        ("request_id", "\udc80", "request_id", "TEXT_NOT_UNICODE"),
        ("start_timeout_seconds", float("inf"), "start_timeout", "VALUE_OUT_OF_RANGE"),
        ("time_budget_seconds", float("nan"), "time_budget", "VALUE_OUT_OF_RANGE"),
        ("max_queue_length", 2**31, "max_queue_length", "VALUE_OUT_OF_RANGE"),
        ("top_k", 2**31, "top_k", "VALUE_OUT_OF_RANGE"),
    ],
)
def test_what_the_wire_cannot_hold_names_its_field(
    option: str, value: object, field: str, reason: str
) -> None:
    options: Any = {option: value}
    with pytest.raises(InvalidRequest, match=field) as caught:
        make_submission(URL, "What?", options)
    assert (caught.value.field, caught.value.reason) == (field, reason)


@pytest.mark.parametrize("option", ["start_timeout", "state", "timeout"])
def test_an_option_that_there_is_not_is_a_type_error(option: str) -> None:
    options: Any = {option: 1}
    with pytest.raises(TypeError, match=option):
        make_submission(URL, "What?", options)
