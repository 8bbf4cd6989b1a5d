"""Stores whose operations are timed and whose faults are counted, whichever stores they are."""

from __future__ import annotations

import inspect
import time
from functools import wraps
from typing import TYPE_CHECKING, Any, cast

from idefics2_service.blobs.interface import BlobStore
from idefics2_service.errors import FileStoreUnavailable, ServiceError, StoreUnavailable
from idefics2_service.store.interface import RequestStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prometheus_client import Counter, Histogram

    from idefics2_service.metrics import Metrics

_BRACKETS = frozenset({"start", "stop", "close"})
"""What is called once, and no operation."""


def measure_store(store: RequestStore, metrics: Metrics) -> RequestStore:
    """Return a store that does what `store` does, and records how long it took."""
    measured = _Measured(store, RequestStore, metrics.store_seconds, metrics.store_errors, StoreUnavailable)
    return cast("RequestStore", measured)


def measure_blobs(blobs: BlobStore, metrics: Metrics) -> BlobStore:
    """Return a store of files that does what `blobs` does, and records how long it took."""
    measured = _Measured(
        blobs, BlobStore, metrics.file_store_seconds, metrics.file_store_errors, FileStoreUnavailable
    )
    return cast("BlobStore", measured)


class _Measured:
    """Passes everything on."""

    def __init__(
        self, store: object, interface: type, seconds: Histogram, errors: Counter, fault: type[ServiceError]
    ) -> None:
        self._store = store
        for name, _ in inspect.getmembers(interface, inspect.iscoroutinefunction):
            if name not in _BRACKETS:
                timed, failed = seconds.labels(name), errors.labels(name)
                setattr(self, name, _measure(getattr(store, name), timed, failed, fault))

    def __getattr__(self, name: str) -> Any:  # what is not an operation
        return getattr(self._store, name)


def _measure(
    call: Callable[..., Awaitable[Any]], timed: Histogram, failed: Counter, fault: type[ServiceError]
) -> Callable[..., Awaitable[Any]]:
    @wraps(call)
    async def measured(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return await call(*arguments, **named)
        except fault:
            failed.inc()
            raise
        finally:
            timed.observe(time.perf_counter() - started)

    return measured
