"""Clients of every release go on calling today's service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from clients.contracts import ROOT, Contract, find_contracts
from fakes.script import Answer
from harness import Harness, read_refusal, red_circle_answer, run_on_fake_backend
from idefics2.v1 import generation_pb2
from pictures import DESCRIBE, RED_CIRCLE, RED_CIRCLE_PIECES, red_circle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from harness import MakeSettings

CONTRACTS = [Contract(name) for name in find_contracts()]
SUBMITTING = [contract for contract in CONTRACTS if len(contract.services) > 1]
UPLOADING = [contract for contract in CONTRACTS if len(contract.services) > 2]
RELEASES = re.compile(r"^## (?!Unreleased)(\S+)", re.MULTILINE)


class OldClient:
    """The generated code of a release, called as its time called it."""

    def __init__(self, contract: Contract, service: Harness) -> None:
        """Call `service`."""
        self.name, self.make = contract.name, contract.make
        self._contract = contract
        self._service = service

    def ask(self, **fields: Any) -> Any:
        """Write a question about a red circle."""
        image = self.make("Image", data=red_circle())
        return self.make(
            "GenerateRequest", **{"prompt": DESCRIBE, "temperature": 0, "images": [image], **fields}
        )

    def call(self, path: str, message: Any) -> Any:
        """Call a method."""
        return self._contract.call(self._service.channel, path)(message, metadata=self._service.metadata)

    async def submit(self, request_id: str, **fields: Any) -> Any:
        """Submit a question, and watch it to its end; return its events."""
        submission = self.make("SubmitRequest", request_id=request_id, input=self.ask(**fields))
        taken = await self.call("RequestService.Submit", submission)
        assert taken.request_id == request_id
        question = self.make("WatchRequestRequest", request_id=request_id)
        events = [event async for event in self.call("RequestService.WatchRequest", question)]
        assert events[-1].WhichOneof("event") == "finished"
        return events


def name(contract: Contract) -> str:
    """Name a contract in a test's id."""
    return contract.name


@pytest.fixture(scope="module")
async def service(make_settings: MakeSettings) -> AsyncIterator[Harness]:
    """Today's service."""
    async with run_on_fake_backend(make_settings()) as harness:
        yield harness
        harness.check_script()


@pytest.fixture
def client(request: pytest.FixtureRequest, service: Harness) -> OldClient:
    """A client of each release."""
    return OldClient(request.param, service)


def test_every_release_is_kept() -> None:
    released = RELEASES.findall((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert {"0.1.0", *released} <= set(find_contracts()), "run `make release-contract`"


@pytest.mark.parametrize("client", CONTRACTS, indirect=True, ids=name)
async def test_it_generates_streams_and_counts(service: Harness, client: OldClient) -> None:
    service.expect(red_circle_answer(), red_circle_answer())
    answer = await client.call("GenerationService.Generate", client.ask())
    assert answer.output == RED_CIRCLE
    assert answer.usage.num_prompt_tokens > 0
    events = [event async for event in client.call("GenerationService.GenerateStream", client.ask())]
    assert "".join(event.text_delta.text for event in events) == RED_CIRCLE
    assert events[-1].finished.response.output == RED_CIRCLE
    assert (await client.call("GenerationService.CountTokens", client.ask())).fits


@pytest.mark.parametrize("client", CONTRACTS, indirect=True, ids=name)
async def test_it_reads_a_refusal_for_a_reason_that_is_newer(client: OldClient) -> None:
    unknown = client.ask(image_url=f"idefics2://files/{'f' * 32}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.call("GenerationService.Generate", unknown)
    refusal = read_refusal(caught.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "FILE_NOT_UPLOADED")


@pytest.mark.parametrize("contract", CONTRACTS, ids=name)
def test_it_skips_events_and_fields_that_are_newer(contract: Contract) -> None:
    started = generation_pb2.Event(sequence=1, attempt_started=generation_pb2.AttemptStarted(attempt=2))
    old = contract.make("Event")
    old.ParseFromString(started.SerializeToString())
    is_known = "attempt_started" in old.DESCRIPTOR.fields_by_name
    assert (old.sequence, old.WhichOneof("event")) == (1, "attempt_started" if is_known else None)
    assert (
        generation_pb2.Event.FromString(old.SerializeToString()) == started
    )  # whoever passes it on loses nothing


@pytest.mark.parametrize("client", SUBMITTING, indirect=True, ids=name)
async def test_it_submits_watches_and_cancels(service: Harness, client: OldClient) -> None:
    service.expect(red_circle_answer())
    request_id = f"ending-{client.name}"
    events = await client.submit(request_id)
    assert "".join(event.text_delta.text for event in events) == RED_CIRCLE
    result = await client.call(
        "RequestService.GetResult", client.make("GetResultRequest", request_id=request_id)
    )
    assert result.output == RED_CIRCLE
    cancelled = await client.call(
        "RequestService.CancelRequest", client.make("CancelRequestRequest", request_id=request_id)
    )
    assert cancelled.state == 3  # SUCCEEDED: it has ended
    page = await client.call("RequestService.ListRequests", client.make("ListRequestsRequest", state=3))
    assert request_id in {request.request_id for request in page.requests}


@pytest.mark.parametrize("client", SUBMITTING, indirect=True, ids=name)
async def test_it_reads_a_failure_for_a_reason_that_is_newer(service: Harness, client: OldClient) -> None:
    service.expect(Answer(failure=("FILE_BLOCKED", "images[0] is withheld", "images[0]")))
    events = await client.submit(f"failing-{client.name}")
    failure = events[-1].finished.failure
    assert (failure.code, failure.reason, failure.field) == (3, 31, "images[0].data")
    assert failure.message


@pytest.mark.parametrize("client", UPLOADING, indirect=True, ids=name)
async def test_it_uploads_asks_about_it_and_downloads(service: Harness, client: OldClient) -> None:
    picture = red_circle()
    start = client.make("UploadStart", size_bytes=len(picture), name="circle.png")
    messages = iter((client.make("UploadRequest", start=start), client.make("UploadRequest", chunk=picture)))
    file = await client.call("FileService.Upload", messages)
    service.expect(Answer(RED_CIRCLE_PIECES))
    answer = await client.call("GenerationService.Generate", client.ask(images=[], image_sha256=file.sha256))
    assert answer.output == RED_CIRCLE
    asked = client.make("DownloadFileRequest", id=file.id)
    chunks = [part.chunk async for part in client.call("FileService.DownloadFile", asked)]
    assert b"".join(chunks) == picture
