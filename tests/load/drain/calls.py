"""One call of each kind, made once: what fails, fails. What comes back must be the right answer."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import TYPE_CHECKING, Any

from faults.requests.triton import LONG, true_answer
from idefics2.v1 import files_pb2, generation_pb2
from idefics2_service.settings import ApiSettings
from load.drain.ways import METADATA, PATIENCE_SECONDS
from pictures import red_circle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from load.drain.ways import Way

_IMAGE = red_circle()
_PICTURE = "data:image/png;base64," + base64.b64encode(_IMAGE).decode()
_APP = ApiSettings().app
_POLL_SECONDS = 0.1
"""As fal's own clients poll."""
_NUM_CHUNKS, _CHUNK_SECONDS = 10, 0.05
_PADDING = bytes(10_000)
"""Behind the picture, where nobody looks."""


class WrongAnswer(Exception):
    """A call came back, and not with what it should."""


async def generate(way: Way, name: str) -> None:
    """Ask, and wait for the whole answer."""
    response = await way.generation.Generate(_ask(name), **_options(name))
    _compare(response.output, true_answer(name))


async def stream(way: Way, name: str) -> None:
    """Ask, and hear the answer as it is written."""
    await _stream(way, name, name)


async def stream_long(way: Way, name: str) -> None:
    """The same, for a second."""
    await _stream(way, name, f"{LONG}{name}")


async def _stream(way: Way, name: str, prompt: str) -> None:
    call = way.generation.GenerateStream(_ask(prompt), **_options(name))
    events = [event async for event in call]
    _compare("".join(event.text_delta.text for event in events), true_answer(prompt))
    _compare(events[-1].finished.response.output, true_answer(prompt))


async def count(way: Way, name: str) -> None:
    """Ask what a request would cost."""
    await way.generation.CountTokens(_ask(name), **_options(name))


async def upload(way: Way, name: str) -> None:
    """Bring a file slowly, and ask for it."""
    content = _IMAGE + _PADDING + name.encode()
    file = await way.files.Upload(_send(content, name), **_options(name))
    _compare(file.sha256, hashlib.sha256(content).hexdigest())
    kept = await way.files.GetFile(files_pb2.GetFileRequest(sha256=file.sha256), **_options(name))
    _compare(kept.name, file.name)


async def run(way: Way, name: str) -> None:
    """Ask over HTTP."""
    answer = await _call(way, "POST", f"/run/{_APP}", json=_body(name))
    _compare(answer["output"], true_answer(name))


async def queue(way: Way, name: str) -> None:
    """Submit over HTTP, look for its status again and again, and fetch the answer."""
    taken = await _call(way, "POST", f"/queue/{_APP}", json=_body(name))
    path = f"/queue/{_APP}/requests/{taken['request_id']}"
    while (await _call(way, "GET", f"{path}/status"))["status"] != "COMPLETED":  # noqa: ASYNC110  # who polls does so
        await asyncio.sleep(_POLL_SECONDS)
    _compare((await _call(way, "GET", path))["output"], true_answer(name))


async def _call(way: Way, method: str, path: str, **options: Any) -> Any:
    response = await way.web.request(method, path, **options)
    if response.is_error:
        raise WrongAnswer(f"{response.status_code} {response.text}")
    return response.json()


KINDS: tuple[Callable[[Way, str], Awaitable[None]], ...] = (
    *(generate, stream, count, run, generate, stream_long, upload, queue),
)
"""In the order in which they are made, again and again."""


def _ask(prompt: str) -> generation_pb2.GenerateRequest:
    return generation_pb2.GenerateRequest(prompt=prompt, images=[generation_pb2.Image(data=_IMAGE)])


def _body(prompt: str) -> dict[str, str]:
    return {"prompt": prompt, "image_url": _PICTURE}


def _options(name: str) -> dict[str, Any]:
    return {"metadata": (*METADATA, ("x-request-id", name)), "timeout": PATIENCE_SECONDS}


async def _send(content: bytes, name: str) -> AsyncIterator[files_pb2.UploadRequest]:
    start = files_pb2.UploadStart(name=name, size_bytes=len(content), content_type="image/png")
    yield files_pb2.UploadRequest(start=start)
    size = -(-len(content) // _NUM_CHUNKS)
    for begin in range(0, len(content), size):
        await asyncio.sleep(_CHUNK_SECONDS)
        yield files_pb2.UploadRequest(chunk=content[begin : begin + size])


def _compare(got: str, right: str) -> None:
    if got != right:
        raise WrongAnswer(f"{got!r}, not {right!r}")
