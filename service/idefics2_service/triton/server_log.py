"""What the embedded Triton and its model write: a file, as long as they run; what is wrong is passed on."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import msgspec
import structlog

if TYPE_CHECKING:
    from pathlib import Path

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
LINES_SHOWN = 15
MAX_BYTES = 256 * 1024
"""What one look takes: more comes only from what fails again and again."""
_NO_LINE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Frame(msgspec.Struct):
    filename: str
    lineno: int
    name: str


class _Raised(msgspec.Struct):
    exc_type: str
    exc_value: str
    is_cause: bool
    frames: list[_Frame]


class _Line(msgspec.Struct):
    """A line of the model's that says that something is wrong; Triton's own are no JSON."""

    event: str
    level: Literal["warning", "error", "critical"]
    timestamp: str
    logger: str
    request_id: str = ""
    trace_id: str = ""
    exception: list[_Raised] = []

    def pass_on(self) -> None:
        """Write it into our log, as of the time when it was written."""
        told = msgspec.to_builtins(self)
        level, event = logging.getLevelNamesMapping()[told.pop("level").upper()], told.pop("event")
        logger.log(level, event, **{name: value for name, value in told.items() if value})


class ServerLog:
    """The file of one server's log, from before it starts until it is gone."""

    def __init__(self, path: Path) -> None:
        """Make the file.

        Raises:
            OSError: it cannot be made.

        """
        path.touch()
        self.path = path
        self._input = path.open("rb")  # which can be read when the file is removed, too
        self._position = 0
        self._is_over = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    def follow(self) -> None:
        """Pass on what is wrong, each second; `close` must follow."""
        self._following = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Pass on what is there, and no more."""
        self._is_over.set()
        if self._following is not None:
            await self._following
        self._input.close()

    def read_tail(self) -> str:
        """Return the last lines: the file goes away with the server."""
        read = os.pread(self._input.fileno(), MAX_BYTES, max(self._measure() - MAX_BYTES, 0))
        lines = read.decode(errors="replace").splitlines()
        return "\n".join(lines[-LINES_SHOWN:])

    async def _follow(self) -> None:
        is_last = False
        while not is_last:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._is_over.wait()
            is_last = self._is_over.is_set()
            try:
                await asyncio.to_thread(self._pass_on)
            except OSError as error:
                logger.warning("the model's log cannot be read", error=str(error))
                return

    def _pass_on(self) -> None:
        """Pass on what is wrong, of whole lines that were not looked at yet."""
        skipped = self._measure() - self._position - MAX_BYTES
        if skipped > 0:
            self._position += skipped
            logger.warning("of the model's log, not all is passed on", num_bytes_left_out=skipped)
        read = os.pread(self._input.fileno(), MAX_BYTES, self._position)
        *lines, rest = read.split(b"\n")
        self._position += len(read) - len(rest)
        for line in lines:
            if line.startswith(b"{"):
                with suppress(*_NO_LINE):
                    msgspec.json.decode(line, type=_Line).pass_on()

    def _measure(self) -> int:
        return os.fstat(self._input.fileno()).st_size
