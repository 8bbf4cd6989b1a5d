"""Requests to put into a store."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from fakes.backend import FakeBackend
from fakes.script import Script
from harness import make_library
from idefics2_service.budget import Budget
from idefics2_service.downloads import Downloads
from idefics2_service.events import Finished, LogLine
from idefics2_service.fetcher import Fetcher
from idefics2_service.files import Files
from idefics2_service.keys.ring import KeyRing
from idefics2_service.lifecycle import Means
from idefics2_service.metrics import Metrics
from idefics2_service.queue import Turns
from idefics2_service.requests import (
    FinishReason,
    GenerateOutput,
    ImageSource,
    RequestName,
    Usage,
    ValidRequest,
)
from idefics2_service.settings import FetchSettings, LimitSettings, WebhookSettings
from idefics2_service.store.records import Lease, Submission
from idefics2_service.submissions import Submissions
from idefics2_service.webhooks import Webhooks

if TYPE_CHECKING:
    from idefics2_service.store.interface import RequestStore
    from idefics2_service.store.records import Claim
    from idefics2_service.uploads.library import Library

KEY = "anna"


def make_request(prompt: str = "What is this?") -> ValidRequest:
    """Ask about a few bytes."""
    return ValidRequest(
        prompt=prompt,
        images=(ImageSource("image_url", url="data:,"), ImageSource("images[0].data", data=b"\x00\xff")),
        max_new_tokens=512,
        repetition_penalty=1.2,
        temperature=0.0,
        top_p=0.8,
        top_k=0,
        seed=2**64 - 1,
        stop=("\n", "ü"),
        split_images=None,
        max_image_bytes=1_000,
        min_new_tokens=0,
    )


def make_submission(request_id: str, key_id: str = KEY, **fields: Any) -> Submission:
    """Name a request; `fields` are set on top."""
    prompt = fields.pop("prompt", "What is this?")
    given = {
        "name": RequestName(key_id, request_id),
        "fingerprint": hashlib.sha256(prompt.encode()).digest(),
        "request": make_request(prompt),
        **fields,
    }
    return Submission(**given)


def make_output(text: str = "A red circle.") -> GenerateOutput:
    """Answer."""
    return GenerateOutput(
        output=text,
        finish_reason=FinishReason.END_OF_TURN,
        usage=Usage(50, 36, 5),
        stage_seconds={"total": 0.5},
        request_id="run",
        seed=2**64 - 1,
    )


def make_submissions(
    store: RequestStore,
    library: Library | None = None,
    budget: Budget | None = None,
    metrics: Metrics | None = None,
) -> Submissions:
    """Make the core over a store; nothing is fetched and nobody is told."""
    files = Files(LimitSettings(), Downloads(Fetcher(FetchSettings())), library or make_library())
    webhooks = Webhooks(store, Fetcher(FetchSettings()), None, WebhookSettings(), Metrics())
    ring = KeyRing(f"{KEY}.0123456789abcdef")
    backend, turns = FakeBackend(Script()), Turns(1, 1)
    budget, metrics = budget or Budget(2**30), metrics or Metrics()
    return Submissions(store, webhooks, ring, Means(backend, turns, files, budget, LimitSettings(), metrics))


async def submit(store: RequestStore, *request_ids: str, key_id: str = KEY, **fields: Any) -> None:
    """Submit requests one after the other."""
    for request_id in request_ids:
        await store.submit(make_submission(request_id, key_id, **fields))


async def claim(store: RequestStore) -> Claim:
    """Claim the next request, which must be there."""
    claimed = await store.claim()
    assert claimed is not None
    return claimed


async def claim_all(store: RequestStore) -> list[str]:
    """Claim everything that waits; return the names in their order."""
    names = []
    while (claimed := await store.claim()) is not None:
        names.append(f"{claimed.name.key_id}/{claimed.name.request_id}")
    return names


async def check_lost(store: RequestStore, forgotten: Claim) -> None:
    """Check that a claim that is not held any more writes nothing."""
    for write in (
        store.renew(forgotten),
        store.append(forgotten, 1, [LogLine("stale")]),
        store.finish(forgotten, 1, [], Finished(make_output("stale"))),
        store.release(forgotten, "stale", is_lost=True),
    ):
        assert await write is Lease.LOST
