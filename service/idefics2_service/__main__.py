"""`idefics2-service`: serve, keep keys, or show what can be set."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys

import uvloop

from idefics2_service import allocator, key_commands, logs
from idefics2_service.errors import SettingInvalid, StartFailed, StoreUnavailable
from idefics2_service.key_arguments import add_arguments
from idefics2_service.keys.changes import ChangeRefused
from idefics2_service.ready_file import ReadyFile
from idefics2_service.settings import Settings, describe

EXIT_FAILED = 1
EXIT_USAGE = 2


def main() -> int:
    """Run the command line; return its exit status: 0 done, 1 could not be done, 2 bad usage or setting."""
    arguments = _parse_arguments()
    if arguments.command == "settings":
        print(settings_table())  # it is what the command is for
        return 0
    try:
        if arguments.command == "keys":
            key_commands.run(arguments, Settings.read(os.environ))
        else:
            _serve(Settings.read(os.environ, _overrides(arguments)), arguments.ready_file)
    except (SettingInvalid, StartFailed, ChangeRefused, StoreUnavailable) as error:
        print(f"idefics2-service: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, SettingInvalid) else EXIT_FAILED
    return 0


def _serve(settings: Settings, ready_file: ReadyFile | None) -> None:
    logs.configure(settings.log)
    allocator.tame()
    gc.disable()  # importing makes hardly any garbage, and looking for it takes a tenth of the time
    from idefics2_service.serving import serve  # noqa: PLC0415  # it takes a second, which no other command needs

    gc.freeze()
    gc.enable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, ready_file))


def settings_table() -> str:
    """Write the table of settings that stands in README.md."""
    rows = [
        f"| `{name}` | {default and f'`{default}`'} | {meaning} |" for name, default, meaning in describe()
    ]
    return "\n".join(("| variable | default | meaning |", "|---|---|---|", *rows))


def _overrides(arguments: argparse.Namespace) -> dict[str, str | int]:
    given = {
        "grpc.port": arguments.grpc_port,
        "http.port": arguments.http_port,
        "triton.url": arguments.triton_url,
    }
    return {path: value for path, value in given.items() if value is not None}


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="idefics2-service", description="Serves Idefics2 over gRPC.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve", help="serve until Ctrl-C; starts the embedded Triton unless told of another"
    )
    serve.add_argument("--grpc-port", type=int, help="overrules IDEFICS2_GRPC_PORT; 0 takes a free one")
    serve.add_argument("--http-port", type=int, help="overrules IDEFICS2_HTTP_PORT; 0 takes a free one")
    serve.add_argument("--triton-url", metavar="HOST:PORT", help="use a Triton that runs elsewhere")
    serve.add_argument(
        "--ready-file",
        type=ReadyFile,
        metavar="PATH",
        help="write {grpc, http, api_key} there when everything answers",
    )
    add_arguments(commands.add_parser("keys", help="create, list, rotate and revoke API keys"))
    commands.add_parser("settings", help="print all settings")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
