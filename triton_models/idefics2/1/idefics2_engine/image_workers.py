"""Decoding in processes of its own: a picture that takes too long, or too much memory, costs nobody else.

Whatever happens to a worker, a new one takes its place with the next picture.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from idefics2_engine.errors import EngineFault
from idefics2_engine.image_worker import HEAD, OVERRUN, pack
from idefics2_engine.images import Crop, InvalidImage, Sizing
from idefics2_engine.logs import LEVEL_VARIABLE
from idefics2_engine.picture_line import PictureLine

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

# Without warnings: of one damaged file there may be hundreds, and they would be in Triton's log.
_PROGRAM = ("-W", "ignore", "-m", "idefics2_engine.image_worker")
_HANDED_ON = re.compile(
    r"PATH|HOME|TMPDIR|TZ|LANG|LANGUAGE|GLIBC_TUNABLES|(LC|LD|MALLOC|OPENBLAS|NPY|PILLOW)_.*|PYTHON.*|"
    + LEVEL_VARIABLE
)
"""What a worker gets of our environment. Who parses strangers' pictures is not handed the service's keys."""
_SECONDS_TO_START = 30.0
_SECONDS_TO_END = 5.0
_NUM_TRIES = 2
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
"""How a worker ends that somebody kills who knows nothing of its picture: an operator, the kernel for want of
memory. By a fault of its picture it ends as decoders crash, or by OVERRUN."""
_LOOK_SECONDS = 0.05  # how often somebody looks whether a picture is wanted still
_SLICE_SECONDS = 4 * _LOOK_SECONDS  # the most that counts from one look to the next
_CHUNK = 1 << 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerLimits:
    """What the largest picture may take; a smaller one gets less time, see `image_worker.Allowance`."""

    max_pixels: int
    max_seconds: float
    """By the clock."""
    max_processor_seconds: float
    """Of the processor's time."""
    max_memory_bytes: int
    """Beyond what a worker has that does nothing."""


@dataclass(frozen=True, eq=False)
class _Job:
    data: bytes
    split: bool
    result: Future[list[Crop]]
    give_up: Callable[[], bool]


class ImageWorkers:
    """Several workers and one line before them."""

    def __init__(self, num_workers: int, sizing: Sizing, limits: WorkerLimits) -> None:
        """Start the workers' keepers; each starts its worker with its first picture."""
        self._line: PictureLine[_Job] = PictureLine()
        self._killed: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._keepers = [
            threading.Thread(target=_Keeper(sizing, limits, self._count).run, args=(self._line,),
                             name=f"images-{number}", daemon=True)
            for number in range(num_workers)
        ]  # fmt: skip
        for keeper in self._keepers:
            keeper.start()

    @property
    def killed(self) -> Counter[str]:
        """How many workers had to be replaced: for `time`, `processor_time`, `died` and `cancelled`."""
        with self._lock:
            return self._killed.copy()

    def _count(self, why: str) -> None:
        with self._lock:
            self._killed[why] += 1

    def submit(
        self,
        data: bytes,
        *,
        split: bool,
        give_up: Callable[[], bool],
        shares: Callable[[], Collection[str]] = lambda: ("",),
    ) -> Future[list[Crop]]:
        """Have a picture cut into crops.

        Args:
            data: the file.
            split: whether its quarters are wanted too.
            give_up: asked from time to time; once true, the future is cancelled and the worker stopped.
            shares: as PictureLine.put.

        Returns:
            The crops, InvalidImage, or EngineFault where nothing could decode it.

        """
        result: Future[list[Crop]] = Future()
        self._line.put(_Job(data, split, result, give_up), shares)
        return result

    def close(self) -> None:
        """Stop after what is in line."""
        self._line.close()
        for keeper in self._keepers:
            keeper.join()


