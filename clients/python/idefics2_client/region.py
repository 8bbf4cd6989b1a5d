"""The part of a terminal that moves."""

from __future__ import annotations

from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, TextIO

from rich.cells import chop_cells
from rich.console import Console, Group
from rich.live import Live
from rich.segment import Segment, Segments
from rich.spinner import Spinner
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderResult

    from idefics2_client.status import Status

_FRAME_SECONDS = 0.05


class Region:
    """The last rows of a terminal: a line of text that grows, below it a status. Above it is what stays.

    All drawing is done by one thread. Two would tear each other's rows, and Ctrl-C, which strikes the main
    thread, finds none half drawn. However fast the text comes, a frame is drawn only so often.
    """

    def __init__(self, out: TextIO, status: Status) -> None:
        """Draw on `out`, a terminal; read `status` anew for each frame."""
        self._status, self._spinner = status, Spinner("dots")
        self._notes: list[Text] = []
        self._text = ""
        self._lock = Lock()  # a line leaves the region and appears above it in one frame
        self._console = Console(file=out)
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="region")

    def start(self) -> None:
        """Begin to draw."""
        self._thread.start()

    def stop(self) -> str:
        """Erase the region; return the line that is not complete, which went with it."""
        self._stopped.set()
        self._thread.join()
        return self._text

    def note(self, line: str) -> None:
        """Put a dim line above."""
        with self._lock:
            self._notes.append(Text(line, style="dim"))

    def append(self, text: str) -> None:
        """Let the line grow; each that is complete stays, wrapped by nobody but the terminal."""
        with self._lock:
            self._text += text

    def clear(self) -> None:
        """Drop what has not become part of the screen above."""
        with self._lock:
            self._text = ""

    def _run(self) -> None:
        with Live(self, console=self._console, auto_refresh=False, transient=True):
            while not self._stopped.wait(_FRAME_SECONDS):
                self._draw()
            self._draw()

    def _draw(self) -> None:
        with self._lock:
            notes, self._notes = self._notes, []
            complete, newline, self._text = self._text.rpartition("\n")
            lines = Segments([Segment(complete + newline)])
            self._console.print(Group(*notes, lines), soft_wrap=True)

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        """Break the line where the terminal would; show as much of its end as there is room for.

        One row stays free: it takes the cursor when the region is erased.
        """
        rows = chop_cells(self._text.expandtabs(), options.max_width)
        for row in rows[-max(options.size.height - 2, 1) :]:
            yield Text(row, no_wrap=True, overflow="ignore")
        status = Text(str(self._status))
        status.truncate(options.max_width - 2, overflow="ellipsis")  # the spinner and a space
        self._spinner.update(text=status)
        yield self._spinner
