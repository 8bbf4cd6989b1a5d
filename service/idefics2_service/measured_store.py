"""A store whose operations are timed, whichever store it is."""

from __future__ import annotations

import inspect
import time
from functools import wraps
from typing import TYPE_CHECKING, Any, cast

from idefics2_service.errors import StoreUnavailable
from idefics2_service.store.interface import RequestStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from idefics2_service.metrics import Metrics

_OPERATIONS = frozenset(
    name
    for name, method in inspect.getmembers(RequestStore, inspect.iscoroutinefunction)
    if name not in {"start", "stop"}
)


class _MeasuredStore:
    """Passes everything on."""

    def __init__(self, store: RequestStore, metrics: Metrics) -> None:
        self._store = store
        for name in _OPERATIONS:
            setattr(self, name, _measure(name, getattr(store, name), metrics))

    def __getattr__(self, name: str) -> Any:  # what is not an operation
        return getattr(self._store, name)


def measure(store: RequestStore, metrics: Metrics) -> RequestStore:
    """Return a store that does what `store` does, and records how long it took."""
    return cast("RequestStore", _MeasuredStore(store, metrics))


def _measure(
    operation: str, call: Callable[..., Awaitable[Any]], metrics: Metrics
) -> Callable[..., Awaitable[Any]]:
    timed, failed = metrics.store_seconds.labels(operation), metrics.store_errors.labels(operation)

    @wraps(call)
    async def measured(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return await call(*arguments, **named)
        except StoreUnavailable:
            failed.inc()
            raise
        finally:
            timed.observe(time.perf_counter() - started)

    return measured
