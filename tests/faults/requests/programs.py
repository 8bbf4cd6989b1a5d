"""Processes that may be killed, and are started again at once, as an operator's supervisor would."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from processes import PATIENCE_SECONDS, clean_environment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path


class Program:
    """A process that is kept running, as an async context; it is struck by `kill` and `pause`."""

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        answers: Callable[[], Awaitable[None]],
        variables: Mapping[str, str],
    ) -> None:
        """Prepare to run `command`; `answers` returns once it can be used."""
        self.name = name
        self.crashes = 0
        """How often it ended by itself after it could be used."""
        self._command = command
        self._log = log
        self._answers = answers
        self._environment = {**clean_environment(), **variables}
        self._process: asyncio.subprocess.Process | None = None
        self._is_up, self._may_run = asyncio.Event(), asyncio.Event()
        self._may_run.set()
        self._is_paused = False
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start it, and return without waiting for it."""
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it, whatever state it is in."""
        assert self._keeping is not None
        self._keeping.cancel()
        with suppress(asyncio.CancelledError):
            await self._keeping

    @property
    def pid(self) -> int:
        """Number of the process that runs now."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_up(self) -> bool:
        """Whether it can be used, as far as it is known."""
        return self._is_up.is_set() and not self._is_paused

    async def wait_until_up(self) -> None:
        """Return once it can be used.

        Raises:
            TimeoutError: it does not get so far; with the end of its log.

        """
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._is_up.wait()
        except TimeoutError as error:
            raise TimeoutError(f"{self.name} does not answer: {self._log.read_text()[-1_000:]}") from error

    async def kill(self, *, forever: bool = False) -> None:
        """End it without a chance to do anything; return when it is gone. `forever`: until `resume`."""
        if forever:
            self._may_run.clear()
        process = self._process
        assert process is not None
        self._is_up.clear()
        process.kill()
        await process.wait()

    async def end(self, *, forever: bool = False) -> int:
        """Ask it to end, as whoever restarts it does; return its exit status when it is gone.

        `forever`: until `resume`.
        """
        if forever:
            self._may_run.clear()
        process = self._process
        assert process is not None
        self._is_up.clear()
        process.terminate()
        return await process.wait()

    def resume(self) -> None:
        """Let it run again after it was killed for ever."""
        self._may_run.set()

    async def pause(self, seconds: float) -> None:
        """Let it stand still for a while."""
        process = self._process
        assert process is not None
        self._is_paused = True
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._is_paused = False
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)

    async def _keep(self) -> None:
        while True:
            await self._may_run.wait()
            with self._log.open("ab") as log:
                # A session of its own: Ctrl-C reaches it and not the tests.
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, stdout=log, stderr=log, env=self._environment, start_new_session=True
                )
            await self._follow(self._process)

    async def _follow(self, process: asyncio.subprocess.Process) -> None:
        """Return when the process is gone."""
        answering = asyncio.create_task(self._note_answers())
        try:
            await process.wait()
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            if process.returncode is None:
                process.kill()
                await process.wait()
        self.crashes += self._is_up.is_set()
        self._is_up.clear()

    async def _note_answers(self) -> None:
        await self._answers()
        self._is_up.set()
