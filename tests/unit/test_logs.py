"""The log: one JSON object a line, and never what is the caller's own."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from idefics2_service import logs
from idefics2_service.settings import LogSettings
from idefics2_service.tracing.spans import PassedSpan

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRETS = ("What did the patient say?", "alice.0123456789abcdef", "a picture of somebody")
logger = structlog.get_logger(__name__)
library = logging.getLogger("some.library")


class Screen(io.StringIO):
    """Standard error, as a terminal or not."""

    def __init__(self, *, is_terminal: bool) -> None:
        """Show nothing yet."""
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        """Tell which of both it is."""
        return self._is_terminal


@pytest.fixture(autouse=True)
def after_it_the_log_is_as_before() -> Iterator[None]:
    """Hand the log back as tests/conftest.py set it up."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    logs.configure(LogSettings(level="info", format="json"))
    root.handlers = handlers
    root.setLevel(level)


def configure(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool = False, **fields: Any) -> Screen:
    """Set up the log on a screen of its own."""
    screen = Screen(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    logs.configure(LogSettings(**{"format": "json", **fields}))
    return screen


def lines_of(screen: Screen) -> list[dict[str, Any]]:
    """Read each line as a JSON object."""
    lines = [json.loads(line) for line in screen.getvalue().splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    return lines


def fail(prompt: str, api_key: str, images: tuple[bytes, ...]) -> None:
    """Fail with what a caller sent in hand, as a cause and as its consequence."""
    request = {"prompt": prompt, "images": images}
    try:
        int(str(len(request)) + "x")
    except ValueError as error:
        if api_key:
            raise RuntimeError("the model broke") from error


def log_failure(log: Any) -> None:
    """Log a failure the way the service does, with everything in the frames."""
    prompt, api_key, picture = SECRETS
    try:
        fail(prompt, api_key, (picture.encode(),))
    except RuntimeError as error:
        log.error("request failed", exc_info=error)  # noqa: TRY400  # as generation.py does it
        log.exception("call failed")


@pytest.mark.parametrize("log", [logger, library], ids=["ours", "a library's"])
@pytest.mark.parametrize("kind", ["json", "console"])
def test_a_traceback_is_logged_without_what_the_frames_hold(
    monkeypatch: pytest.MonkeyPatch, kind: str, log: Any
) -> None:
    screen = configure(monkeypatch, format=kind)
    log_failure(log)
    text = screen.getvalue()
    for part in ("request failed", "call failed"):
        assert text.count(part) == 1
    for part in ("the model broke", "RuntimeError", "ValueError", "test_logs.py", "log_failure"):
        assert part in text
    for secret in SECRETS:
        assert secret not in text


@pytest.mark.parametrize("log", [logger, library], ids=["ours", "a library's"])
def test_whatever_is_logged_is_one_json_object_a_line(monkeypatch: pytest.MonkeyPatch, log: Any) -> None:
    screen = configure(monkeypatch)
    log_failure(log)
    log.info("two\nlines\r\nand a \u2028third")
    log.warning("日本語 \ud800 \x00 \x1b[31m")
    log.info("where am I", stack_info=True)
    assert screen.getvalue().count("\n") == 5
    assert [line["event"] for line in lines_of(screen)] == [
        "request failed",
        "call failed",
        "two\nlines\r\nand a \u2028third",
        "日本語 \ud800 \x00 \x1b[31m",
        "where am I",
    ]


def test_facts_that_are_no_json_do_not_break_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = configure(monkeypatch)
    logger.info("facts", data=b"\xff\n", kind=int, error=ValueError("x"), many={1, 2})
    (line,) = lines_of(screen)
    assert set(line) == {"event", "level", "timestamp", "data", "kind", "error", "many"}


def test_a_librarys_arguments_are_put_into_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = configure(monkeypatch)
    library.warning("%s has %d pixels", "it", 7)
    (line,) = lines_of(screen)
    assert (line["event"], line["level"]) == ("it has 7 pixels", "warning")


def test_what_a_request_is_bound_to_stands_in_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = configure(monkeypatch)
    with structlog.contextvars.bound_contextvars(request_id="order-66"):
        logger.info("ours")
        library.warning("a library's")
    logger.info("outside")
    ids = [line.get("request_id") for line in lines_of(screen)]
    assert ids == ["order-66", "order-66", None]


def test_each_line_tells_its_time_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = configure(monkeypatch)
    logger.info("ours")
    library.warning("a library's")
    for line in lines_of(screen):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"])


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
@pytest.mark.parametrize("log", [logger, library], ids=["ours", "a library's"])
def test_what_is_below_the_level_is_not_written(
    monkeypatch: pytest.MonkeyPatch, level: str, written: list[str], log: Any
) -> None:
    screen = configure(monkeypatch, level=level)
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("x")
    assert [line["level"] for line in lines_of(screen)] == written


def test_what_libraries_say_of_each_call_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = configure(monkeypatch, level="debug")
    for name in ("uvicorn.access", "asyncio", "PIL.PngImagePlugin"):
        logging.getLogger(name).info("GET /healthz/live")
    assert screen.getvalue() == ""


@pytest.mark.parametrize(
    ("kind", "is_terminal", "is_json"),
    [
        ("auto", False, True),
        ("auto", True, False),
        ("json", True, True),
        ("console", False, False),
    ],
)
def test_a_person_at_a_terminal_reads_lines_and_a_program_reads_json(
    monkeypatch: pytest.MonkeyPatch, kind: str, *, is_terminal: bool, is_json: bool
) -> None:
    screen = configure(monkeypatch, is_terminal=is_terminal, format=kind)
    logger.info("serving", grpc="127.0.0.1:1")
    assert screen.getvalue().startswith("{") == is_json
    assert "serving" in screen.getvalue()


def test_setting_up_twice_writes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch)
    screen = configure(monkeypatch)
    logger.info("once")
    assert len(lines_of(screen)) == 1


def test_a_line_names_the_trace_that_it_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = configure(monkeypatch)
    logger.info("before")
    with PassedSpan("4bf92f3577b34da6a3ce929d0e0e4736", {}):
        logger.info("ours", request_id="one")
        library.warning("a library's")
    logger.info("after")
    lines = {line["event"]: line.get("trace_id") for line in lines_of(screen)}
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    assert lines == {"before": None, "ours": trace_id, "a library's": trace_id, "after": None}


def test_a_line_of_another_process_keeps_its_time_and_a_person_reads_what_was_raised_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = {"filename": "engine.py", "lineno": 7, "name": "step"}
    cause = {"exc_type": "ValueError", "exc_value": "a hole", "is_cause": True, "frames": [frame]}
    raised = [
        {"exc_type": "RuntimeError", "exc_value": "it broke", "is_cause": False, "frames": [frame]},
        cause,
    ]
    time = "2026-11-27T20:53:39.049107Z"
    screen = configure(monkeypatch)
    logger.error("failed", exception=raised, timestamp=time)
    (line,) = lines_of(screen)
    assert (line["exception"], line["timestamp"]) == (raised, time)
    screen = configure(monkeypatch, format="console")
    logger.error("failed", exception=raised, timestamp=time)
    assert screen.getvalue().split("\n", 1)[1] == (
        '  File "engine.py", line 7, in step\nValueError: a hole\n\n'
        '  File "engine.py", line 7, in step\nRuntimeError: it broke\n'
    )
