"""The gRPC server: our service, health and reflection on one port."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.longrunning import operations_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio  # type: ignore[attr-defined]  # not in the stubs
from grpc_reflection.v1alpha import reflection
from idefics2.v1 import generation_pb2_grpc, requests_pb2_grpc

from idefics2_service.errors import StartFailed
from idefics2_service.rpc import generation as generation_face
from idefics2_service.rpc import operations as operations_face
from idefics2_service.rpc import requests as requests_face
from idefics2_service.rpc.interceptor import OPEN_SERVICES, Interceptor

if TYPE_CHECKING:
    from idefics2_service.generation import Generation
    from idefics2_service.keys import KeyRing
    from idefics2_service.metrics import Metrics
    from idefics2_service.settings import GrpcSettings
    from idefics2_service.submissions import Submissions

SERVICE_NAMES = (
    generation_face.SERVICE_NAME,
    requests_face.SERVICE_NAME,
    operations_face.SERVICE_NAME,
)


class GrpcServer:
    """One listening server."""

    def __init__(
        self,
        settings: GrpcSettings,
        generation: Generation,
        submissions: Submissions,
        keys: KeyRing,
        metrics: Metrics,
    ) -> None:
        """Bind the port; nothing is answered before `start`.

        Raises:
            StartFailed: the port is taken.

        """
        self._server = grpc.aio.server(
            interceptors=(Interceptor(keys, metrics),),
            options=(
                ("grpc.max_receive_message_length", settings.max_receive_bytes),
                ("grpc.so_reuseport", 0),  # a taken port is an error, not a surprise
            ),
        )
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(
            generation_face.GenerationServicer(generation), self._server
        )
        requests_pb2_grpc.add_RequestServiceServicer_to_server(
            requests_face.RequestServicer(submissions), self._server
        )
        operations_pb2_grpc.add_OperationsServicer_to_server(
            operations_face.OperationsServicer(submissions), self._server
        )
        self._health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*SERVICE_NAMES, *OPEN_SERVICES), self._server)
        address = f"{settings.host}:{settings.port}"
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise StartFailed(f"IDEFICS2_GRPC_PORT: cannot listen on {address}") from error
        self.address = f"{settings.host}:{port}"

    async def start(self) -> None:
        """Answer; health says NOT_SERVING until it is told otherwise."""
        await self.set_serving(serving=False)
        await self._server.start()

    async def set_serving(self, *, serving: bool) -> None:
        """Say by grpc.health.v1 whether requests should come here."""
        status = health_pb2.HealthCheckResponse.ServingStatus.Value("SERVING" if serving else "NOT_SERVING")
        for service in ("", *SERVICE_NAMES):
            await self._health.set(service, status)

    async def stop(self) -> None:
        """End what is still running and close the port."""
        await self._server.stop(grace=0)
