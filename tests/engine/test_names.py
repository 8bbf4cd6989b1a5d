"""Names of requests inside the model: each its own, and of use in a log."""

from __future__ import annotations

import json

import pytest
from idefics2_engine.names import about, find_share, make_name

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARAMETERS = json.dumps({"priority": 1, "traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"})


def test_two_requests_of_one_id_have_two_names() -> None:
    assert make_name("one", "{}") != make_name("one", "{}")


@pytest.mark.parametrize("triton_id", ["one", "one/two", "one/two/three", TRACE_ID])
def test_a_name_tells_the_callers_id_and_the_trace(triton_id: str) -> None:
    assert about(make_name(triton_id, PARAMETERS)) == {"request_id": triton_id, "trace_id": TRACE_ID}
    assert about(make_name(triton_id, "{}")) == {"request_id": triton_id}


def test_who_knows_a_request_by_another_id_than_triton_finds_it_by_his() -> None:
    assert about(make_name("one/4711", json.dumps({"request_id": "one"}))) == {"request_id": "one"}


def test_of_who_gives_no_id_the_trace_is_told() -> None:
    assert about(make_name("", PARAMETERS)) == {"trace_id": TRACE_ID}


@pytest.mark.parametrize("name", ["one", "one/two"])
def test_a_name_that_is_not_made_here_is_an_id(name: str) -> None:
    assert about(name) == {"request_id": name}


@pytest.mark.parametrize(
    "parameters",
    ["", "{}", '{"traceparent": 5, "request_id": {}}', '{"traceparent": "00-x-y-01"}', "{", "[1]", "null"],
)
def test_what_is_no_trace_and_no_id_is_left_out(parameters: str) -> None:
    assert about(make_name("one", parameters)) == {"request_id": "one"}


def test_all_who_do_not_say_whom_a_request_is_for_are_one_and_the_same() -> None:
    assert find_share(json.dumps({"share": "one", "request_id": "two"})) == "one"
    assert {find_share(said) for said in ("", "{}", '{"share": 5}', '{"request_id": "two"}', "{")} == {""}


def test_no_id_breaks_a_line_of_the_log_or_makes_it_long() -> None:
    long = "a\nERROR b\x1b[0m" * 1_000
    for name in (make_name(long, "{}"), make_name("", json.dumps({"request_id": long}))):
        assert name.isprintable()
        assert "\n" not in name
        assert len(name) < 300
