"""A fair share of something of which there is only so much."""

from __future__ import annotations

from collections import Counter


class Shares:
    """What each key has of `capacity`: it may have no more than is free.

    So a key alone gets half, each of two a third, each of three a quarter, and whoever comes new finds room,
    however hard the others press. Nothing is taken away: a key with more than its share gets nothing new.

    Source: the dynamic thresholds of A. K. Choudhury and E. L. Hahne for shared-memory switches, 1998.
    """

    def __init__(self, capacity: int) -> None:
        """Begin with all of it free."""
        self.capacity = capacity
        self.num_taken = 0
        self._of_keys: Counter[str] = Counter()

    def of(self, key_id: str) -> int:
        """Return how much a key has."""
        return self._of_keys[key_id]

    def has_room(self, key_id: str, amount: int = 1) -> bool:
        """Tell whether a key may take so much."""
        return self._of_keys[key_id] + amount <= self.capacity - self.num_taken

    def without_room(self) -> set[str]:
        """Name the keys that have some of it and may take no more."""
        return {key_id for key_id in self._of_keys if not self.has_room(key_id)}

    def take(self, key_id: str, amount: int = 1) -> None:
        """Count it as the key's; whether there is room was asked before, or does not matter."""
        if amount:  # or an entry would be left that nobody gives back
            self.num_taken += amount
            self._of_keys[key_id] += amount

    def give_back(self, key_id: str, amount: int = 1) -> None:
        """Count it as free."""
        self.num_taken -= amount
        self._of_keys[key_id] -= amount
        if not self._of_keys[key_id]:
            del self._of_keys[key_id]

    def describe(self, key_id: str, noun: str = "key") -> str:
        """Say it to who is refused, as the end of a sentence; `noun` says what shares here."""
        free = max(self.capacity - self.num_taken, 0)
        held = f"of {self.capacity}, this {noun} has {self.of(key_id)} and {free} are free"
        return f"{held}; no {noun} may have more than are free"
