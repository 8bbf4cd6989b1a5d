"""The two clients behind one face, so that a test says once what both promise."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from idefics2_client import AsyncClient, Client, Retry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from idefics2_client import ClientOptions, Idefics2Error

KINDS = ("blocking", "asyncio")
API_KEY = "local.key"
_GENERATORS = {"stream", "watch", "list_requests", "list_files"}


def make_caller(
    kind: str,
    target: str | None = None,
    on_lost: Callable[[Idefics2Error], object] | None = None,
    api_key: str = API_KEY,
    **options: Unpack[ClientOptions],
) -> AsyncClient:
    """Make a client that tries again at once; the blocking one is dressed as the other."""
    options["retry"] = Retry(first_seconds=0, max_seconds=0, on_lost=on_lost or (lambda _: None))
    if kind == "asyncio":
        return AsyncClient(target, api_key, **options)
    return cast("AsyncClient", _Threaded(Client(target, api_key, **options)))


class _Threaded:
    """The blocking client, whose methods run in a thread."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.close()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return partial(_iterate if name in _GENERATORS else asyncio.to_thread, method)


async def _iterate(
    method: Callable[..., Generator[object, None, None]], *args: object, **options: object
) -> AsyncGenerator[object, None]:
    items = await asyncio.to_thread(method, *args, **options)
    try:
        while (item := await asyncio.to_thread(next, items, None)) is not None:
            yield item
    finally:
        items.close()
