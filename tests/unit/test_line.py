"""The line: keys take turns, whoever presses, and positions are the order in which turns are given."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from idefics2_service.line import Line, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

seeds = pytest.mark.parametrize("seed", range(20))


class Room:
    """A line, and what is known of it from outside."""

    def __init__(self, num_turns: int) -> None:
        """Begin empty."""
        self.line: Line[Place] = Line(num_turns)
        self.waiting: list[Place] = []
        self.turns: dict[int, str] = {}

    def come(self, key_id: str) -> Place | None:
        """Let a request of a key come; return where it waits, if it does."""
        if self.line.has_turn:
            self._give(key_id)
            return None
        place = Place(key_id)
        self.line.join(place)
        self.waiting.append(place)
        return place

    def leave(self, place: Place) -> None:
        """Let one who waits go."""
        assert self.line.leave(place)
        self.waiting.remove(place)

    def end(self, turn: int) -> Place | None:
        """Let a turn end, and give it to whose it is."""
        self.line.end(turn)
        del self.turns[turn]
        return self.begin_next()

    def end_of(self, key_id: str) -> Place | None:
        """Let a key's oldest turn end."""
        return self.end(next(turn for turn, holder in self.turns.items() if holder == key_id))

    def end_oldest(self) -> Place | None:
        """Let the turn end that was given first."""
        return self.end(next(iter(self.turns)))

    def begin_next(self) -> Place | None:
        """Give the turn that is free to whose it is."""
        place = self.line.next
        if place is not None:
            self.leave(place)
            self._give(place.key_id)
        return place

    def _give(self, key_id: str) -> None:
        turn = self.line.give(key_id)
        assert turn not in self.turns
        self.turns[turn] = key_id

    @property
    def held(self) -> Counter[str]:
        """How many turns each key holds."""
        return Counter(self.turns.values())

    def check_counts(self) -> None:
        """Fail where it counts otherwise, or a turn is free while somebody waits."""
        assert (self.line.num_held, self.line.num_waiting) == (len(self.turns), len(self.waiting))
        assert len(self.turns) <= self.line.num_turns
        assert self.line.has_turn == (len(self.turns) < self.line.num_turns)
        assert not (self.waiting and self.line.has_turn)


def storm(seed: int, num_keys: int) -> Iterator[tuple[Room, Place | None]]:
    """Let keys come, leave and end as they like; yield who was begun each time that a turn ends."""
    draw = random.Random(seed)  # noqa: S311  # not a secret
    room, keys = Room(draw.randint(1, 6)), [f"key {number}" for number in range(num_keys)]
    for _ in range(600):
        act = draw.random()
        if act < 0.5:
            room.come(draw.choices(keys, range(1, num_keys + 1))[0])
        elif act < 0.6 and room.waiting:
            room.leave(draw.choice(room.waiting))
        elif room.turns:
            yield room, room.end(draw.choice(list(room.turns)))
        room.check_counts()


def keys_of(places: Iterable[Place | None]) -> list[str]:
    return [place.key_id for place in places if place is not None]


@seeds
def test_the_next_turn_is_for_a_key_that_holds_the_fewest_and_within_it_for_who_came_first(seed: int) -> None:
    for room, begun in storm(seed, num_keys=5):
        if begun is None:
            continue
        held = room.held
        assert held[begun.key_id] - 1 <= min((held[place.key_id] for place in room.waiting), default=9)
        assert begun.number < min((p.number for p in room.waiting if p.key_id == begun.key_id), default=9**9)


@seeds
def test_a_key_that_holds_none_waits_for_at_most_one_turn_of_each_other(seed: int) -> None:
    passed_by: dict[str, Counter[str]] = {}
    for room, begun in storm(seed, num_keys=12):
        poor = {place.key_id for place in room.waiting} - room.held.keys()
        passed_by = {key_id: passed_by.get(key_id, Counter()) for key_id in poor}
        for passed in passed_by.values():
            passed.update(keys_of([begun]))
            assert not passed or max(passed.values()) == 1


