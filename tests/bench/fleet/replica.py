"""One replica: a front, its Triton and its GPU."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.fleet.clock import Process, after, follow
from bench.fleet.cores import Cores, Line, SharedCores
from bench.fleet.engine import Engine
from bench.fleet.surroundings import ALONE, Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from bench.fleet.caches import SeenImage
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

    def __init__(
        self, clock: Environment, profile: Profile, number: int, told: Told, around: Surroundings = ALONE
    ) -> None:
        """Begin without a model; `start` loads it. Its machine is its own but for what is `around`."""
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
        self._clock, self._profile, self._told, self._around = clock, profile, told, around
        self._life = 0
        """Changes when all it had is lost."""
        self._wake: Event = clock.event()

    def start(self) -> None:
        """Be ready at once: what has to be waited for before is up to the caller."""
        self._life += 1
        self.is_taking, self.is_ending = True, False
        self.jobs, self.num_ahead, self._num_turns = {}, 0, 0
        self._waiting: deque[Job] = deque()
        self._engine = Engine(self._profile)
        self._cores = self._make_cores()
        self._front = Line(self._cores)
        self._workers = Line(self._cores, self._profile.num_image_workers)
        self._clock.process(self._run(self._life))

    def _make_cores(self) -> Cores:
        num_cores = self._profile.num_cores
        return SharedCores(self._clock, num_cores, self._around) if num_cores else Cores(self._clock)

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
        self._front.ask(self._profile.host_seconds, self._unless_lost(job, self._line_up))

    def _later(self, seconds: float, job: Job, act: Callable[[Job], None]) -> None:
        """Go on with a job in so many seconds, unless it is lost by then."""
        after(self._clock, seconds, self._unless_lost(job, act))

    def _unless_lost(self, job: Job, act: Callable[[Job], None]) -> Callable[[], None]:
        """Return what goes on with a job that is here still when it is called."""
        life = self._life
        return lambda: act(job) if life == self._life else None

    def _line_up(self, job: Job) -> None:
        if self._num_turns < self._profile.max_turns:
            self._num_turns += 1
            self._prepare(job)
        else:
            self._waiting.append(job)

    def _prepare(self, job: Job) -> None:
        work = self._cores.begin(self._profile.beside_seconds)
        follow(work.done, self._unless_lost(job, self._decode_image))

    def _decode_image(self, job: Job) -> None:
        sequence = self._engine.prepare(job.ask)
        image = sequence.image
        join = self._unless_lost(job, lambda _: self._join(sequence))
        if image.is_decoded or image.is_encoded:
            join()
            return
        image.wanted_by.append(join)
        if len(image.wanted_by) == 1:
            seconds = job.ask.picture.megapixels * self._profile.megapixel_seconds
            self._workers.ask(seconds, lambda: self._give_out(image))

    def _give_out(self, image: SeenImage) -> None:
        image.is_decoded = True
        wanted_by, image.wanted_by = image.wanted_by, []
        for go_on in wanted_by:
            go_on()

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
                self._cores.set_others(self._around.others)
                self._wake = self._clock.event()
                yield self._wake
                continue
            stretch, admitted = self._engine.plan()
            for sequence in admitted:
                self._begin(self.jobs[sequence.ask.number])
            self._cores.set_others(self._around.others + self._count_tellers(stretch))
            begun_at = self._clock.now
            stretch = yield from self._wait(stretch)
            if life == self._life:
                self.busy_seconds += self._clock.now - begun_at
                self._tell(stretch)

    def _count_tellers(self, stretch: Stretch) -> float:
        """Count the cores that it takes to tell texts while a stretch goes on: so many messages a second."""
        profile, seconds = self._profile, stretch.seconds / stretch.num_steps
        rate = min(profile.max_messages_per_second, self._engine.num_decoding / seconds)
        return rate * profile.message_seconds

    def _wait(self, stretch: Stretch) -> Generator[Event, Any, Stretch]:
        """Wait for a stretch; who joins meanwhile cuts it at the end of the step that runs."""
        work = self._cores.begin(stretch.seconds)
        if stretch.num_steps == 1:
            yield work.done
            return stretch
        self._wake = self._clock.event()
        yield work.done | self._wake
        if not work.done.processed:
            whole, left = stretch.seconds, self._cores.find_left(work)
            stretch = stretch.cut(whole - left)
            self._cores.shorten(work, whole - stretch.seconds)
            yield work.done
        return stretch

    def _begin(self, job: Job) -> None:
        self.num_ahead -= 1
        self._told.begun(self, job)

    def _tell(self, stretch: Stretch) -> None:
        """Let the front tell of first tokens and of ends; what is between is told beside."""
        progress = self._engine.finish(stretch)
        for sequences, act in ((progress.begun, self._show), (progress.ended, self._end)):
            for sequence in sequences:
                job = self.jobs[sequence.ask.number]
                self._front.ask(self._profile.message_seconds, self._unless_lost(job, act))

    def _show(self, job: Job) -> None:
        if job.first_token_at < 0:
            job.first_token_at = self._clock.now + self._profile.way_seconds / 2

    def _end(self, job: Job) -> None:
        del self.jobs[job.ask.number]
        job.ended_at = self._clock.now + self._profile.way_seconds / 2
        if self._waiting:
            self._prepare(self._waiting.popleft())
        else:
            self._num_turns -= 1
        self._told.ended(self, job)
