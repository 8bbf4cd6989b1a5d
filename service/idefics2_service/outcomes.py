"""How a request ended: as its last event, as a count, and as its line in the log."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from idefics2_service.errors import InternalError, ServiceError, let_go_of_frames
from idefics2_service.events import Failed, Finished
from idefics2_service.metrics import ATTACHED

if TYPE_CHECKING:
    from idefics2_service.metrics import Metrics
    from idefics2_service.requests import GenerateOutput, RequestName

logger = structlog.get_logger(__name__)


def end_of(
    task: asyncio.Task[GenerateOutput], request_id: str, if_cancelled: ServiceError
) -> Finished | Failed:
    """Say as an event how a task of `lifecycle.run` ended, and let go of what it held."""
    try:
        return Finished(task.result())
    except asyncio.CancelledError:
        return Failed(if_cancelled)
    except ServiceError as error:
        return Failed(error.without_frames())
    except Exception as error:
        logger.exception("request failed", request_id=request_id, exc_info=error)
        let_go_of_frames(error)
        return Failed(InternalError(f"the service failed; its log has the details under {request_id}"))


def record(
    name: RequestName, end: Finished | Failed, seconds: float, metrics: Metrics, kind: str = ATTACHED
) -> None:
    """Count a request that ended or was not taken, and write its line; `seconds` are from its arrival."""
    match end:
        case Finished(output):
            reason, usage = "OK", output.usage
            metrics.record_output(output, kind, seconds)
            metrics.record_key(name.key_id, reason, usage)
            facts = {**vars(usage), "finish_reason": output.finish_reason.value}
        case Failed(error):
            reason, facts = error.reason, {"field": error.field} if error.field else {}
            metrics.record_key(name.key_id, reason)
    metrics.requests.labels(reason).inc()
    logger.info(
        "request ended",
        request_id=name.request_id,
        key_id=name.key_id,
        reason=reason,
        seconds=round(seconds, 4),
        **facts,
    )
