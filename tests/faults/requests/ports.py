"""Ports of this machine: free ones, and when somebody answers on one."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import grpc
from store.servers import HOST

_LOOK_SECONDS = 0.02


async def wait_for_grpc(address: str) -> None:
    """Return when a gRPC server listens; by a channel of its own, which knows nothing of earlier ones."""
    options = (
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 50),
    )
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        await channel.channel_ready()


async def wait_for_port(port: int) -> None:
    """Return when somebody listens."""
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.close()
            return
        await asyncio.sleep(_LOOK_SECONDS)


async def wait_for_store(port: int) -> None:
    """Return when a Redis or Valkey has loaded what it kept."""
    while not await _pings(port):  # noqa: ASYNC110  # nothing tells of another process's port
        await asyncio.sleep(_LOOK_SECONDS)


async def _pings(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return (await reader.readline()).startswith(b"+PONG")
    except OSError:
        return False
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def free_port() -> int:
    """Find a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
