"""`idefics2-service`: serve, keep keys, or show what can be set."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import cast

import structlog
import uvloop

from idefics2_service import allocator, key_commands, logs
from idefics2_service.app import App
from idefics2_service.errors import SettingInvalid, StartFailed
from idefics2_service.exposure import is_loopback
from idefics2_service.key_arguments import add_arguments
from idefics2_service.keys.changes import ChangeRefused
from idefics2_service.settings import Settings, describe

EXIT_FAILED = 1
EXIT_USAGE = 2

logger = structlog.get_logger(__name__)


def main() -> int:
    """Run the command line; return its exit status: 0 done, 1 could not be done, 2 bad usage or setting."""
    arguments = _parse_arguments()
    if arguments.command == "settings":
        print(settings_table())  # it is what the command is for
        return 0
    try:
        if arguments.command == "keys":
            key_commands.run(arguments, Settings.read(os.environ))
            return 0
        settings = Settings.read(os.environ, _overrides(arguments))
        logs.configure(settings.log)
        allocator.tame()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, arguments.ready_file))
    except (SettingInvalid, StartFailed, ChangeRefused) as error:
        print(f"idefics2-service: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, SettingInvalid) else EXIT_FAILED
    return 0


def settings_table() -> str:
    """Write the table of settings that stands in README.md."""
    rows = [
        f"| `{name}` | {default and f'`{default}`'} | {meaning} |" for name, default, meaning in describe()
    ]
    return "\n".join(("| variable | default | meaning |", "|---|---|---|", *rows))


async def _serve(settings: Settings, ready_file: Path | None) -> None:
    """Serve until SIGINT or SIGTERM, which cancel this task wherever it stands."""
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(
            number, cast("asyncio.Task[None]", asyncio.current_task()).cancel
        )
    if ready_file is not None:
        _forget(ready_file)
    try:
        async with App(settings) as app:
            await app.wait_until_serving()
            gc.collect()
            gc.freeze()  # or each full collection would look at all modules again, for a tenth of a second
            logger.info("serving")
            _announce(app, ready_file)
            if ready_file is None and sys.stdout.isatty() and is_loopback(settings.http.host):
                print(f"page {_page_url(app, settings)}", flush=True)
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        logger.info("stopped")
    finally:
        if ready_file is not None:
            _forget(ready_file)


def _forget(ready_file: Path) -> None:
    """Remove what an earlier start, or this one, said: nothing is ready."""
    try:
        ready_file.unlink(missing_ok=True)
    except OSError as error:
        raise StartFailed(f"--ready-file {ready_file}: {error.strerror}") from error
    if not ready_file.parent.is_dir():
        raise StartFailed(f"--ready-file {ready_file}: there is no folder {ready_file.parent}")


def _announce(app: App, ready_file: Path | None) -> None:
    """Tell a program by the ready file, which is whole or not there, and a person how to call."""
    facts = {"grpc": app.grpc_address, "http": app.http_address, "api_key": app.api_key}
    if ready_file is None:
        key = facts.pop("api_key")
        call = f"export IDEFICS2_API_KEY={key}" if key else "keys: see idefics2-service keys"
        print(f"ready: {json.dumps(facts)}\n{call}", flush=True)
        return
    with tempfile.NamedTemporaryFile("w", dir=ready_file.parent, delete=False) as file:
        json.dump(facts, file)
    Path(file.name).replace(ready_file)


def _page_url(app: App, settings: Settings) -> str:
    """Write where the page is; a browser keeps to itself what follows the `#`, and the page forgets it."""
    scheme = "https" if settings.http.has_tls else "http"
    key = f"#key={app.api_key}" if app.api_key else ""
    return f"{scheme}://{app.http_address}/{key}"


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
        type=Path,
        metavar="PATH",
        help="write {grpc, http, api_key} there when everything answers",
    )
    add_arguments(commands.add_parser("keys", help="create, list, rotate and revoke API keys"))
    commands.add_parser("settings", help="print all settings")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
