"""`idefics2` as a process of its own: on a terminal, in a pipe, under Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

import pytest
from clients.python.screen import Screen
from fakes.file_server import make_file
from fakes.generation_server import finished, log_line, queue_position, stage, text
from fakes.request_server import attempt, number
from fakes.scripted_server import PATIENCE_SECONDS, Gate, Hang, Take, make_status
from idefics2.v1.generation_pb2 import Event, TextDelta
from idefics2_client.images import INLINE_BYTES
from idefics2_client.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fakes.file_server import FileServer
    from fakes.generation_server import GenerationServer
    from fakes.request_server import RequestServer
    from fakes.scripted_server import Step

URL = "https://example.com/cat.png"
ASK = ("ask", URL, "What?")
WATCH = ("watch", "r-1")
TERMINAL = {"TERM": "xterm", "COLUMNS": "60", "LINES": "8"}
SUMMARY = "11 tokens · 5.0 tokens/s · 2.5 s · end_of_turn\n"


class Terminal:
    """What a program writes on a terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._written = b""

    @property
    def seen(self) -> str:
        """All so far."""
        return self._written.decode(errors="replace").replace("\r\n", "\n")

    @property
    def screen(self) -> Screen:
        """What it looks like now."""
        return Screen(self.seen, width=int(os.environ["COLUMNS"]), height=int(os.environ["LINES"]))

    def read_until(self, *rows: str) -> None:
        """Read on until the screen ends with rows that match these patterns."""
        pattern = re.compile("\n".join(("", *rows)))
        while not pattern.fullmatch("\n".join(("", *self.screen.rows[-len(rows) :]))):
            assert self._read(), f"the program ended without {rows}: {self.screen.rows}"

    def read_to_end(self) -> Screen:
        """Read until the program has ended; return how it left the terminal."""
        while self._read():
            pass
        return self.screen

    def _read(self) -> bytes:
        piece = b""
        with suppress(OSError):  # the far side is closed
            piece = os.read(self._descriptor, 4096)
        self._written += piece
        return piece


def delta(piece: str, num_generated_tokens: int) -> Event:
    """Write a piece of the answer, with which it has so many tokens."""
    return Event(text_delta=TextDelta(text=piece, num_generated_tokens=num_generated_tokens))


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Let programs that are started here have Ctrl-C, even if this one was started without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TERMINAL.items():
        monkeypatch.setenv(name, value)


