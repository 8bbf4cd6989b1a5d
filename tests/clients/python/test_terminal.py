"""`idefics2` as a process of its own: on a terminal, in a pipe, under Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

import pytest
from fakes.generation_server import (
    PATIENCE_SECONDS,
    Gate,
    Hang,
    finished,
    log_line,
    queue_position,
    stage,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakes.generation_server import GenerationServer

URL = "https://example.com/cat.png"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """What a program writes on a terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._written = b""

    @property
    def seen(self) -> str:
        """All so far."""
        return self._written.decode(errors="replace").replace("\r\n", "\n")

    def read_until(self, expected: str) -> None:
        """Read on until `expected` has come up."""
        while expected not in self.seen:
            assert self._read(), f"the program ended without {expected!r}: {self.seen!r}"

    def read_to_end(self) -> str:
        """Read until the program has ended; return all that it ever wrote."""
        while self._read():
            pass
        return self.seen

    def _read(self) -> bytes:
        piece = b""
        with suppress(OSError):  # the far side is closed
            piece = os.read(self._descriptor, 4096)
        self._written += piece
        return piece


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Let programs that are started here have Ctrl-C, even if this one was started without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def running(
    server: GenerationServer, *options: str, command: str = "ask", output: int | IO[bytes] = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `idefics2 ask` with all its output going to `output`, or to two pipes."""
    arguments = [sys.executable, "-W", "error", "-m", "idefics2_client", command, URL, "What?", *options]
    environment = os.environ | {"IDEFICS2_CLIENT_TARGET": server.target, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
    ) as program:
        try:
            yield program
        finally:
            program.kill()


@contextmanager
def on_terminal(server: GenerationServer) -> Iterator[tuple[subprocess.Popen[bytes], Terminal]]:
    """Run `idefics2 ask` with a terminal as its stdout and stderr."""
    ours, theirs = pty.openpty()
    try:
        with running(server, output=theirs) as program:
            os.close(theirs)
            yield program, Terminal(ours)
    finally:
        os.close(ours)


def test_a_terminal_sees_stage_queue_and_time_then_the_answer_as_it_comes(server: GenerationServer) -> None:
    queued, started = Gate(), Gate()
    server.expect(
        stage("QUEUED"),
        queue_position(3),
        queued,
        log_line("warming [up]"),
        stage("DECODE"),
        text("A [bold]c"),
        log_line("held back"),
        started,
        text("at[/bold]."),
        finished("A [bold]cat[/bold]."),
    )
    with on_terminal(server) as (program, terminal):
        terminal.read_until("queued · 3 before you · ")
        queued.open()
        terminal.read_until("A [bold]c")
        assert "held back" not in terminal.seen
        started.open()
        seen = terminal.read_to_end()
        assert program.wait(PATIENCE_SECONDS) == 0
    assert "warming [up]" in seen
    assert "A [bold]cat[/bold].\n" in seen
    assert "11 tokens · 5.0 tokens/s · 2.5 s · end_of_turn" in seen
    assert "held back" in seen
    assert seen.rindex(SHOW_CURSOR) > seen.rindex(HIDE_CURSOR)


def test_the_moving_line_is_gone_before_the_answer_begins(server: GenerationServer) -> None:
    server.expect(stage("DECODE"), text("A cat."), finished("A cat."))
    with on_terminal(server) as (_, terminal):
        before, after = terminal.read_to_end().split("A cat.")
    assert before.endswith("\x1b[2K")  # erases the line
    assert "decode" not in after


def test_a_model_cannot_command_the_terminal(server: GenerationServer) -> None:
    answer = "\x1b]0;title\x07\x1b[2Jred\x9b31m\ttab\rback"
    server.expect(text(answer), finished(answer))
    with on_terminal(server) as (program, terminal):
        seen = terminal.read_to_end()
        assert program.wait(PATIENCE_SECONDS) == 0
    assert "]0;title[2Jred31m\ttabback\n" in seen
    assert "\x1b]0;" not in seen
    assert "\x1b[2J" not in seen


def test_an_error_on_a_terminal_leaves_it_as_it_was(server: GenerationServer) -> None:
    server.expect(stage("QUEUED"), Hang())
    with on_terminal(server) as (program, terminal):
        terminal.read_until("queued")
        program.send_signal(signal.SIGINT)
        seen = terminal.read_to_end()
        assert program.wait(PATIENCE_SECONDS) == 130
    assert seen.endswith("idefics2: interrupted\n")
    assert seen.rindex(SHOW_CURSOR) > seen.rindex(HIDE_CURSOR)
    server.wait_until_cancelled()


def test_ctrl_c_cancels_the_call_and_ends_with_130(server: GenerationServer) -> None:
    server.expect(text("A"), Hang())
    with running(server) as program:
        assert program.stdout is not None
        assert program.stdout.read(1) == b"A"
        program.send_signal(signal.SIGINT)
        server.wait_until_cancelled()
        out, err = program.communicate(timeout=PATIENCE_SECONDS)
    assert (out, err, program.returncode) == (b"\n", b"idefics2: interrupted\n", 130)


def test_ctrl_c_cancels_a_call_that_does_not_stream(server: GenerationServer) -> None:
    server.expect(Hang())
    with running(server, command="count") as program:
        server.wait_until_called()
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=PATIENCE_SECONDS)
    assert (err, program.returncode) == (b"idefics2: interrupted\n", 130)
    server.wait_until_cancelled()


def test_ctrl_c_is_an_error_in_json_too(server: GenerationServer) -> None:
    server.expect(log_line("go"), Hang())
    with running(server, "--json") as program:
        assert program.stderr is not None
        assert program.stderr.readline() == b"log: go\n"
        program.send_signal(signal.SIGINT)
        out, _ = program.communicate(timeout=PATIENCE_SECONDS)
    assert (json.loads(out)["error"]["code"], program.returncode) == ("CANCELLED", 130)
    server.wait_until_cancelled()


def test_the_answer_arrives_in_a_pipe_while_it_is_made(server: GenerationServer) -> None:
    read = Gate()
    server.expect(text("A "), read, text("cat."), finished("A cat."))
    with running(server) as program:
        assert program.stdout is not None
        assert program.stdout.read(2) == b"A "
        read.open()
        out, err = program.communicate(timeout=PATIENCE_SECONDS)
    assert (out, err, program.returncode) == (b"cat.\n", b"", 0)


def test_a_reader_that_goes_away_cancels_the_call_without_a_traceback(server: GenerationServer) -> None:
    gone = Gate()
    server.expect(text("A"), gone, text("B"), Hang())
    with running(server) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.read(1)
        program.stdout.close()
        gone.open()
        server.wait_until_cancelled()
        assert program.stderr.read() == b""
        assert program.wait(PATIENCE_SECONDS) == 1


def test_a_letter_that_the_locale_lacks_does_not_stop_the_answer(
    server: GenerationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    server.expect(text("Bär"), finished("Bär"))
    with running(server) as program:
        out, _ = program.communicate(timeout=PATIENCE_SECONDS)
    assert (out, program.returncode) == (b"B?r\n", 0)
