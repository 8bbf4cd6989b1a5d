"""The program of the engine's process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import TYPE_CHECKING

from idefics2_engine import engine_program

if TYPE_CHECKING:
    import pytest

PROGRAM = """
import gc, sys
from multiprocessing import Pipe
from bench.paced.engine import PacedEngine
from idefics2_engine import engine_program
from idefics2_engine.messages import Close

here, there = Pipe()
sys.argv = ["engine_program", str(there.fileno())]
built = []

def start(config):
    built.append([config])
    return PacedEngine.start(config)

def is_looked_at():
    return any(each is built[0] for each in gc.get_objects())

here.send("config")
here.send(Close())
engine_program.main(start)
later = [built]
print(is_looked_at(), any(each is later for each in gc.get_objects()))
"""

LOADING = """
import os, sys, threading
from multiprocessing.connection import Connection
from idefics2_engine import engine_program

def start(config):
    os.write(1, b"loads")
    threading.Event().wait()

engine_program.main(start)
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
PATIENCE_SECONDS = 60


def test_no_search_for_garbage_looks_at_what_the_start_built() -> None:
    command = [sys.executable, "-c", PROGRAM]
    told = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True, timeout=120, text=True)
    assert told.stdout.strip() == "False True"


def test_who_is_left_as_the_model_loads_ends() -> None:
    here, there = socket.socketpair()
    with there:
        command = [sys.executable, "-c", LOADING, str(there.fileno())]
        program = subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, pass_fds=[there.fileno()]
        )
    with program, Connection(here.detach()) as connection:
        connection.send("config")
        assert program.stdout is not None
        assert program.stdout.read(5) == b"loads"
        connection.close()
        assert program.wait(PATIENCE_SECONDS) == 1


def test_figures_that_cannot_be_measured_once_are_shown_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_program, "SECONDS_BETWEEN_REPORTS", 0.001)
    shown: SimpleQueue[tuple[float, ...]] = SimpleQueue()
    failures = [OSError(24, "Too many open files")]

    def measure() -> tuple[float, ...]:
        if failures:
            raise failures.pop()
        return (1.0,)

    reporter = engine_program.Reporter(measure, shown.put)
    assert shown.get(timeout=PATIENCE_SECONDS) == (1.0,)
    reporter.close()
