"""Callers over HTTP who do not read, each on a connection of its own.

Their sockets take next to nothing. Answers are hasty at first, for the system takes a little of each, and
that looks as if it were read.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING

import httpx
from bench.crowd_front import HASTILY
from bench.readers import FILE_BYTES, NUM_READERS
from faces.web import BODY, QUEUE, RUN

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from bench.crowds import CrowdFront
    from bench.readers import Call

_HASTY = {**BODY, "prompt": f"{HASTILY}what is this?", "max_new_tokens": 1_000}
_LEAST_BYTES = 2_304
"""As small as Linux lets what a socket takes be."""


async def stream(front: CrowdFront, stack: AsyncExitStack) -> Call:
    """Ask for answers as they are written."""
    body = json.dumps(_HASTY).encode()
    return lambda _: call(front, stack, "POST", f"{RUN}/stream", body)


async def follow(front: CrowdFront, stack: AsyncExitStack) -> Call:
    """Submit requests, and follow their statuses, with their text."""
    headers = {"authorization": f"Key {front.api_key}"}
    async with httpx.AsyncClient(base_url=f"http://{front.http_address}", headers=headers) as client:
        answers = [await client.post(QUEUE, json=_HASTY) for _ in range(NUM_READERS)]
    paths = [httpx.URL(answer.json()["status_url"]).path for answer in answers]
    return lambda number: call(front, stack, "GET", f"{paths[number]}/stream?text=1")


async def download(front: CrowdFront, stack: AsyncExitStack) -> Call:
    """Upload a file, and download it by its link."""
    async with front.connect() as crowd:
        file_id = await crowd.upload(FILE_BYTES)
    path = f"/cdn/files/{front.api_key.partition('.')[0]}/{file_id}"
    return lambda _: call(front, stack, "GET", path)


async def call(front: CrowdFront, stack: AsyncExitStack, method: str, path: str, body: bytes = b"") -> None:
    """Call, and read no more than that there is an answer: that it is begun is not what is measured."""
    loop, calling = asyncio.get_running_loop(), stack.enter_context(socket.socket())
    calling.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LEAST_BYTES)
    calling.setblocking(False)  # noqa: FBT003  # Python's
    host, _, port = front.http_address.rpartition(":")
    await loop.sock_connect(calling, (host, int(port)))
    head = f"{method} {path} HTTP/1.1\r\nHost: {front.http_address}\r\nAuthorization: Key {front.api_key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    await loop.sock_sendall(calling, head.encode() + body)
    await loop.sock_recv(calling, 1)
