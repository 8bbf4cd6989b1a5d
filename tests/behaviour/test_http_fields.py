"""Every field of every body over HTTP, as the service's own description lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from faces.rest import APP
from faces.web import Web
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
