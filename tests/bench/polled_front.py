"""A front for those who ask where a request stands, as a process of its own; serves until its input ends.

Its first answer is told in the pace of a model, and all later ones are held: what is submitted after it runs
or waits for ever.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import uvloop
from bench.front import PacedBackend
from fakes.script import Answer, Script
from idefics2_service import logs
from idefics2_service.app import App
from idefics2_service.settings import Settings

NUM_TOKENS = 100
NUM_HELD = 1_000


async def serve(settings: Settings) -> None:
    """Serve until nobody holds our standard input any more."""
    script = Script()
    script.add(Answer(("word ",) * NUM_TOKENS), *[Answer(holds=True)] * NUM_HELD)
    async with App(settings, PacedBackend(script)) as app:
        print(json.dumps({"http": app.http_address, "api_key": app.api_key}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    given = Settings.read(os.environ)
    logs.configure(given.log)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(given))
