"""The service as a process: from its start to the signal that ends it, and what it says when it is ready."""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import structlog

from idefics2_service.app import App
from idefics2_service.errors import StartFailed
from idefics2_service.exposure import is_loopback

if TYPE_CHECKING:
    from idefics2_service.settings import Settings

logger = structlog.get_logger(__name__)


async def serve(settings: Settings, ready_file: Path | None) -> None:
    """Serve until SIGINT or SIGTERM, which cancel this task wherever it stands.

    Raises:
        SettingInvalid: something that was set cannot be served with.
        StartFailed: a part did not start, or `ready_file` cannot be written.

    """
    _raise_file_limit()
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
            gc.freeze()  # or each full collection would look again at all that was built
            logger.info("serving")
            _announce(app, settings, ready_file)
            if ready_file is None and sys.stdout.isatty() and is_loopback(settings.http.host):
                print(f"page {_page_url(app, settings)}", flush=True)
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        logger.info("stopped")
    finally:
        if ready_file is not None:
            _forget(ready_file)


def _raise_file_limit() -> None:
    """Let as many files and connections be open at a time as the system allows: usually 1,024 at first."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems name a bound that they do not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _forget(ready_file: Path) -> None:
    """Remove what an earlier start, or this one, said: nothing is ready."""
    try:
        ready_file.unlink(missing_ok=True)
    except OSError as error:
        raise StartFailed(f"--ready-file {ready_file}: {error.strerror}") from error
    if not ready_file.parent.is_dir():
        raise StartFailed(f"--ready-file {ready_file}: there is no folder {ready_file.parent}")


def _announce(app: App, settings: Settings, ready_file: Path | None) -> None:
    """Tell a program by the ready file, which is whole or not there, and a person how to call."""
    facts = {"grpc": app.grpc_address, "http": app.http_address}
    if ready_file is None:
        print(f"ready: {json.dumps(facts)}\n{_tell_key(app, settings)}", flush=True)
        return
    with tempfile.NamedTemporaryFile("w", dir=ready_file.parent, delete=False) as file:
        json.dump({**facts, "api_key": app.api_key}, file)
    Path(file.name).replace(ready_file)


def _tell_key(app: App, settings: Settings) -> str:
    """Say how to call with the key. What was given as a secret is for no log, where programs' words end."""
    if not app.api_key:
        return "keys: see idefics2-service keys"
    if settings.api.key is not None and not sys.stdout.isatty():
        return "key: the one of IDEFICS2_API_KEY"
    return f"export IDEFICS2_API_KEY={app.api_key}"


def _page_url(app: App, settings: Settings) -> str:
    """Write where the page is; a browser keeps to itself what follows the `#`, and the page forgets it."""
    scheme = "https" if settings.http.has_tls else "http"
    key = f"#key={app.api_key}" if app.api_key else ""
    return f"{scheme}://{app.http_address}/{key}"
