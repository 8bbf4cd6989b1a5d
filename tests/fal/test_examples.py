"""The programs that README shows, as they stand there, before a real model."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from fal.questions import PICTURE
from fal.ways import NEW, OLD
from fal.workplaces import prepare
from pictures import DESCRIBE, RED_CIRCLE, red_circle
from processes import PATIENCE_SECONDS

pytestmark = pytest.mark.where("has_examples")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fal.node import Node
    from fal.services import Real
    from fal.ways import Way
    from fal.workplaces import Workplace


@pytest.fixture
def workplace(way: Way, node: Node, real: Real) -> Iterator[Workplace]:
    """A folder whose programs call the service with a real model."""
    with prepare(node, way, real.find_door(way.door)) as workplace:
        (workplace.folder / "circle.png").write_bytes(red_circle())
        yield workplace


async def run(workplace: Workplace, name: str, *arguments: str) -> str:
    """Run one of a client's programs to its end, and return what it prints."""
    program = {NEW: f"{name}.mjs", OLD: f"old_{name}.mjs"}.get(workplace.way.client, f"{name}.py")
    process = await workplace.start(program, *arguments, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(PATIENCE_SECONDS):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_the_hosted_endpoints_own_example_is_answered_here(workplace: Workplace) -> None:
    output = await run(workplace, "ask", PICTURE, DESCRIBE)
    assert output.splitlines()[-1] == RED_CIRCLE


@pytest.mark.where("can_upload")
async def test_a_file_is_uploaded_and_asked_about(workplace: Workplace) -> None:
    output = await run(workplace, "upload", "circle.png")
    output = await run(workplace, "ask", output.splitlines()[-1], DESCRIBE)
    assert output.splitlines()[-1] == RED_CIRCLE


@pytest.mark.where("is_new")
async def test_an_answer_is_shown_as_it_is_written(workplace: Workplace) -> None:
    output = await run(workplace, "stream", PICTURE, DESCRIBE)
    assert output == RED_CIRCLE + "\n"
