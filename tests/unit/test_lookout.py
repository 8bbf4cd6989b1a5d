"""What is looked at beside the event loop holds up nobody: neither who serves nor who leaves."""

from __future__ import annotations

import queue
import threading

from idefics2_service.lookout import keep_looking
from structlog.testing import capture_logs

PATIENCE_SECONDS = 30


def test_it_is_looked_at_at_once_and_again_until_the_end() -> None:
    looks: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
    with keep_looking(lambda: looks.put(threading.current_thread()), 0.001):
        threads = {looks.get(timeout=PATIENCE_SECONDS) for _ in range(3)}
    (thread,) = threads
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def test_a_look_that_fails_is_told_of_and_not_the_last() -> None:
    looks: queue.SimpleQueue[None] = queue.SimpleQueue()

    def fail() -> None:
        looks.put(None)
        raise LookupError("a fault of ours")

    with capture_logs() as lines, keep_looking(fail, 0.001):
        for _ in range(2):
            looks.get(timeout=PATIENCE_SECONDS)
    assert lines[0]["log_level"] == "critical"


def test_a_look_that_hangs_is_the_only_one_and_nobody_waits_for_it() -> None:
    looks: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
    go_on = threading.Event()

    def hang() -> None:
        looks.put(threading.current_thread())
        go_on.wait()

    with keep_looking(hang, 0.001):
        thread = looks.get(timeout=PATIENCE_SECONDS)
    assert thread.is_alive()
    assert thread.daemon  # the process may end
    go_on.set()
    thread.join(PATIENCE_SECONDS)
    assert looks.empty()
