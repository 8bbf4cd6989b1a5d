"""Which keys have a series of their own in the metrics: those that are used most, so many at most."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

OTHER = "(other)"
"""No id of a key: a key of that name would count among all others, and could take their series with it."""
_TIMES = 2
"""A key that is used so many times as often takes the series of the least used: or two would alternate."""


class KeyLabels:
    """Names keys in metrics.

    A count never moves from one series to another, for counters may not fall: what a key did before it got a
    series stays in OTHER, and a key that loses its series to another loses what it had in it.

    Source: the Space-Saving algorithm of A. Metwally, D. Agrawal and A. El Abbadi, 2005; with exact
    counts, for only keys that exist are counted.
    """

    def __init__(self, max_keys: int, forget: Callable[[str], None]) -> None:
        """Name up to `max_keys` keys; `forget` removes the series of one."""
        self._max_keys = max_keys
        self._forget = forget
        self._uses: Counter[str] = Counter()
        self._named: set[str] = set()

    def use(self, key_id: str) -> str:
        """Count a use of a key, and return under which name it is counted."""
        self._uses[key_id] += 1
        if key_id in self._named:
            return key_id
        if len(self._named) < self._max_keys:
            self._named.add(key_id)
            return key_id
        least = min(self._named, key=self._uses.__getitem__, default=key_id)
        if self._uses[key_id] <= _TIMES * self._uses[least]:
            return OTHER
        self._forget(least)
        self._named.remove(least)
        self._named.add(key_id)
        return key_id
