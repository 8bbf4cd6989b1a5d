"""Ways to find a front: by a proxy, or by turns of one's own, with or without asking for health."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import httpx
from faults.requests.cluster import API_KEY
from idefics2.v1 import files_pb2_grpc, generation_pb2_grpc, requests_pb2_grpc
from idefics2_client import Retry
from load.drain.record import DEAF

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from load.drain.envoy import Envoy

METADATA = (("authorization", f"Key {API_KEY}"),)
PATIENCE_SECONDS = 60.0
_ALONE = ("grpc.use_local_subchannel_pool", 1)
"""Or ways would share connections."""
_SOON_SECONDS = 0.5
"""How long to wait, at most, before a front that was away is tried again: it keeps trials short."""
_HEALTH_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "idefics2.v1.GenerationService"},
}


@dataclass(frozen=True)
class Way:
    """One way, and what calls by it."""

    name: str
    generation: Any
    requests: Any
    files: Any
    web: httpx.AsyncClient
    """Over HTTP, always by Envoy: who calls a front by itself over HTTP has no balance."""


@asynccontextmanager
async def open_ways(envoy: Envoy, addresses: Sequence[str]) -> AsyncIterator[list[Way]]:
    """Open a way by Envoy, one that asks for health, and one as the Python client goes."""
    target = f"ipv4:{','.join(addresses)}"
    asking = (
        ("grpc.service_config", json.dumps(_HEALTH_CONFIG)),
        ("grpc.max_reconnect_backoff_ms", round(1000 * _SOON_SECONDS)),
    )
    plans = (
        ("envoy", envoy.grpc, ()),
        ("health", target, asking),
        (DEAF, target, Retry(max_attempts=1, max_seconds=_SOON_SECONDS).channel_options),
    )
    async with AsyncExitStack() as stack:
        web = httpx.AsyncClient(
            base_url=f"http://{envoy.http}", headers=dict(METADATA), timeout=PATIENCE_SECONDS
        )
        await stack.enter_async_context(web)
        ways = []
        for name, where, options in plans:
            channel = grpc.aio.insecure_channel(where, options=(_ALONE, *options))
            ways.append(_make_way(name, await stack.enter_async_context(channel), web))
        yield ways


def _make_way(name: str, channel: grpc.aio.Channel, web: httpx.AsyncClient) -> Way:
    return Way(
        name,
        generation_pb2_grpc.GenerationServiceStub(channel),
        requests_pb2_grpc.RequestServiceStub(channel),
        files_pb2_grpc.FileServiceStub(channel),
        web,
    )
