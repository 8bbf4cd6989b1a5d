"""What is learned in which order, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from training.pool import Level


class Lesson(StrEnum):
    """What is learned at a time; each lesson builds on those before it."""

    LARGE = "sees large shapes"
    SHAPES = "sees shapes"
    ALL = "sees everything"
    PLACES = "sees what is where"
    ANSWERS = "answers, from memory of what it saw"
    TOGETHER = "sees and answers"
    LONGER = "sees and answers, for long and more at a time"
    RELATIONS = "answers what stands where to what, from memory"
    AGAIN = "answers everything again, from memory"

    @property
    def asks(self) -> bool:
        """Whether there are questions."""
        return self.remembers or self in {Lesson.TOGETHER, Lesson.LONGER}

    @property
    def remembers(self) -> bool:
        """Whether pictures are not shown: what the latents said of each is kept when the lesson begins."""
        return self in {Lesson.ANSWERS, Lesson.RELATIONS, Lesson.AGAIN}

    @property
    def topic(self) -> str | None:
        """What is asked where a picture allows it; None: everything."""
        return "relation" if self is Lesson.RELATIONS else None

    @property
    def level(self) -> Level:
        """Which pictures are shown."""
        of_lessons = {Lesson.LARGE: Level.LARGE, Lesson.SHAPES: Level.SHAPES, Lesson.RELATIONS: Level.SHAPES}
        return of_lessons.get(self, Level.ALL if self.asks else Level.CROWDS)


@dataclass(frozen=True)
class Plan:
    """How many steps each lesson takes, and which pictures a step shows."""

    steps: tuple[tuple[Lesson, int], ...] = (
        (Lesson.LARGE, 500),
        (Lesson.SHAPES, 1_500),
        (Lesson.ALL, 10_000),
        (Lesson.PLACES, 26_000),
        (Lesson.ANSWERS, 10_000),
        (Lesson.TOGETHER, 2_500),
        (Lesson.LONGER, 15_000),
        (Lesson.RELATIONS, 600),
        (Lesson.AGAIN, 2_600),
    )
    chunk: int = 32
    """Pictures of one grid, that go through the vision tower together."""
    chunks: int = 2
    """In each step that only sees; one that asks has one, of several questions about each picture."""
    seed: int = 0

    def chunks_of(self, lesson: Lesson) -> tuple[int, int]:
        """Return how many pictures of one grid a step of a lesson shows, and of how many grids."""
        if lesson is Lesson.LONGER:
            return 2 * self.chunk, 1
        return self.chunk, 1 if lesson.asks else self.chunks

    @property
    def num_steps(self) -> int:
        """All steps."""
        return sum(steps for _, steps in self.steps)

    def find(self, step: int) -> tuple[Lesson, int, int]:
        """Return the lesson of a step, which step it is of that lesson, and how many there are.

        Raises:
            IndexError: there is no such step.

        """
        for lesson, steps in self.steps:
            if step < steps:
                return lesson, step, steps
            step -= steps
        raise IndexError(f"there are {self.num_steps} steps")

    def skip_to(self, lesson: Lesson) -> Plan:
        """Return a plan that begins with a lesson, for a model that knows what those before it teach."""
        lessons = [known for known, _ in self.steps]
        return replace(self, steps=self.steps[lessons.index(lesson) :])

    def shorten(self, share: float) -> Plan:
        """Return a plan with a share of the steps, at least one of each lesson."""
        return replace(self, steps=tuple((lesson, max(1, round(n * share))) for lesson, n in self.steps))
