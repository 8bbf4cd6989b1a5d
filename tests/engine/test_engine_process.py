"""The engine's process answers as the engine does, and whoever loses it is told."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import psutil
import pytest
from engine.answers import text_of
from engine.conftest import MODEL_FOLDER
from fakes.engine import Told
from idefics2_engine import engine_process
from idefics2_engine.config import EngineConfig
from idefics2_engine.engine_process import EngineProcess
from idefics2_engine.errors import EngineFault, EngineFull
from idefics2_engine.requests import (
    Alive,
    Cancelled,
    Counted,
    Failed,
    Finished,
    Request,
    SamplingParams,
)
from pictures import DESCRIBE, NUM_IMAGE_TOKENS, NUM_PROMPT_TOKENS, RED_CIRCLE, draw_red_circle, red_circle

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_SECONDS = 60
LOST = Failed("BACKEND_UNAVAILABLE", "the engine is lost")
LOST_BEFORE = Failed("BACKEND_UNAVAILABLE", "the engine was lost before", was_lost_before=True)
CONFIG = EngineConfig.read({}, {}, MODEL_FOLDER)
GREEDY = SamplingParams(temperature=0)
ENDLESS = SamplingParams(temperature=10, top_p=1, max_new_tokens=1_500, min_new_tokens=1_500)
STARTER = """
import sys
from pathlib import Path
from idefics2_engine.config import EngineConfig
from idefics2_engine.engine_process import EngineProcess
process = EngineProcess(EngineConfig.read({}, {}, Path(sys.argv[1])), print)
print(process._process.pid, flush=True)
process._process.wait()
"""
# Answers nobody until he is cancelled.
SILENT = """
import sys
from multiprocessing.connection import Connection
from idefics2_engine.messages import Cancel, Close, Ping, Started
from idefics2_engine.requests import Alive, Cancelled
connection = Connection(int(sys.argv[1]))
connection.recv()
connection.send(Started())
while not isinstance(message := connection.recv(), Close):
    if isinstance(message, Cancel | Ping):
        event = Cancelled() if isinstance(message, Cancel) else Alive()
        connection.send([(message.request_id, event)])
