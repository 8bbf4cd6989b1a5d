"""Whoever is to be told is told, whatever the hosts of others do, over every store."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from idefics2_service import webhooks
from idefics2_service.errors import StoreUnavailable
from idefics2_service.metrics import Metrics
from idefics2_service.requests import RequestName
from idefics2_service.settings import WebhookSettings
from idefics2_service.webhooks import Webhooks
from store.submissions import submit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from idefics2_service.store.interface import RequestStore

PATIENCE_SECONDS = 20
NUM_PLACES = 8


class Hosts:
    """Of whom one answers nobody until it is back."""

    timeout_seconds = 60.0

    def __init__(self) -> None:
        self.num_waiting = self.num_heard = 0
        self.heard, self.back = asyncio.Event(), asyncio.Event()

    async def post(self, key_id: str, url: str, body: bytes, headers: Any) -> int:
        """Take a call, or let it wait."""
        if "dead" in url:
            self.num_waiting += 1
            await self.back.wait()
        self.num_heard += 1
        self.heard.set()
        return 200


async def end_many(store: RequestStore, num: int, key_id: str, url: str) -> None:
    """End requests of a key whose webhooks are to be told."""
    names = [str(number) for number in range(num)]
    await submit(store, *names, key_id=key_id, webhook_url=url)
    for name in names:
        await store.cancel(RequestName(key_id, name))


@asynccontextmanager
async def telling_of_many(store: RequestStore, num: int) -> AsyncIterator[Hosts]:
    """Tell of `num` ends of a key whose host is dead, then of one of another; return who is called."""
    await end_many(store, num, "anna", "https://dead.example.org/hook")
    await end_many(store, 1, "bert", "https://example.org/hook")
    hosts: Any = Hosts()
    telling = Webhooks(store, hosts, lambda _: (b"", {}), WebhookSettings(), Metrics())
    delivering = asyncio.create_task(telling.deliver())
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield hosts
    finally:
        hosts.back.set()
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)


async def test_a_host_that_does_not_answer_holds_up_no_other_keys_webhooks(
    store: RequestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_MAX_AT_ONCE", NUM_PLACES)
    num = 3 * NUM_PLACES
    async with telling_of_many(store, num) as hosts:
        await hosts.heard.wait()
        while (await store.statistics()).num_deliveries > num or hosts.num_waiting < NUM_PLACES / 2:
            pass
    assert hosts.num_waiting == NUM_PLACES / 2


async def test_another_keys_webhook_is_claimed_in_the_first_rounds_however_many_are_due_before_it(
    store: RequestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_delivery, num_claims = store.claim_delivery, 0

    async def count(*arguments: Any) -> Any:
        nonlocal num_claims
        num_claims += 1
        return await claim_delivery(*arguments)

    monkeypatch.setattr(webhooks, "_MAX_AT_ONCE", NUM_PLACES)
    monkeypatch.setattr(store, "claim_delivery", count)
    async with telling_of_many(store, 10 * NUM_PLACES) as hosts:
        await hosts.heard.wait()
        assert num_claims <= NUM_PLACES


async def test_webhooks_that_wait_for_their_keys_share_are_told_as_soon_as_there_is_room(
    store: RequestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_MAX_AT_ONCE", NUM_PLACES)
    monkeypatch.setattr(webhooks, "_LOOK_AGAIN_SECONDS", 2 * PATIENCE_SECONDS)
    async with telling_of_many(store, 3 * NUM_PLACES) as hosts:
        while hosts.num_waiting < NUM_PLACES / 2:
            await store.statistics()
        hosts.back.set()
        while (await store.statistics()).num_deliveries:
            pass
    assert hosts.num_heard == 3 * NUM_PLACES + 1


@asynccontextmanager
async def stopping_while_a_host_is_called(store: RequestStore) -> AsyncIterator[Hosts]:
    """Return who is called as the service stops; wait until it has."""
    await end_many(store, 1, "anna", "https://dead.example.org/hook")
    hosts: Any = Hosts()
    telling = Webhooks(store, hosts, lambda _: (b"", {}), WebhookSettings(), Metrics())
    delivering = asyncio.create_task(telling.deliver())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not hosts.num_waiting:
            await store.statistics()
        delivering.cancel()
        yield hosts
        await asyncio.gather(delivering, return_exceptions=True)


async def test_a_host_that_answers_while_the_service_stops_is_not_called_again(store: RequestStore) -> None:
    async with stopping_while_a_host_is_called(store) as hosts:
        hosts.back.set()
    assert not (await store.statistics()).num_deliveries


async def test_a_host_that_does_not_answer_is_left_to_others_at_the_end(
    store: RequestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_LAST_SECONDS", 0.01)
    async with stopping_while_a_host_is_called(store):
        pass
    assert (await store.statistics()).num_deliveries == 1


async def end_one(store: RequestStore) -> tuple[Hosts, Webhooks]:
    """End a request whose webhook is to be told, and return who hears of it, and what tells."""
    hosts: Any = Hosts()
    await submit(store, "one", webhook_url="https://example.org/hook")
    await store.cancel(RequestName("anna", "one"))
    return hosts, Webhooks(store, hosts, lambda _: (b"", {}), WebhookSettings(), Metrics())


async def test_a_host_that_heard_is_not_called_again_where_the_store_was_away_for_a_while(
    store: RequestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, num_calls = store.settle_delivery, 0

    async def settle_at_last(*arguments: Any) -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls == 3:  # the answer is lost
            await settle(*arguments)
        if num_calls < 5:
            raise StoreUnavailable("away")
        await settle(*arguments)

    monkeypatch.setattr(webhooks, "_RETRY_SECONDS", 0)
    monkeypatch.setattr(store, "settle_delivery", settle_at_last)
    hosts, telling = await end_one(store)
    delivering = asyncio.create_task(telling.deliver())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await store.statistics()).num_deliveries or num_calls < 5:
            pass
    assert hosts.num_heard == 1
    delivering.cancel()
    await asyncio.gather(delivering, return_exceptions=True)


async def test_what_became_of_a_call_is_not_written_for_ever(
    store: RequestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def be_away(*_: Any) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(webhooks, "_SETTLING_SECONDS", 0.01)
    monkeypatch.setattr(webhooks, "_RETRY_SECONDS", 0.001)
    _, telling = await end_one(store)
    delivery = await store.claim_delivery(60)
    assert delivery is not None
    monkeypatch.setattr(store, "settle_delivery", be_away)
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(StoreUnavailable):
            await telling._settle(delivery, None)


async def test_a_webhook_is_not_due_again_while_its_call_may_be_under_way(
    store: RequestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_delivery, given = store.claim_delivery, []

    async def note(again_after_seconds: float, but_of: Collection[str]) -> Any:
        given.append(again_after_seconds)
        return await claim_delivery(again_after_seconds, but_of)

    monkeypatch.setattr(store, "claim_delivery", note)
    hosts, telling = await end_one(store)
    delivering = asyncio.create_task(telling.deliver())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await hosts.heard.wait()
    assert min(given) > hosts.timeout_seconds
    delivering.cancel()
    await asyncio.gather(delivering, return_exceptions=True)
