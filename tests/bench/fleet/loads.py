"""Loads that the real service and the simulation both get, on the embedded checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.fleet.pictures import Picture
from bench.fleet.traffic import Ask, Lengths, Mix, Pattern, bursts, draw_traffic, steady

if TYPE_CHECKING:
    from collections.abc import Sequence

WHOLE = Picture(640, 480, split=False, num_bytes=13_000)
SPLIT = Picture(640, 480, split=True, num_bytes=13_000)
WIDE = Picture(1280, 960, split=False, num_bytes=40_000)
SHORT, LONG = Lengths(14, 0.0, 14), Lengths(150, 0.3, 300)
FEW, SOME, MANY = Lengths(3, 0.0, 3), Lengths(16, 0.5, 64), Lengths(40, 0.4, 128)


@dataclass(frozen=True)
class Load:
    """Requests and their times."""

    name: str
    asks: Sequence[Ask]


def one_by_one(name: str, picture: Picture, text: Lengths, answers: Lengths) -> Load:
    """Ask so slowly that nobody meets anybody."""
    mix = Mix(((1.0, picture),), text, answers)
    drawn = draw_traffic(steady(2.0), mix, 12.0, seed=3)[:12]
    return Load(name, [_at(ask, 0.25 * number) for number, ask in enumerate(drawn)])


def together(name: str, picture: Picture, num: int, answers: Lengths) -> Load:
    """Ask all at once."""
    drawn = draw_traffic(steady(50.0), Mix(((1.0, picture),), SHORT, answers), 10.0, seed=4)[:num]
    return Load(name, [_at(ask, 0.0) for ask in drawn])


def arriving(name: str, pattern: Pattern, mix: Mix, seconds: float, seed: int) -> Load:
    """Ask as callers do who know nothing of each other."""
    return Load(name, draw_traffic(pattern, mix, seconds, seed))


def make_warm_up_loads() -> list[Load]:
    """Make what lets every part of the service have worked once."""
    return [together("whole", WHOLE, 16, SOME), together("split", SPLIT, 4, SOME)]


def make_calibration_loads() -> list[Load]:
    """Make what a profile is fitted to: each kind of work alone, in a crowd, and in traffic."""
    seconds = 10.0
    return [
        one_by_one("one by one, first tokens", WHOLE, SHORT, FEW),
        one_by_one("one by one, answers", WHOLE, SHORT, MANY),
        one_by_one("one by one, split", SPLIT, SHORT, FEW),
        one_by_one("one by one, long prompts", WHOLE, LONG, FEW),
        one_by_one("one by one, four times the pixels", WIDE, SHORT, FEW),
        together("8 at once", WHOLE, 8, MANY),
        together("32 at once", WHOLE, 32, MANY),
        together("8 at once, split", SPLIT, 8, FEW),
        arriving("8 a second, whole", steady(8.0), Mix(((1.0, WHOLE),), SHORT, SOME), seconds, 21),
        arriving("16 a second, whole", steady(16.0), Mix(((1.0, WHOLE),), SHORT, SOME), seconds, 22),
        arriving("4 a second, split", steady(4.0), Mix(((1.0, SPLIT),), LONG, SOME), seconds, 23),
        arriving("16 a second, one image", steady(16.0), _repeated(SHORT, SOME), seconds, 24),
        arriving("12 a second, half repeated", steady(12.0), _repeated(SHORT, SOME, 0.5), seconds, 25),
    ]


def make_checked_loads() -> list[Load]:
    """Make what a profile is judged by: other rates and other mixes, drawn anew."""
    often = _repeated(SHORT, SOME, 0.7)
    mixed = Mix(((0.6, WHOLE), (0.2, WIDE), (0.2, SPLIT)), Lengths(30, 0.5, 200), SOME)
    seconds = 20.0
    return [
        arriving("6 a second, whole pictures", steady(6.0), Mix(((1.0, WHOLE),), SHORT, MANY), seconds, 31),
        arriving("12 a second, whole pictures", steady(12.0), Mix(((1.0, WHOLE),), SHORT, SOME), seconds, 32),
        arriving("6 a second, pictures of all kinds", steady(6.0), mixed, seconds, 33),
        arriving("16 a second, most of them repeated", steady(16.0), often, seconds, 34),
        arriving("bursts of 20 a second, 4 between", bursts(4.0, 20.0, 5.0, 1.0),
                 Mix(((1.0, WHOLE),), SHORT, SOME), seconds, 35),
    ]  # fmt: skip


def _repeated(text: Lengths, answers: Lengths, repeats: float = 1.0) -> Mix:
    return Mix(((1.0, WHOLE),), text, answers, repeats, num_popular=4, same_question=1.0)


def _at(ask: Ask, time: float) -> Ask:
    return Ask(
        ask.number, time, ask.picture, ask.image, ask.question, ask.num_text_tokens, ask.num_new_tokens
    )
