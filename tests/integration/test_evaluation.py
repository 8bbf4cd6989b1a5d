"""The evaluation asks the whole service, and the embedded checkpoint knows what its card says."""

from __future__ import annotations

import pytest
from training.__main__ import EVALUATION
from training.cases import KINDS
from training.evaluate import Score, evaluate, read

NUM_CASES = 500


@pytest.fixture(scope="module")
async def scores() -> dict[str, Score]:
    """What came of asking `NUM_CASES` cases that are not the card's."""
    progress: list[int] = []
    found = {score.kind: score for score in await evaluate(NUM_CASES, 3, progress.append)}
    assert progress == list(range(1, NUM_CASES + 1))
    return found


def test_every_case_is_counted_once_by_kind_and_once_by_wording(scores: dict[str, Score]) -> None:
    total = scores["all"]
    by_wording = [scores[name] for name in ("in wordings of the training", "in other wordings")]
    for group in ([scores[kind] for kind in KINDS], by_wording):
        assert sum(score.asked for score in group) == total.asked == NUM_CASES
        assert sum(score.right for score in group) == total.right
    for score in scores.values():
        assert score.asked - score.right == sum(count for *_, count in score.mistakes)


@pytest.mark.parametrize("kind", [*KINDS, "all"])
def test_no_kind_of_question_falls_below_what_the_card_says(kind: str, scores: dict[str, Score]) -> None:
    of_card = {score.kind: score for score in read(EVALUATION)}[kind]
    # Both are samples, of other cases: what both could be has to overlap.
    assert scores[kind].high >= of_card.low, scores[kind].mistakes
