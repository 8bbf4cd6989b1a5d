"""The engine's log: whatever its processes say is a JSON object a line, as the service's own lines are."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from idefics2_engine import logs
from idefics2_engine.logs import LEVELS, Lines
from idefics2_engine.names import about, make_name

if TYPE_CHECKING:
    from collections.abc import Callable

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CONFIGURE = (
    "import logging\nfrom idefics2_engine import logs\nlogs.configure()\nlogger = logging.getLogger('ours')\n"
)
SAY_ALL = """
import threading, warnings
logger.info("two\\nlines\\r\\nand a \\u2028third")
logger.warning("%s has %d pixels \\ud800 \\x00", "it", 7)
try:
    1 / 0
except ZeroDivisionError:
    logger.exception("failed")
warnings.warn("of what will be gone", DeprecationWarning, stacklevel=1)
def fail():
    raise LookupError("in a thread")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
raise SystemError("at the end")
"""
LIBRARIES = """
from idefics2_engine import engine_program
logs.configure()
for name in ("transformers.modeling_utils", "torch.nn", "torch._dynamo", "huggingface_hub.file_download"):
    logging.getLogger(name).error("a library's")
logging.getLogger("PIL.PngImagePlugin").warning("of a picture")
"""
SECRET = "What did the patient say?"


def run(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, which warns of everything."""
    command = (sys.executable, "-W", "default", "-c", CONFIGURE + program)
    environment = {**os.environ, "PYTHONPATH": str(Path(logs.__file__).parents[1]), **variables}
    return subprocess.run(command, env=environment, text=True, capture_output=True, check=False)


def read(text: str) -> list[dict[str, Any]]:
    """Read each line as a JSON object."""
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    return lines


def test_whatever_a_process_says_is_one_json_object_a_line() -> None:
    begun = datetime.now(UTC)
    done = run(SAY_ALL)
    assert (done.returncode, done.stdout) == (1, "")
    lines = read(done.stderr)
    assert [(line["level"], line["event"]) for line in lines[:3]] == [
        ("info", "two\nlines\r\nand a \u2028third"),
        ("warning", "it has 7 pixels \ud800 \x00"),
        ("error", "failed"),
    ]
    assert "of what will be gone" in lines[3]["event"]
    assert [line.get("exception", [{}])[0].get("exc_type") for line in lines[2:]] == [
        "ZeroDivisionError",
        None,
        "LookupError",
        "SystemError",
    ]
    for line in lines:
        assert line["timestamp"][-1] == "Z"
        assert begun <= datetime.fromisoformat(line["timestamp"]) <= datetime.now(UTC)


def test_libraries_write_no_lines_of_their_own() -> None:
    lines = read(run(LIBRARIES).stderr)
    assert [line["event"] for line in lines if line["level"] == "error"] == ["a library's"] * 4
    assert not [line for line in lines if line["event"] == "of a picture"]


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_below_the_services_level_is_not_written(level: str) -> None:
    program = "for name in logs.LEVELS:\n    getattr(logger, name)('x')"
    lines = read(run(program, IDEFICS2_LOG_LEVEL=level).stderr)
    assert [line["level"] for line in lines] == list(LEVELS[LEVELS.index(level) :])


def test_a_level_that_is_none_ends_the_start_and_is_named() -> None:
    done = run("", IDEFICS2_LOG_LEVEL="loud")
    assert done.returncode == 1
    assert "IDEFICS2_LOG_LEVEL must be debug, info, warning or error, not 'loud'" in done.stderr


def test_a_line_about_a_request_names_it_and_its_trace() -> None:
    parameters = json.dumps({"request_id": "one", "traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"})
    record = logging.makeLogRecord({"msg": "failed", **about(make_name("one/4711", parameters))})
    line = json.loads(Lines().format(record))
    assert (line["request_id"], line["trace_id"]) == ("one", TRACE_ID)
    assert not {"request_id", "trace_id"} & json.loads(Lines().format(logging.makeLogRecord({}))).keys()


def raise_from_a_cause() -> None:
    try:
        int(SECRET[:0])
    except ValueError as error:
        raise RuntimeError("the model broke") from error


def raise_in_turn() -> None:
    try:
        raise_from_a_cause()
    except RuntimeError:
        next(iter(()))


def raise_alone() -> None:
    try:
        raise_in_turn()
    except StopIteration:
        raise KeyError("nothing before") from None


@pytest.mark.parametrize("fail", [raise_from_a_cause, raise_in_turn, raise_alone])
def test_what_was_raised_is_told_as_the_service_tells_it(fail: Callable[[], None]) -> None:
    error = catch(fail)
    record = logging.makeLogRecord({"exc_info": (type(error), error, error.__traceback__)})
    ours = json.loads(Lines().format(record))["exception"]
    tell = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    theirs = tell((type(error), error, error.__traceback__))
    assert ours == [{name: each[name] for name in ours[0]} for each in theirs]
    assert SECRET not in json.dumps(ours)


def catch(fail: Callable[[], None]) -> Exception:
    """Return what is raised with a secret in hand."""
    prompt = SECRET
    try:
        fail()
    except (RuntimeError, LookupError, StopIteration) as error:
        assert prompt
        return error
    raise AssertionError("nothing was raised")


def test_what_is_raised_by_what_calls_itself_without_end_is_a_line_that_can_be_read() -> None:
    (line,) = read(run("def fail():\n    fail()\nfail()").stderr)
    assert line["exception"][0]["exc_type"] == "RecursionError"
    assert len(json.dumps(line)) < 16_000
