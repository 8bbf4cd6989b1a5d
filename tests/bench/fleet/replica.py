"""One replica: a front, its Triton and its GPU."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.fleet.clock import Counters, Process, after
from bench.fleet.engine import Engine
from bench.fleet.traffic import make_dice

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from bench.fleet.engine import Sequence, Stretch
    from bench.fleet.profile import Profile
    from bench.fleet.traffic import Ask
    from simpy import Environment, Event


@dataclass(eq=False, slots=True)
class Job:
    """A request that somebody has to run."""

    ask: Ask
    first_token_at: float = -1.0
    """Below 0: none yet."""
    ended_at: float = -1.0
    taken_at: float = 0.0
    """When its last attempt began."""
    num_attempts: int = 0

    @property
    def is_ended(self) -> bool:
        """Whether it has its answer."""
        return self.ended_at >= 0


@dataclass(frozen=True)
class Told:
    """Who hears of a replica's jobs."""

    begun: Callable[[Replica, Job], None]
    """Its model has begun: there is room to claim another."""
    ended: Callable[[Replica, Job], None]


class Replica:
    """Runs jobs until it is stopped or lost."""

    def __init__(self, clock: Environment, profile: Profile, number: int, told: Told) -> None:
        """Begin without a model; `start` loads it."""
        self.number = number
        self.is_taking = False
        """Whether it has a model, and claims."""
        self.is_ending = False
        self.num_starts = 0
        """How often it was told to start: the last time counts."""
        self.jobs: dict[int, Job] = {}
        self.num_ahead = 0
        """Jobs that were claimed and have not begun."""
        self.busy_seconds = 0.0
        """Of the GPU."""
        self._clock, self._profile, self._told = clock, profile, told
        self._life = 0
        """Changes when all it had is lost."""
        self._wake: Event = clock.event()
        self._dice = make_dice(number)

    def start(self) -> None:
        """Be ready at once: what has to be waited for before is up to the caller."""
        self._life += 1
        self.is_taking, self.is_ending = True, False
        self.jobs, self.num_ahead, self._num_turns = {}, 0, 0
        self._line: deque[Job] = deque()
        self._engine = Engine(self._profile)
        self._host = Counters(self._clock)
        self._workers = Counters(self._clock, self._profile.num_image_workers)
        self._clock.process(self._run(self._life))

    def lose(self) -> list[Job]:
        """Stop at once; return the jobs that are to be run elsewhere."""
        self._life += 1
        self.is_taking = False
        self._wake_up()
        lost, self.jobs = list(self.jobs.values()), {}
        return lost

    @property
    def has_room(self) -> bool:
        """Whether its front would claim one more."""
        return self.is_taking and self.num_ahead < self._profile.max_ahead

    def take(self, job: Job, seconds: float = 0.0) -> None:
        """Run a job, which is here in so many seconds."""
        job.num_attempts += 1
        job.taken_at = self._clock.now
        self.jobs[job.ask.number] = job
        self.num_ahead += 1
        self._later(seconds + self._profile.way_seconds / 2, job, self._read)

    def _read(self, job: Job) -> None:
        self._later(self._host.serve(self._profile.host_seconds), job, self._line_up)

    def _later(self, seconds: float, job: Job, act: Callable[[Job], None]) -> None:
        """Go on with a job in so many seconds, unless it is lost by then."""
        life = self._life
        after(self._clock, seconds, lambda: act(job) if life == self._life else None)

    def _line_up(self, job: Job) -> None:
        if self._num_turns < self._profile.max_turns:
            self._num_turns += 1
            self._decode_image(job)
        else:
            self._line.append(job)

    def _decode_image(self, job: Job) -> None:
        sequence = self._engine.prepare(job.ask)
        image = sequence.image
        if image.ready_at < 0:
            seconds = job.ask.picture.megapixels * self._profile.megapixel_seconds
            image.ready_at = self._clock.now + self._workers.serve(seconds)
        wait = 0.0 if image.is_encoded else max(0.0, image.ready_at - self._clock.now)
        self._later(wait, job, lambda _: self._join(sequence))

    def _join(self, sequence: Sequence) -> None:
        self._engine.add(sequence)
        self._wake_up()

    def _wake_up(self) -> None:
        if not self._wake.triggered:
            self._wake.succeed()

    def _run(self, life: int) -> Process:
        """Step after step, for as long as nothing is lost."""
        while life == self._life:
            if self._engine.is_idle:
                self._wake = self._clock.event()
                yield self._wake
                continue
            stretch, admitted = self._engine.plan()
            for sequence in admitted:
                self._begin(self.jobs[sequence.ask.number])
            begun_at = self._clock.now
            stretch = yield from self._wait(stretch)
            if (pause := self._draw_pause(stretch.seconds)) > 0:
                yield self._clock.timeout(pause)
            if life == self._life:
                self.busy_seconds += self._clock.now - begun_at
                self._tell(stretch)

    def _wait(self, stretch: Stretch) -> Generator[Event, Any, Stretch]:
        """Wait for a stretch; who joins meanwhile cuts it at the end of the step that runs."""
        if stretch.num_steps == 1:
            yield self._clock.timeout(stretch.seconds)
            return stretch
        begun_at = self._clock.now
        self._wake = self._clock.event()
        yield self._clock.timeout(stretch.seconds) | self._wake
        elapsed = self._clock.now - begun_at
        if elapsed < stretch.seconds:
            stretch = stretch.cut(elapsed)
            yield self._clock.timeout(max(0.0, stretch.seconds - elapsed))
        return stretch

    def _draw_pause(self, seconds: float) -> float:
        """Draw how long the machine was not there for us in so many seconds."""
        pause, left = 0.0, seconds
        if self._profile.pause_seconds:
            while (left := left - self._dice.expovariate(1 / self._profile.seconds_between_pauses)) > 0:
                pause += self._dice.expovariate(1 / self._profile.pause_seconds)
        return pause

    def _begin(self, job: Job) -> None:
        self.num_ahead -= 1
        self._told.begun(self, job)

    def _tell(self, stretch: Stretch) -> None:
        progress = self._engine.finish(stretch)
        told_at = self._clock.now + self._profile.way_seconds / 2
        for sequence in progress.begun:
            job = self.jobs[sequence.ask.number]
            job.first_token_at = told_at if job.first_token_at < 0 else job.first_token_at
        for sequence in progress.ended:
            self._end(self.jobs.pop(sequence.ask.number), told_at)

    def _end(self, job: Job, told_at: float) -> None:
        job.ended_at = told_at
        if self._line:
            self._decode_image(self._line.popleft())
        else:
            self._num_turns -= 1
        self._told.ended(self, job)
