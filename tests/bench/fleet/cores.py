"""A machine's cores, and who waits there for whom."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from bench.fleet.clock import after, follow
from bench.fleet.surroundings import ALONE, Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

    from simpy import Environment, Event

DUST = 1e-9
"""Seconds of work that are left by rounding alone."""


class Work:
    """Something that takes one core for a while."""

    __slots__ = ("done", "ends_at")

    def __init__(self, done: Event, ends_at: float) -> None:
        self.done = done
        self.ends_at = ends_at
        """By whatever its cores count."""


class Cores:
    """As many as are wanted: nobody waits for anybody."""

    def __init__(self, clock: Environment) -> None:
        self._clock = clock

    def begin(self, seconds: float) -> Work:
        """Begin so many seconds of work."""
        return Work(self._clock.timeout(seconds), self._clock.now + seconds)

    def find_left(self, work: Work) -> float:
        """Return the seconds of work that are left."""
        return work.ends_at - self._clock.now

    def shorten(self, work: Work, seconds: float) -> None:
        """Let so many seconds less be left of work that goes on; it has another `done` from then on."""
        work.ends_at -= seconds
        work.done = self._clock.timeout(max(0.0, self.find_left(work)))

    def set_others(self, others: float) -> None:
        """Let other programs want so many cores from now on."""


class SharedCores(Cores):
    """A few: whoever works gets as much of one as everybody else, and one of them at most."""

    def __init__(self, clock: Environment, number: int, around: Surroundings = ALONE) -> None:
        """Share so many cores with other programs; times of paces are those of the clock."""
        super().__init__(clock)
        self._number, self._others, self._pace = number, around.others, 1.0
        self._works: list[Work] = []
        self._had = self._had_at = 0.0
        """Seconds that somebody who works since the beginning has had by then."""
        self._num_plans = 0
        for at, pace in around.paces:
            after(clock, max(0.0, at - clock.now), partial(self._set_pace, pace))

    def begin(self, seconds: float) -> Work:
        """Begin so many seconds of work."""
        self._catch_up()
        work = Work(self._clock.event(), self._had + seconds)
        self._works.append(work)
        self._plan()
        return work

    def find_left(self, work: Work) -> float:
        """Return the seconds of work that are left."""
        self._catch_up()
        return work.ends_at - self._had

    def shorten(self, work: Work, seconds: float) -> None:
        """Let so many seconds less be left of work that goes on."""
        self._catch_up()
        work.ends_at -= seconds
        self._plan()

    def set_others(self, others: float) -> None:
        """Let other programs want so many cores from now on."""
        self._catch_up()
        self._others = others
        self._plan()

    def _set_pace(self, pace: float) -> None:
        """Let work take so many times as long as usual from now on."""
        self._catch_up()
        self._pace = pace
        self._plan()

    @property
    def _share(self) -> float:
        """Seconds of work that each who works gets done in one."""
        return min(1.0, self._number / (len(self._works) + self._others)) / self._pace

    def _catch_up(self) -> None:
        now = self._clock.now
        if self._works:
            self._had += (now - self._had_at) * self._share
        self._had_at = now

    def _plan(self) -> None:
        """Look again when the next one could be done, unless something changes before."""
        self._num_plans += 1
        if self._works:
            plan, left = self._num_plans, min(work.ends_at for work in self._works) - self._had
            after(self._clock, max(0.0, left / self._share), lambda: self._end(plan))

    def _end(self, plan: int) -> None:
        if plan != self._num_plans:
            return
        self._catch_up()
        ended = [work for work in self._works if work.ends_at - self._had <= DUST]
        self._works = [work for work in self._works if work.ends_at - self._had > DUST]
        self._plan()
        for work in ended:
            work.done.succeed()


class Line:
    """So many who work for one at a time each, in the order in which they are asked."""

    def __init__(self, cores: Cores, number: int = 1) -> None:
        self._cores, self._num_free = cores, number
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()

    def ask(self, seconds: float, act: Callable[[], None]) -> None:
        """Ask for so much work, and for something to happen after it."""
        self._waiting.append((seconds, act))
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and self._num_free:
            self._num_free -= 1
            seconds, act = self._waiting.popleft()
            follow(self._cores.begin(seconds).done, partial(self._end, act))

    def _end(self, act: Callable[[], None]) -> None:
        self._num_free += 1
        self._go_on()
        act()
