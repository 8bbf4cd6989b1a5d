"""The service as a process: from its start to the signal that ends it, and what it says when it is ready."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import structlog

from idefics2_service import garbage
from idefics2_service.app import App
from idefics2_service.exposure import is_loopback

if TYPE_CHECKING:
    from idefics2_service.ready_file import ReadyFile
    from idefics2_service.settings import Settings

logger = structlog.get_logger(__name__)


async def serve(settings: Settings, ready_file: ReadyFile | None) -> None:
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
        ready_file.begin()
    try:
        async with App(settings) as app:
            await app.wait_until_serving()
            garbage.spare_what_lasts()
            logger.info("serving")
            _announce(app, settings, ready_file)
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        logger.info("stopped")
    finally:
        if ready_file is not None:
            ready_file.remove()


def _raise_file_limit() -> None:
    """Let as many files and connections be open at a time as the system allows: usually 1,024 at first."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems name a bound that they do not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _announce(app: App, settings: Settings, ready_file: ReadyFile | None) -> None:
    """Tell a program by the ready file, or a person, how to call."""
    facts = {"grpc": app.grpc_address, "http": app.http_address}
    if ready_file is not None:
        ready_file.write({**facts, "api_key": app.api_key})
        return
    print(f"ready: {json.dumps(facts)}\n{_tell_key(app, settings)}", flush=True)
    if sys.stdout.isatty() and is_loopback(settings.http.host):
        print(f"page {_page_url(app, settings)}", flush=True)


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
