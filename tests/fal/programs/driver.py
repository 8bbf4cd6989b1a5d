"""PyPI's fal-client, unmodified, called as tests/fal/programs/driver.mjs calls the others.

`FAL_PACKAGE` is `sync` or `async`: which half of the client is called.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fal_client

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Tell = Callable[..., None]

APP = "fal-ai/idefics-2-8b"
IS_ASYNC = os.environ["FAL_PACKAGE"] == "async"

Call = dict[str, Any]


async def apply(name: str, *arguments: Any, **options: Any) -> Any:
    """Call a function of the client, in a thread where it would block."""
    if IS_ASYNC:
        return await getattr(fal_client, f"{name}_async")(*arguments, **options)
    return await asyncio.to_thread(getattr(fal_client, name), *arguments, **options)


async def run(call: Call, _tell: Tell) -> Any:
    return await apply("run", APP, call["input"])


async def subscribe(call: Call, tell: Tell) -> Any:
    return await apply(
        "subscribe",
        APP,
        call["input"],
        with_logs=call.get("logs", False),
        interval=call.get("interval_ms", 100) / 1000,
        on_enqueue=lambda request_id: tell("enqueued", request_id=request_id),
        on_queue_update=lambda status: tell("update", **describe_status(status)),
        **read_options(call),
    )


async def submit(call: Call, _tell: Tell) -> Any:
    options = read_options(call)
    if "webhook_url" in call:
        options["webhook_url"] = call["webhook_url"]
    handle = await apply("submit", APP, call["input"], **options)
    names = ("request_id", "response_url", "status_url", "cancel_url")
    return {name: getattr(handle, name) for name in names}


async def status(call: Call, _tell: Tell) -> Any:
    found = await apply("status", APP, call["request_id"], with_logs=call.get("logs", False))
    return describe_status(found)


async def result(call: Call, _tell: Tell) -> Any:
    return await apply("result", APP, call["request_id"])


async def cancel(call: Call, _tell: Tell) -> None:
    await apply("cancel", APP, call["request_id"])


async def stream(call: Call, tell: Tell) -> None:
    if IS_ASYNC:
        async for event in fal_client.stream_async(APP, call["input"]):
            tell("event", event=event)
        return

    def read() -> None:
        for event in fal_client.stream(APP, call["input"]):
            tell("event", event=event)

    await asyncio.to_thread(read)


async def upload(call: Call, _tell: Tell) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / call["name"]
        path.write_bytes(make_content(call))
        return await apply("upload_file", path)


async def ask_about_file(call: Call, _tell: Tell) -> Any:
    url = await apply("upload", make_content(call), call["type"], call["name"])
    return await apply("subscribe", APP, {**call["input"], "image_url": url})


FLOWS: dict[str, Callable[..., Awaitable[Any]]] = {
    "run": run,
    "subscribe": subscribe,
    "submit": submit,
    "status": status,
    "result": result,
    "cancel": cancel,
    "stream": stream,
    "upload": upload,
    "askAboutFile": ask_about_file,
}


def read_options(call: Call) -> Call:
    """Take what `submit` and `subscribe` both know."""
    names = ("priority", "start_timeout", "headers")
    return {name: call[name] for name in names if name in call}


def make_content(call: Call) -> bytes:
    """Make the bytes of a file."""
    padding = b"".join(bytes([index]) * 2**20 for index in range(call.get("num_mib", 0)))
    return base64.b64decode(call["base64"]) + padding


def describe_status(status: fal_client.Status) -> Call:
    """Write a status with the word that it was made from."""
    words = {"Queued": "IN_QUEUE", "InProgress": "IN_PROGRESS", "Completed": "COMPLETED"}
    return {"status": words[type(status).__name__], **asdict(status)}


def describe_error(error: BaseException) -> Call:
    """Write what a caller of the client can see."""
    return {
        "name": type(error).__name__,
        "message": getattr(error, "message", str(error)),
        "status": getattr(error, "status_code", None),
        "error_type": getattr(error, "error_type", None),
        "headers": getattr(error, "response_headers", {}),
    }


async def answer(number: int, flow: str, call: Call) -> None:
    """Make one call and tell of it."""

    def tell(kind: str, **what: Any) -> None:
        sys.stdout.write(json.dumps({"id": number, "kind": kind, **what}) + "\n")
        sys.stdout.flush()

    try:
        tell("value", value=await FLOWS[flow](call, tell))
    except Exception as error:  # noqa: BLE001  # whatever it is, is told
        tell("error", **describe_error(error))


async def main() -> None:
    """Answer calls until there is no more input."""
    tasks = set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        call = json.loads(line)
        tasks.add(asyncio.create_task(answer(call.pop("id"), call.pop("flow"), call)))


if __name__ == "__main__":
    asyncio.run(main())
