"""What a request is at, and what it took: one line for a person."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from idefics2.v1.generation_pb2 import FinishReason

from idefics2_client.names import write_name

if TYPE_CHECKING:
    from idefics2.v1.generation_pb2 import GenerateResponse


class Status:
    """Stage, place in the queue, time, tokens and tokens per second of a request that runs.

    One thread may tell it what happens while another writes it.
    """

    def __init__(self) -> None:
        """Begin to measure."""
        self._started = time.monotonic()
        self._stage, self._queue = "connecting", ""
        self._first: tuple[float, int] | None = None
        self._tokens, self._speed = "", ""

    def enter_stage(self, stage: str) -> None:
        """Be at `stage`; a place in the queue holds for the stage it was told in."""
        self._stage, self._queue = stage, ""

    def wait_behind(self, num_requests: int) -> None:
        """Have so many before this one, in a stage that nobody may have told of."""
        self._stage, self._queue = "queued", f"{num_requests} before you"

    def count_tokens(self, num_tokens: int) -> None:
        """Have `num_tokens` in all, the newest of which arrived just now.

        What arrives first, one token or several, starts the clock of the speed; it is not part of it.
        """
        now = time.monotonic()
        self._first = self._first or (now, num_tokens)
        started, num_before = self._first
        self._tokens = _write_count(num_tokens)
        self._speed = _write_speed(num_tokens - num_before, now - started)

    def begin_anew(self) -> None:
        """Forget the tokens of an attempt that was lost."""
        self._first, self._tokens, self._speed = None, "", ""

    def __str__(self) -> str:
        """Write it as of now."""
        elapsed = f"{time.monotonic() - self._started:.1f} s"
        return _join(self._stage, self._queue, elapsed, self._tokens, self._speed)


def summarize(response: GenerateResponse) -> str:
    """Write what a complete answer took."""
    tokens, seconds = response.usage.num_generated_tokens, response.stage_seconds
    # `decode` runs from the first token to the last: one step less than there are tokens.
    speed = _write_speed(tokens - 1, seconds.decode)
    reason = write_name(FinishReason.DESCRIPTOR, response.finish_reason)
    return _join(_write_count(tokens), speed, f"{seconds.total:.1f} s", reason)


def _write_count(num_tokens: int) -> str:
    return "1 token" if num_tokens == 1 else f"{num_tokens} tokens"


def _write_speed(num_tokens: int, seconds: float) -> str:
    return f"{num_tokens / seconds:.1f} tokens/s" if num_tokens > 0 and seconds > 0 else ""


def _join(*parts: str) -> str:
    return " · ".join(filter(None, parts))
