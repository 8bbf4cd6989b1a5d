"""How a request is shown on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TextIO

from rich.console import Console
from rich.text import Text

from idefics2_client.display import Display
from idefics2_client.region import Region
from idefics2_client.status import Status, summarize
from idefics2_client.text import strip_controls
from idefics2_client.transfer import draw_transfer

if TYPE_CHECKING:
    from idefics2.v1.generation_pb2 import GenerateResponse, TextDelta

    from idefics2_client.updates import TransferUpdate


def can_redraw(*streams: TextIO) -> bool:
    """Tell whether all of them are terminals that can take back what was written."""
    return all(stream.isatty() and Console(file=stream).is_interactive for stream in streams)


class LiveDisplay(Display):
    """The answer as it grows, below it a status that moves; in the end the answer, and what it took.

    What moves is written where the answer is: two streams on one screen would tear each other's rows.
    """

    def __init__(self, out: TextIO, err: TextIO) -> None:
        """Write the answer and the status to `out`, what it took to `err`."""
        super().__init__(out, err)
        self._status = Status()
        self._region = Region(out, self._status)
        self._console = Console(file=err)
        self._held: list[str] = []

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._region.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was, and on it all that there is of the answer."""
        self._region.stop()
        super().__exit__()
        for line in self._held:
            self._note(line)

    def show_queue_position(self, position: int) -> None:
        """Say it in the status."""
        self._status.wait_behind(position)

    def show_stage(self, stage: str) -> None:
        """Say it in the status."""
        self._status.enter_stage(stage)

    def show_log_line(self, line: str) -> None:
        """Put the line above the status; hold it back once the answer has begun, which it would cut."""
        if self._line_is_open:
            self._held.append(line)
        else:
            self._region.note(line)

    def show_transfer(self, update: TransferUpdate) -> None:
        """Say it in the status."""
        self._status.enter_stage(draw_transfer(update))

    def show_attempt(self, attempt: int) -> None:
        """Take back what is not complete of the answer, and let it begin anew."""
        self._line_is_open = False
        self._status.begin_anew()
        self._region.clear()
        for line in (*self._held, f"attempt {attempt}: the answer begins anew"):
            self._region.note(line)
        self._held.clear()

    def show_text(self, delta: TextDelta) -> None:
        """Let the answer grow."""
        self._line_is_open = True
        self._status.count_tokens(delta.num_generated_tokens)
        self._region.append(strip_controls(delta.text))

    def show_answer(self, response: GenerateResponse) -> None:
        """End the answer; say what it took."""
        super().show_answer(response)
        self._note(summarize(response))

    def _end_line(self) -> None:
        self._out.write(self._region.stop())
        super()._end_line()

    def _note(self, line: str) -> None:
        self._console.print(Text(line, style="dim"), soft_wrap=True)
