"""That the vectors leave nothing of the contract out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from clients.vectors.book import Vector, read_book
from clients.vectors.outcomes import LISTS, RESPONSES
from fakes.vector_server import METHODS
from idefics2.v1.error_reason_pb2 import ErrorReason
from idefics2.v1.generation_pb2 import GenerateRequest
from idefics2.v1.requests_pb2 import SubmitRequest
from idefics2_service.errors import concrete_errors

BOOK = read_book()


def find(name: str) -> Vector:
    """Find a vector."""
    (vector,) = (vector for vector in BOOK if vector.name == name)
    return vector


def test_every_reason_is_told_with_the_code_that_the_service_gives_it() -> None:
    names = set(ErrorReason.keys()) - {"ERROR_REASON_UNSPECIFIED"}
    told = {
        call["expect"]["error"]["reason"]: call["expect"]["error"]["code"]
        for vector in BOOK
        if vector.name.endswith("is told as it is")
        for call in vector.calls
    }
    assert told == {kind.reason: kind.code for kind in concrete_errors()}
    assert told.keys() == names


def test_each_vector_has_its_own_name() -> None:
    assert {name for name, count in Counter(vector.name for vector in BOOK).items() if count > 1} == set()


@pytest.mark.parametrize("vector", BOOK, ids=lambda vector: vector.name)
def test_a_vector_runs_somewhere_and_calls_what_there_is(vector: Vector) -> None:
    assert set(vector.runs_on) <= {"fake", "real", "triton"}
    assert ("fake" in vector.runs_on) != ("real" in vector.runs_on)
    assert {call["call"] for call in vector.calls} <= RESPONSES.keys() | LISTS.keys()
    assert {script["method"] for script in vector.server} <= METHODS.keys()


@pytest.mark.parametrize(
    ("name", "message", "elsewhere"),
    [
        ("every parameter has its field", GenerateRequest, {"image_sha256"}),
        ("every parameter of a submission has its field", SubmitRequest, set()),
        (
            "zero, false and unset are three different things",
            GenerateRequest,
            {"stop", "images", "image_sha256"},
        ),
    ],
)
def test_no_field_is_forgotten(name: str, message: Any, elsewhere: set[str]) -> None:
    asked = find(name).calls[0]["request"].keys()
    assert asked == set(message.DESCRIPTOR.fields_by_name) - elsewhere


def test_every_method_is_called_by_some_vector() -> None:
    called = {script["method"] for vector in BOOK for script in vector.server}
    assert METHODS.keys() - called == {"DeleteFile", "ListFiles"}  # clients need not have them
