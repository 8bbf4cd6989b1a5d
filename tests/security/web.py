"""The HTTP face called with the same secrets, by its owner and by another."""

from __future__ import annotations

import asyncio
import http.client
import json
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from security.callers import Secrets

_OK = 200


@dataclass
class WebCaller:
    """Somebody with a key, who remembers what was told."""

    address: str
    app: str
    key: str
    told: list[bytes] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> bytes:
        """Call a path; return the body of the answer."""
        return await asyncio.to_thread(self._call, method, path, body, headers)

    def _call(self, method: str, path: str, body: Any, headers: dict[str, str]) -> bytes:
        given = {"Authorization": f"Key {self.key}", "Content-Type": "application/json", **headers}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        with closing(http.client.HTTPConnection(self.address, timeout=30)) as connection:
            connection.request(method, path, None if body is None else data, given)
            response = connection.getresponse()
            content = response.read()
        told = str(response.getheaders()).encode() + content
        self.told.append(told)
        if response.status > _OK + 99:
            self.errors.append(told)
        return content


def good_body(secrets: Secrets) -> dict[str, Any]:
    """Ask about a picture, secretly."""
    return {"prompt": secrets.words.prompt, "stop": [secrets.words.stop], "image_url": secrets.image_url}


def bad_bodies(secrets: Secrets) -> list[Any]:
    """Make bodies that are refused, each with a secret near what is wrong."""
    words, good = secrets.words, good_body(secrets)
    path = f"{words.url_path}?{words.url_signature}"
    return [
        {**good, "prompt": words.special},
        {**good, "prompt": [words.prompt]},
        {**good, "prompt": words.prompt * 2_000},
        {**good, "max_new_tokens": words.prompt},
        {**good, "temperature": -1},
        {**good, "stop": [words.stop] * 9},
        {**good, "stop": {words.stop: words.stop}},
        {**good, "image_url": f"http://{words.url_user}:{words.url_user}@{secrets.host}/{path}"},
        {**good, "image_url": f"http://127.0.0.1/{path}"},
        {**good, "image_url": [secrets.image_url]},
        {**good, "image_url": f"data:image/png;base64,{quote(words.data_uri)}*"},
        {**good, words.url_path: words.prompt},
        [words.prompt],
        words.prompt,
        b'{"prompt": "' + words.prompt.encode(),
        b"\xff" + words.prompt.encode(),
    ]


async def use_web(anna: WebCaller, bert: WebCaller, secrets: Secrets) -> None:
    """Make the calls, well and badly, by one key, and about the same things by another."""
    queue, hook = f"/queue/{anna.app}", quote(secrets.hook_url, safe="")
    await anna.call("POST", f"/run/{anna.app}", good_body(secrets))
    await anna.call("POST", f"/run/{anna.app}/stream", good_body(secrets))
    taken = json.loads(await anna.call("POST", f"{queue}?fal_webhook={hook}", good_body(secrets)))
    request = f"{queue}/requests/{taken['request_id']}"
    await anna.call("GET", f"{request}/status/stream?logs=1")
    for caller in (bert, anna):
        for path in (request, f"{request}/status?logs=1", f"{request}/status/stream"):
            await caller.call("GET", path)
        await caller.call("PUT", f"{request}/cancel")
    for body in bad_bodies(secrets):
        for path in (f"/run/{anna.app}", f"/run/{anna.app}/stream", queue):
            await anna.call("POST", path, body)
    await anna.call("POST", f"{queue}?fal_webhook=ftp://{secrets.words.hook_token}", good_body(secrets))
    await anna.call("GET", f"/{secrets.words.query}?{secrets.words.query}")
    stranger = WebCaller(anna.address, anna.app, f"anna.{secrets.words.wrong_key}")
    await stranger.call("POST", f"/run/{anna.app}", good_body(secrets))
