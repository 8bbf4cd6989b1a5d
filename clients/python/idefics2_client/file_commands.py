"""What the command line does with files that requests name."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from idefics2_client.commands import choose_transfer, connect, open_standard_input
from idefics2_client.errors import Idefics2Error
from idefics2_client.outcome import MAX_PAGE_SIZE, write_json, write_lines
from idefics2_client.report import FILE_HEADING, summarize_file, write_file

if TYPE_CHECKING:
    from argparse import Namespace

    from idefics2.v1.files_pb2 import File


def upload(arguments: Namespace) -> None:
    """Upload pictures, and print the URL of each.

    Raises:
        Idefics2Error: one cannot be read, or was refused; those before it are uploaded.
        KeyboardInterrupt: says that what came is kept.

    """
    with choose_transfer() as transfer, connect(arguments, transfer) as client:
        for path in arguments.paths:
            source = open_standard_input() if path == "-" else path
            try:
                file = client.upload(
                    source,
                    name=arguments.name,
                    ttl_seconds=arguments.ttl_seconds,
                    on_progress=transfer.show_transfer,
                    timeout_seconds=arguments.timeout_seconds,
                )
            except KeyboardInterrupt:
                words = "interrupted; the same command goes on where this one stopped"
                raise KeyboardInterrupt(words) from None
            transfer.finish()
            _show(file, file.url, as_json=arguments.json)


def download(arguments: Namespace) -> None:
    """Write the bytes of a file.

    Raises:
        Idefics2Error: there is none, or it cannot be written.

    """
    to_stdout = arguments.path == "-"
    with choose_transfer("downloading") as transfer, connect(arguments, transfer) as client:
        try:
            file = client.download(
                arguments.file,
                sys.stdout.buffer if to_stdout else arguments.path,
                on_progress=transfer.show_transfer,
                timeout_seconds=arguments.timeout_seconds,
            )
        except BrokenPipeError:
            raise  # nobody reads standard output any more
        except OSError as error:
            raise Idefics2Error(f"cannot write {arguments.path}: {error.strerror}") from error
    if not to_stdout:
        _show(file, str(Path(arguments.path)), as_json=arguments.json)


def list_files(arguments: Namespace) -> None:
    """Print a row, or a JSON object, for each file.

    Raises:
        Idefics2Error: the service does not answer.

    """
    with connect(arguments) as client:
        files = client.list_files(
            page_size=min(arguments.limit, MAX_PAGE_SIZE), timeout_seconds=arguments.timeout_seconds
        )
        if not arguments.json:
            write_lines([FILE_HEADING])
        for file in islice(files, arguments.limit):
            _show(file, summarize_file(file), as_json=arguments.json)


def delete(arguments: Namespace) -> None:
    """Let the service forget files.

    Raises:
        Idefics2Error: there is none of a name; those before it are deleted.

    """
    with connect(arguments) as client:
        for name in arguments.files:
            file = client.delete_file(name, timeout_seconds=arguments.timeout_seconds)
            _show(file, file.url, as_json=arguments.json)


def _show(file: File, line: str, *, as_json: bool) -> None:
    if as_json:
        write_json(sys.stdout, write_file(file))
    else:
        write_lines([line])
