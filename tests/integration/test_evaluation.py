"""The evaluation asks the whole service, and counts what it says."""

from __future__ import annotations

from training.evaluate import evaluate


async def test_every_case_is_asked_and_counted_once_by_kind_and_once_by_wording() -> None:
    progress: list[int] = []
    scores = {score.kind: score for score in await evaluate(25, 3, progress.append)}
    assert progress == list(range(1, 26))
    total = scores.pop("all")
    wordings = [scores.pop(name) for name in ("in wordings of the training", "in other wordings")]
    assert total.asked == 25 == sum(score.asked for score in scores.values())
    assert total.asked == sum(score.asked for score in wordings)
    assert total.right == sum(score.right for score in scores.values()) == sum(s.right for s in wordings)
    assert 0 < total.right < 25  # the checkpoint knows something, and not all
    for score in (total, *scores.values()):
        assert score.asked - score.right == sum(count for *_, count in score.mistakes)
