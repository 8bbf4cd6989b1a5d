"""Every field of every body over HTTP, as the service's own description lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from faces.rest import APP
from faces.web import BODY, PICTURE, Web
from harness import red_circle_answer
from idefics2_service.rest.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Harness

Json = dict[str, Any]
MAX_FAULTS = 32
MAX_ANSWER_BYTES = 65_536
NAMES = dict(zip(("owner", "alias"), APP.split("/"), strict=True), key_id="test", file_id="0" * 32)


@pytest.fixture
def web(on_fake_backend: Harness) -> Web:
    """Somebody who calls."""
    return Web(on_fake_backend)


def list_bodies(document: Json) -> Iterator[tuple[str, Json]]:
    """List the paths that take JSON, each with the schema of its body."""
    for path, methods in document["paths"].items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {})
        if "application/json" in content:
            reference = content["application/json"]["schema"]["$ref"]
            yield path.format(**NAMES), document["components"]["schemas"][reference.rpartition("/")[2]]


def is_list(schema: Json) -> bool:
    """Tell whether a field may be a list."""
    return any(each.get("type") == "array" for each in (schema, *schema.get("anyOf", ())))


@pytest.mark.parametrize("element", ["1", "{}", '{"url": 5, "sha256": 5, "partNumber": []}', "[[]]"])
async def test_a_list_of_wrong_elements_costs_no_fault_for_each_of_them(
    web: Web, monkeypatch: pytest.MonkeyPatch, element: str
) -> None:
    of_faults, nums_built = Problem.of_faults, []

    def count(faults: list[Json], *more: Any) -> Problem:
        nums_built.append(len(faults))
        return of_faults(faults, *more)

    monkeypatch.setattr(Problem, "of_faults", count)
    document = (await web.get("/openapi.json")).json()
    fields = [
        (path, name)
        for path, schema in list_bodies(document)
        for name, field in schema["properties"].items()
        if is_list(field)
    ]
    assert {name for _, name in fields} == {"stop", "images", "parts"}
    num_marks = sum(map(f"{element},".count, ",[{"))
    elements = ",".join([element] * (49_000 // num_marks))
    for path, name in fields:
        response = await web.send(path, f'{{"{name}": [{elements}]}}')
        assert response.status_code == 422, (path, name, response.text)
        assert len(response.content) <= MAX_ANSWER_BYTES
    assert all(number <= MAX_FAULTS for number in nums_built), nums_built


async def test_each_field_that_may_be_left_out_may_be_null(web: Web) -> None:
    document = (await web.get("/openapi.json")).json()
    bodies = dict(list_bodies(document))
    questions = [path for path, schema in bodies.items() if schema["title"] == "GenerateBody"]
    for path in questions:
        for name in list_optional(bodies[path]):
            given = {"prompt": BODY["prompt"], "images": [{"url": PICTURE}], "image_url": PICTURE, name: None}
            await check_taken(web, path, given)
        await check_taken(web, path, {"prompt": BODY["prompt"], "images": [{"url": PICTURE, "sha256": None}]})
    others = {path: list_optional(schema) for path, schema in bodies.items() if path not in questions}
    assert sum(map(len, others.values())) == 4  # name and type of a file, in two places
    for path, names in others.items():
        for name in names:
            assert (await web.post(path, json={name: None})).status_code == 200, (path, name)


def list_optional(schema: Json) -> list[str]:
    """List the fields of a body that may be left out."""
    return [name for name in schema["properties"] if name not in schema.get("required", ())]


async def check_taken(web: Web, path: str, question: Json) -> None:
    """Ask, and check that it is answered; what was submitted ends."""
    web.service.expect(red_circle_answer())
    response = await web.post(path, json=question)
    assert response.status_code == 200, (path, question, response.text)
    if "status_url" in response.text:
        await web.read_stream("GET", f"{response.json()['status_url']}/stream")
