"""A front whose model is a fake, as a process of its own: says where it answers, serves until its input ends.

Its first answers are held until they are cancelled, one for each turn: what is submitted after them waits.
All later ones are told in the pace of a model.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

import uvloop
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from idefics2_service import allocator, logs
from idefics2_service.app import App
from idefics2_service.events import TextDelta
from idefics2_service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from idefics2_service.backend import BackendEvent
    from idefics2_service.requests import ResolvedRequest

TOKEN_SECONDS = 0.05
NUM_TOKENS = 1_000
NUM_ANSWERS = 2_000


class PacedBackend(FakeBackend):
    """Takes its time for each token."""

    async def generate(self, request: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        """As Backend.generate."""
        async with aclosing(super().generate(request)) as events:
            async for event in events:
                yield event
                if isinstance(event, TextDelta):
                    await asyncio.sleep(TOKEN_SECONDS)


def main() -> None:
    """Serve as the environment says."""
    settings = Settings.read(os.environ)
    logs.configure(settings.log)
    allocator.tame()  # as the service's own program
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))


async def serve(settings: Settings) -> None:
    """Serve until nobody holds our standard input any more."""
    script = Script()
    script.add(*[Answer(holds=True)] * settings.queue.max_running)
    script.add(*[Answer(("word ",) * NUM_TOKENS)] * NUM_ANSWERS)
    async with App(settings, PacedBackend(script)) as app:
        print(json.dumps({"address": app.grpc_address, "api_key": app.api_key}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    main()
