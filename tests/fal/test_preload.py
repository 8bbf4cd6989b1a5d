"""What becomes of the calls of a whole program that is pointed here, as README shows for any JavaScript."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from fal.questions import PIECES, QUESTION, TEXT
from fal.ways import HTTP, NEW, Way
from fal.workplaces import prepare
from processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakes.hook import Hook
    from fal.node import Node
    from fal.services import Fake
    from fal.workplaces import Workplace

RUN_URL = "https://fal.run/fal-ai/idefics-2-8b"


@pytest.fixture
def fake(fakes: dict[bool, Fake]) -> Iterator[Fake]:
    """The service with a fake model that is called."""
    yield fakes[False]
    fakes[False].harness.check_script()


@pytest.fixture
def workplace(node: Node, fake: Fake) -> Iterator[Workplace]:
    """A folder whose programs are pointed."""
    with prepare(node, Way(NEW, "preload.mjs"), fake.find_door(HTTP)) as workplace:
        yield workplace


async def call(workplace: Workplace, *calls: list[Any]) -> list[dict[str, Any]]:
    """Make calls of `fetch`, and return what comes of each."""
    process = await workplace.start("requests.mjs", *map(json.dumps, calls), stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(PATIENCE_SECONDS):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return [json.loads(line) for line in output.splitlines()]


async def test_a_request_to_the_hosted_endpoint_comes_here_with_its_method_headers_and_body(
    workplace: Workplace, fake: Fake
) -> None:
    fake.expect(*PIECES)
    fake.expect(*PIECES)
    headers = {
        "authorization": f"Key {workplace.variables['FAL_KEY']}",
        "content-type": "application/json",
    }
    init = {"method": "POST", "headers": headers, "body": json.dumps(QUESTION)}
    wrong = {**init, "headers": {**headers, "authorization": "Key wrong"}}
    answers = await call(
        workplace,
        ["request", RUN_URL, init],
        ["request", RUN_URL, wrong],
        ["request", RUN_URL, wrong, {"headers": headers}],
    )
    assert [answer["status"] for answer in answers] == [200, 401, 200]
    assert [json.loads(answers[at]["text"])["output"] for at in (0, 2)] == [TEXT, TEXT]


async def test_what_is_for_others_goes_there_as_it_is(workplace: Workplace, hook: Hook) -> None:
    answers = await call(
        workplace,
        *([kind, hook.picture_url] for kind in ("request", "url", "text")),
        ["request", hook.url, {"method": "POST", "headers": {"x-mine": "1"}, "body": "mine"}],
        ["text", "data:,mine"],
    )
    assert [answer["status"] for answer in answers] == [200] * 5
    assert answers[-1]["text"] == "mine"
    body, headers = await hook.next_call()
    assert (body, headers["x-mine"]) == (b"mine", "1")


async def test_what_is_no_url_is_refused_as_without_the_preload(workplace: Workplace) -> None:
    assert await call(workplace, ["text", "/nowhere"]) == [{"error": "TypeError"}]
