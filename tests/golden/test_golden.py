"""The embedded checkpoint says of the golden pictures what it always said, to the letter: mostly the truth.

A wrong answer is not always the model's: a broken processor, mask, cache or batch shows here first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from idefics2.v1 import generation_pb2

if TYPE_CHECKING:
    from harness import Harness

HERE = Path(__file__).parent
CASES: list[dict[str, Any]] = json.loads((HERE / "cases.json").read_text())
MISTAKES: dict[str, str] = json.loads((HERE / "mistakes.json").read_text())
"""What the checkpoint that ships says wrongly, by the name of the case."""
MAX_MISTAKES = 15


def name_case(case: dict[str, Any]) -> str:
    """Name a case by its pictures and its question."""
    split = " in pieces" if case.get("split_images") else ""
    return f"{' and '.join(case['images'])}{split}: {case['question']}"


@pytest.mark.parametrize("case", CASES, ids=name_case)
async def test_the_answer_is_the_known_one(case: dict[str, Any], on_real_triton: Harness) -> None:
    request = generation_pb2.GenerateRequest(
        images=[generation_pb2.Image(data=(HERE / "images" / name).read_bytes()) for name in case["images"]],
        prompt=case["question"],
        temperature=0,
    )
    if case.get("split_images"):
        request.split_images = True
    response = await on_real_triton.generate(request)
    assert response.output == MISTAKES.get(name_case(case), case["answer"])
    assert response.finish_reason == generation_pb2.FINISH_REASON_END_OF_TURN


def test_few_answers_are_mistakes_and_each_is_one() -> None:
    truth = {name_case(case): case["answer"] for case in CASES}
    assert MISTAKES.keys() <= truth.keys()
    assert all(said != truth[name] for name, said in MISTAKES.items())
    assert len(MISTAKES) <= MAX_MISTAKES
