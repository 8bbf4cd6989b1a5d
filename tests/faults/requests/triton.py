"""A Triton that may be killed and started again: `python -m faults.requests.triton --port N --journal FILE`.

What it answers follows from the prompt alone, so that a wrong answer shows; it comes in pieces, with
pauses, so that it can be struck in the middle. The journal tells when it began and ended what.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from fakes.script import Answer, Script
from fakes.triton import FakeTriton, respond
from faults.requests.journal import write_note
from idefics2_service.store.signals import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOLD, HOLD_PREFILL = "hold: ", "hold before text: "
"""What prompts begin with that are not answered until they are cancelled: after some text, or before it."""
LONG = "long: "
"""What prompts begin with whose answers take a second."""
SLOW = "slow: "
"""What prompts begin with that take longer than a lease: who was stopped meanwhile finds another at work."""
_PAUSE_SECONDS = 0.01
_LONG_PAUSES_SECONDS = {LONG: 0.25, SLOW: 0.8}
_PIECE_LENGTH = 8


def true_answer(prompt: str) -> str:
    """Return the only right answer."""
    return hashlib.sha256(prompt.encode()).hexdigest()[: 4 * _PIECE_LENGTH]


class _AnyNumber(Script):
    """Answers that are made up elsewhere."""

    def take(self) -> Answer:
        return Answer()


class QuickTriton(FakeTriton):
    """Answers at once and for ever."""

    def __init__(self, port: int, journal: TextIO) -> None:
        """Listen on `port`, and tell `journal` what is asked."""
        super().__init__(_AnyNumber())
        self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._journal = journal

    async def _generate(self, model_id: str, answer: Answer) -> AsyncIterator[Any]:
        prompt = _read_prompt(self.generate_requests.pop())
        told = self._held.setdefault(model_id, asyncio.Event())
        request_id = model_id.rpartition("/")[0]
        write_note(self._journal, "begun", request_id)
        try:
            async for response in self._speak(prompt, told):
                yield response
        finally:
            self._held.pop(model_id, None)
            write_note(self._journal, "cancelled" if told.is_set() else "ended", request_id)

    async def _speak(self, prompt: str, told: asyncio.Event) -> AsyncIterator[Any]:
        yield respond({"type": "StageEntered", "stage": "PREFILL"})
        if prompt.startswith(HOLD_PREFILL):
            await told.wait()
        yield respond({"type": "StageEntered", "stage": "DECODE"})
        text = true_answer(prompt)
        pieces = [text[at : at + _PIECE_LENGTH] for at in range(0, len(text), _PIECE_LENGTH)]
        pauses = (seconds for begin, seconds in _LONG_PAUSES_SECONDS.items() if prompt.startswith(begin))
        pause = next(pauses, _PAUSE_SECONDS)
        for count, piece in enumerate(pieces, 1):
            await wait_for(told, pause)
            if told.is_set():
                break
            yield respond({"type": "TextDelta", "text": piece, "num_generated_tokens": count})
        if prompt.startswith(HOLD):
            await told.wait()
        yield respond({"type": "Cancelled"} if told.is_set() else _finished(len(pieces)))


def _read_prompt(request: Any) -> str:
    place = next(i for i, tensor in enumerate(request.inputs) if tensor.name == "prompt")
    return bytes(request.raw_input_contents[place][4:]).decode()


def _finished(num_pieces: int) -> dict[str, object]:
    return {
        "type": "Finished",
        "finish_reason": "END_OF_TURN",
        "num_prompt_tokens": 1,
        "num_image_tokens": 1,
        "num_generated_tokens": num_pieces + 1,
        "num_cached_tokens": 0,
        "num_cached_images": 0,
        "seconds": {},
    }


async def _serve(port: int, journal: Path) -> None:
    with journal.open("a") as file:
        async with QuickTriton(port, file):
            await asyncio.Event().wait()


def main() -> int:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.journal))
    return 0


if __name__ == "__main__":
    sys.exit(main())
