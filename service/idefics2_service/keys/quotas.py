"""What each key uses of its limits, in this process."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idefics2_service.errors import ConcurrencyExceeded, RateLimited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from idefics2_service.keys.records import Key

_ROUNDING_SECONDS = 1e-6
"""Who comes back just when told to is let in, whatever floating point made of the sum."""


class TokenBucket:
    """Tokens that come back at a steady rate, kept as the time when all are back; their limits may change.

    Source: the virtual scheduling algorithm of ITU-T I.371, "generic cell rate algorithm".
    """

    def __init__(self) -> None:
        """Begin full."""
        self._full_at = -math.inf
        # What `_full_at` was reckoned with: at another rate it would stand for other tokens.
        self._per_second, self._burst = 0.0, 0

    def take(self, per_second: float, burst: int, now: float) -> float:
        """Take a token of at most `burst`, or return the seconds until there is one."""
        if (per_second, burst) != (self._per_second, self._burst):
            self._change(per_second, burst, now)
        full_at = max(self._full_at, now) + 1 / per_second
        wait = full_at - burst / per_second - now
        if wait > _ROUNDING_SECONDS:
            return wait
        self._full_at = full_at
        return 0.0

    def _change(self, per_second: float, burst: int, now: float) -> None:
        """Lack as many tokens as before, but no more than there are now at most."""
        num_lacking = min(max(self._full_at - now, 0) * self._per_second, burst)
        self._full_at = now + num_lacking / per_second
        self._per_second, self._burst = per_second, burst


@dataclass
class _Usage:
    bucket: TokenBucket
    num_open: int = 0


class Quotas:
    """Calls of all keys."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Count from nothing, by a clock in seconds."""
        self._clock = clock
        self._usages: dict[str, _Usage] = {}

    @contextmanager
    def admit(self, key: Key) -> Iterator[None]:
        """Count a call as open inside the context.

        Raises:
            RateLimited: the key's calls came too fast; says when to come back.
            ConcurrencyExceeded: too many of its calls are open.

        """
        self._check_rate(key, self._usage_of(key).bucket)
        with self.open(key):
            yield

    @contextmanager
    def open(self, key: Key) -> Iterator[None]:
        """As `admit`, for a call that may come at any rate.

        Raises:
            ConcurrencyExceeded: too many of its calls are open.

        """
        usage = self._usage_of(key)
        _check_concurrency(key, usage.num_open)
        usage.num_open += 1
        try:
            yield
        finally:
            usage.num_open -= 1

    def _usage_of(self, key: Key) -> _Usage:
        return self._usages.setdefault(key.id, _Usage(TokenBucket()))

    def _check_rate(self, key: Key, bucket: TokenBucket) -> None:
        per_second, burst = key.limits.calls_per_second, key.limits.burst_calls
        if per_second is None:
            return
        wait = bucket.take(per_second, burst, self._clock())
        if wait:
            bound = f"{per_second:g} calls a second, {burst} at once"
            message = f"this key may make {bound}; come back in {wait:.3f} s"
            raise RateLimited(message, retry_after_seconds=wait, bound=bound)


def _check_concurrency(key: Key, num_open: int) -> None:
    bound = key.limits.max_concurrent
    if bound is not None and num_open >= bound:
        message = f"{num_open} calls of this key are open; max_concurrent allows {bound}"
        raise ConcurrencyExceeded(message, bound=str(bound), value=str(num_open))
