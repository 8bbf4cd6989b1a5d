"""What a client sends twice, the service does once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from fal.clients import read_output, run_client
from fal.questions import PIECES, QUESTION, SOON, TEXT
from fal.relay import run_relay
from fal.workplaces import prepare

if TYPE_CHECKING:
    from fal.clients import Client
    from fal.node import Node
    from fal.services import Fake
    from fal.ways import Way


@pytest.mark.where("has_options", "is_plain")  # through TLS, the handshake would be lost
async def test_a_submission_whose_answer_is_lost_is_sent_again_and_makes_one_request(
    way: Way, node: Node, fake: Fake
) -> None:
    fake.expect(*PIECES)
    num_before, door = await fake.count_requests(), fake.find_door(way.door)
    async with run_relay(door.address) as relay:
        with prepare(node, way, replace(door, address=relay.address)) as workplace:
            async with run_client(workplace) as client:
                headers = {"Idempotency-Key": f"painting of {way}"}
                call = client.begin("subscribe", input=QUESTION, interval_ms=SOON, headers=headers)
                assert read_output(await call.finish()) == TEXT
        assert relay.num_lost == 1
    assert await fake.count_requests() == num_before + 1


@pytest.mark.where("has_options")
async def test_who_submits_with_the_key_of_an_earlier_request_gets_that_request(
    client: Client, fake: Fake
) -> None:
    fake.expect(*PIECES)
    headers = {"Idempotency-Key": f"the same of {client.way}"}
    submitting = (client.call("submit", input=QUESTION, headers=headers) for _ in range(3))
    (request_id,) = {answer["request_id"] for answer in await asyncio.gather(*submitting)}
    assert await client.wait_for_answer(request_id) == TEXT
