"""How a lost connection is tried again, and for how long."""

from __future__ import annotations

import json
import logging
import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idefics2_client.bounds import TIMEOUT, bounding
from idefics2_client.errors import SettingInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from idefics2_client.errors import Idefics2Error

logger = logging.getLogger("idefics2_client")

_LOST = {"UNAVAILABLE", "INTERNAL", "UNKNOWN"}
"""What libraries and proxies call a connection that broke; the service itself names a reason with each."""
_PASSING = {"", "BACKEND_UNAVAILABLE", "SERVICE_STOPPING", "STORE_UNAVAILABLE", "FILE_STORE_UNAVAILABLE"}
_LIMITS = {"RATE_LIMITED", "CONCURRENCY_EXCEEDED", "CALLS_FULL"}
"""What a call is refused for because of others; told to who begins, waited for by who has begun."""
_REPEATABLE = {
    "GenerationService": ("CountTokens",),
    "RequestService": ("GetRequest", "GetResult", "ListRequests", "CancelRequest"),
    "FileService": ("GetFile", "GetUpload", "ListFiles"),
}
"""Calls that grpc itself may make again: once or twice, they have the same effect and the same answer.

Not Submit, which counts each time unless it has a name; not Generate, which costs a GPU's time again, also
where the model was lost half-way; not streams, which go on where they left off. The service tells nothing
of a call before it has an answer, so that grpc may make again what is refused: after the pause that it asks
for, and not at all where the answer will stay.
"""
_HEALTH_OF = "idefics2.v1.GenerationService"
"""Whose health is asked for; that of all services of a replica is one."""
_MAX_DOUBLINGS = 30
_MIN_PAUSE_MILLISECONDS = 10  # without any, grpc is for ever connecting, and calls wait for that
_MAX_PAUSE_SECONDS = 86_400.0  # grpc counts up to some 24 days
_BUFFER_BYTES = 32 * 2**20
"""How much of a call grpc keeps to make it again: more than the largest message that the service takes."""
_MAX_CALL_SECONDS = 365 * 86_400.0
"""What grpc is told of longer timeouts; of more than 300 years it says at once that they are over."""
_KEEPALIVE_SECONDS = 310
"""How often a quiet connection is tested; servers suffer no less than 300, unless they are set to."""


def warn(error: Idefics2Error) -> None:
    """Log why a call is tried again."""
    logger.warning("%s; trying again", error.message)


