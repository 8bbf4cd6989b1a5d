"""The options of the command line, in groups that commands share."""

from __future__ import annotations

import argparse
import math
from functools import partial
from typing import get_args

from idefics2_client.names import PriorityName, StateName

_MAX_COUNT = 2**31 - 1
_FILE = "an uploaded file: its URL or id, or sha256: and its digest"


def add_input(parser: argparse.ArgumentParser) -> None:
    """Ask something."""
    add = parser.add_argument
    add("image", metavar="IMAGE", help="an image: path, URL, data URI, sha256:DIGEST; - is standard input")
    add("prompt", metavar="PROMPT", help="the question or instruction")
    add("--image", dest="images", metavar="IMAGE", action="append", default=[], help="one more; repeatable")
    add("--split-images", action=argparse.BooleanOptionalAction, help="read each image in five pieces")
    add("--max-new-tokens", type=int, metavar="N", help="tokens to generate at most, 1 to 4096 (512)")


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Say how the answer is to be written."""
    add = parser.add_argument
    add("--min-new-tokens", type=int, metavar="N", help="tokens before the model may end its turn (0)")
    add("--repetition-penalty", type=float, metavar="X", help="higher repeats less, 0.01 to 10 (1.2)")
    add("--temperature", type=float, metavar="X", help="higher is more random, 0 is greedy, to 10 (0.4)")
    add("--top-p", type=float, metavar="X", help="sample tokens that add up to this, above 0 to 1 (0.8)")
    add("--top-k", type=int, metavar="N", help="sample among this many tokens, 1 to 1000 (no limit)")
    add("--seed", type=int, metavar="N", help="the same seed gives the same answer (drawn anew)")
    add("--stop", metavar="TEXT", action="append", help="end the answer before this text; repeatable")


def add_submission(parser: argparse.ArgumentParser) -> None:
    """Say how a request is to be treated."""
    add = parser.add_argument
    add("--request-id", metavar="ID", help="its name, which makes sending it again safe (made)")
    add("--priority", choices=get_args(PriorityName), help="low goes behind all others (normal)")
    add_seconds = partial(add, type=_read_seconds, metavar="SECONDS")
    add_seconds("--start-timeout", dest="start_timeout_seconds", help="fail if it waits longer (the budget)")
    add_seconds("--time-budget", dest="time_budget_seconds", help="fail if it takes longer in all (a day)")
    add_seconds("--keep", dest="keep_seconds", help="forget it so long after its end (as the service is set)")
    add("--webhook", dest="webhook_url", metavar="URL", help="where to tell the end, by a signed POST")
    add("--max-queue-length", type=int, metavar="N", help="refuse it where more are before it")


def add_name(parser: argparse.ArgumentParser) -> None:
    """Name a request."""
    parser.add_argument("request_id", metavar="ID", help="the request's name, as submit printed it")


def add_after(parser: argparse.ArgumentParser) -> None:
    """Begin later than at the beginning."""
    parser.add_argument("--after", type=int, default=0, metavar="N", help="leave out the first N events (0)")


def add_logs(parser: argparse.ArgumentParser) -> None:
    """Read the log."""
    parser.add_argument("--logs", action="store_true", help="print its log too")


def add_wait(parser: argparse.ArgumentParser) -> None:
    """Be patient."""
    parser.add_argument("--wait", action="store_true", help="wait until there is one")


def add_paths(parser: argparse.ArgumentParser) -> None:
    """Name what is to be uploaded."""
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a picture; - reads standard input")
    add = parser.add_argument
    add("--name", metavar="NAME", help="what lists call it (the last part of its path)")
    seconds = "how long it is kept at most (as the service is set)"
    add("--ttl", dest="ttl_seconds", type=_read_seconds, metavar="SECONDS", help=seconds)


def add_file(parser: argparse.ArgumentParser) -> None:
    """Name an uploaded file, and where it goes."""
    parser.add_argument("file", metavar="FILE", help=_FILE)
    parser.add_argument("path", metavar="PATH", help="where to write it; - is standard output")


def add_files(parser: argparse.ArgumentParser) -> None:
    """Name uploaded files."""
    parser.add_argument("files", metavar="FILE", nargs="+", help=_FILE)


def add_limit(parser: argparse.ArgumentParser) -> None:
    """List a part."""
    parser.add_argument("--limit", type=_read_count, default=50, metavar="N", help="how many at most (50)")


def add_filter(parser: argparse.ArgumentParser) -> None:
    """List a part."""
    parser.add_argument("--state", choices=get_args(StateName), help="only those (all)")
    add_limit(parser)


def add_call(parser: argparse.ArgumentParser) -> None:
    """Say how to call, and how to print."""
    add = parser.add_argument
    add_seconds = partial(add, type=_read_seconds, metavar="SECONDS")
    add_seconds("--timeout", dest="timeout_seconds", help="give up after them (never)")
    target = (
        "the service; https:// or grpcs:// before it is TLS (IDEFICS2_CLIENT_TARGET, else 127.0.0.1:50051)"
    )
    add("--target", metavar="HOST:PORT", help=target)
    add("--tls", action=argparse.BooleanOptionalAction, help="connect by TLS (IDEFICS2_CLIENT_TLS)")
    add("--ca-file", metavar="PEM", help="who vouches for the service (IDEFICS2_CLIENT_CA_FILE)")
    add("--certificate-file", metavar="PEM", help="what to show it (IDEFICS2_CLIENT_CERTIFICATE_FILE)")
    add("--key-file", metavar="PEM", help="that certificate's key (IDEFICS2_CLIENT_KEY_FILE)")
    add("--api-key", metavar="KEY", help="safer, as `ps` shows it: IDEFICS2_API_KEY, else FAL_KEY")
    add("--json", action="store_true", help="print JSON: one object, on one line")


def _read_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (seconds > 0 and math.isfinite(seconds)):
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text}")
    return seconds


def _read_count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= _MAX_COUNT:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 to {_MAX_COUNT:,}, not {text}")
    return count
