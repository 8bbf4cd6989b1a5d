"""How a request ended: as its last event, as a count, and as its line in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from idefics2_service.errors import InternalError, ServiceError
from idefics2_service.events import Failed, Finished

if TYPE_CHECKING:
    import asyncio

    from idefics2_service.metrics import Metrics
    from idefics2_service.requests import GenerateOutput

logger = structlog.get_logger(__name__)


def end_of(
    task: asyncio.Task[GenerateOutput], request_id: str, if_cancelled: ServiceError
) -> Finished | Failed:
    """Say as an event how a task of `lifecycle.run` ended."""
    if task.cancelled():
        return Failed(if_cancelled)
    error = task.exception()
    if error is None:
        return Finished(task.result())
    if isinstance(error, ServiceError):
        return Failed(error)
    logger.error("request failed", request_id=request_id, exc_info=error)
    return Failed(InternalError(f"the service failed; its log has the details under {request_id}"))


def record(request_id: str, end: Finished | Failed, seconds: float, metrics: Metrics) -> None:
    """Count a request that ended or was not taken, and write its line."""
    match end:
        case Finished(output):
            reason, usage = "OK", output.usage
            metrics.record_output(output)
            facts = {**vars(usage), "finish_reason": output.finish_reason.value}
        case Failed(error):
            reason, facts = error.reason, {"field": error.field} if error.field else {}
    metrics.requests.labels(reason).inc()
    logger.info("request ended", request_id=request_id, reason=reason, seconds=round(seconds, 4), **facts)