@dataclass(frozen=True)
class Retry:
    """How calls are made again after a connection was lost: after pauses that double, up to a limit.

    `watch`, `subscribe`, a waiting `result`, `upload` and `download` go on as long as their timeout allows.
    Calls that only read, and `cancel`, are made `max_attempts` times where they end UNAVAILABLE. All others
    are made once.
    """

    first_seconds: float = 0.2
    """The longest first pause. Each is drawn between 0 and its limit: callers shall not come back as one."""
    max_seconds: float = 5.0
    """The longest pause, even if the service asks for more; none is longer than a day."""
    on_lost: Callable[[Idefics2Error], object] = warn
    """Told of each loss, before the pause. Default: a warning in the log `idefics2_client`."""
    max_attempts: int = 3
    """How often a call that only reads is made at most, before its error is told: 1 to 5. 1 is once."""
    asks_health: bool = False
    """Asks each address of the target for its health, and calls none that drains, or whose model is away.

    For a name of several replicas: where all say so, all calls end UNAVAILABLE, also without need of a model.
    """

    def __post_init__(self) -> None:
        """Check what can be no pause.

        Raises:
            SettingInvalid: a pause is no number.

        """
        for name in ("first_seconds", "max_seconds"):
            if math.isnan(getattr(self, name)):
                raise SettingInvalid(f"{name} of retry must be a number of seconds, not nan", field="retry")

    @property
    def channel_options(self) -> tuple[tuple[str, int | str], ...]:
        """How the channel below connects again, and how it notices that nobody is there any more."""
        return (
            ("grpc.initial_reconnect_backoff_ms", _count_milliseconds(self.first_seconds)),
            ("grpc.max_reconnect_backoff_ms", _count_milliseconds(self.max_seconds)),
            ("grpc.per_rpc_retry_buffer_size", _BUFFER_BYTES),
            ("grpc.keepalive_time_ms", _KEEPALIVE_SECONDS * 1000),
            ("grpc.http2.max_pings_without_data", 0),  # no limit: a watch may be quiet for hours
            ("grpc.service_config", json.dumps(self._service_config)),
        )

    @property
    def _service_config(self) -> dict[str, object]:
        """Spread calls over all addresses of the target; let grpc repeat what may be repeated."""
        names = [
            {"service": f"idefics2.v1.{service}", "method": method}
            for service, methods in _REPEATABLE.items()
            for method in methods
        ]
        policy = {
            "maxAttempts": self.max_attempts,
            "initialBackoff": f"{_count_milliseconds(self.first_seconds) / 1000}s",
            "maxBackoff": f"{_count_milliseconds(self.max_seconds) / 1000}s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
        if self.asks_health:
            config["healthCheckConfig"] = {"serviceName": _HEALTH_OF}
        if self.max_attempts > 1:
            config["methodConfig"] = [{"name": names, "retryPolicy": policy}]
        return config

    def pause_seconds(self, num_losses: int, asked_seconds: float | None) -> float:
        """Draw the pause after so many losses in a row, 1 or more; no shorter than the service asked for."""
        longest = min(self.max_seconds, _MAX_PAUSE_SECONDS)
        limit = min(self.first_seconds * 2 ** min(num_losses - 1, _MAX_DOUBLINGS), longest)
        drawn = random.uniform(0, limit)  # noqa: S311 - nobody gains by guessing it
        return min(max(drawn, asked_seconds or 0), longest)


def _count_milliseconds(seconds: float) -> int:
    return max(round(min(seconds, _MAX_PAUSE_SECONDS) * 1000), _MIN_PAUSE_MILLISECONDS)


class Patience:
    """What is left of it for one operation that outlives its connections."""

    def __init__(self, retry: Retry, timeout_seconds: float | None) -> None:
        """Begin to measure; None and infinity never run out.

        Raises:
            InvalidRequest: it is no number, or too large for one.

        """
        self._retry = retry
        with bounding("timeout_seconds", TIMEOUT, timeout_seconds):
            self._deadline = time.monotonic() + (math.inf if timeout_seconds is None else timeout_seconds)
            if math.isnan(self._deadline):
                raise ValueError
        self._num_losses = 0
        self._has_begun = False

    @property
    def seconds_left(self) -> float | None:
        """How long the next call may take; None: for ever."""
        if self._deadline == math.inf:
            return None
        return min(max(self._deadline - time.monotonic(), 0), _MAX_CALL_SECONDS)

    @property
    def is_tried(self) -> bool:
        """Whether the last call was lost: then the next one waits for a server instead of failing at once."""
        return self._num_losses > 0

    def begin(self) -> None:
        """Have a request or a part of a file at the service, or perhaps: no limit is a reason to leave it."""
        self._has_begun = True

    def restore(self) -> None:
        """Have got something through."""
        self._num_losses = 0

    def pause_after(self, error: Idefics2Error) -> float | None:
        """Return how many seconds to wait before the next try; None: trying again is no use.

        Then the caller raises it: raised here, it would be held by a frame of its own, and with it all that
        was asked.
        """
        if not self._may_pass(error):
            return None
        self._num_losses += 1
        self._retry.on_lost(error)
        pause = self._retry.pause_seconds(self._num_losses, error.retry_after_seconds)
        return pause if self.seconds_left is None else min(pause, self.seconds_left)

    def _may_pass(self, error: Idefics2Error) -> bool:
        if error.reason in _LIMITS:
            return self._has_begun or self.is_tried
        return error.code in _LOST and error.reason in _PASSING and not isinstance(error, SettingInvalid)