class _Keeper:
    """Keeps one worker alive and hands it one picture at a time."""

    def __init__(self, sizing: Sizing, limits: WorkerLimits, count: Callable[[str], None]) -> None:
        self._sizing, self._limits, self._count = sizing, limits, count
        self._worker: subprocess.Popen[bytes] | None = None

    def run(self, line: PictureLine[_Job]) -> None:
        """Work until there is nothing to come."""
        while self._do_next(line):  # a frame of its own: nothing of a picture is held while waiting
            pass
        self._stop()

    def _do_next(self, line: PictureLine[_Job]) -> bool:
        job = line.take()
        if job is None:
            return False
        try:
            crops = self._cut(job)
        except _GivenUpError:
            job.result.cancel()
        except (InvalidImage, EngineFault) as error:
            job.result.set_exception(_strip(error))
        except Exception as error:  # whatever it is belongs to who waits
            logger.exception("an image could not be decoded")
            job.result.set_exception(_strip(error))
        else:
            job.result.set_result(crops)
        return True

    def _cut(self, job: _Job) -> list[Crop]:
        if job.give_up():  # in line already: that costs no worker
            raise _GivenUpError
        for _ in range(_NUM_TRIES):
            with suppress(_KilledError):
                return self._try(job)
        logger.error("decoders of an image were killed from outside, %d in a row", _NUM_TRIES)
        raise EngineFault("the engine's decoders of an image were killed")

    def _try(self, job: _Job) -> list[Crop]:
        """Have the worker cut a picture; _KilledError where it is gone by no fault of the picture's."""
        head = {"split": job.split, "sizing": asdict(self._sizing)}
        worker = self._find_worker()
        if job.give_up():  # while it came up: it is as good as new
            raise _GivenUpError
        try:
            told, pixels = self._ask(worker, pack(head, job.data), job.give_up)
        except _GivenUpError:
            self._count("cancelled")
            raise
        except TimeoutError as error:
            self._count("time")
            problem = f"took more than {self._limits.max_seconds:g} s to decode"
            raise InvalidImage("FILE_UNDECODABLE", problem) from error
        except _OverrunError as error:
            self._count("processor_time")
            problem = "takes too long to decode for a picture of its size"
            raise InvalidImage("FILE_UNDECODABLE", problem) from error
        except _KilledError:
            self._count("died")
            raise
        except (OSError, EOFError) as error:
            self._count("died")
            raise InvalidImage("FILE_UNDECODABLE", "could not be decoded: its decoder died") from error
        if "reason" in told:
            raise InvalidImage(told["reason"], told["problem"])
        return _unpack_crops(told["grids"], pixels)

    def _find_worker(self) -> subprocess.Popen[bytes]:
        """Return the worker, a new one where there is none that lives.

        Raises:
            EngineFault: none comes up, which is no picture's fault.

        """
        if self._worker is not None and self._worker.poll() is not None:
            self._count("died")
            self._stop()  # its pipes are open still
        if self._worker is None:
            try:
                self._worker = _start(self._limits)
                _wait_until_up(self._worker)
            except (OSError, EOFError) as error:
                if self._stop() is not None:
                    self._count("died")
                logger.exception("no process comes up that decodes images")
                raise EngineFault("the engine could not begin to decode an image") from error
        return self._worker

    def _ask(
        self, worker: subprocess.Popen[bytes], message: bytes, give_up: Callable[[], bool]
    ) -> tuple[dict[str, Any], bytes]:
        """Exchange one message; a worker that fails at it is not used again."""
        try:
            return _exchange(worker, message, self._limits.max_seconds, give_up)
        except BrokenPipeError as error:  # it was dead before
            self._stop()
            raise _KilledError from error
        except EOFError as error:
            ended = self._see_end(worker)
            if ended == -OVERRUN:
                raise _OverrunError from error
            if ended in _FROM_OUTSIDE:
                raise _KilledError from error
            raise
        except BaseException:
            self._stop()
            raise

    def _see_end(self, worker: subprocess.Popen[bytes]) -> int | None:
        """Return how the worker ended that will say nothing more; None where it had to be ended."""
        try:
            ended = worker.wait(_SECONDS_TO_END)  # else we might kill it on its way out
        except subprocess.TimeoutExpired:
            ended = None
        self._stop()
        return ended

    def _stop(self) -> int | None:
        """End the worker, if there is one, and return how it ended."""
        worker, self._worker = self._worker, None
        if worker is None:
            return None
        worker.kill()
        worker.communicate()
        return worker.returncode


def _strip(error: Exception) -> Exception:
    """Let an error be no more than its words.

    Its frames hold the file, and the future that is to hold it: only the collector would free them,
    which looks at what is old once in many thousand requests.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


class _GivenUpError(Exception):
    """Nobody waits for the picture any more."""


class _OverrunError(Exception):
    """The picture took more of the processor's time than it may."""


