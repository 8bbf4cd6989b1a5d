"""How a request is shown on a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from idefics2_client.display import Display
from idefics2_client.outcome import name_finish_reason

if TYPE_CHECKING:
    from idefics2.v1.generation_pb2 import GenerateResponse


class LiveDisplay(Display):
    """One line that moves while there is nothing to read yet, then the answer, then what it took.

    The line goes away before the first letter of the answer: both are on one screen, and a line that is
    drawn again and again would tear the text.
    """

    def __init__(self, out: TextIO, err: TextIO) -> None:
        """Write the answer to `out`, the moving line to `err`."""
        super().__init__(out, err)
        self._started = time.monotonic()
        self._stage, self._queue = "connecting", ""
        self._held: list[str] = []
        self._console = Console(file=err)
        self._spinner = Spinner("dots")
        self._live = Live(
            get_renderable=self._draw, console=self._console, transient=True, refresh_per_second=10
        )

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self._live.stop()
        super().__exit__()
        for line in self._held:
            self._note(line)

    def show_queue_position(self, position: int) -> None:
        """Redraw."""
        self._queue = f"{position} before you"
        self._live.refresh()

    def show_stage(self, stage: str) -> None:
        """Redraw; a place in the queue holds for the stage it was told in."""
        self._stage, self._queue = stage, ""
        self._live.refresh()

    def show_log_line(self, line: str) -> None:
        """Put the line above the moving one; hold it back while the answer is being written."""
        if self._live.is_started:
            self._note(line)
        else:
            self._held.append(line)

    def show_text(self, text: str) -> None:
        """Clear the moving line away, then write."""
        self._live.stop()
        super().show_text(text)

    def show_answer(self, response: GenerateResponse) -> None:
        """End the answer; say what it took."""
        self._live.stop()
        super().show_answer(response)
        self._note(_summarize(response))

    def _draw(self) -> Spinner:
        elapsed = f"{time.monotonic() - self._started:.1f} s"
        self._spinner.update(text=Text(_join(self._stage, self._queue, elapsed)))
        return self._spinner

    def _note(self, line: str) -> None:
        self._console.print(Text(line, style="dim"), soft_wrap=True)


def _summarize(response: GenerateResponse) -> str:
    tokens, seconds = response.usage.num_generated_tokens, response.stage_seconds
    # `decode` runs from the first token to the last: one step less than there are tokens.
    speed = f"{(tokens - 1) / seconds.decode:.1f} tokens/s" if tokens > 1 and seconds.decode > 0 else ""
    reason = name_finish_reason(response.finish_reason)
    return _join(f"{tokens} tokens", speed, f"{seconds.total:.1f} s", reason)


def _join(*parts: str) -> str:
    return " · ".join(filter(None, parts))
