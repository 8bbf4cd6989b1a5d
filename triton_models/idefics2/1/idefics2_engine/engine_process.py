"""The engine in a process of its own, as whoever talks for it sees it.

Python lets one thread of a process run at a time: answers that are written and sent beside the engine would
take every other turn from it.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from idefics2_engine.errors import EngineFault, EngineFull
from idefics2_engine.messages import Cancel, Close, Count, Emit, Measured, Ping, Started, Submit, Told
from idefics2_engine.requests import LOST, LOST_BEFORE, Event, Request, is_last

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from idefics2_engine.config import EngineConfig
    from idefics2_engine.messages import Message

PROGRAM = ("-m", "idefics2_engine.engine_program")
_SECONDS_TO_END = 10.0

logger = logging.getLogger(__name__)


class EngineProcess:
    """As EngineLoop, in another process.

    Every request that is submitted gets exactly one last event, also where the process dies: then all of them
    fail, pings too, and whoever looks after this process has to replace it. Who comes later is told
    that it was lost before.
    """

    def __init__(
        self,
        config: EngineConfig,
        emit: Emit,
        show: Callable[[tuple[float, ...]], None] = lambda _: None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        """Start it, ready to answer.

        Args:
            config: of the engine.
            emit: called by one thread; must not block.
            show: gets the engine's figures once a second, in the order of `metrics.SERIES`; as `emit`.
            program: what Python is to run, which gets the number of a socket as its last argument.

        Raises:
            EngineFault: the model cannot be loaded, or cannot answer.

        """
        self._emit, self._show = emit, show
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._open: set[str] = set()
        self._submitted: set[str] = set()
        """Of those, the ones that take memory."""
        self._max_submitted = config.max_open_requests
        self._is_lost = False
        self._process, self._connection = _start(program)
        self._connection.send(config)
        self._wait_until_started()
        self._reader = threading.Thread(target=self._read, name="engine", daemon=True)
        self._reader.start()

    def submit(self, request: Request) -> None:
        """Take a request; its id must not be in use.

        Raises:
            EngineFull: there are `max_open_requests`.

        """
        with self._lock:
            if len(self._submitted) >= self._max_submitted:
                raise EngineFull(f"{self._max_submitted} requests are open, which is as many as may be")
            self._submitted.add(request.request_id)
        self._begin(request.request_id, Submit(request))

    def cancel(self, request_id: str) -> None:
        """End a request within one step, wherever it stands; an unknown one is ignored."""
        self._send(Cancel(request_id))

    def ping(self, request_id: str) -> None:
        """Answer `Alive` from the engine's own thread: the proof that it moves."""
        self._begin(request_id, Ping(request_id))

    def count(
        self, request_id: str, prompt: str, sizes: list[tuple[int, int]], *, split_images: bool | None
    ) -> None:
        """Answer what a prompt with images of these sizes would cost."""
        self._begin(request_id, Count(request_id, prompt, sizes, split_images))

    def close(self) -> None:
        """Stop it after its current step; what is still open fails.

        One that reads no more, so that nothing can be sent, is killed as one that does not end.
        """
        sender = threading.Thread(target=self._send, args=(Close(),), name="close", daemon=True)
        sender.start()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        sender.join()
        self._reader.join()
        self._connection.close()

    def _wait_until_started(self) -> None:
        try:
            told = self._connection.recv()
        except (EOFError, OSError):
            told = Started(f"the engine's process ended with status {self._process.wait()}")
        if told.problem:
            self._process.kill()
            self._process.wait()
            self._connection.close()
            raise EngineFault(told.problem)

    def _begin(self, request_id: str, message: Message) -> None:
        with self._lock:
            self._open.add(request_id)
            is_lost = self._is_lost
        try:
            is_sent = not is_lost and self._send(message)
        except Exception:  # it could not be made, for lack of memory
            self._forget(request_id)
            raise
        if not is_sent:
            self._tell(request_id, LOST_BEFORE)

    def _forget(self, request_id: str) -> None:
        with self._lock:
            self._open.discard(request_id)
            self._submitted.discard(request_id)

    def _send(self, message: Message) -> bool:
        """Tell whether the process may have got it; where it is dead, the reader hears of it, too."""
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            return False
        return True

    def _read(self) -> None:
        try:
            while True:
                told: list[Told | Measured] = self._connection.recv()
                for message in told:
                    if isinstance(message, Measured):
                        self._show(message.values)
                    else:
                        self._tell(*message)
        except (EOFError, OSError):
            self._lose()

    def _lose(self) -> None:
        with self._lock:
            self._is_lost = True
            request_ids = list(self._open)
        if request_ids:
            logger.error("the engine's process is gone with %d requests", len(request_ids))
        for request_id in request_ids:
            self._tell(request_id, LOST)

    def _tell(self, request_id: str, event: Event) -> None:
        """Pass an event on, unless the request's last one is out already."""
        with self._lock:
            if request_id not in self._open:
                return
            if is_last(event):
                self._open.discard(request_id)
                self._submitted.discard(request_id)
        self._emit(request_id, event)


def _start(program: Sequence[str]) -> tuple[subprocess.Popen[bytes], Connection]:
    ours, its = socket.socketpair()
    # Within Triton, sys.executable is Triton's own program.
    python = Path(sys.prefix) / "bin" / "python3"
    folder = str(Path(__file__).parents[1])
    with its:
        process = subprocess.Popen(  # noqa: S603  # our own program
            [str(python), *program, str(its.fileno())],
            pass_fds=[its.fileno()],
            env={**os.environ, "PYTHONPATH": folder, "TQDM_DISABLE": "1"},  # a bar is no line of a log
            stdin=subprocess.DEVNULL,
        )
    return process, Connection(ours.detach())