@contextmanager
def running(
    server: GenerationServer,
    *options: str,
    command: tuple[str, ...] = ASK,
    output: int | IO[bytes] = subprocess.PIPE,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `idefics2` with all its output going to `output`, or to two pipes."""
    arguments = [sys.executable, "-W", "error", "-m", "idefics2_client", *command, *options]
    environment = os.environ | {"IDEFICS2_CLIENT_TARGET": server.target}
    with subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
    ) as program:
        try:
            yield program
        finally:
            program.kill()


@contextmanager
def on_terminal(
    server: GenerationServer, command: tuple[str, ...] = ASK
) -> Iterator[tuple[subprocess.Popen[bytes], Terminal]]:
    """Run `idefics2` with a terminal as its stdout and stderr."""
    ours, theirs = pty.openpty()
    try:
        with running(server, command=command, output=theirs) as program:
            os.close(theirs)
            yield program, Terminal(ours)
    finally:
        os.close(ours)


def test_a_terminal_sees_stage_queue_and_time_then_the_answer_as_it_comes(server: GenerationServer) -> None:
    queued, begun = Gate(), Gate()
    server.expect(
        stage("QUEUED"),
        queue_position(3),
        queued,
        log_line("warming [up]"),
        stage("DECODE"),
        delta("A [bold]c", 3),
        log_line("held back"),
        begun,
        delta("at[/bold].", 6),
        finished("A [bold]cat[/bold]."),
    )
    with on_terminal(server) as (program, terminal):
        terminal.read_until(r". queued · 3 before you · \d+\.\d s")
        assert not terminal.screen.has_cursor
        queued.open()
        terminal.read_until(r"warming \[up\]", r"A \[bold\]c", r". decode · \d+\.\d s · 3 tokens")
        begun.open()
        screen = terminal.read_to_end()
        assert program.wait(PATIENCE_SECONDS) == 0
    assert screen.text == f"warming [up]\nA [bold]cat[/bold].\n{SUMMARY}held back\n"
    assert screen.has_cursor


def test_the_speed_is_seen_while_the_answer_is_open(server: GenerationServer) -> None:
    one, two, rest = Gate(), Gate(), Gate()
    server.expect(
        stage("DECODE"),
        delta("A", 1),
        one,
        delta(" black", 2),
        two,
        delta(" cat", 5),
        rest,
        finished("A black cat"),
    )
    with on_terminal(server) as (_, terminal):
        terminal.read_until("A", r". decode · \d+\.\d s · 1 token")
        one.open()
        terminal.read_until("A black", r". decode · \d+\.\d s · 2 tokens · \d+\.\d tokens/s")
        two.open()
        terminal.read_until("A black cat", r". decode · \d+\.\d s · 5 tokens · \d+\.\d tokens/s")
        rest.open()
        assert terminal.read_to_end().text == f"A black cat\n{SUMMARY}"


def test_the_speed_counts_what_came_since_the_first_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0, 14.0, 15.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    status = Status()
    status.count_tokens(4)
    status.count_tokens(10)
    assert str(status) == "connecting · 5.0 s · 10 tokens · 3.0 tokens/s"


def test_a_line_longer_than_the_screen_shows_its_end_and_survives_whole(server: GenerationServer) -> None:
    words, rest = [f"{number} 猫, " for number in range(200)], Gate()
    answer = "".join([*words, "and so on."])
    deltas = [delta(word, number) for number, word in enumerate(words, 1)]
    server.expect(*deltas, rest, delta("and so on.", 201), finished(answer))
    with on_terminal(server) as (_, terminal):
        terminal.read_until(".{50,}", ".{50,}", ".*199 猫, ", ".* 200 tokens · .* tokens/s")
        assert len(terminal.screen.rows) == 7  # of 8: nothing has scrolled away half drawn
        rest.open()
        assert terminal.read_to_end().text == f"{answer}\n{SUMMARY}"


def test_lines_stay_as_they_are_completed(server: GenerationServer) -> None:
    long, seen = "so long " * 70, Gate()
    answer = f"A cat\n\n  {long}\nand a dog\n\nEnd"
    server.expect(
        delta("A cat\n\n", 3),
        delta(f"  {long}\nand", 150),
        seen,
        delta(" a dog\n\nEnd", 160),
        finished(answer),
    )
    with on_terminal(server) as (_, terminal):
        terminal.read_until(".*so long ", "and", ".* 150 tokens · .*")
        assert terminal.screen.text.startswith(f"A cat\n\n  {long}\nand\n")
        seen.open()
        assert terminal.read_to_end().text == f"{answer}\n{SUMMARY}"


def test_an_answer_too_quick_to_be_drawn_loses_nothing(server: GenerationServer) -> None:
    server.expect(log_line("go"), delta("A\ncat", 2), finished("A\ncat"))
    with on_terminal(server) as (_, terminal):
        assert terminal.read_to_end().text == f"go\nA\ncat\n{SUMMARY}"


def test_tabs_are_as_wide_as_on_the_terminal(server: GenerationServer) -> None:
    first, rest = Gate(), Gate()
    server.expect(delta("\ta" * 15, 30), first, delta("b", 31), rest, finished("\ta" * 15 + "b"))
    with on_terminal(server) as (_, terminal):
        terminal.read_until(" {8}a.*", " {4}a.*", "a", ".* 30 tokens")
        first.open()
        terminal.read_until(" {8}a.*", " {4}a.*", "ab", ".* 31 tokens .*")
        assert len(terminal.screen.rows) == 4
        rest.open()
        terminal.read_to_end()
    assert "\ta" * 15 + "b\n" in terminal.seen


def test_a_narrow_terminal_cuts_the_status_not_the_answer(
    server: GenerationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    first, rest = Gate(), Gate()
    server.expect(
        stage("DECODE"),
        delta("A black cat on ", 4),
        first,
        delta("a mat.", 6),
        rest,
        finished("A black cat on a mat."),
    )
    with on_terminal(server) as (_, terminal):
        terminal.read_until("A black cat on ", r". decode · \d\.\d s · 4 to…")
        first.open()
        terminal.read_until("A black cat on a mat.", r". decode · \d\.\d s · 6 to…")
        assert len(terminal.screen.rows) == 2
        rest.open()
        assert terminal.read_to_end().text == f"A black cat on a mat.\n{SUMMARY}"


def test_a_model_cannot_command_the_terminal(server: GenerationServer) -> None:
    answer, seen = "\x1b]0;title\x07\x1b[2Jred\x9b31m\ttab\rback", Gate()
    server.expect(delta(answer, 9), seen, delta(f"\n{answer}", 18), finished(f"{answer}\n{answer}"))
    with on_terminal(server) as (program, terminal):
        terminal.read_until(r"\]0;title\[2Jred31m +tabback", ".* 9 tokens")
        seen.open()
        terminal.read_to_end()
        assert program.wait(PATIENCE_SECONDS) == 0
    assert terminal.seen.count("]0;title[2Jred31m\ttabback\n") == 2
    assert "\x1b]" not in terminal.seen
    assert "\x1b[2J" not in terminal.seen


def test_an_error_in_mid_answer_leaves_the_text_so_far(server: GenerationServer) -> None:
    server.expect(delta("A\ncat", 2), make_status("UNAVAILABLE", "ENGINE_NOT_READY", "it is restarting"))
    with on_terminal(server) as (program, terminal):
        screen = terminal.read_to_end()
        assert program.wait(PATIENCE_SECONDS) == 4
    assert screen.text == "A\ncat\nidefics2: it is restarting\n"
    assert screen.has_cursor


def test_ctrl_c_in_mid_answer_leaves_the_text_so_far(server: GenerationServer) -> None:
    server.expect(delta("A\nblack", 2), log_line("held back"), delta(" cat", 3), Hang())
    with on_terminal(server) as (program, terminal):
        terminal.read_until("A", "black cat", ".* 3 tokens · .*")
        program.send_signal(signal.SIGINT)
        screen = terminal.read_to_end()
        assert program.wait(PATIENCE_SECONDS) == 130
    assert screen.text == "A\nblack cat\nheld back\nidefics2: interrupted\n"
    assert screen.has_cursor
    server.wait_until_cancelled()


def test_ctrl_c_before_the_answer_leaves_the_terminal_as_it_was(server: GenerationServer) -> None:
    server.expect(stage("QUEUED"), Hang())
    with on_terminal(server) as (program, terminal):
        terminal.read_until(".*queued.*")
        program.send_signal(signal.SIGINT)
        screen = terminal.read_to_end()
        assert program.wait(PATIENCE_SECONDS) == 130
    assert screen.text == "idefics2: interrupted\n"
    assert screen.has_cursor
    server.wait_until_cancelled()


def test_a_watch_shows_its_place_then_each_attempt_anew(server: RequestServer) -> None:
    placed, lost, begun = Gate(), Gate(), Gate()
    server.expect(
        queue_position(3),
        placed,
        *number(attempt(1), stage("DECODE"), delta("A dog\nand", 7), log_line("held back")),
        lost,
        *number(attempt(2), delta("A ca", 2), after=4),
        begun,
        *number(delta("t.", 11), finished("A cat."), after=6),
    )
    with on_terminal(server, WATCH) as (_, terminal):
        terminal.read_until(r". queued · 3 before you · \d+\.\d s")
        placed.open()
        terminal.read_until("A dog", "and", r". decode · \d+\.\d s · 7 tokens")
        lost.open()
        anew = "attempt 2: the answer begins anew"
        terminal.read_until("A dog", "held back", anew, "A ca", r". decode · \d+\.\d s · 2 tokens")
        begun.open()
        assert terminal.read_to_end().text == f"A dog\nheld back\n{anew}\nA cat.\n{SUMMARY}"


def test_a_watch_says_that_the_server_went_away_and_goes_on(server: RequestServer) -> None:
    story = number(attempt(1), stage("DECODE"), delta("A ", 1), delta("cat.", 11), finished("A cat."))
    server.expect(*story[:2], Hang())
    server.expect(*story[2:])
    with on_terminal(server, WATCH) as (_, terminal):
        terminal.read_until(r". decode · \d+\.\d s")
        server.restart()
        lines = terminal.read_to_end().text.splitlines()
    assert lines[0].endswith("was lost before the answer was complete; trying again")
    assert lines[1:] == ["A cat.", SUMMARY.removesuffix("\n")]


def test_ctrl_c_leaves_a_watch_and_not_the_request(server: RequestServer) -> None:
    server.expect(*number(attempt(1), text("A")), Hang())
    with running(server, command=WATCH) as program:
        assert program.stdout is not None
        assert program.stdout.read(1) == b"A"
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=PATIENCE_SECONDS)
    assert (out, err, program.returncode) == (b"\n", b"idefics2: interrupted\n", 130)
    server.wait_until_cancelled()


def test_a_terminal_that_cannot_take_back_gets_the_answer_as_it_comes(
    server: GenerationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    read = Gate()
    server.expect(delta("A ", 1), read, delta("cat.", 2), finished("A cat."))
    with on_terminal(server) as (_, terminal):
        terminal.read_until("A ")
        read.open()
        assert terminal.read_to_end().text == "A cat.\n"
        assert "\x1b" not in terminal.seen


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
    with running(server, command=("count", URL, "What?")) as program:
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


NO_FILE = make_status("NOT_FOUND", "FILE_NOT_UPLOADED", "why")
NO_UPLOAD = make_status("NOT_FOUND", "UPLOAD_NOT_FOUND", "why")


@pytest.fixture
def large_picture(tmp_path: Path) -> Path:
    """Return a file that is too large to be part of a message."""
    path = tmp_path / "large.bmp"
    path.write_bytes(b"BM" + bytes(INLINE_BYTES))
    return path


def expect_upload(server: FileServer, *steps: Step) -> None:
    """Let a large file be uploaded that the service does not have."""
    server.expect(NO_FILE)
    server.expect(NO_UPLOAD)
    server.expect(*steps)


def test_a_terminal_sees_an_upload_as_a_bar_and_keeps_nothing_of_it(
    server: FileServer, large_picture: Path
) -> None:
    seen = Gate()
    expect_upload(server, Take(5 * 2**20), seen, Take(), make_file())
    with on_terminal(server, ("upload", str(large_picture))) as (program, terminal):
        terminal.read_until(r"uploading large\.bmp ━+ 8\.0/8\.0 MB .*")
        seen.open()
        screen = terminal.read_to_end()
        assert program.wait(PATIENCE_SECONDS) == 0
    assert screen.text == f"{make_file().url}\n"
    assert screen.has_cursor


def test_the_bar_of_an_upload_is_not_part_of_what_a_pipe_gets(
    server: FileServer, large_picture: Path
) -> None:
    expect_upload(server, Take(), make_file())
    ours, theirs = pty.openpty()
    arguments = [sys.executable, "-m", "idefics2_client", "upload", str(large_picture)]
    environment = os.environ | {"IDEFICS2_CLIENT_TARGET": server.target}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=theirs, env=environment) as program:
        os.close(theirs)
        terminal = Terminal(ours)
        terminal.read_to_end()
        assert program.stdout is not None
        assert program.stdout.read() == f"{make_file().url}\n".encode()
    os.close(ours)
    assert "uploading large.bmp" in terminal.seen
    assert terminal.screen.text.strip() == ""


def test_a_terminal_sees_the_upload_of_a_large_picture_before_the_answer(
    server: FileServer, large_picture: Path
) -> None:
    seen = Gate()
    expect_upload(server, Take(5 * 2**20), seen, Take(), make_file())
    server.expect(delta("A cat.", 11), finished("A cat."))
    with on_terminal(server, ("ask", str(large_picture), "What?")) as (_, terminal):
        terminal.read_until(r". uploading large\.bmp ━+ 100% .*")
        seen.open()
        assert terminal.read_to_end().text == f"A cat.\n{SUMMARY}"


@pytest.mark.parametrize("command", ["upload", "ask"])
def test_ctrl_c_in_the_midst_of_an_upload_ends_it(
    server: FileServer, large_picture: Path, command: str
) -> None:
    expect_upload(server, Take(5 * 2**20), Hang())
    prompt = ("What?",) if command == "ask" else ()
    with running(server, command=(command, str(large_picture), *prompt)) as program:
        assert server.has_taken.wait(PATIENCE_SECONDS)
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=PATIENCE_SECONDS)
    hint = "; the same command goes on where this one stopped" if command == "upload" else ""
    assert err.splitlines()[-1].decode() == f"idefics2: interrupted{hint}"
    assert (out, program.returncode) == (b"", 130)
    server.wait_until_cancelled()


def test_a_thread_that_never_ends_does_not_keep_the_program() -> None:
    code = """if True:
        import sys, threading
        from idefics2_client.__main__ import run

        threading.Thread(target=threading.Event().wait).start()
        sys.argv[1:] = ["status", "r-1", "--target", "127.0.0.1:1"]
        run()
    """
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert (ended.stdout, ended.returncode) == (b"", 4)
    assert ended.stderr.startswith(b"idefics2: ")


def test_ctrl_c_in_the_midst_of_an_upload_leaves_the_terminal_as_it_was(
    server: FileServer, large_picture: Path
) -> None:
    expect_upload(server, Take(5 * 2**20), Hang())
    with on_terminal(server, ("upload", str(large_picture))) as (program, terminal):
        terminal.read_until(r"uploading large\.bmp .*")
        assert server.has_taken.wait(PATIENCE_SECONDS)
        program.send_signal(signal.SIGINT)
        screen = terminal.read_to_end()
        assert program.wait(PATIENCE_SECONDS) == 130
    assert screen.text == "idefics2: interrupted; the same command goes on where this one stopped\n"
    assert screen.has_cursor


def test_a_connection_that_cannot_be_made_is_one_line(large_picture: Path) -> None:
    for target in ("127.0.0.1:1", "https://127.0.0.1:1"):
        arguments = [
            sys.executable,
            "-m",
            "idefics2_client",
            "upload",
            str(large_picture),
            "--target",
            target,
        ]
        ended = subprocess.run(arguments, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
        assert ended.returncode == 4
        assert ended.stderr.decode().count("\n") == 1
