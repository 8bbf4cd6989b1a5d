"""The command line's grammar."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NamedTuple

from idefics2_client import options
from idefics2_client.commands import ask, count
from idefics2_client.file_commands import delete, download, list_files, upload
from idefics2_client.outcome import DESCRIPTION
from idefics2_client.request_commands import cancel, list_requests, result, status, submit, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class _Parser(argparse.ArgumentParser):
    """One shape for the program and each of its commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            epilog=DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **settings,
        )


class _Command(NamedTuple):
    name: str
    run: Callable[[argparse.Namespace], None]
    help: str
    groups: tuple[Callable[[argparse.ArgumentParser], None], ...]


_ASKING = (options.add_input, options.add_sampling)
_COMMANDS = (
    _Command("ask", ask, "ask, and show the answer while it is made", _ASKING),
    _Command("count", count, "count the tokens that asking would cost", (options.add_input,)),
    _Command("submit", submit, "ask, and print a name for what follows", (*_ASKING, options.add_submission)),
    _Command(
        "watch",
        watch,
        "show a request that was submitted, as ask does",
        (options.add_name, options.add_after),
    ),
    _Command("status", status, "tell where a request stands", (options.add_name, options.add_logs)),
    _Command(
        "result",
        result,
        "print the answer of a request, and nothing else",
        (options.add_name, options.add_wait),
    ),
    _Command("cancel", cancel, "cancel a request", (options.add_name,)),
    _Command("list", list_requests, "list your requests, newest first", (options.add_filter,)),
    _Command("upload", upload, "upload pictures, and print the URL of each", (options.add_paths,)),
    _Command("files", list_files, "list your uploaded files", (options.add_limit,)),
    _Command("download", download, "write an uploaded file to a path", (options.add_file,)),
    _Command("delete", delete, "delete uploaded files", (options.add_files,)),
)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read a command line; `run` of the result is what to do with it.

    Raises:
        SystemExit: with 2 for bad usage, with 0 after --help.

    """
    parser = _Parser(prog="idefics2", description="Ask Idefics2 about images.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        subparser = commands.add_parser(command.name, help=command.help)
        for add_group in (*command.groups, options.add_call):
            add_group(subparser)
        subparser.set_defaults(run=command.run)
    return parser.parse_args(argv)
