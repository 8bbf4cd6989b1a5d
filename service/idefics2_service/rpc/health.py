"""grpc.health.v1, by which those who balance calls know where to send them.

Not grpc's own: there, of two who watch a service, one hears nothing more when the other leaves, and one who
does not read holds up all others, and whoever sets the health.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from idefics2_service.rpc.status import ServicerContext

_Status = health_pb2.HealthCheckResponse.ServingStatus
_SERVING, _NOT_SERVING, _UNKNOWN = map(_Status.Value, ("SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"))


class HealthServicer(health_pb2_grpc.HealthServicer):
    """The health of all services, which is one: that of the model behind them."""

    def __init__(self, names: Collection[str]) -> None:
        """Answer for services of these names, and for the server, which has none: they do not serve yet."""
        self._names = {"", *names}
        self._status = _NOT_SERVING
        self._has_ended = False
        self._changed = asyncio.Event()

    def set(self, *, serving: bool) -> None:
        """Say whether calls should come here."""
        self._status = _SERVING if serving else _NOT_SERVING
        self._tell()

    def end(self) -> None:
        """End all watches, which end by nothing else."""
        self._has_ended = True
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Tell of now."""
        if request.service not in self._names:
            # Cut: of a message beyond 16 KiB, gRPC's clients say only that.
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service[:80]!r} is here")
        return health_pb2.HealthCheckResponse(status=self._status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: ServicerContext
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Tell of now, and of each change that is not over before it can be told."""
        told = None
        while not self._has_ended:
            changed = self._changed
            status = self._status if request.service in self._names else _UNKNOWN
            if status != told:
                yield health_pb2.HealthCheckResponse(status=status)
                told = status
            else:
                await changed.wait()
