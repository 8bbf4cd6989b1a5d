"""The program of the engine's process: `python -m idefics2_engine.engine_program SOCKET`.

It ends with the one that started it, however that ends: then the socket is closed.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import sys
import threading
from contextlib import contextmanager
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import TYPE_CHECKING

from idefics2_engine import logs
from idefics2_engine.engine import Engine
from idefics2_engine.loop import EngineLoop
from idefics2_engine.messages import Cancel, Close, Count, Measured, Message, Ping, Started, Submit, Told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from idefics2_engine.config import EngineConfig
    from idefics2_engine.requests import Event

# The engine's thread takes Python's lock back hundreds of times a step, from the threads beside it.
MAX_SECONDS_TO_WAIT_FOR_PYTHON = 0.0003
SECONDS_BETWEEN_REPORTS = 1.0
SECONDS_BETWEEN_LOOKS = 0.5

logger = logging.getLogger(__name__)


class Teller:
    """Sends what happens, all that is there as one message, so that the engine's thread never waits."""

    def __init__(self, connection: Connection) -> None:
        """Send over `connection`."""
        self._connection = connection
        self._told: SimpleQueue[Told | Measured | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="teller", daemon=True)
        self._thread.start()

    def tell(self, request_id: str, event: Event) -> None:
        """Have an event sent; never blocks."""
        self._told.put((request_id, event))

    def show(self, values: tuple[float, ...]) -> None:
        """Have figures sent; never blocks."""
        self._told.put(Measured(values))

    def close(self) -> None:
        """Send what is there, then stop."""
        self._told.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._told.get()) is not None:
            together, ends = [first], False
            while not self._told.empty() and not ends:
                following = self._told.get()
                ends = following is None
                if following is not None:
                    together.append(following)
            self._connection.send(together)
            if ends:
                return


class Reporter:
    """Shows the engine's figures, once a second."""

    def __init__(
        self, measure: Callable[[], tuple[float, ...]], show: Callable[[tuple[float, ...]], None]
    ) -> None:
        """Begin at once: `show` what there is to `measure`."""
        self._measure, self._show = measure, show
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Show the last ones, then stop."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(SECONDS_BETWEEN_REPORTS):
            self._report()
        self._report()

    def _report(self) -> None:
        try:
            self._show(self._measure())
        except Exception:  # no file can be opened, say; standing figures would look like an engine that does
            logger.exception("the engine's figures could not be measured")


@contextmanager
def end_with(connection: Connection) -> Iterator[None]:
    """End this process where the other side closes while nobody receives."""
    is_over = threading.Event()

    def look() -> None:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLRDHUP)
        while not is_over.is_set():
            if poll.poll(SECONDS_BETWEEN_LOOKS * 1000) and not is_over.is_set():
                os._exit(1)

    threading.Thread(target=look, name="guard", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def main(start: Callable[[EngineConfig], Engine] = Engine.start) -> None:
    """Load the model by `start`, say so, and do what is asked until the other side closes."""
    logs.configure()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other side's to answer
    connection = Connection(int(sys.argv[1]))
    sys.setswitchinterval(MAX_SECONDS_TO_WAIT_FOR_PYTHON)
    config = connection.recv()
    try:
        with end_with(connection):
            engine = start(config)
    except Exception as error:
        logger.exception("the model cannot be served")
        connection.send(Started(f"the model cannot be served: {error}"))
        return
    gc.collect()
    gc.freeze()  # else a search for garbage looks at half a million objects, and a step waits half a second
    connection.send(Started())
    teller = Teller(connection)
    loop = EngineLoop(engine, teller.tell)
    reporter = Reporter(engine.measure, teller.show)
    try:
        while _do_next(loop, connection):  # a frame of its own: no files are held while waiting
            pass
    except (EOFError, OSError):
        os._exit(1)  # nobody is there any more; a device that hangs must not hold us
    loop.close()
    reporter.close()
    teller.close()
    engine.close()


def _do_next(loop: EngineLoop, connection: Connection) -> bool:
    """Do what is asked next; False to stop."""
    message: Message = connection.recv()
    match message:
        case Submit(request):
            loop.submit(request)
        case Cancel(request_id):
            loop.cancel(request_id)
        case Ping(request_id):
            loop.ping(request_id)
        case Count(request_id, prompt, sizes, split_images):
            loop.count(request_id, lambda p: p.count(prompt, sizes, split_images=split_images))
        case Close():
            return False
    return True


if __name__ == "__main__":
    main()
