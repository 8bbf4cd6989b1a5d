"""Names of requests inside the model: each its own, and of use in a log."""

from __future__ import annotations

import json

import pytest
from idefics2_engine.names import make_name

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARAMETERS = json.dumps({"priority": 1, "traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"})


def test_two_requests_of_one_id_have_two_names() -> None:
    assert make_name("one", "{}") != make_name("one", "{}")


def test_a_name_tells_the_callers_id_and_the_trace() -> None:
    known, _, trace_id = make_name("one", PARAMETERS).split("/")
    assert (known, trace_id) == ("one", TRACE_ID)


@pytest.mark.parametrize("parameters", ["", "{}", '{"traceparent": 5}', '{"traceparent": "00-x-y-01"}', "{"])
def test_what_is_no_trace_is_left_out(parameters: str) -> None:
    assert len(make_name("one", parameters).split("/")) == 2


def test_no_id_breaks_a_line_of_the_log_or_makes_it_long() -> None:
    name = make_name("a\nERROR b\x1b[0m" * 1_000, "{}")
    assert name.isprintable()
    assert "\n" not in name
    assert len(name) < 300
