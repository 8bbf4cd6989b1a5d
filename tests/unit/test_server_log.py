"""What the embedded Triton's model says is wrong is in the service's own log, and nothing else of it."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from idefics2_engine.logs import Lines
from idefics2_engine.names import about
from idefics2_service.triton import server_log
from idefics2_service.triton.server_log import LINES_SHOWN, MAX_BYTES, ServerLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRITONS = b'E1127 20:40:18.365466 16756 server.cc:241] "CudaDriverHelper has not been initialized."\n'
PATIENCE_SECONDS = 30


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[ServerLog]:
    """One to which nothing was written."""
    log = ServerLog(tmp_path / "triton.log")
    log.follow()
    yield log
    await log.close()


def write(log: ServerLog, *lines: bytes) -> None:
    """Write more, as who runs does."""
    with log.path.open("ab") as output:
        output.write(b"".join(lines))


def line_of(level: int, event: str, **facts: Any) -> bytes:
    """Write a line as the model does."""
    record = logging.makeLogRecord(
        {"name": "ours", "levelno": level, "levelname": logging.getLevelName(level)}
    )
    vars(record).update(msg=event, **facts)
    return Lines().format(record).encode() + b"\n"


def passed_on(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return what was passed on."""
    return [dict(record.msg) for record in caplog.records if isinstance(record.msg, dict)]


async def test_what_is_wrong_is_passed_on_as_it_came(
    log: ServerLog, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        [].pop()
    except IndexError as error:
        raised = (type(error), error, error.__traceback__)
    facts = about(f"one/4711/{TRACE_ID}")
    lines = [
        line_of(logging.WARNING, "of nobody"),
        line_of(logging.ERROR, "of a request", exc_info=raised, **facts),
        line_of(logging.CRITICAL, "two\nlines"),
    ]
    write(log, TRITONS, *lines, line_of(logging.INFO, "memory: 4 GiB"), line_of(logging.DEBUG, "a step"))
    await log.close()
    assert passed_on(caplog) == [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"{}",
        b'{"level": "error"}',
        b'{"level": ["error"], "event": 5}',
        b'{"level": "error", "event": "x", "timestamp": "now", "logger": "l", "exception": "text"}',
        b'{"level": "error", "event": "\xff", "timestamp": "now", "logger": "l"}',
        b'{"of whom": ' + b"[" * 100_000,
    ],
)
async def test_what_is_no_line_of_the_models_is_passed_over(
    log: ServerLog, caplog: pytest.LogCaptureFixture, line: bytes
) -> None:
    write(log, line, b"\n", line_of(logging.ERROR, "after it"))
    await log.close()
    assert [told["event"] for told in passed_on(caplog)] == ["after it"]


class Hearing(logging.Handler):
    """Hears of each line at once."""

    def __init__(self) -> None:
        """Have heard of none."""
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._heard: asyncio.Queue[Any] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        """Take one from whatever thread."""
        self._loop.call_soon_threadsafe(self._heard.put_nowait, record.msg)

    async def next_event(self) -> str:
        """Wait for one."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return str((await self._heard.get())["event"])


@asynccontextmanager
async def hearing() -> AsyncIterator[Hearing]:
    """Hear of what is passed on while it is."""
    handler, ours = Hearing(), logging.getLogger(server_log.__name__)
    ours.addHandler(handler)
    yield handler
    ours.removeHandler(handler)


async def test_a_line_is_passed_on_once_it_is_whole_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_log, "LOOK_SECONDS", 0.001)
    log = ServerLog(tmp_path / "triton.log")
    async with hearing() as heard:
        log.follow()
        whole = line_of(logging.ERROR, "second")
        write(log, line_of(logging.ERROR, "first"), whole[:20])
        assert await heard.next_event() == "first"
        write(log, whole[20:])
        assert await heard.next_event() == "second"
        await log.close()
    assert [told["event"] for told in passed_on(caplog)] == ["first", "second"]


async def test_what_was_written_last_is_passed_on_though_the_file_is_removed(
    log: ServerLog, caplog: pytest.LogCaptureFixture
) -> None:
    write(log, line_of(logging.ERROR, "the engine is lost"))
    log.path.unlink()
    await log.close()
    assert [told["event"] for told in passed_on(caplog)] == ["the engine is lost"]


async def test_of_too_much_at_once_the_last_is_passed_on(
    log: ServerLog, caplog: pytest.LogCaptureFixture
) -> None:
    one = line_of(logging.ERROR, "again and again " + "x" * 1_000)
    write(
        log,
        line_of(logging.ERROR, "lost"),
        *[one] * (2 * MAX_BYTES // len(one)),
        line_of(logging.ERROR, "last"),
    )
    await log.close()
    first, *others, last = passed_on(caplog)
    assert first["event"] == "of the model's log, not all is passed on"
    assert first["num_bytes_left_out"] > MAX_BYTES // 2
    assert {told["event"] for told in others} == {json.loads(one)["event"]}
    assert last["event"] == "last"
    assert sum(len(json.dumps(told)) for told in others) < MAX_BYTES


async def test_the_last_lines_can_be_read_whatever_was_written(log: ServerLog) -> None:
    assert log.read_tail() == ""
    write(log, b"x" * MAX_BYTES, b"\n", *(b"%d \xff\n" % number for number in range(20)))
    assert log.read_tail().splitlines() == [f"{number} \ufffd" for number in range(20 - LINES_SHOWN, 20)]
