"""Uploads a large file with the client, and says what that took: seconds, and bytes of memory on top.

A process of its own, so that its memory is the client's: reads target, key and path from the command line.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from idefics2_client import AsyncClient, Client

SMALL = b"BM" + bytes(100)
"""Uploaded first, so that what any upload needs is there."""


def main() -> None:
    """Upload."""
    kind, target, api_key, path = sys.argv[1:]
    if kind == "asyncio":
        asyncio.run(upload_asyncio(target, api_key, path))
        return
    with Client(target, api_key) as client:
        client.upload(SMALL)
        before, started = read_peak(), time.perf_counter()
        file = client.upload(path)
        report(before, started)
        client.delete_file(file)


async def upload_asyncio(target: str, api_key: str, path: str) -> None:
    """Upload."""
    async with AsyncClient(target, api_key) as client:
        await client.upload(SMALL)
        before, started = read_peak(), time.perf_counter()
        file = await client.upload(path)
        report(before, started)
        await client.delete_file(file)


def read_peak() -> int:
    """Return how many bytes of memory this process has had at most."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def report(before: int, started: float) -> None:
    """Say what it took."""
    print(
        json.dumps({"seconds": time.perf_counter() - started, "num_bytes": read_peak() - before}), flush=True
    )


if __name__ == "__main__":
    main()
