"""`idefics2` in this process, where its output is no terminal."""

from __future__ import annotations

import io
import json
import sys
import threading
from argparse import Namespace
from typing import TYPE_CHECKING

import pytest
from fakes.generation_server import finished, log_line, queue_position, stage, text
from fakes.scripted_server import make_status
from idefics2.v1.generation_pb2 import CountTokensResponse, Event, GenerateRequest, Image
from idefics2_client import __main__, outcome
from idefics2_client.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

    from fakes.generation_server import GenerationServer

URL = "https://example.com/cat.png"
COMMANDS = (
    "ask",
    "count",
    "submit",
    "watch",
    "status",
    "result",
    "cancel",
    "list",
    "upload",
    "files",
    "download",
    "delete",
)
FAILURES = [
    ("INVALID_ARGUMENT", "PROMPT_MISSING", 2),
    ("UNAUTHENTICATED", "API_KEY_MISSING", 3),
    ("RESOURCE_EXHAUSTED", "QUEUE_FULL", 4),
    ("UNAVAILABLE", "BACKEND_UNAVAILABLE", 4),
    ("DEADLINE_EXCEEDED", "REQUEST_DEADLINE_EXCEEDED", 4),
    ("CANCELLED", "REQUEST_CANCELLED", 1),
    ("INTERNAL", "INTERNAL_ERROR", 1),
]


