"""How an upload or a download is shown: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from idefics2_client.text import strip_controls

if TYPE_CHECKING:
    from rich.progress import TaskID

    from idefics2_client.errors import Idefics2Error
    from idefics2_client.updates import TransferUpdate

_NUM_LINES = 10
_BAR_CELLS = 20


class TransferLines:
    """For a pipe or a file: a line for each tenth."""

    def __init__(self, err: TextIO, verb: str = "uploading") -> None:
        """Write to `err`."""
        self._err = err
        self._verb = verb
        self._said = ""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self.finish()

    def finish(self) -> None:
        """Make room for what is printed next; another transfer may follow."""
        self._said = ""

    def show_loss(self, error: Idefics2Error) -> None:
        """Say why nothing comes for a while."""
        self._note(strip_controls(f"{error.message}; trying again"))

    def show_transfer(self, update: TransferUpdate) -> None:
        """Say how far it is, if that is new."""
        tenths = int(_read_fraction(update) * _NUM_LINES)
        line = f"{_describe(self._verb, update)}: {tenths * 100 // _NUM_LINES} %"
        if line != self._said:
            self._said = line
            self._note(line)

    def _note(self, line: str) -> None:
        self._err.write(f"{line}\n")
        self._err.flush()


class TransferBar(TransferLines):
    """For a terminal: a bar with size, speed and the time that is left; nothing of it stays."""

    def __init__(self, err: TextIO, verb: str = "uploading") -> None:
        """Draw on `err`, a terminal, from the first update on."""
        super().__init__(err, verb)
        self._console = Console(file=err)
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def finish(self) -> None:
        """Leave the terminal as it was."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = None
        self._tasks.clear()

    def show_transfer(self, update: TransferUpdate) -> None:
        """Let the bar grow."""
        if self._progress is None:
            self._progress = self._begin()
        name = _describe(self._verb, update)
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=update.size_bytes)
        self._progress.update(self._tasks[name], completed=update.num_bytes)

    def _begin(self) -> Progress:
        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(_BAR_CELLS),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            redirect_stdout=False,  # which may be a pipe
            redirect_stderr=False,
        )
        progress.start()
        return progress

    def _note(self, line: str) -> None:
        self._console.print(Text(line, style="dim"), soft_wrap=True)


def draw_transfer(update: TransferUpdate) -> str:
    """Draw a bar as text."""
    fraction = _read_fraction(update)
    full = int(fraction * _BAR_CELLS)
    return f"{_describe('uploading', update)} {'━' * full}{'─' * (_BAR_CELLS - full)} {fraction:.0%}"


def _describe(verb: str, update: TransferUpdate) -> str:
    return f"{verb} {strip_controls(update.name) or 'an image'}"


def _read_fraction(update: TransferUpdate) -> float:
    return min(update.num_bytes / update.size_bytes, 1.0) if update.size_bytes else 1.0
