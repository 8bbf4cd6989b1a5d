"""What the command line does: ask, and count."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, BinaryIO

from idefics2_client.client import Client
from idefics2_client.display import Display, JsonDisplay
from idefics2_client.errors import ImageUnreadable, ServiceFailed
from idefics2_client.images import MAX_IMAGE_BYTES, reading
from idefics2_client.live import LiveDisplay, can_redraw
from idefics2_client.outcome import write_json, write_numbers
from idefics2_client.retry import Retry
from idefics2_client.submission import SubmitOptions
from idefics2_client.transfer import TransferBar, TransferLines

if TYPE_CHECKING:
    from argparse import Namespace

    from idefics2_client.images import ImageSource


def ask(arguments: Namespace) -> None:
    """Show the answer while it is made.

    Raises:
        Idefics2Error: there is none, or only a part of it.

    """
    finished = False
    with (
        choose_display(arguments) as display,
        connect(arguments, display) as client,
        closing(client.stream(**read_call(arguments))) as events,
    ):
        for event in events:
            display.show(event)
            finished |= event.HasField("finished")
    if not finished:
        raise ServiceFailed("the service ended the stream before the answer was complete")


def count(arguments: Namespace) -> None:
    """Print what the request would cost.

    Raises:
        Idefics2Error: it would be refused, or the service does not answer.

    """
    with choose_transfer() as transfer, connect(arguments, transfer) as client:
        counts = write_numbers(client.count_tokens(**read_call(arguments)))
    if arguments.json:
        write_json(sys.stdout, counts)
    else:
        sys.stdout.writelines(f"{name}: {str(value).lower()}\n" for name, value in counts.items())
        sys.stdout.flush()


def connect(arguments: Namespace, told: Display | TransferLines | None = None) -> Client:
    """Make the client that the command line asks for; `told` shows what is lost, and what is uploaded."""
    return Client(
        arguments.target,
        arguments.api_key,
        tls=arguments.tls,
        ca_file=arguments.ca_file,
        certificate_file=arguments.certificate_file,
        key_file=arguments.key_file,
        retry=Retry(on_lost=told.show_loss) if told else None,
        on_upload=told.show_transfer if told else None,
    )


def choose_transfer(verb: str = "uploading") -> TransferLines:
    """Show an upload or a download in the way that fits who reads it."""
    kind = TransferBar if can_redraw(sys.stderr) else TransferLines
    return kind(sys.stderr, verb)


def choose_display(arguments: Namespace) -> Display:
    """Show what happens in the way that fits who reads it."""
    if arguments.json:
        return JsonDisplay(sys.stdout, sys.stderr)
    kind = LiveDisplay if can_redraw(sys.stdout, sys.stderr) else Display
    return kind(sys.stdout, sys.stderr)


def open_standard_input() -> BinaryIO:
    """Return its bytes.

    Raises:
        ImageUnreadable: whoever started this closed it.

    """
    if sys.stdin is None:
        raise ImageUnreadable("cannot read image -: standard input is closed", code="INVALID_ARGUMENT")
    return sys.stdin.buffer


def read_call(arguments: Namespace) -> dict[str, Any]:
    """Read what is to be asked, and how."""
    names = {"prompt", "timeout_seconds", *SubmitOptions.__annotations__}
    given = {name: value for name, value in vars(arguments).items() if name in names}
    images = [_read_source(image) for image in arguments.images]
    return {**given, "image": _read_source(arguments.image), "images": images}


def _read_source(argument: str) -> ImageSource:
    """Take `-` for standard input, read as far as it matters."""
    if argument != "-":
        return argument
    source = open_standard_input()
    with reading(argument):
        return source.read(MAX_IMAGE_BYTES + 1)
