"""How a request is shown while it runs: the answer on standard output, all else on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TextIO

from idefics2.v1.generation_pb2 import Stage

from idefics2_client.names import write_name
from idefics2_client.outcome import write_json, write_response
from idefics2_client.text import fit, strip_controls
from idefics2_client.transfer import TransferLines

if TYPE_CHECKING:
    from idefics2.v1.generation_pb2 import Event, GenerateResponse, TextDelta

    from idefics2_client.errors import Idefics2Error
    from idefics2_client.updates import TransferUpdate


class Display:
    """For a pipe or a file: the answer's text as it comes, progress as lines."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        """Write the answer to `out`, progress to `err`."""
        self._out, self._err = out, err
        self._line_is_open = False
        self._transfer = TransferLines(err)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the line that an error or Ctrl-C left open."""
        if self._line_is_open:
            self._end_line()

    def show(self, event: Event) -> None:
        """Show one event; a kind that is not known shows nothing."""
        match event.WhichOneof("event"):
            case "queue_position":
                self.show_queue_position(event.queue_position.position)
            case "stage_entered":
                self.show_stage(write_name(Stage.DESCRIPTOR, event.stage_entered.stage))
            case "log_line":
                self.show_log_line(strip_controls(event.log_line.message))
            case "text_delta":
                self.show_text(event.text_delta)
            case "attempt_started" if event.attempt_started.attempt > 1:
                self.show_attempt(event.attempt_started.attempt)
            case "finished" if event.finished.HasField("response"):
                self.show_answer(event.finished.response)

    def show_queue_position(self, position: int) -> None:
        """Say how many are before this request."""
        self._note(f"queue position: {position}")

    def show_stage(self, stage: str) -> None:
        """Say what begins."""
        self._note(f"stage: {stage}")

    def show_log_line(self, line: str) -> None:
        """Pass on what the service says."""
        self._note(f"log: {line}")

    def show_loss(self, error: Idefics2Error) -> None:
        """Say why nothing comes for a while."""
        self.show_log_line(strip_controls(f"{error.message}; trying again"))

    def show_transfer(self, update: TransferUpdate) -> None:
        """Say how far the upload of an image is."""
        self._transfer.show_transfer(update)

    def show_attempt(self, attempt: int) -> None:
        """Begin the answer anew; a pipe cannot take back what it has of the lost attempt."""
        if self._line_is_open:
            self._end_line()
        self._note(f"attempt: {attempt}")

    def show_text(self, delta: TextDelta) -> None:
        """Append to the answer."""
        self._line_is_open = True
        self._out.write(fit(delta.text, self._out))
        self._out.flush()

    def show_answer(self, _: GenerateResponse) -> None:
        """End the answer, whose text has all been shown."""
        self._end_line()

    def _end_line(self) -> None:
        self._line_is_open = False
        self._out.write("\n")
        self._out.flush()

    def _note(self, line: str) -> None:
        self._err.write(f"{line}\n")
        self._err.flush()


class JsonDisplay(Display):
    """For a program: one JSON object at the end."""

    def show_text(self, _: TextDelta) -> None:
        """Wait for the whole answer."""

    def show_answer(self, response: GenerateResponse) -> None:
        """Write the answer and all that is known of it."""
        write_json(self._out, write_response(response))
