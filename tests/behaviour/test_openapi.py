"""What /openapi.json says is true, and complete: schemathesis calls the running face by it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from faces.web import QUEUE, Web
from fakes.backend import FakeBackend
from fakes.script import Answer, Script
from harness import Harness, MakeSettings, red_circle_answer, run_harness
from idefics2_service.app import App

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = Path(__file__).parent / "contract/schemathesis.toml"
OPEN = ("/cdn/files/{", "/cdn/uploads/", "/healthz/", "/metrics", "/.well-known/")
"""Beginnings of paths that need no key: operators', and those that hold an address that nobody can guess."""
Json = dict[str, Any]


class Endless(Script):
    """Knows an answer to everybody."""

    def take(self) -> Answer:
        return red_circle_answer()


async def check_by_schemathesis(make_settings: MakeSettings, folder: Path, *options: str) -> None:
    """Serve, and let schemathesis call what the document says, and what it does not."""
    script = Endless()
    async with run_harness(App(make_settings(), FakeBackend(script)), script, is_real=False) as harness:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"),
            *(f"http://{harness.app.http_address}/openapi.json", *options),
            cwd=folder,
            env={**os.environ, "API_KEY": str(harness.app.api_key), "PYTHONPATH": str(CONFIG.parent)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await process.communicate()
        assert process.returncode == 0, told.decode()
        assert "No issues found" in told.decode()


async def read_document(service: Harness) -> Json:
    """Fetch it, as anybody may."""
    response = await Web(service, "").get("/openapi.json")
    assert response.status_code == 200
    document: Json = response.json()
    return document


def list_operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """List path, method and description of all operations."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


async def test_the_face_is_as_its_document_says(make_settings: MakeSettings, tmp_path: Path) -> None:
    options = ("--phases", "examples,coverage,stateful", "--max-examples", "5", "--seed", "1")
    await check_by_schemathesis(make_settings, tmp_path, *options)


@pytest.mark.long
@pytest.mark.timeout(3_600)
async def test_the_face_is_as_its_document_says_for_long(make_settings: MakeSettings, tmp_path: Path) -> None:
    await check_by_schemathesis(make_settings, tmp_path, "--max-examples", "200")


async def test_every_operation_says_what_it_is_for_and_whether_it_needs_a_key(
    on_fake_backend: Harness,
) -> None:
    document = await read_document(on_fake_backend)
    (scheme,) = document["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "Authorization")
    known = {tag["name"] for tag in document["tags"]}
    operations = list(list_operations(document))
    for path, method, operation in operations:
        assert set(operation["tags"]) <= known, path
        assert operation["description"], path
        assert ("security" in operation) == (not path.startswith(OPEN)), (path, method)
    ids = [operation["operationId"] for _, _, operation in operations]
    assert len(ids) == len(set(ids))
    assert {"run", "stream", "submit", "get_status", "stream_status", "get_result", "cancel"} <= set(ids)


async def test_every_error_of_every_call_with_a_key_is_described(on_fake_backend: Harness) -> None:
    document = await read_document(on_fake_backend)
    for path, _, operation in list_operations(document):
        errors = {status: told for status, told in operation["responses"].items() if int(status) >= 400}
        if "security" in operation:
            assert {"401", "403", "404", "422", "429", "500", "503"} <= set(errors), path
        for status, told in errors.items():
            schema = told["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            kinds = {"FaultsBody"} if status == "422" else {"ProblemBody", "CompletedBody"}
            assert schema in kinds, (path, status)
            assert told["description"]
    run = document["paths"]["/run/{owner}/{alias}"]["post"]["responses"]
    assert {"413", "499", "504"} <= set(run)
    assert "retry-after" in run["429"]["headers"]
    assert "x-fal-request-timeout-type" in run["504"]["headers"]


async def test_a_question_is_shown_by_example(on_fake_backend: Harness) -> None:
    fields = (await read_document(on_fake_backend))["components"]["schemas"]["GenerateBody"]
    assert fields["required"] == ["prompt"]
    for name in ("prompt", "image_url"):
        assert fields["properties"][name]["examples"]
    assert all(field["description"] for field in fields["properties"].values())


async def test_the_app_that_is_served_is_the_one_in_the_examples(make_settings: MakeSettings) -> None:
    app = App(make_settings(api__app="me/mine"), FakeBackend(Script()))
    async with run_harness(app, Script(), is_real=False) as service:
        document = await read_document(service)
        (owner, alias, *_) = document["paths"]["/run/{owner}/{alias}"]["post"]["parameters"]
        assert (owner["schema"]["examples"], alias["schema"]["examples"]) == (["me"], ["mine"])


async def test_every_field_of_a_status_is_described(on_fake_backend: Harness) -> None:
    described = (await read_document(on_fake_backend))["components"]["schemas"]
    web = Web(on_fake_backend)
    on_fake_backend.expect(red_circle_answer())
    taken = await web.submit()
    await web.read_stream("GET", f"{taken['status_url']}/stream")
    status = (await web.get(f"{QUEUE}/requests/{taken['request_id']}/status?logs=1")).json()
    assert {*taken, *status} <= described["StatusBody"]["properties"].keys()
    assert status["metrics"].keys() <= described["MetricsBody"]["properties"].keys()
    assert status["logs"][0].keys() == described["LogBody"]["properties"].keys()
