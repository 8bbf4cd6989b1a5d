"""Today's client calls services of every release, and says what an older one lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from clients.contracts import Contract, find_contracts
from clients.python.callers import KINDS, make_caller
from fakes.contract_server import ContractServer
from fakes.scripted_server import make_status
from idefics2_client import InvalidRequest, ServiceFailed
from idefics2_client.images import INLINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from idefics2_client import AsyncClient

CONTRACTS = {name: Contract(name) for name in find_contracts()}
FIRST, SECOND = "before-requests", "before-files"
SUBMITTING = [name for name, contract in CONTRACTS.items() if len(contract.services) > 1]


@pytest.fixture(params=CONTRACTS)
def contract(request: pytest.FixtureRequest) -> Contract:
    """What the service knows."""
    return CONTRACTS[request.param]


@pytest.fixture
def server(contract: Contract) -> Iterator[ContractServer]:
    """A service of that time."""
    with ContractServer(contract) as server:
        yield server


def answer(contract: Contract) -> Any:
    """Write an answer as it was written then."""
    usage = contract.make("Usage", num_prompt_tokens=80, num_image_tokens=64, num_generated_tokens=3)
    return contract.make("GenerateResponse", output="A cat.", usage=usage, request_id="r-1", seed=7)


def end(contract: Contract, sequence: int) -> Any:
    """Write the last event."""
    finished = contract.make("Finished", response=answer(contract))
    return contract.make("Event", sequence=sequence, finished=finished)


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_asked(server: ContractServer, contract: Contract, kind: str) -> None:
    server.expect(answer(contract))
    piece = contract.make("Event", sequence=1, text_delta=contract.make("TextDelta", text="A cat."))
    server.expect(piece, end(contract, 2))
    async with make_caller(kind, server.target) as caller:
        got = await caller.generate(b"BM", "What?", min_new_tokens=2)
        assert (got.output, got.usage.num_cached_tokens) == ("A cat.", 0)
        events = [event async for event in caller.stream(b"BM", "What?")]
    assert [event.WhichOneof("event") for event in events] == ["text_delta", "finished"]
    assert server.requests[0].prompt == "What?"


@pytest.mark.parametrize("kind", KINDS)
async def test_its_refusals_are_read(server: ContractServer, kind: str) -> None:
    server.expect(make_status("INVALID_ARGUMENT", "IMAGE_MISSING", "why", field="image_url"))
    async with make_caller(kind, server.target) as caller:
        with pytest.raises(InvalidRequest, match="why") as caught:
            await caller.generate("sha256:" + "0" * 64, "What?")  # which it may not know
    error = caught.value
    assert (error.reason, error.field, error.request_id) == ("IMAGE_MISSING", "image_url", "r-1")


@pytest.mark.parametrize("contract", SUBMITTING, indirect=True)
@pytest.mark.parametrize("kind", KINDS)
async def test_it_takes_requests(server: ContractServer, contract: Contract, kind: str) -> None:
    server.expect(contract.make("Request", request_id="r-1", state=1))
    server.expect(end(contract, 1))
    async with make_caller(kind, server.target) as caller:
        got = await caller.subscribe(b"BM", "What?", request_id="r-1", keep_seconds=60)
    assert got.output == "A cat."


@pytest.mark.parametrize(
    ("contract", "call"),
    [
        (FIRST, lambda caller: caller.submit(b"BM", "What?")),
        (FIRST, lambda caller: caller.subscribe(b"BM", "What?")),
        (FIRST, lambda caller: anext(caller.watch("r-1"))),
        (FIRST, lambda caller: anext(caller.list_requests())),
        (SECOND, lambda caller: caller.get_file("f")),
        (SECOND, lambda caller: caller.upload(b"BM")),
        (SECOND, lambda caller: caller.generate(b"BM" + bytes(INLINE_BYTES), "What?")),
    ],
    indirect=["contract"],
)
@pytest.mark.parametrize("kind", KINDS)
async def test_what_it_lacks_is_told_with_what_to_do(
    server: ContractServer, kind: str, call: Callable[[AsyncClient], Awaitable[Any]]
) -> None:
    async with make_caller(kind, server.target) as caller:
        with pytest.raises(ServiceFailed, match="older than this client: update the service") as caught:
            await call(caller)
    assert (caught.value.code, caught.value.advice) == (
        "UNIMPLEMENTED",
        "the service is older than this client: update the service",
    )