@pytest.fixture(autouse=True)
def _target(server: GenerationServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDEFICS2_CLIENT_TARGET", server.target)


Captured = pytest.CaptureFixture[str]


def test_the_answer_goes_to_stdout_and_progress_to_stderr(server: GenerationServer, capsys: Captured) -> None:
    server.expect(
        stage("RESOLVING"),
        stage("QUEUED"),
        queue_position(2),
        log_line("hello"),
        stage("DECODE"),
        text("A [bold]cat"),
        text("[/bold].\nBlack."),
        finished("A [bold]cat[/bold].\nBlack."),
    )
    assert main(["ask", URL, "What?"]) == 0
    out, err = capsys.readouterr()
    assert out == "A [bold]cat[/bold].\nBlack.\n"
    expected = ["stage: resolving", "stage: queued", "queue position: 2", "log: hello", "stage: decode"]
    assert err.splitlines() == expected


def test_a_pipe_gets_the_answer_letter_for_letter(server: GenerationServer, capsys: Captured) -> None:
    server.expect(text("\x1b[31mred\x07"), finished("\x1b[31mred\x07"))
    assert main(["ask", URL, "What?"]) == 0
    assert capsys.readouterr().out == "\x1b[31mred\x07\n"


def test_what_the_service_says_cannot_move_the_cursor(server: GenerationServer, capsys: Captured) -> None:
    server.expect(log_line("a\x1b[2Jb"), make_status("INTERNAL", "INTERNAL_ERROR", "c\x1b[2J\nd\x9b"))
    assert main(["ask", URL, "What?"]) == 1
    assert capsys.readouterr().err == "log: a[2Jb\nidefics2: c[2J d\n"


def test_every_option_reaches_the_wire(server: GenerationServer, picture: Path) -> None:
    server.expect(finished(""))
    options = [
        "--max-new-tokens=1",
        "--repetition-penalty=2",
        "--temperature=0",
        "--top-p=0.5",
        "--top-k=4",
        "--min-new-tokens=0",
    ]
    more = ["--seed=0", "--stop=a", "--stop=b", "--no-split-images", "--image", URL, "--image", str(picture)]
    assert main(["ask", str(picture), "What?", *options, *more, "--timeout=60", "--api-key=a.1"]) == 0
    data = Image(data=picture.read_bytes())
    assert server.requests[0] == GenerateRequest(
        prompt="What?",
        max_new_tokens=1,
        repetition_penalty=2,
        temperature=0,
        top_p=0.5,
        top_k=4,
        min_new_tokens=0,
        seed=0,
        stop=["a", "b"],
        split_images=False,
        images=[data, Image(url=URL), data],
    )
    assert server.metadata[0]["authorization"] == "Key a.1"


def test_options_not_given_are_unset_on_the_wire(server: GenerationServer) -> None:
    server.expect(finished(""))
    assert main(["ask", URL, "What?"]) == 0
    assert server.requests[0] == GenerateRequest(image_url=URL, prompt="What?")


def test_a_dash_reads_the_image_from_stdin(server: GenerationServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\x89PNG")))
    server.expect(finished(""))
    assert main(["ask", "-", "What?"]) == 0
    assert server.requests[0].images == [Image(data=b"\x89PNG")]


@pytest.mark.parametrize("argv", [["ask", "-", "What?"], ["upload", "-"]])
def test_a_standard_input_that_is_closed_is_no_image(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, argv: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(argv) == 2
    assert capsys.readouterr().err == "idefics2: cannot read image -: standard input is closed\n"


def test_json_is_one_object_with_all_that_is_known(server: GenerationServer, capsys: Captured) -> None:
    server.expect(stage("DECODE"), text("Ein "), text("Bär\x1b"), finished("Ein Bär\x1b"))
    assert main(["ask", URL, "What?", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "output": "Ein Bär\x1b",
        "finish_reason": "end_of_turn",
        "usage": {
            "num_prompt_tokens": 80,
            "num_image_tokens": 64,
            "num_generated_tokens": 11,
            "num_cached_tokens": 48,
            "num_cached_images": 1,
        },
        "stage_seconds": {
            "resolving": 0.0,
            "queued": 0.0,
            "prefill": 0.5,
            "decode": 2.0,
            "total": 2.5,
            "preprocessing": 0.0,
            "vision": 0.25,
        },
        "request_id": "r-1",
        "seed": 2**64 - 1,
    }
    assert out.isascii()
    assert err == "stage: decode\n"


@pytest.mark.parametrize(("code", "reason", "status"), FAILURES)
def test_the_exit_status_says_what_to_do_about_it(
    server: GenerationServer, capsys: Captured, code: str, reason: str, status: int
) -> None:
    server.expect(make_status(code, reason, "why it is so"))
    assert main(["ask", URL, "What?"]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("idefics2: why it is so")
    assert err.count("\n") == 1


def test_an_error_line_names_the_field_once(server: GenerationServer, capsys: Captured) -> None:
    server.expect(make_status("INVALID_ARGUMENT", "VALUE_OUT_OF_RANGE", "must be 1 or more", field="top_k"))
    server.expect(make_status("INVALID_ARGUMENT", "VALUE_OUT_OF_RANGE", "top_k is low", field="top_k"))
    assert [main(["ask", URL, "What?"]), main(["ask", URL, "What?"])] == [2, 2]
    assert capsys.readouterr().err == "idefics2: top_k: must be 1 or more\nidefics2: top_k is low\n"


def test_an_error_line_says_what_to_set_or_how_long_to_wait(
    server: GenerationServer, capsys: Captured
) -> None:
    server.expect(make_status("UNAUTHENTICATED", "API_KEY_MISSING", "no key"))
    assert main(["ask", URL, "What?"]) == 3
    assert "IDEFICS2_API_KEY" in capsys.readouterr().err
    server.expect(make_status("RESOURCE_EXHAUSTED", "QUEUE_FULL", "busy", retry_after_seconds=1.5))
    assert main(["ask", URL, "What?"]) == 4
    assert capsys.readouterr().err == "idefics2: busy (try again in 1.5 s)\n"


def test_an_error_after_some_text_ends_its_line(server: GenerationServer, capsys: Captured) -> None:
    server.expect(text("A ca"), make_status("INTERNAL", "INTERNAL_ERROR", "broken"))
    assert main(["ask", URL, "What?"]) == 1
    assert capsys.readouterr() == ("A ca\n", "idefics2: broken\n")


def test_json_says_errors_too(server: GenerationServer, capsys: Captured) -> None:
    server.expect(text("A"), make_status("INVALID_ARGUMENT", "VALUE_OUT_OF_RANGE", "why", field="top_k"))
    assert main(["ask", URL, "What?", "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "error": {
            "code": "INVALID_ARGUMENT",
            "reason": "VALUE_OUT_OF_RANGE",
            "message": "why",
            "field": "top_k",
            "request_id": "r-1",
        }
    }
    assert err == "idefics2: top_k: why\n"


def test_an_unreadable_image_is_named_and_nothing_is_sent(server: GenerationServer, capsys: Captured) -> None:
    assert main(["ask", "nowhere/cat.png", "What?"]) == 2
    assert (
        capsys.readouterr().err == "idefics2: cannot read image nowhere/cat.png: No such file or directory\n"
    )
    assert server.requests == []


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_number_that_the_wire_cannot_hold_is_refused_with_its_field_and_bound(
    capsys: Captured, seed: int
) -> None:
    assert main(["ask", URL, "What?", f"--seed={seed}"]) == 2
    assert capsys.readouterr().err == f"idefics2: seed must be 0 to {2**64 - 1}, not {seed}\n"


def test_a_prompt_that_is_not_unicode_is_refused(capsys: Captured) -> None:
    assert main(["ask", URL, "\udcff", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["reason"] == "TEXT_NOT_UNICODE"


def test_a_server_that_is_away_is_exit_status_4(capsys: Captured) -> None:
    assert main(["ask", URL, "What?", "--target", "127.0.0.1:1"]) == 4
    assert "idefics2-service serve" in capsys.readouterr().err


def test_a_timeout_is_exit_status_4(server: GenerationServer, capsys: Captured) -> None:
    server.expect(make_status("DEADLINE_EXCEEDED", "REQUEST_DEADLINE_EXCEEDED", "too late"))
    assert main(["ask", URL, "What?", "--timeout", "30"]) == 4
    assert capsys.readouterr().err == "idefics2: too late\n"


def test_a_stream_that_ends_without_an_answer_is_a_failure(
    server: GenerationServer, capsys: Captured
) -> None:
    server.expect(text("A"))
    assert main(["ask", URL, "What?"]) == 1
    assert "before the answer was complete" in capsys.readouterr().err


def test_what_is_newer_than_this_program_does_not_stop_it(server: GenerationServer, capsys: Captured) -> None:
    newer = Event()
    newer.stage_entered.stage = 77  # type: ignore[assignment]
    last = finished("")
    last.finished.response.finish_reason = 88  # type: ignore[assignment]
    server.expect(Event(), newer, last)
    assert main(["ask", URL, "What?", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["finish_reason"], err) == ("88", "stage: 77\n")


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["ask"],
        ["ask", URL],
        ["ask", URL, "What?", "--seed", "x"],
        ["ask", URL, "What?", "--timeout", "0"],
        ["ask", URL, "What?", "--timeout", "nan"],
        ["ask", URL, "What?", "--js"],
        ["count", URL, "What?", "--seed", "1"],
    ],
)
def test_bad_usage_is_exit_status_2(capsys: Captured, argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage: idefics2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["status", "r-1", "--timeout", "soon"], "--timeout: must be a number of seconds above 0, not soon"),
        (["status", "r-1", "--timeout", "0"], "--timeout: must be a number of seconds above 0, not 0"),
        (["files", "--limit", "all"], "--limit: must be a whole number, 1 to 2,147,483,647, not all"),
        (
            ["list", "--limit", "9" * 20],
            f"--limit: must be a whole number, 1 to 2,147,483,647, not {'9' * 20}",
        ),
    ],
)
def test_an_option_that_cannot_be_read_is_told_with_its_bound_and_value(
    capsys: Captured, argv: list[str], told: str
) -> None:
    with pytest.raises(SystemExit):
        main(argv)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_tells_the_exit_statuses(capsys: Captured, argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert all(f"\n  {status} " in out for status in (0, 1, 2, 3, 4, 5, 6, 130))


COUNTS = CountTokensResponse(num_prompt_tokens=80, num_image_tokens=64, max_context_tokens=2048, fits=True)


def test_count_prints_a_line_for_each_count(server: GenerationServer, capsys: Captured) -> None:
    server.expect(COUNTS)
    assert main(["count", URL, "What?", "--max-new-tokens", "9", "--split-images"]) == 0
    expected = GenerateRequest(image_url=URL, prompt="What?", max_new_tokens=9, split_images=True)
    assert server.requests == [expected]
    assert capsys.readouterr().out.splitlines() == [
        "num_prompt_tokens: 80",
        "num_image_tokens: 64",
        "num_image_patches: 0",
        "max_context_tokens: 2048",
        "fits: true",
    ]


def test_count_prints_json(server: GenerationServer, capsys: Captured) -> None:
    server.expect(COUNTS)
    assert main(["count", URL, "What?", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "num_prompt_tokens": 80,
        "num_image_tokens": 64,
        "num_image_patches": 0,
        "max_context_tokens": 2048,
        "fits": True,
    }


def test_ctrl_c_is_known_too_where_the_error_of_a_lock_covers_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stumble(*_: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            threading.Lock().release()

    assert __main__._run(Namespace(run=stumble, json=False)) == outcome.INTERRUPTED
    assert capsys.readouterr().err == "idefics2: interrupted\n"
