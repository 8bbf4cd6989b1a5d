"""The Python client and the command line, with requests that outlive calls, connections and processes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from idefics2_client import AsyncClient, Client, NotFinished, NotFound, Retry
from idefics2_client.errors import Cancelled
from pictures import DESCRIBE, RED_CIRCLE
from ports import free_port
from processes import PATIENCE_SECONDS, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from processes import Started

ENDLESS: dict[str, Any] = {"temperature": 10, "top_p": 1, "max_new_tokens": 1_500, "min_new_tokens": 1_500}


@pytest.fixture
def client(started: Started) -> Iterator[Client]:
    """Connected to a real service."""
    with Client(started.ready.grpc, started.ready.api_key) as client:
        yield client


def run(started: Started, *command: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        (sys.executable, "-m", "idefics2_client", *command),
        env={**os.environ, **started.variables},
        text=True,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_subscribing_tells_of_the_way_and_returns_the_answer(client: Client, picture: Path) -> None:
    updates: list[Any] = []
    lines: list[Any] = []
    texts: list[Any] = []
    answer = client.subscribe(
        picture,
        DESCRIBE,
        temperature=0,
        on_queue_update=updates.append,
        on_log=lines.append,
        on_text=texts.append,
    )
    assert answer.output == RED_CIRCLE
    assert texts[-1].text == RED_CIRCLE
    assert "PNG" in lines[0].message
    assert updates


async def test_the_asyncio_client_does_the_same(started: Started, picture: Path) -> None:
    async with AsyncClient(started.ready.grpc, started.ready.api_key) as client:
        answers = await asyncio.gather(
            *(client.subscribe(picture, DESCRIBE, temperature=0) for _ in range(8))
        )
        assert {answer.output for answer in answers} == {RED_CIRCLE}
        listed = [request async for request in client.list_requests("succeeded", page_size=3)]
        assert {answer.request_id for answer in answers} <= {request.request_id for request in listed}


def test_a_submitted_request_is_watched_asked_for_and_cancelled(client: Client, picture: Path) -> None:
    request_id = client.submit(picture, DESCRIBE, **ENDLESS).request_id
    for event in client.watch(request_id):
        if event.HasField("text_delta"):
            break
    with pytest.raises(NotFinished):
        client.result(request_id)
    client.cancel(request_id)
    with pytest.raises(Cancelled):
        client.result(request_id, wait=True)
    with pytest.raises(NotFound):
        client.get_request("nobody")


def test_the_command_line_submits_watches_and_lists(started: Started, picture: Path) -> None:
    submitted = run(started, "submit", str(picture), DESCRIBE, "--temperature", "0")
    assert submitted.returncode == 0, submitted.stderr
    request_id = submitted.stdout.strip()
    watched = run(started, "watch", request_id)
    assert (watched.returncode, watched.stdout) == (0, RED_CIRCLE + "\n"), watched.stderr
    result = run(started, "result", request_id)
    assert (result.returncode, result.stdout) == (0, RED_CIRCLE + "\n"), result.stderr
    status = run(started, "status", request_id, "--json", "--logs")
    assert json.loads(status.stdout)["state"].lower() == "succeeded"
    assert request_id in run(started, "list").stdout
    assert run(started, "cancel", request_id).returncode == 0
    assert run(started, "status", "nobody").returncode == 6


def test_subscribing_outlives_a_service_that_is_killed(tmp_path: Path, picture: Path) -> None:
    port = free_port()
    with running_service(tmp_path, "--grpc-port", str(port)) as first:
        ready = first.wait_until_ready()
        client = Client(ready.grpc, ready.api_key, retry=Retry(on_lost=lambda _: None))
        request_id = client.submit(picture, DESCRIBE, temperature=0, min_new_tokens=400).request_id
        seen = []
        for event in client.watch(request_id):
            seen.append(event)
            if event.HasField("text_delta"):
                break
        first.process.kill()
        first.process.wait(PATIENCE_SECONDS)
    (tmp_path / "again").mkdir()
    folder = {"IDEFICS2_DATA_FOLDER": str(tmp_path)}
    with running_service(tmp_path / "again", "--grpc-port", str(port), **folder), client:
        seen += client.watch(request_id, after=seen[-1].sequence)
        numbered = [event.sequence for event in seen if event.sequence]
        assert numbered == list(range(1, len(numbered) + 1))
        assert seen[-1].finished.response.output.startswith(RED_CIRCLE)
        assert client.get_request(request_id).num_attempts == 2
