"""What comes over streams of gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

from harness import PATIENCE_SECONDS


async def read_until(call: Any, field: str) -> Any:
    """Read events until one has a field, and return that."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while event := await call.read():
            if event.HasField(field):
                return event
    raise AssertionError(f"the stream ended without {field}")


async def read_to_end(call: Any) -> None:
    """Read a stream until it ends or fails."""
    while await call.read():
        pass
