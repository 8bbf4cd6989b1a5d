"""What callers ask for, and when: seeded, so that the same seed asks the same."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.fleet.pictures import Picture

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, as it arrives."""

    number: int
    time: float
    """Seconds from the beginning."""
    picture: Picture
    image: int
    """Equal for equal files."""
    question: int
    """Equal for equal words."""
    num_text_tokens: int
    """Of the prompt beside its image, the template's included."""
    num_new_tokens: int


@dataclass(frozen=True)
class Lengths:
    """Numbers of tokens: a median, and how far from it they go, as a log-normal's deviation."""

    median: float
    deviation: float
    most: int

    def draw(self, dice: random.Random) -> int:
        """Draw one, of 1 or more."""
        return max(1, min(self.most, round(self.median * math.exp(dice.gauss(0, self.deviation)))))


@dataclass(frozen=True)
class Mix:
    """What is asked."""

    pictures: tuple[tuple[float, Picture], ...]
    """With their weights."""
    text: Lengths
    answers: Lengths
    repeats: float = 0.0
    """Share of requests about one of the popular images."""
    num_popular: int = 50
    same_question: float = 0.5
    """Share of those that ask what was asked about it before."""

    def draw(self, dice: random.Random, number: int, time: float) -> Ask:
        """Draw one request."""
        weights = [weight for weight, _ in self.pictures]
        (place,) = dice.choices(range(len(weights)), weights)
        image, question = number + self.num_popular * len(weights), number + 1
        if dice.random() < self.repeats:
            image = place * self.num_popular + dice.randrange(self.num_popular)  # one is of one size
            question = 0 if dice.random() < self.same_question else question
        text = self.text.median if question == 0 else self.text.draw(dice)
        picture = self.pictures[place][1]
        return Ask(number, time, picture, image, question, round(text), self.answers.draw(dice))


@dataclass(frozen=True)
class Pattern:
    """How many requests come a second, over time."""

    rate: Callable[[float], float]
    peak: float
    """No time has a higher rate."""

    def draw_times(self, dice: random.Random, seconds: float) -> Iterator[float]:
        """Draw arrivals of callers who know nothing of each other: a Poisson process, thinned."""
        time = 0.0
        while (time := time + dice.expovariate(self.peak)) < seconds:
            if dice.random() * self.peak < self.rate(time):
                yield time


def steady(rate: float) -> Pattern:
    """The same at all times."""
    return Pattern(lambda _: rate, rate)


def diurnal(low: float, peak: float, period: float = DAY_SECONDS, sharpness: int = 1) -> Pattern:
    """A day: `low` at its beginning and its end, `peak` in its middle, for the shorter the sharper it is."""

    def rate(time: float) -> float:
        return low + (peak - low) * ((1 - math.cos(2 * math.pi * time / period)) / 2) ** sharpness

    return Pattern(rate, peak)


def bursts(rate: float, peak: float, every: float, length: float) -> Pattern:
    """`peak` for `length` seconds in each `every`, `rate` between."""
    return Pattern(lambda time: peak if time % every < length else rate, peak)


def on_off(rate: float, seconds_on: float, seconds_off: float) -> Pattern:
    """A batch job's: all or nothing."""
    return bursts(0.0, rate, seconds_on + seconds_off, seconds_on)


def draw_traffic(pattern: Pattern, mix: Mix, seconds: float, seed: int) -> list[Ask]:
    """Draw all requests of a time. When they come does not depend on what they ask."""
    arrivals, contents = make_dice(seed), make_dice(seed + 1_000_003)
    times = pattern.draw_times(arrivals, seconds)
    return [mix.draw(contents, number, time) for number, time in enumerate(times)]


def make_dice(seed: int) -> random.Random:
    """Make a source of numbers that look random."""
    return random.Random(seed)  # noqa: S311  # not a secret