"""

# Begins to read a message, says so, and reads no more.
STUCK = """
import os, signal, sys
from multiprocessing.connection import Connection
from idefics2_engine.messages import Measured, Started
connection = Connection(int(sys.argv[1]))
connection.recv()
connection.send(Started())
os.read(connection.fileno(), 1)
connection.send([Measured(())])
signal.pause()
"""

# Says how it is, and dies.
DYING = """
import sys
from multiprocessing.connection import Connection
from idefics2_engine.messages import Measured, Started
connection = Connection(int(sys.argv[1]))
connection.recv()
connection.send(Started())
connection.send([Measured(())])
"""


@pytest.fixture(scope="module")
def told() -> Told:
    """What the process tells."""
    return Told()


@pytest.fixture(scope="module")
def process(told: Told) -> Iterator[EngineProcess]:
    """One that answers."""
    process = EngineProcess(CONFIG, told.emit)
    yield process
    process.close()
    assert process._process.returncode == 0
    assert not process._open


def ask(request_id: str, sampling: SamplingParams = GREEDY) -> Request:
    """Ask about a red circle."""
    return Request(request_id, DESCRIBE, (red_circle(),), sampling)


def test_it_answers_as_the_engine_does(process: EngineProcess, told: Told) -> None:
    names = [f"answered-{number}" for number in range(5)]
    for name in names:
        process.submit(ask(name))
    for last in told.wait_for_last(*names):
        assert isinstance(last, Finished)
    assert {text_of(told.events[name]) for name in names} == {RED_CIRCLE}


def test_it_counts_and_answers_pings_from_the_engines_thread(process: EngineProcess, told: Told) -> None:
    process.ping("ping")
    process.count("count", DESCRIBE, [draw_red_circle().size], split_images=None)
    alive, counted = told.wait_for_last("ping", "count")
    assert alive == Alive()
    assert isinstance(counted, Counted)
    assert (counted.num_prompt_tokens, counted.num_image_tokens) == (NUM_PROMPT_TOKENS, NUM_IMAGE_TOKENS)


def test_a_request_is_cancelled_within_a_step(process: EngineProcess, told: Told) -> None:
    process.submit(ask("endless", ENDLESS))
    told.wait_for_events("endless", 5)
    process.cancel("endless")
    process.cancel("nobody")
    assert told.wait_for_last("endless") == [Cancelled()]


def test_a_request_at_fault_fails_alone(process: EngineProcess, told: Told) -> None:
    process.submit(Request("bad", DESCRIBE, (b"no picture",), GREEDY))
    process.submit(ask("good"))
    bad, good = told.wait_for_last("bad", "good")
    assert isinstance(bad, Failed)
    assert bad.field == "images[0]"
    assert isinstance(good, Finished)


def test_one_request_more_than_may_be_open_is_refused_until_one_has_ended() -> None:
    told = Told()
    config = dataclasses.replace(CONFIG, max_open_requests=2)
    process = EngineProcess(config, told.emit, program=("-c", SILENT))
    for name in ("first", "second"):
        process.submit(ask(name))
    process.ping("ping")  # it takes no memory, and says whether the engine moves
    assert told.wait_for_last("ping") == [Alive()]
    with pytest.raises(EngineFull, match="2 requests are open") as caught:
        process.submit(ask("third"))
    assert caught.value.reason == "QUEUE_FULL"
    process.cancel("first")
    assert told.wait_for_last("first") == [Cancelled()]
    process.submit(ask("fourth"))
    process.cancel("fourth")
    process.cancel("second")
    told.wait_for_last("second", "fourth")
    process.close()
    told.check_one_last_event_each({"first", "second", "fourth", "ping"})


def test_a_request_for_which_no_message_can_be_made_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    config = dataclasses.replace(CONFIG, max_open_requests=1)
    process = EngineProcess(config, told.emit, program=("-c", SILENT))

    def lack_memory(_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(process._connection, "send", lack_memory)
        with pytest.raises(MemoryError):
            process.submit(ask("large"))
    process.submit(ask("small"))
    process.cancel("small")
    assert told.wait_for_last("small") == [Cancelled()]
    process.close()
    told.check_one_last_event_each({"small"})


def test_it_closes_though_the_process_reads_no_more_and_who_waits_to_send_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, is_stuck = Told(), threading.Event()
    monkeypatch.setattr(engine_process, "_SECONDS_TO_END", 0.1)
    process = EngineProcess(CONFIG, told.emit, lambda _: is_stuck.set(), program=("-c", STUCK))
    large = Request("large", DESCRIBE, (bytes(5_000_000),), GREEDY)  # more than the socket holds
    submitting = threading.Thread(target=process.submit, args=(large,))
    submitting.start()
    assert is_stuck.wait(PATIENCE_SECONDS)
    closing = threading.Thread(target=process.close, daemon=True)
    closing.start()
    closing.join(PATIENCE_SECONDS)
    assert not closing.is_alive()
    submitting.join(PATIENCE_SECONDS)
    assert told.wait_for_last("large")[0] in (LOST, LOST_BEFORE)
    told.check_one_last_event_each({"large"})


def test_a_checkpoint_that_cannot_be_loaded_is_said_and_leaves_no_process(
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = dataclasses.replace(CONFIG, checkpoint=str(MODEL_FOLDER / "1"))
    before = psutil.Process().children()
    with pytest.raises(EngineFault, match="the model cannot be served"):
        EngineProcess(config, lambda *_: None)
    assert set(psutil.Process().children()) <= set(before)
    (line,) = map(json.loads, capfd.readouterr().err.splitlines())
    assert (line["event"], line["level"]) == ("the model cannot be served", "error")
    assert line["exception"][0]["frames"]


def test_who_loses_the_process_is_told_and_who_comes_later_is_told_that_it_was_lost_before() -> None:
    told = Told()
    process = EngineProcess(CONFIG, told.emit)
    process.submit(ask("running", ENDLESS))
    told.wait_for_events("running", 5)
    process._process.kill()
    assert told.wait_for_last("running") == [LOST]
    process.ping("later")
    process.submit(ask("late"))
    assert told.wait_for_last("later", "late") == [LOST_BEFORE, LOST_BEFORE]
    process.close()


def test_what_cannot_be_sent_to_a_dead_process_comes_later_though_nobody_has_heard_of_its_death() -> None:
    told, is_read = Told(), threading.Event()

    def hold_up(_: tuple[float, ...]) -> None:
        is_read.wait(PATIENCE_SECONDS)

    process = EngineProcess(CONFIG, told.emit, hold_up, program=("-c", DYING))
    process._process.wait()
    process.submit(ask("late"))
    assert told.wait_for_last("late") == [LOST_BEFORE]
    is_read.set()
    process.close()
    told.check_one_last_event_each({"late"})


def test_the_process_ends_with_the_one_that_started_it() -> None:
    paths = ":".join(sys.path)
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(MODEL_FOLDER)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )
    with starter:
        assert starter.stdout is not None
        engine = psutil.Process(int(starter.stdout.readline()))
        children = engine.children(recursive=True)
        starter.send_signal(signal.SIGKILL)
        gone, alive = psutil.wait_procs([engine, *children], timeout=PATIENCE_SECONDS)
        assert len(gone) == 1 + len(children)
        assert not alive
