"""A front as a process of its own, whose model says as many tokens as it is asked for, at a steady pace.

It says where it answers, and serves until its input ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING

import uvloop
from fakes.backend import FakeBackend
from fakes.script import Script
from idefics2_service import allocator, garbage, logs
from idefics2_service.app import App
from idefics2_service.backend import BackendFinished
from idefics2_service.events import StageEntered, TextDelta
from idefics2_service.requests import FinishReason, Stage, Usage
from idefics2_service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from idefics2_service.backend import BackendEvent
    from idefics2_service.requests import ResolvedRequest

TOKEN_SECONDS = 0.05
SLOWLY, SLOW_SECONDS, LONG_WORD = "Slowly: ", 1.0, "word " * 400
"""A prompt that begins so is answered in few and long words."""
HASTILY, NUM_HASTY = "Hastily: ", 20
"""One that begins so likewise, but the first of these come at once."""


class SteadyBackend(FakeBackend):
    """Takes as long for each token, however many it answers at a time."""

    async def generate(self, request: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        """As Backend.generate."""
        num_tokens, prompt = request.request.max_new_tokens, request.request.prompt
        is_slow, num_hasty = prompt.startswith((SLOWLY, HASTILY)), NUM_HASTY * prompt.startswith(HASTILY)
        yield StageEntered(Stage.PREFILL)
        yield StageEntered(Stage.DECODE)
        for count in range(1, num_tokens + 1):
            if count > num_hasty:
                await asyncio.sleep(SLOW_SECONDS if is_slow else TOKEN_SECONDS)
            yield TextDelta(LONG_WORD if is_slow else "word ", count)
        yield BackendFinished(FinishReason.LENGTH, Usage(1, 1, num_tokens))


def main() -> None:
    """Serve as the environment says."""
    settings = Settings.read(os.environ)
    logs.configure(settings.log)
    allocator.tame()  # as the service's own program
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))


async def serve(settings: Settings) -> None:
    """Serve until nobody holds our standard input any more."""
    async with App(settings, SteadyBackend(Script())) as app:
        told = {"address": app.grpc_address, "http": app.http_address, "api_key": app.api_key}
        garbage.spare_what_lasts()  # as the service's own program
        print(json.dumps(told), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    main()
