"""Asks the whole service about fresh pictures and counts the answers that are right to the letter."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import grpc
from idefics2.v1 import generation_pb2, generation_pb2_grpc
from idefics2_service.app import App
from idefics2_service.settings import Settings

from training.cases import KINDS, Case, sample_cases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

NUM_CASES = 2_000
SEED = 20_261_122
_CONCURRENT = 8
_CONFIDENCE = 1.959964  # standard deviations on either side, for 95 %
_SHOWN_MISTAKES = 3


@dataclass(frozen=True)
class Score:
    """How one kind of question went."""

    kind: str
    asked: int
    right: int
    low: float
    """Of the Wilson interval, 0 to 1."""
    high: float
    mistakes: tuple[tuple[str, str, int], ...]
    """What was right, what was said, how often; most frequent first."""

    @property
    def share(self) -> float:
        """Right answers, 0 to 1."""
        return self.right / self.asked


def wilson(right: int, asked: int) -> tuple[float, float]:
    """Return the bounds between which the true share lies with 95 %, by Wilson's score.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference (1927).
    """
    share, z = right / asked, _CONFIDENCE
    center = share + z * z / (2 * asked)
    spread = z * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    scale = 1 + z * z / asked
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)


def score(kind: str, answers: Iterable[tuple[str, str]]) -> Score:
    """Count pairs of what is right and what was said."""
    pairs = list(answers)
    mistakes = Counter(pair for pair in pairs if pair[0] != pair[1])
    right = len(pairs) - mistakes.total()
    ordered = sorted(mistakes.items(), key=lambda item: (-item[1], item[0]))
    return Score(
        kind, len(pairs), right, *wilson(right, len(pairs)), tuple((*pair, n) for pair, n in ordered)
    )


async def evaluate(count: int, seed: int, show: Callable[[int], None]) -> list[Score]:
    """Start the service, ask `count` cases, stop it; return the scores of each kind and of all.

    Args:
        count: how many pictures to draw and ask about.
        seed: of the pictures.
        show: is told after each answer how many there are.

    """
    answers: list[tuple[Case, str]] = []
    with tempfile.TemporaryDirectory(prefix="idefics2-eval-") as folder:
        settings = Settings.read({}, {"grpc.port": 0, "http.port": 0, "data.folder": folder})
        async with App(settings) as app, grpc.aio.insecure_channel(app.grpc_address) as channel:
            await app.wait_until_serving()
            stub: Any = generation_pb2_grpc.GenerationServiceStub(channel)
            waiting = iter(sample_cases(count, seed))
            metadata = (("authorization", f"Key {app.api_key}"),)

            async def ask() -> None:
                for case in waiting:
                    response = await stub.Generate(write_request(case), metadata=metadata)
                    answers.append((case, response.output))
                    show(len(answers))

            await asyncio.gather(*(ask() for _ in range(_CONCURRENT)))
    pairs = {name: [(c.answer, said) for c, said in answers if fits(c)] for name, fits in _GROUPS.items()}
    return [score(name, found) for name, found in pairs.items() if found]


def _is_of_kind(kind: str, case: Case) -> bool:
    return case.kind == kind


_GROUPS: dict[str, Callable[[Case], bool]] = {
    **{kind: functools.partial(_is_of_kind, kind) for kind in KINDS},
    "in wordings of the training": lambda case: not case.is_unseen_wording,
    "in other wordings": lambda case: case.is_unseen_wording,
    "all": lambda case: True,  # noqa: ARG005
}


def write_request(case: Case) -> generation_pb2.GenerateRequest:
    """Write what a client would send, without randomness."""
    return generation_pb2.GenerateRequest(
        images=[generation_pb2.Image(data=image) for image in case.images],
        prompt=case.question,
        temperature=0,
        max_new_tokens=64,
        split_images=True if case.split_images else None,
    )


def write(scores: list[Score], file: Path) -> None:
    """Keep scores as JSON, a line each."""
    lines = ",\n".join(json.dumps(asdict(one), ensure_ascii=False) for one in scores)
    file.write_text(f"[\n{lines}\n]\n")


def read(file: Path) -> list[Score]:
    """Read what `write` kept."""
    scores = json.loads(file.read_text())
    return [
        Score(**{**one, "mistakes": tuple(tuple(mistake) for mistake in one["mistakes"])}) for one in scores
    ]


def render(scores: list[Score]) -> str:
    """Write scores as a table in Markdown."""
    lines = [
        "| questions | asked | right | 95 % interval | most frequent mistakes (right → said) |",
        "|---|---|---|---|---|",
    ]
    for one in scores:
        mistakes = "; ".join(f"{right} → {said} ({n})" for right, said, n in one.mistakes[:_SHOWN_MISTAKES])
        shown = "" if one.kind in {"all", "in other wordings", "in wordings of the training"} else mistakes
        interval = f"{one.low:.1%} to {one.high:.1%}"
        lines.append(f"| {one.kind} | {one.asked} | {one.share:.1%} | {interval} | {shown} |")
    return "\n".join(lines)
