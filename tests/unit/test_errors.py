"""One tree of errors, the same over both faces, in the proto and in its own docstring."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
from google.rpc import code_pb2, error_details_pb2
from idefics2.v1 import error_reason_pb2
from idefics2_service import errors
from idefics2_service.errors import (
    FileMismatch,
    FileNotUploaded,
    InternalError,
    InvalidInput,
    PromptMissing,
    QuotaExceeded,
    ServiceError,
    SettingInvalid,
    StartFailed,
    StartTimeout,
    ValueOutOfRange,
    concrete_errors,
    error_for,
)
from idefics2_service.events import Failed
from idefics2_service.rest.problems import Problem
from idefics2_service.rpc.convert import write_failure
from idefics2_service.rpc.status import make_status
from idefics2_service.store.codec import decode_happening, encode_happening

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.rpc.status_pb2 import Status

Detail = TypeVar("Detail", bound="Message")

PROTOS = Path(__file__).parents[2] / "proto/idefics2/v1"
KINDS = list(concrete_errors())
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def details_of(status: Status, kind: type[Detail]) -> list[Detail]:
    """Unpack the details that are of one kind."""
    found = []
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            found.append(detail)
    return found


def proto_comments() -> dict[str, str]:
    """Read the comment of each reason from the text of the proto."""
    text = (PROTOS / "error_reason.proto").read_text()
    matches = re.finditer(r"((?:^ +//.*\n)+) +([A-Z_]+) = \d+;", text, re.MULTILINE)
    return {
        match[2]: " ".join(re.sub(r"^ *// ?", "", match[1], flags=re.MULTILINE).split()) for match in matches
    }


def promised_details() -> set[str]:
    """Name the details of errors that the comment of GenerationService tells of."""
    comment, _, _ = (PROTOS / "generation.proto").read_text().partition("\nservice ")
    return set(re.findall(r"google\.rpc\.\w+", comment)) - {"google.rpc.Status"}


def all_classes(root: type[ServiceError] = ServiceError) -> set[str]:
    """Name a class and all below it."""
    return {root.__name__}.union(*(all_classes(child) for child in root.__subclasses__()))


@each_kind
def test_every_error_has_exactly_one_error_info_of_its_reason(kind: type[ServiceError]) -> None:
    status = make_status(kind("what happened", field="prompt", bound="1", value="2"))
    (info,) = details_of(status, error_details_pb2.ErrorInfo)
    assert (info.domain, info.reason) == ("idefics2", kind.reason)
    assert info.metadata == {"field": "prompt", "bound": "1", "value": "2"}
    assert status.message == "what happened"


@each_kind
def test_every_error_has_a_canonical_code_that_is_not_ok(kind: type[ServiceError]) -> None:
    status = make_status(kind("what happened"))
    assert code_pb2.Code.Name(status.code) == kind.code != "OK"  # type: ignore[arg-type]


@each_kind
def test_a_field_is_named_where_the_input_is_at_fault_and_nowhere_else(kind: type[ServiceError]) -> None:
    status = make_status(kind("what happened", field="images[0].data"))
    violations = [
        (violation.field, violation.description)
        for bad in details_of(status, error_details_pb2.BadRequest)
        for violation in bad.field_violations
    ]
    is_input = issubclass(kind, InvalidInput)
    assert violations == [("images[0].data", "what happened")] * is_input
    assert is_input == (kind.code == "INVALID_ARGUMENT")


@each_kind
def test_the_time_to_come_back_is_told_where_there_is_one_and_nowhere_else(kind: type[ServiceError]) -> None:
    delays = details_of(make_status(kind("what happened")), error_details_pb2.RetryInfo)
    expected = [] if kind.usual_retry_after_seconds is None else [kind.usual_retry_after_seconds]
    assert [delay.retry_delay.ToTimedelta().total_seconds() for delay in delays] == expected
    (later,) = details_of(
        make_status(kind("what happened", retry_after_seconds=2.5)), error_details_pb2.RetryInfo
    )
    assert later.retry_delay.ToTimedelta().total_seconds() == 2.5


@each_kind
def test_a_quota_is_named_where_one_is_used_up_and_nowhere_else(kind: type[ServiceError]) -> None:
    quotas = details_of(make_status(kind("the line is full")), error_details_pb2.QuotaFailure)
    told = [(violation.subject, violation.description) for quota in quotas for violation in quota.violations]
    expected = [(kind.quota, "the line is full")] if issubclass(kind, QuotaExceeded) else []
    assert told == expected
    assert all(subject for subject, _ in told)
    assert bool(told) == (kind.code == "RESOURCE_EXHAUSTED")


@each_kind
def test_who_watches_is_told_all_that_a_status_says(kind: type[ServiceError]) -> None:
    error = kind("what happened", field="prompt", retry_after_seconds=0.0121, bound="1")
    failure, status = write_failure(error), make_status(error)
    (info,) = details_of(status, error_details_pb2.ErrorInfo)
    (retry,) = details_of(status, error_details_pb2.RetryInfo)
    assert (failure.code, failure.message, failure.field) == (status.code, status.message, "prompt")
    assert error_reason_pb2.ErrorReason.Name(failure.reason) == info.reason
    assert failure.metadata == info.metadata == {"field": "prompt", "bound": "1"}
    assert failure.retry_delay == retry.retry_delay
    assert failure.retry_delay.ToMilliseconds() == 13


@each_kind
def test_a_store_keeps_all_that_is_told_of_how_a_request_ended(kind: type[ServiceError]) -> None:
    error = kind("what happened", field="prompt", bound="1")
    kept = decode_happening(encode_happening(Failed(error)))
    assert isinstance(kept, Failed)
    assert make_status(kept.error) == make_status(error)
    assert write_failure(kept.error) == write_failure(error)
    assert write_failure(error).HasField("retry_delay") == (kind.usual_retry_after_seconds is not None)


@each_kind
def test_no_detail_is_of_a_kind_that_the_proto_does_not_promise(kind: type[ServiceError]) -> None:
    details = [detail.TypeName() for detail in make_status(kind("what happened")).details]
    assert len(details) == len(set(details))
    assert set(details) <= promised_details()


def test_every_detail_that_the_proto_promises_comes_with_some_error() -> None:
    details = {detail.TypeName() for kind in KINDS for detail in make_status(kind("what happened")).details}
    assert details == promised_details()


HTTP_STATUSES = {
    "INVALID_ARGUMENT": 422,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 422,
    "FAILED_PRECONDITION": 400,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""Never 409: clients of the hosted endpoint take it for a reason to try again."""


