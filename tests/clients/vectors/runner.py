"""A language's program that makes calls as it is told, one line for each."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processes import clean_environment

if TYPE_CHECKING:
    from clients.languages import Language

_PATIENCE_SECONDS = 60
_MAX_LINE_BYTES = 2**26


class RunnerFailed(Exception):
    """The program ended or said nothing."""


class Runner:
    """One such program; it is started when it is needed, and again after it died."""

    def __init__(self, language: Language) -> None:
        """Be able to start the program of `language`."""
        self.language = language
        self._process: Process | None = None

    async def perform(self, call: dict[str, Any]) -> dict[str, Any]:
        """Let it make a call, and return what it says came of it.

        Raises:
            RunnerFailed: it died, or said nothing for long.

        """
        process = await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                process.stdin.write(json.dumps(call).encode() + b"\n")
                await process.stdin.drain()
                line = await process.stdout.readline()
        except (TimeoutError, ConnectionError) as error:
            await self.stop()
            raise RunnerFailed(f"{self.language.name} did not answer {call['call']}") from error
        if not line:
            raise RunnerFailed(f"{self.language.name} ended with status {await process.wait()}")
        outcome: dict[str, Any] = json.loads(line)
        return outcome

    async def reset_peak(self) -> int:
        """Forget how much memory it took at most so far; return how many bytes it takes now."""
        process = await self._start()
        peak = Path(f"/proc/{process.pid}/clear_refs")
        peak.write_text("5", encoding="ascii")  # noqa: ASYNC240  # the kernel answers at once
        return self.peak_bytes

    @property
    def peak_bytes(self) -> int:
        """How much memory it took at most since then."""
        assert self._process is not None
        for line in Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise RunnerFailed("the kernel does not tell of memory")

    async def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def _start(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            inherited = {name: value for name, value in clean_environment().items() if name[:4] != "FAL_"}
            environment = {**inherited, **self.language.variables}
            self._process = await asyncio.create_subprocess_exec(
                *self.language.runner,
                stdin=PIPE,
                stdout=PIPE,
                env=environment,
                cwd=self.language.folder,
                limit=_MAX_LINE_BYTES,
            )
        return self._process
