"""`idefics2`: the command line."""

from __future__ import annotations

import io
import os
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from idefics2_client import outcome
from idefics2_client.arguments import parse_arguments
from idefics2_client.errors import Cancelled, Idefics2Error
from idefics2_client.text import strip_controls

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence


def run() -> NoReturn:
    """Be the process of the command line.

    It ends without Python's own ending, which waits for locks: a thread of grpc's that was stopped in the
    midst of a call may hold one for ever.
    """
    status = main()
    sys.stderr.flush()
    os._exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status, one of `outcome.DESCRIPTION`."""
    arguments = parse_arguments(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an answer may hold letters that the locale lacks
    heard, threading.excepthook = threading.excepthook, _hear
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads on. What is still buffered would fail again when Python closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return outcome.FAILED
    else:
        return status
    finally:
        threading.excepthook = heard


def _hear(failure: threading.ExceptHookArgs) -> None:
    """Keep still about grpc's own threads: they may stumble over a channel that Ctrl-C closes under them."""
    if failure.thread is None or not failure.thread.daemon:
        threading.__excepthook__(failure)


def _run(arguments: Namespace) -> int:
    try:
        arguments.run(arguments)
    except (KeyboardInterrupt, RuntimeError) as error:
        # In the moment in which a lock changes hands, Ctrl-C makes an error of the lock's that covers it.
        interrupt = error if isinstance(error, KeyboardInterrupt) else error.__context__
        if not isinstance(interrupt, KeyboardInterrupt):
            raise
        _report(Cancelled(str(interrupt) or "interrupted", code="CANCELLED"), as_json=arguments.json)
        return outcome.INTERRUPTED
    except Idefics2Error as error:
        _report(error, as_json=arguments.json)
        return outcome.exit_status(error)
    return outcome.ANSWERED


def _report(error: Idefics2Error, *, as_json: bool) -> None:
    """Tell a person, and a program that asked for it."""
    sys.stderr.write(f"idefics2: {strip_controls(outcome.describe_error(error))}\n")
    if as_json:
        outcome.write_json(sys.stdout, outcome.write_error(error))


if __name__ == "__main__":
    run()