@each_kind
def test_every_error_has_the_http_status_of_its_code_and_says_its_reason(kind: type[ServiceError]) -> None:
    problem = Problem.of(kind("what happened"))
    assert problem.status == HTTP_STATUSES[kind.code]
    assert problem.body["reason"] == kind.reason
    assert problem.body["message"] == "what happened"
    assert re.fullmatch("[a-z_]+", problem.error_type)
    assert problem.body["error_type"] == problem.headers["x-fal-error-type"] == problem.error_type


@each_kind
def test_over_http_what_is_wrong_is_listed_where_the_request_is_at_fault(kind: type[ServiceError]) -> None:
    problem = Problem.of(kind("what happened", field="images[0].url", bound="1"))
    fault = {
        "type": problem.error_type,
        "loc": ["body", "images", 0, "url"],
        "msg": "what happened",
        "url": f"https://docs.fal.ai/errors#{problem.error_type}",
        "ctx": {"reason": kind.reason, "bound": "1"},
    }
    if problem.status == 422:
        assert problem.body["detail"] == [fault]
        assert "ctx" not in problem.body
    else:
        assert problem.body["detail"] == "what happened"
        assert problem.body["ctx"] == {"field": "images[0].url", "bound": "1"}


@each_kind
def test_over_http_the_time_to_come_back_is_told_where_there_is_one(kind: type[ServiceError]) -> None:
    usual = kind.usual_retry_after_seconds
    headers = Problem.of(kind("what happened")).headers
    assert headers.get("retry-after") == (None if usual is None else f"{usual:.0f}")
    assert headers["x-fal-retryable"] == ("false" if usual is None else "true")
    assert Problem.of(kind("what happened", retry_after_seconds=2.5)).headers["retry-after"] == "3"


@each_kind
def test_over_http_headers_say_who_may_help(kind: type[ServiceError]) -> None:
    headers = Problem.of(kind("what happened")).headers
    assert ("www-authenticate" in headers) == (kind.code == "UNAUTHENTICATED")
    assert ("x-fal-request-timeout-type" in headers) == (kind is StartTimeout)


