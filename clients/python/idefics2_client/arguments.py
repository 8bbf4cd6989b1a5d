"""The command line's grammar."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from idefics2_client.commands import ask, count
from idefics2_client.outcome import DESCRIPTION

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Parser(argparse.ArgumentParser):
    """One shape for the program and each of its commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            epilog=DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **settings,
        )


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read a command line; `run` of the result is what to do with it.

    Raises:
        SystemExit: with 2 for bad usage, with 0 after --help.

    """
    parser = _Parser(prog="idefics2", description="Ask Idefics2 about images.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    asking = commands.add_parser("ask", help="ask, and show the answer while it is made")
    _add_input(asking)
    _add_sampling(asking)
    _add_call(asking)
    asking.set_defaults(run=ask)
    counting = commands.add_parser("count", help="count the tokens that asking would cost")
    _add_input(counting)
    _add_call(counting)
    counting.set_defaults(run=count)
    return parser.parse_args(argv)


def _add_input(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("image", metavar="IMAGE", help="path, URL or data URI of an image; - reads standard input")
    add("prompt", metavar="PROMPT", help="the question or instruction")
    add("--image", dest="images", metavar="IMAGE", action="append", default=[], help="one more; repeatable")
    add("--split-images", action=argparse.BooleanOptionalAction, help="read each image in five pieces")
    add("--max-new-tokens", type=int, metavar="N", help="tokens to generate at most, 1 to 4096 (512)")


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--min-new-tokens", type=int, metavar="N", help="tokens before the model may end its turn (0)")
    add("--repetition-penalty", type=float, metavar="X", help="higher repeats less, above 0 to 10 (1.2)")
    add("--temperature", type=float, metavar="X", help="higher is more random, 0 is greedy, to 10 (0.4)")
    add("--top-p", type=float, metavar="X", help="sample tokens that add up to this, above 0 to 1 (0.8)")
    add("--top-k", type=int, metavar="N", help="sample among this many tokens, 1 to 1000 (no limit)")
    add("--seed", type=int, metavar="N", help="the same seed gives the same answer (drawn anew)")
    add("--stop", metavar="TEXT", action="append", help="end the answer before this text; repeatable")


def _add_call(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--timeout",
        dest="timeout_seconds",
        type=_seconds,
        metavar="SECONDS",
        help="give up after them (never)",
    )
    add("--target", metavar="HOST:PORT", help="the service (IDEFICS2_CLIENT_TARGET, else 127.0.0.1:50051)")
    add("--api-key", metavar="KEY", help="safer, as `ps` shows it: IDEFICS2_API_KEY, else FAL_KEY")
    add("--json", action="store_true", help="print one JSON object at the end")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (seconds > 0 and math.isfinite(seconds)):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return seconds
