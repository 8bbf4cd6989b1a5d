"""`idefics2 submit`, and what follows it, in this process, where its output is no terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from fakes.generation_server import finished, log_line, make_response, queue_position, stage, text
from fakes.request_server import attempt, failed, make_failure, make_request, number
from fakes.scripted_server import make_status
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from idefics2.v1.generation_pb2 import GenerateRequest, Image, StageSeconds, Usage
from idefics2.v1.requests_pb2 import (
    PRIORITY_LOW,
    PRIORITY_NORMAL,
    STATE_FAILED,
    CancelRequestRequest,
    GetRequestRequest,
    GetResultRequest,
    ListRequestsRequest,
    ListRequestsResponse,
    LoggedLine,
    SubmitRequest,
    WatchRequestRequest,
)
from idefics2_client.__main__ import main

if TYPE_CHECKING:
    from fakes.request_server import RequestServer

URL = "https://example.com/cat.png"
NOON = Timestamp(seconds=1_760_000_400)
FAILED = make_request(
    "FAILED",
    num_attempts=2,
    create_time=NOON,
    end_time=NOON,
    priority=PRIORITY_NORMAL,
    max_new_tokens=512,
    last_sequence=9,
    failure=make_failure("INVALID_ARGUMENT", "FILE_UNDECODABLE", "it is\x1b[2J damaged", "images[0]"),
    logs=[LoggedLine(time=NOON, message="hello\x1b[2J")],
)
SUCCEEDED = make_request(
    "SUCCEEDED",
    create_time=NOON,
    num_generated_tokens=11,
    max_new_tokens=512,
    usage=Usage(num_prompt_tokens=80),
    stage_seconds=StageSeconds(total=2.5),
)
WAITING = make_request(
    "QUEUED", queue_position=0, estimated_wait=Duration(seconds=1, nanos=500_000_000), priority=PRIORITY_LOW
)
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _target(server: RequestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDEFICS2_CLIENT_TARGET", server.target)


def test_submit_prints_the_name(server: RequestServer, capsys: Captured) -> None:
    server.expect(make_request())
    assert main(["submit", URL, "What?"]) == 0
    assert capsys.readouterr() == ("r-1\n", "")
    assert server.requests == [SubmitRequest(input=GenerateRequest(image_url=URL, prompt="What?"))]


def test_every_option_of_submit_reaches_the_wire(server: RequestServer) -> None:
    server.expect(make_request())
    options = ["--request-id=r-1", "--priority=low", "--start-timeout=1.5", "--time-budget=60"]
    more = ["--webhook=https://example.com/hook", "--max-queue-length=0", "--temperature=0", "--image", URL]
    assert main(["submit", URL, "What?", *options, *more]) == 0
    assert server.requests == [
        SubmitRequest(
            request_id="r-1",
            input=GenerateRequest(image_url=URL, prompt="What?", temperature=0, images=[Image(url=URL)]),
            priority=PRIORITY_LOW,
            start_timeout=Duration(seconds=1, nanos=500_000_000),
            time_budget=Duration(seconds=60),
            webhook_url="https://example.com/hook",
            max_queue_length=0,
        )
    ]


def test_submit_prints_json(server: RequestServer, capsys: Captured) -> None:
    server.expect(WAITING)
    assert main(["submit", URL, "What?", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "request_id": "r-1",
        "state": "queued",
        "stage": None,
        "queue_position": 0,
        "estimated_wait_seconds": 1.5,
        "num_attempts": 0,
        "priority": "low",
        "create_time": None,
        "start_time": None,
        "end_time": None,
        "expire_time": None,
        "num_generated_tokens": 0,
        "max_new_tokens": 0,
        "usage": None,
        "stage_seconds": None,
        "failure": None,
        "last_sequence": 0,
    }


def test_watch_shows_what_ask_shows(server: RequestServer, capsys: Captured) -> None:
    server.expect(
        queue_position(2),
        *number(attempt(1), stage("RESOLVING"), log_line("hello"), text("A cat."), finished("A cat.")),
    )
    assert main(["watch", "r-1", "--after", "0"]) == 0
    out, err = capsys.readouterr()
    assert out == "A cat.\n"
    assert err.splitlines() == ["queue position: 2", "stage: resolving", "log: hello"]
    assert server.requests == [WatchRequestRequest(request_id="r-1")]


def test_watch_begins_after_the_events_that_are_known(server: RequestServer, capsys: Captured) -> None:
    server.expect(*number(text("cat."), finished("A cat."), after=3))
    assert main(["watch", "r-1", "--after=3"]) == 0
    assert capsys.readouterr().out == "cat.\n"
    assert server.requests == [WatchRequestRequest(request_id="r-1", after=3)]


def test_watch_begins_the_answer_anew_with_another_attempt(server: RequestServer, capsys: Captured) -> None:
    server.expect(*number(attempt(1), text("A do"), attempt(2), text("A cat."), finished("A cat.")))
    assert main(["watch", "r-1"]) == 0
    assert capsys.readouterr() == ("A do\nA cat.\n", "attempt: 2\n")


def test_watch_prints_json_at_the_end(server: RequestServer, capsys: Captured) -> None:
    server.expect(*number(attempt(1), text("A do"), attempt(2), text("A cat."), finished("A cat.")))
    assert main(["watch", "r-1", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["output"], err) == ("A cat.", "attempt: 2\n")


def test_watch_tells_of_a_lost_connection_and_goes_on(server: RequestServer, capsys: Captured) -> None:
    story = number(attempt(1), text("A "), text("cat."), finished("A cat."))
    server.expect(
        *story[:2], make_status("UNAVAILABLE", "SERVICE_STOPPING", "it stops", retry_after_seconds=0)
    )
    server.expect(*story[2:])
    assert main(["watch", "r-1"]) == 0
    assert capsys.readouterr() == ("A cat.\n", "log: it stops; trying again\n")


def test_watch_ends_as_the_request_did(server: RequestServer, capsys: Captured) -> None:
    server.expect(*number(text("A ca"), failed("INVALID_ARGUMENT", "FILE_UNDECODABLE")))
    assert main(["watch", "r-1"]) == 2
    assert capsys.readouterr() == ("A ca\n", "idefics2: why\n")
    server.expect(*number(failed("CANCELLED", "REQUEST_CANCELLED")))
    assert main(["watch", "r-1", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["reason"], error["request_id"]) == ("REQUEST_CANCELLED", "r-1")


def test_status_prints_what_is_set(server: RequestServer, capsys: Captured) -> None:
    server.expect(FAILED)
    assert main(["status", "r-1", "--logs"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "request_id: r-1",
        "state: failed",
        "num_attempts: 2",
        "priority: normal",
        "create_time: 2025-10-09T09:00:00Z",
        "end_time: 2025-10-09T09:00:00Z",
        "num_generated_tokens: 0",
        "max_new_tokens: 512",
        "failure.code: INVALID_ARGUMENT",
        "failure.reason: FILE_UNDECODABLE",
        "failure.message: it is[2J damaged",
        "failure.field: images[0]",
        "failure.request_id: r-1",
        "last_sequence: 9",
        "log: 2025-10-09T09:00:00Z hello[2J",
    ]
    assert server.requests == [GetRequestRequest(request_id="r-1", include_logs=True)]


def test_status_prints_json_with_the_log_if_it_is_wanted(server: RequestServer, capsys: Captured) -> None:
    server.expect(SUCCEEDED)
    server.expect(FAILED)
    assert [main(["status", "r-1", "--json"]), main(["status", "r-1", "--json", "--logs"])] == [0, 0]
    one, two = map(json.loads, capsys.readouterr().out.splitlines())
    assert (one["usage"]["num_prompt_tokens"], one["stage_seconds"]["total"]) == (80, 2.5)
    assert "logs" not in one
    assert two["failure"]["reason"] == "FILE_UNDECODABLE"
    assert two["logs"] == [{"time": "2025-10-09T09:00:00Z", "message": "hello\x1b[2J"}]


def test_result_prints_the_answer_and_nothing_else(server: RequestServer, capsys: Captured) -> None:
    server.expect(make_response("A cat.\x1b"))
    assert main(["result", "r-1"]) == 0
    assert capsys.readouterr() == ("A cat.\x1b\n", "")
    assert server.requests == [GetResultRequest(request_id="r-1")]


def test_result_waits_if_it_is_told(server: RequestServer, capsys: Captured) -> None:
    server.expect(*number(text("A do"), attempt(2), text("A cat."), finished("A cat.")))
    assert main(["result", "r-1", "--wait", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["output"] == "A cat."


def test_cancel_prints_the_state(server: RequestServer, capsys: Captured) -> None:
    server.expect(make_request("RUNNING"))
    server.expect(make_request("CANCELLED"))
    assert [main(["cancel", "r-1"]), main(["cancel", "r-1", "--json"])] == [0, 0]
    one, two = capsys.readouterr().out.splitlines()
    assert (one, json.loads(two)["state"]) == ("running", "cancelled")
    assert server.requests == [CancelRequestRequest(request_id="r-1")] * 2


def test_list_prints_a_table(server: RequestServer, capsys: Captured) -> None:
    server.expect(ListRequestsResponse(requests=[SUCCEEDED], next_page_token="t"))
    server.expect(ListRequestsResponse(requests=[FAILED]))
    assert main(["list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "CREATED (UTC)        STATE      TOKENS     REQUEST",
        "2025-10-09 09:00:00  succeeded  11/512     r-1",
        "2025-10-09 09:00:00  failed     0/512      r-1",
    ]
    assert server.requests[0] == ListRequestsRequest(page_size=50)


def test_list_prints_as_many_as_it_is_told(server: RequestServer, capsys: Captured) -> None:
    server.expect(ListRequestsResponse(requests=[FAILED, FAILED, FAILED], next_page_token="t"))
    assert main(["list", "--state=failed", "--limit=2", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["failed", "failed"]
    assert server.requests == [ListRequestsRequest(state=STATE_FAILED, page_size=2)]


def test_a_page_is_no_larger_than_the_contract_allows(server: RequestServer) -> None:
    server.expect(ListRequestsResponse())
    assert main(["list", "--limit=5000"]) == 0
    assert server.requests == [ListRequestsRequest(page_size=1_000)]


@pytest.mark.parametrize(
    ("argv", "code", "reason", "status"),
    [
        (["result", "r-1"], "FAILED_PRECONDITION", "REQUEST_NOT_FINISHED", 5),
        (["result", "r-1"], "CANCELLED", "REQUEST_CANCELLED", 1),
        (["status", "r-1"], "NOT_FOUND", "REQUEST_NOT_FOUND", 6),
        (["watch", "r-1"], "NOT_FOUND", "REQUEST_NOT_FOUND", 6),
        (["cancel", "r-1"], "NOT_FOUND", "REQUEST_NOT_FOUND", 6),
        (["submit", URL, "What?"], "ALREADY_EXISTS", "REQUEST_ID_TAKEN", 2),
        (["submit", URL, "What?"], "UNAVAILABLE", "STORE_UNAVAILABLE", 4),
        (["list"], "UNAUTHENTICATED", "API_KEY_INVALID", 3),
    ],
)
def test_the_exit_status_says_what_to_do_about_it(
    server: RequestServer, capsys: Captured, argv: list[str], code: str, reason: str, status: int
) -> None:
    server.expect(make_status(code, reason, "why it is so"))
    assert main(argv) == status
    assert capsys.readouterr().err.startswith("idefics2: why it is so")


def test_a_watch_that_waits_for_a_server_says_so_until_its_timeout(capsys: Captured) -> None:
    assert main(["watch", "r-1", "--target", "127.0.0.1:1", "--timeout", "0.5"]) == 4
    waiting, gave_up = capsys.readouterr().err.splitlines()
    assert waiting.startswith("log: no service answers at 127.0.0.1:1: start one")
    assert waiting.endswith("; trying again")
    assert gave_up == "idefics2: the timeout passed before the answer was complete"


@pytest.mark.parametrize(
    "argv",
    [
        ["submit", URL],
        ["submit", URL, "What?", "--priority", "high"],
        ["submit", URL, "What?", "--time-budget", "0"],
        ["watch"],
        ["watch", "r-1", "--after", "x"],
        ["status", "r-1", "--wait"],
        ["list", "--state", "done"],
        ["list", "--limit", "0"],
    ],
)
def test_bad_usage_is_exit_status_2(capsys: Captured, argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage: idefics2" in capsys.readouterr().err