@each_kind
def test_all_that_is_wrong_is_told_over_both_faces(kind: type[ServiceError]) -> None:
    error = kind("first", field="prompt")
    if not isinstance(error, InvalidInput):
        return
    error.others = (PromptMissing("second", field="top_p"),)
    (bad,) = details_of(make_status(error), error_details_pb2.BadRequest)
    told = [(violation.field, violation.description) for violation in bad.field_violations]
    faults = Problem.of(error).body["detail"]
    assert isinstance(faults, list)
    assert told == [(fault["loc"][1], fault["msg"]) for fault in faults]
    assert told == [("prompt", "first"), ("top_p", "second")]


def test_of_many_faults_the_first_are_told_and_how_many_more_there_are() -> None:
    fault = {"type": "string_type", "loc": ("body", "stop", 0), "msg": "no text"}
    other = ValueOutOfRange.of("top_p", "above 0, up to 1", 3)
    for num_faults, num_told, end in ((40, 32, "no text; and 9 more"), (2, 3, "above 0, up to 1, not 3")):
        body = Problem.of_faults([fault] * num_faults, [other]).body
        told = body["detail"]
        assert isinstance(told, list)
        assert len(told) == num_told
        assert str(body["message"]).endswith(end)


def test_reasons_are_those_of_the_proto_one_class_for_each() -> None:
    reasons = [kind.reason for kind in KINDS]
    assert len(reasons) == len(set(reasons))
    assert {*reasons, "ERROR_REASON_UNSPECIFIED"} == set(error_reason_pb2.ErrorReason.keys())


@each_kind
def test_the_protos_comment_names_the_code_of_the_class(kind: type[ServiceError]) -> None:
    comment = proto_comments()[kind.reason]
    match = re.match(r"[A-Z_]+", comment)
    assert match is not None
    assert match[0] == kind.code
    assert ("with RetryInfo" in comment) == (kind.usual_retry_after_seconds is not None)


def test_every_reason_of_the_proto_has_a_comment() -> None:
    assert set(proto_comments()) == set(error_reason_pb2.ErrorReason.keys())


@each_kind
def test_a_reason_leads_back_to_its_class(kind: type[ServiceError]) -> None:
    error = error_for(kind.reason, "what happened", "prompt")
    assert type(error) is kind
    assert (error.message, error.field) == ("what happened", "prompt")


@pytest.mark.parametrize("reason", ["", "ERROR_REASON_UNSPECIFIED", "NO_SUCH_REASON", "InternalError"])
def test_a_reason_that_nobody_knows_is_a_fault_of_ours(reason: str) -> None:
    assert type(error_for(reason, "what happened")) is InternalError


def test_a_number_out_of_range_names_field_bound_and_value() -> None:
    error = ValueOutOfRange.of("top_k", "1 to 1000", 0)
    assert error.message == "top_k must be 1 to 1000, not 0"
    assert error.metadata == {"field": "top_k", "bound": "1 to 1000", "value": "0"}


@pytest.mark.parametrize("letter", ["x", " ", "\n", "\x7f", "\u00e9", "\U0001f600", "\U000e0001", "\ud800"])
def test_what_a_caller_sent_is_not_repeated_whole_since_a_status_is_a_trailer(letter: str) -> None:
    text = letter * 20_000
    for error in (
        FileNotUploaded.of(*(f"{number}{text}" for number in range(8)), field="images[0].url"),
        FileMismatch.of("start.content_type", text, text),
        ValueOutOfRange.of("start.name", "0 to 255 bytes", repr(text)),
    ):
        assert make_status(error).ByteSize() <= 4_096


def test_the_docstring_draws_every_class_and_no_other() -> None:
    drawn = set(
        re.findall(r"\b(?:[A-Z][a-z]+){2,}\b|\bUnavailable\b|\bUnauthenticated\b", errors.__doc__ or "")
    )
    never_sent = {SettingInvalid.__name__, StartFailed.__name__}
    assert drawn - {"ErrorReason"} == all_classes() | never_sent


def test_a_class_without_a_reason_only_groups_others() -> None:
    kinds = {kind.__name__ for kind in KINDS}
    grouping = {"ServiceError", "InvalidInput", "Unauthenticated", "QuotaExceeded", "Unavailable"}
    assert all_classes() - kinds == grouping