class _KilledError(Exception):
    """The worker was killed from outside, or was dead before it was given anything."""


def _start(limits: WorkerLimits) -> subprocess.Popen[bytes]:
    # Within Triton, sys.executable is Triton's own program.
    python = Path(sys.prefix) / "bin" / "python3"
    folder = str(Path(__file__).parents[1])
    environment = {name: value for name, value in os.environ.items() if _HANDED_ON.fullmatch(name)}
    environment |= {"PYTHONPATH": folder, "OPENBLAS_NUM_THREADS": "1"}
    bounds = (limits.max_memory_bytes, limits.max_pixels, limits.max_processor_seconds)
    worker = subprocess.Popen(  # noqa: S603  # our own program
        [str(python), *_PROGRAM, str(os.getpid()), *map(str, bounds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        bufsize=0,
    )
    for pipe in _pipes(worker):
        os.set_blocking(pipe.fileno(), False)
    return worker


def _wait_until_up(worker: subprocess.Popen[bytes]) -> None:
    """Read what a worker says first; raises as `_exchange`."""
    _exchange(worker, b"", _SECONDS_TO_START, lambda: False)


def _pipes(worker: subprocess.Popen[bytes]) -> tuple[Any, Any]:
    return worker.stdin, worker.stdout


def _exchange(
    worker: subprocess.Popen[bytes], message: bytes, seconds: float, give_up: Callable[[], bool]
) -> tuple[dict[str, Any], bytes]:
    """Write a message and read the reply.

    Raises:
        TimeoutError: it took too long.
        BrokenPipeError: the worker died before any of the message was written.
        EOFError: it died later.

    """
    to_worker, from_worker = (pipe.fileno() for pipe in _pipes(worker))
    unsent, reply = memoryview(message), bytearray()
    patience = _Patience(seconds)
    poll = select.poll()
    poll.register(to_worker, select.POLLOUT)
    poll.register(from_worker, select.POLLIN)
    while (length := _find_length(reply)) is None or len(reply) < length:
        patience.spend()
        if give_up():
            raise _GivenUpError
        for descriptor, _ in poll.poll(_LOOK_SECONDS * 1000):
            if descriptor == to_worker:
                unsent = _write(to_worker, unsent, is_first=len(unsent) == len(message))
                if not unsent:
                    poll.unregister(to_worker)
            elif not (read := os.read(from_worker, _CHUNK)):
                raise EOFError
            else:
                reply += read
    num_head_bytes, _ = HEAD.unpack_from(reply)
    begin = HEAD.size + num_head_bytes
    return json.loads(reply[HEAD.size : begin]), bytes(reply[begin:])


def _write(descriptor: int, unsent: memoryview, *, is_first: bool) -> memoryview:
    """Write a part of a message and return the rest; raises as `_exchange`."""
    try:
        return unsent[os.write(descriptor, unsent[:_CHUNK]) :]
    except BrokenPipeError as error:
        if is_first:
            raise
        raise EOFError from error


class _Patience:
    """Time that is spent from look to look, at most a slice at once.

    After a pause of all of us (a frozen container, a machine that swaps) it would be over by the clock,
    though the worker had nothing of it, or its reply has only to be read.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._looked_at = seconds, time.monotonic()

    def spend(self) -> None:
        """Spend what passed since the last look; TimeoutError where there was not so much."""
        now = time.monotonic()
        self._seconds -= min(now - self._looked_at, _SLICE_SECONDS)
        self._looked_at = now
        if self._seconds < 0:
            raise TimeoutError


def _find_length(reply: bytearray) -> int | None:
    return sum(HEAD.unpack_from(reply)) + HEAD.size if len(reply) >= HEAD.size else None


def _unpack_crops(grids: list[list[int]], pixels: bytes) -> list[Crop]:
    sizes = [rows * columns for rows, columns in grids]
    patches = np.frombuffer(bytearray(pixels), np.uint8).reshape(sum(sizes), -1)
    parts = np.split(patches, np.cumsum(sizes)[:-1])
    return [Crop((rows, columns), part) for (rows, columns), part in zip(grids, parts, strict=True)]
