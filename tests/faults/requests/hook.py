"""A host that is told of the ends of requests, writes down all of it, and now and then does not hear."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.hook import signed_message
from fakes.web_server import run_web_server
from faults.requests.record import Call, End
from ports import HOST

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Mapping

    from faults.requests.record import Story

_ANSWER_SECONDS = 0.5
"""Within which it answers, so that many who call it die before."""
_DEAF_SHARE = 0.3
"""Of the calls, which it does not take, up to `_MAX_DEAF` of a request: what nobody takes is given up."""
_MAX_DEAF = 3


class Hook:
    """The host, and the key that fronts sign their calls with."""

    def __init__(self, dice: random.Random) -> None:
        """Hear as `dice` say; listen later, by `run_hook`."""
        self.port = 0
        self._dice = dice
        self._key = Ed25519PrivateKey.generate()
        self._stories: dict[str, Story] = {}
        self._called = asyncio.Condition()

    @property
    def variables(self) -> dict[str, str]:
        """Settings of fronts that may call it, and do so again soon."""
        return {
            "IDEFICS2_FETCH_ALLOWED_NETWORKS": HOST,
            "IDEFICS2_FETCH_PORTS": str(self.port),
            "IDEFICS2_FETCH_TIMEOUT_SECONDS": "2",
            "IDEFICS2_WEBHOOK_FIRST_RETRY_SECONDS": "0.2",
            "IDEFICS2_WEBHOOK_SIGNING_KEY": base64.b64encode(self._key.private_bytes_raw()).decode(),
        }

    def expect(self, story: Story) -> str:
        """Return the URL that is to be told of a request's end."""
        story.has_webhook = True
        self._stories[story.request_id] = story
        return f"http://{HOST}:{self.port}/{story.request_id}"

    async def wait_until_heard(self) -> None:
        """Return when the webhook of each request that its client saw end has heard of it."""
        async with self._called:
            await self._called.wait_for(
                lambda: all(story.is_told for story in self._stories.values() if story.ends)
            )

    async def answer(self, request: web.Request) -> web.Response:
        """Write a call down, and take it; or fail, or hang up."""
        story, body = self._stories[request.match_info["request_id"]], await request.read()
        await asyncio.sleep(self._dice.uniform(0, _ANSWER_SECONDS))
        told, caller, is_taken = json.loads(body), request.transport, self._takes(story)
        is_signed = self._verify(body, request.headers)
        story.calls.append(Call(told["request_id"], _read_end(told), is_signed, is_taken, caller is not None))
        async with self._called:
            self._called.notify_all()
        if not is_taken and caller is not None and self._dice.random() < 0.5:
            caller.abort()
        return web.Response(status=200 if is_taken else 500)

    def _takes(self, story: Story) -> bool:
        num_deaf = sum(not call.is_taken for call in story.calls)
        return num_deaf >= _MAX_DEAF or self._dice.random() >= _DEAF_SHARE

    def _verify(self, body: bytes, headers: Mapping[str, str]) -> bool:
        signature = bytes.fromhex(headers["X-Fal-Webhook-Signature"])
        try:
            self._key.public_key().verify(signature, signed_message(body, headers))
        except InvalidSignature:
            return False
        return True


@asynccontextmanager
async def run_hook(dice: random.Random) -> AsyncIterator[Hook]:
    """Let one listen, which hears as `dice` say."""
    hook, app = Hook(dice), web.Application()
    app.router.add_post("/{request_id}", hook.answer)
    async with run_web_server(app) as hook.port:
        yield hook


def _read_end(told: Mapping[str, Any]) -> End:
    """Read how a request ended, as its webhook tells it."""
    payload = told["payload"]
    if told["status"] == "OK":
        return End("SUCCEEDED", text=payload["output"])
    return End.of_failure(payload["reason"])