@seeds
def test_positions_are_the_order_of_turns_that_end_as_they_were_given(seed: int) -> None:
    rooms = [room for room, _ in storm(seed, num_keys=4)]
    room = rooms[-1]
    for number in range(30):
        room.come(f"key {number % 4}")
    foreseen = list(room.line.in_order())
    assert sorted(foreseen, key=id) == sorted(room.waiting, key=id)
    while room.waiting:
        assert list(room.line.in_order()) == foreseen
        assert room.end_oldest() is foreseen.pop(0)


@seeds
def test_whoever_ends_first_keys_that_press_hold_as_many_turns_each(seed: int) -> None:
    draw, room = random.Random(seed), Room(7)  # noqa: S311  # not a secret
    keys = ("anna", "bert", "cleo")
    for key_id in [*["anna"] * 20, *keys * 30]:
        room.come(key_id)
    for _ in range(7):
        room.end_oldest()
    for _ in range(60):
        ended = draw.choice(list(room.turns))
        room.come(room.turns[ended])
        room.end(ended)
        assert set(room.held.values()) == {2, 3}


@pytest.mark.parametrize("num_turns", [1, 2, 16])
def test_who_comes_beside_a_flood_has_the_next_turn(num_turns: int) -> None:
    room = Room(num_turns)
    for _ in range(num_turns + 40):
        room.come("anna")
    light = room.come("bert")
    assert next(room.line.in_order()) is light
    assert room.end_of("anna") is light


def test_keys_that_press_for_one_turn_have_it_one_after_the_other() -> None:
    room = Room(1)
    for key_id in [*["anna"] * 4, *["bert"] * 2, *["cleo"] * 3]:
        room.come(key_id)
    begun = [room.end_oldest() for _ in range(8)]
    assert keys_of(begun) == ["bert", "cleo", "anna", "bert", "cleo", "anna", "cleo", "anna"]


def test_a_flood_has_its_turns_though_others_come_anew_each_time() -> None:
    room = Room(1)
    for key_id in [*["anna"] * 10, "bert", "cleo"]:
        room.come(key_id)
    begun = []
    for _ in range(9):
        (holder,) = room.turns.values()
        begun += keys_of([room.end_oldest()])
        if holder != "anna":
            room.come(holder)  # it waits for its answer, and asks again
    assert begun == ["bert", "cleo", "anna"] * 3


def test_long_answers_of_a_key_take_turns_from_nobody_else() -> None:
    room = Room(4)
    for key_id in [*["anna"] * 8, *["bert"] * 20]:
        room.come(key_id)
    begun = [room.end_of("anna"), room.end_of("anna")]
    begun += [room.end_of("bert") for _ in range(18)]
    assert keys_of(begun) == ["bert"] * 20
    assert room.held == {"anna": 2, "bert": 2}
    assert keys_of([room.end_of("bert")]) == ["anna"]


def test_turns_that_were_given_while_nobody_waited_count_for_nothing_later() -> None:
    room = Room(1)
    for key_id in ("anna", "bert", "anna", "cleo"):
        room.come(key_id)
        room.end_oldest()
    room.come("dora")
    for key_id in ("cleo", "bert", "anna"):
        room.come(key_id)
    assert keys_of([room.end_oldest() for _ in range(3)]) == ["cleo", "bert", "anna"]


def test_who_has_waited_longest_is_known_whoever_is_next() -> None:
    room = Room(1)
    assert room.line.oldest is None
    places = [room.come(key_id) for key_id in ("anna", "anna", "bert", "anna")]
    assert room.line.oldest is places[1]
    assert room.line.next is places[2]
    room.end_oldest()
    room.end_oldest()
    assert room.line.oldest is places[3]


def test_who_leaves_is_gone_once() -> None:
    room = Room(1)
    room.come("anna")
    place = room.come("anna")
    assert place is not None
    room.leave(place)
    assert not room.line.leave(place)
    assert room.end_oldest() is None
    assert not room.line.leave(place)
