"""The line for turns on the model: whose is the next one, and how many are before whom."""

from __future__ import annotations

import itertools
import time
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


@dataclass(eq=False)
class Place:
    """Where one request of a key waits."""

    key_id: str
    number: int = field(init=False, default_factory=itertools.count().__next__)
    """Larger than that of all who came before."""
    since: float = field(init=False, default_factory=time.monotonic)


AnyPlace = TypeVar("AnyPlace", bound=Place)


class Line(Generic[AnyPlace]):
    """Who waits for one of `num_turns` turns, and which keys hold one.

    Keys take turns: the next one is for the key that holds the fewest; of several such, for the one whose
    last turn was given longest ago, or never; and within a key for who came first. So long answers of one
    key take turns from nobody else, and a key that holds none waits for at most one turn of each other one.

    Source: progressive filling to max-min fairness, D. Bertsekas and R. Gallager (1992).
    """

    def __init__(self, num_turns: int) -> None:
        """Begin with all turns free, and nobody who waits."""
        self.num_turns = num_turns
        self._places: dict[str, OrderedDict[int, AnyPlace]] = {}  # of keys that wait, by number
        self._turns: dict[int, str] = {}  # the keys of those that are held, as they were given
        self._latest: dict[str, int] = {}  # the number of a key's last turn
        self._num_given = 0

    @property
    def num_held(self) -> int:
        """How many turns are held."""
        return len(self._turns)

    @property
    def num_waiting(self) -> int:
        """How many requests wait."""
        return sum(map(len, self._places.values()))

    @property
    def has_turn(self) -> bool:
        """Whether a turn is free."""
        return len(self._turns) < self.num_turns

    @property
    def oldest(self) -> AnyPlace | None:
        """Who has waited longest."""
        heads = (next(iter(places.values())) for places in self._places.values())
        return min(heads, key=lambda place: place.number, default=None)

    @property
    def next(self) -> AnyPlace | None:
        """Whose the next turn is."""
        return next(self.in_order(), None)

    def in_order(self) -> Iterator[AnyPlace]:
        """Yield all who wait as they get their turns, if nobody else comes and turns end as they were given.

        In whatever order turns end, it is right about whose the next one is as soon as that is free.
        """
        return iter(_Course(self.num_turns, self._turns.values(), self._latest, self._places))

    def join(self, place: AnyPlace) -> None:
        """Let one more wait."""
        if not self._places:  # whoever was given turns until now took them from nobody
            held = set(self._turns.values())
            self._latest = {key_id: turn for key_id, turn in self._latest.items() if key_id in held}
        self._places.setdefault(place.key_id, OrderedDict())[place.number] = place

    def leave(self, place: AnyPlace) -> bool:
        """Let one wait no more; tell whether it did."""
        places = self._places.get(place.key_id)
        if places is None or places.pop(place.number, None) is None:
            return False
        if not places:
            del self._places[place.key_id]
        return True

    def give(self, key_id: str) -> int:
        """Give a key a turn that is free; return the turn's number."""
        self._num_given += 1
        self._turns[self._num_given] = key_id
        self._latest[key_id] = self._num_given
        return self._num_given

    def end(self, turn: int) -> None:
        """Let a turn be free."""
        del self._turns[turn]


class _Course(Generic[AnyPlace]):
    """What becomes of a line to which nobody else comes, and whose turns end as they were given."""

    def __init__(
        self,
        num_turns: int,
        turns: Iterable[str],
        latest: Mapping[str, int],
        places: Mapping[str, Mapping[int, AnyPlace]],
    ) -> None:
        self._num_turns = num_turns
        self._turns = deque(turns)
        self._held, self._latest = Counter(self._turns), dict(latest)
        self._turn = itertools.count(max(latest.values(), default=0) + 1)
        self._rest = {key_id: iter(waiting.values()) for key_id, waiting in places.items()}
        self._heads: dict[str, AnyPlace] = {}
        self._ranks: list[tuple[int, int, int, AnyPlace]] = []
        for key_id in places:
            self._move_up(key_id)

    def __iter__(self) -> Iterator[AnyPlace]:
        while self._heads:
            if len(self._turns) == self._num_turns:
                self._end_turn()
            yield self._give_turn()

    def _end_turn(self) -> None:
        key_id = self._turns.popleft()
        self._held[key_id] -= 1
        self._rank(key_id)

    def _give_turn(self) -> AnyPlace:
        place = self._pop_first()
        key_id = place.key_id
        self._turns.append(key_id)
        self._held[key_id] += 1
        self._latest[key_id] = next(self._turn)
        self._move_up(key_id)
        return place

    def _pop_first(self) -> AnyPlace:
        """Return who is ranked first; who was ranked anew since is found by its better rank before."""
        while True:
            *_, place = heappop(self._ranks)
            if self._heads.get(place.key_id) is place:
                return place

    def _move_up(self, key_id: str) -> None:
        """Let a key's next request be its first, if there is one."""
        head = next(self._rest[key_id], None)
        if head is None:
            self._heads.pop(key_id, None)
        else:
            self._heads[key_id] = head
            self._rank(key_id)

    def _rank(self, key_id: str) -> None:
        head = self._heads.get(key_id)
        if head is not None:
            rank = (self._held[key_id], self._latest.get(key_id, 0), head.number, head)
            heappush(self._ranks, rank)
