"""Looks at files beside the event loop: a disk that hangs would hold it up, and all that it serves."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = structlog.get_logger(__name__)


@contextmanager
def keep_looking(look: Callable[[], None], pause_seconds: float) -> Iterator[None]:
    """Call `look` at once, and again after each pause, in a thread of its own, until the end of the context.

    One that hangs holds up none but the next one, and nobody waits for it at the end.
    """
    is_over = threading.Event()

    def go_on() -> None:
        while not is_over.is_set():
            try:
                look()
            except Exception as error:  # whatever it is, the next one may go well
                logger.critical("a part of the service failed and begins again", exc_info=error)
            is_over.wait(pause_seconds)

    threading.Thread(target=go_on, name="lookout", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
