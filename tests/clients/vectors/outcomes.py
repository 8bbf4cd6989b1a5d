"""What a language's program says came of a call, compared with what the vector says must come of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from idefics2.v1.files_pb2 import File
from idefics2.v1.generation_pb2 import CountTokensResponse, Event, GenerateResponse
from idefics2.v1.requests_pb2 import Request

if TYPE_CHECKING:
    from google.protobuf.message import Message

RESPONSES: dict[str, type[Message]] = {
    "generate": GenerateResponse,
    "count_tokens": CountTokensResponse,
    "submit": Request,
    "get_request": Request,
    "result": GenerateResponse,
    "cancel": Request,
    "submit_and_watch": GenerateResponse,
    "upload": File,
    "download": File,
}
"""The calls of one answer, with its kind."""
LISTS: dict[str, tuple[str, type[Message]]] = {
    "stream": ("events", Event),
    "watch": ("events", Event),
    "list_requests": ("requests", Request),
}
"""The calls of many answers, with how they are called and their kind."""


def check_outcome(call: dict[str, Any], outcome: dict[str, Any]) -> None:
    """Fail if an outcome is not what its call expects."""
    expect, kind = call["expect"], call["call"]
    assert ("error" in outcome) == ("error" in expect), outcome
    if "error" in expect:
        check_part(outcome["error"], expect["error"], "error")
    if kind in LISTS:
        name, message = LISTS[kind]
        _check_list([normalize(item, message) for item in outcome[name]], call, name)
    elif "response" in expect:
        check_part(normalize(outcome["response"], RESPONSES[kind]), expect["response"], "response")


def normalize(message: dict[str, Any], kind: type[Message]) -> dict[str, Any]:
    """Write a message as its proto3 JSON with the names of the proto, zeros of plain fields included."""
    return json_format.MessageToDict(
        json_format.ParseDict(message, kind()),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )


def check_part(actual: Any, expected: Any, where: str) -> None:
    """Compare what an object of `expected` names; lists whole."""
    if isinstance(expected, dict):
        assert isinstance(actual, dict), f"{where}: {actual!r}"
        for name, value in expected.items():
            assert (name in actual) == (value is not None), f"{where}.{name}: {actual}"
            check_part(actual.get(name), value, f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(actual) == len(expected), f"{where}: {actual}"
        for index, (one, other) in enumerate(zip(actual, expected, strict=True)):
            check_part(one, other, f"{where}[{index}]")
    else:
        is_any = expected == "$any" and actual
        assert is_any or actual == expected, f"{where}: {str(actual)[:200]!r} is not {str(expected)[:200]!r}"


def _check_list(items: list[dict[str, Any]], call: dict[str, Any], name: str) -> None:
    expect = call["expect"]
    if name in expect:
        check_part(items, expect[name], name)
    if "text" in expect:
        assert _join(items) == expect["text"]
    if "last" in expect:
        check_part(items[-1], expect["last"], "the last event")
    if call["call"] == "watch":
        numbers = [int(item["sequence"]) for item in items if item["sequence"] != "0"]
        first = int(call["request"].get("after", 0)) + 1
        assert numbers == list(range(first, first + len(numbers))), "there is a gap or a repeat"


def _join(events: list[dict[str, Any]]) -> str:
    """Join the answer of the last attempt."""
    text = ""
    for event in events:
        text = "" if "attempt_started" in event else text + event.get("text_delta", {}).get("text", "")
    return text
