"""The real service, called as traffic says: each request at its time, whoever still waits."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from bench.programs import run_service
from bench.workloads import draw_pictures
from idefics2.v1 import generation_pb2, generation_pb2_grpc
from pictures import DESCRIBE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bench.fleet.traffic import Ask

MAX_CALL_SECONDS = 60.0
WORDS = (" red", " white")
"""One token each, for the embedded checkpoint."""
DESCRIBE_TOKENS = 11
"""Of DESCRIBE in the template, beside the image's."""
_CHANNEL_OPTIONS = (("grpc.max_receive_message_length", -1),)


@dataclass(frozen=True)
class Answered:
    """How one request went; seconds from the beginning of the load."""

    ask: Ask
    sent: float
    """Later than its time where the load generator was late."""
    first_token: float
    end: float


class Callers:
    """Ask a service, each request by a stream of its own."""

    def __init__(self, channel: grpc.aio.Channel, api_key: str, pid: int) -> None:
        self.pid = pid
        """Of the service."""
        self._stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)
        self._options: dict[str, Any] = {
            "metadata": (("authorization", f"Key {api_key}"),),
            "timeout": MAX_CALL_SECONDS,
        }
        self._files: dict[tuple[int, int], bytes] = {}
        self._num_rounds = 0
        self.begun = 0.0
        """When the time of the last requests began, as `time.perf_counter` counts."""

    async def ask_all(self, asks: Sequence[Ask]) -> list[Answered]:
        """Send each request at its time; return how they went, in their order.

        Nothing that an earlier call of this showed is shown again.
        """
        self._num_rounds += 1
        messages = [self._write(ask) for ask in asks]
        self.begun = time.perf_counter() + 0.1
        calls = (self._ask(ask, message, self.begun) for ask, message in zip(asks, messages, strict=True))
        return list(await asyncio.gather(*calls))

    async def _ask(self, ask: Ask, message: Any, begun: float) -> Answered:
        await asyncio.sleep(max(0.0, begun + ask.time - time.perf_counter()))
        sent = max(0.0, time.perf_counter() - begun)  # a timer may be early, by less than it can count
        first, last = 0.0, None
        async for event in self._stub.GenerateStream(message, **self._options):
            last = event
            if not first and event.WhichOneof("event") == "text_delta":
                first = time.perf_counter() - begun
        end = time.perf_counter() - begun
        if last is None or last.finished.response.usage.num_generated_tokens != ask.num_new_tokens:
            raise RuntimeError(f"request {ask.number} ended with {last}")
        return Answered(ask, sent, first or end, end)

    def _write(self, ask: Ask) -> Any:
        """Write a message: files of equal image are equal, and so are words of equal question."""
        size = ask.picture.width, ask.picture.height
        if size not in self._files:
            self._files[size] = draw_pictures(1, size)[0]
        mark = self._num_rounds.to_bytes(2, "big") + ask.image.to_bytes(4, "big")
        return generation_pb2.GenerateRequest(
            prompt=write_question(ask.question, ask.num_text_tokens),
            images=[generation_pb2.Image(data=self._files[size] + mark)],
            split_images=ask.picture.split,
            max_new_tokens=ask.num_new_tokens,
            min_new_tokens=ask.num_new_tokens,
            temperature=0,
        )


def write_question(question: int, num_tokens: int) -> str:
    """Write words of so many tokens, the template's included; the question's number is in the first."""
    num_words = max(0, num_tokens - DESCRIBE_TOKENS)
    return DESCRIBE + "".join(WORDS[question >> place & 1] for place in range(num_words))


@asynccontextmanager
async def run_callers(*options: str) -> AsyncIterator[Callers]:
    """Run the service, and call it over one channel."""
    async with (
        run_service(*options) as started,
        grpc.aio.insecure_channel(started.ready.grpc, options=_CHANNEL_OPTIONS) as channel,
    ):
        yield Callers(channel, started.ready.api_key, started.service.process.pid)
