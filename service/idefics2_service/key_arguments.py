"""What `idefics2-service keys` can be told."""

from __future__ import annotations

import argparse
import re
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from idefics2_service.keys.records import AppId, Bound, Face, Id, Rate, Size

if TYPE_CHECKING:
    from collections.abc import Callable

_Value = TypeVar("_Value")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_MAX_DAYS = 36_500
_LIMITS = {
    "calls_per_second": "rate",
    "burst": "burst",
    "max_concurrent": "max_concurrent",
    "max_queued": "max_queued",
    "max_stored_bytes": "max_stored_bytes",
    "max_stored_files": "max_stored_files",
}
"""The options that limit a key, by the fields of `Limits`."""
_APP_HELP = "what it may use, as fal-ai/idefics-2-8b; again for more; default: all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands of `keys`; `parsed.key_command` names the one that was given."""
    parser.epilog = "Exit status: 0 done, 1 could not be done, 2 bad usage, setting or file of keys."
    commands = parser.add_subparsers(dest="key_command", required=True)
    _add_create(_add(commands, "create", "make a key and print it: its secret is shown only now"))
    _add(commands, "list", "print all keys, without secrets")
    limit = _add(commands, "limit", "change limits of a key; what is not named stays as it is")
    limit.add_argument("id", help="which key")
    _add_limits(limit, _or_none, msgspec.UNSET)
    rotate = _add(commands, "rotate", "print another secret of a key; the one before it stays good, too")
    rotate.add_argument("id", help="which key")
    rotate.add_argument("--at-once", action="store_true", help="end the secrets before it now")
    revoke = _add(commands, "revoke", "end a key; running services refuse it within 5 s")
    revoke.add_argument("id", help="which key")


def _add(commands: Any, name: str, text: str) -> argparse.ArgumentParser:  # argparse's own type is private
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_create(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--id", type=_checked(str, Id), default=f"key-{secrets.token_hex(4)}", help="default: a made-up one")
    _add_limits(parser, lambda read: read, None)
    add("--app", type=_checked(str, AppId), action="append", default=[], help=_APP_HELP)
    add("--faces", type=_read_faces, default=tuple(Face), help="grpc or http; default: grpc,http")
    add("--expires-in", type=_read_duration, metavar="TIME", help="for example 90d, 12h, 30m or 45s")


def _add_limits(
    parser: argparse.ArgumentParser,
    read: Callable[[Callable[[str], Any]], Callable[[str], Any]],
    default: Any,
) -> None:
    """Add an option for each limit; what is not given is `default`."""

    def add(option: str, kind: Callable[[str], Any], text: str) -> None:
        parser.add_argument(option, type=read(kind), default=default, metavar="N", help=text)

    add("--rate", _checked(float, Rate), "calls a second, for each replica")
    add("--burst", _checked(int, Bound), "calls at once; default: those of a second")
    add("--max-concurrent", _checked(int, Bound), "open calls, for each replica")
    add("--max-queued", _checked(int, Bound), "submitted requests that have not ended")
    add("--max-stored-bytes", _checked(int, Size), "bytes of its uploaded files")
    add("--max-stored-files", _checked(int, Bound), "its uploaded files")


def read_limits(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the limits that were given, by their names as `Limits` has them."""
    given = {field: getattr(arguments, option) for field, option in _LIMITS.items()}
    return {field: value for field, value in given.items() if value is not msgspec.UNSET}


def _or_none(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Read a value, or the word that lifts a limit."""
    return lambda text: None if text == "none" else read(text)


def _checked(read: Callable[[str], _Value], kind: Any) -> Callable[[str], _Value]:
    """Read a value that the file of keys would take."""

    def check(text: str) -> _Value:
        try:
            return msgspec.convert(read(text), kind)  # type: ignore[no-any-return]  # `kind` is of `read`
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error

    return check


def _read_faces(text: str) -> tuple[Face, ...]:
    try:
        return tuple(dict.fromkeys(Face(name.strip()) for name in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: must be grpc, http or grpc,http") from error


def _read_duration(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    duration = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta()
    if not timedelta() < duration <= timedelta(days=_MAX_DAYS):
        message = f"{text!r}: must be a number above 0 with s, m, h or d, up to {_MAX_DAYS} days"
        raise argparse.ArgumentTypeError(message)
    return duration
