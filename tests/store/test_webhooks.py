"""Whoever is to be told is told, whatever the hosts of others do, over every store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from idefics2_service import webhooks
from idefics2_service.metrics import Metrics
from idefics2_service.requests import RequestName
from idefics2_service.settings import WebhookSettings
from idefics2_service.webhooks import Webhooks
from store.submissions import submit

if TYPE_CHECKING:
    import pytest
    from idefics2_service.store.interface import RequestStore

PATIENCE_SECONDS = 20
NUM_PLACES = 8


class Hosts:
    """Of whom one never answers."""

    def __init__(self) -> None:
        self.num_waiting = 0
        self.heard = asyncio.Event()

    async def post(self, key_id: str, url: str, body: bytes, headers: Any) -> int:
        """Take a call, or let it wait for ever."""
        if "dead" in url:
            self.num_waiting += 1
            await asyncio.Event().wait()
        self.heard.set()
        return 200


async def test_a_host_that_does_not_answer_holds_up_no_other_keys_webhooks(
    store: RequestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_MAX_AT_ONCE", NUM_PLACES)
    hosts: Any = Hosts()
    telling = Webhooks(store, hosts, lambda _: (b"", {}), WebhookSettings(), Metrics())
    names = [str(number) for number in range(3 * NUM_PLACES)]
    await submit(store, *names, webhook_url="https://dead.example.org/hook")
    await submit(store, "one", key_id="bert", webhook_url="https://example.org/hook")
    for name in names:
        await store.cancel(RequestName("anna", name))
    await store.cancel(RequestName("bert", "one"))
    delivering = asyncio.create_task(telling.deliver())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await hosts.heard.wait()
        while (await store.statistics()).num_deliveries > len(names):
            pass
    assert hosts.num_waiting == NUM_PLACES / 2
    delivering.cancel()
    await asyncio.gather(delivering, return_exceptions=True)
