"""Ports of this machine: free ones, and when somebody answers on one."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import suppress

import grpc

HOST = "127.0.0.1"
_PORTS = range(20_000, 32_768)
"""Below those that Linux gives to outgoing connections."""
_choices = iter(random.SystemRandom().sample(_PORTS, len(_PORTS)))
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
    """Find a port that nobody uses, for a server that may be killed and started again.

    None is found twice, and none that an outgoing connection might take while its server is away.
    """
    for port in _choices:
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise RuntimeError("every port is in use, or was given away")
