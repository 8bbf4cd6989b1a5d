"""The gRPC server: our service, health and reflection on one port."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from google.longrunning import operations_pb2_grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from idefics2.v1 import files_pb2_grpc, generation_pb2_grpc, requests_pb2_grpc

from idefics2_service.errors import StartFailed
from idefics2_service.rpc import files as files_face
from idefics2_service.rpc import generation as generation_face
from idefics2_service.rpc import operations as operations_face
from idefics2_service.rpc import requests as requests_face
from idefics2_service.rpc.credentials import make_credentials
from idefics2_service.rpc.health import HealthServicer
from idefics2_service.rpc.interceptor import Interceptor
from idefics2_service.rpc.open_calls import OPEN_SERVICES
from idefics2_service.rpc.streams import WINDOW_BYTES

if TYPE_CHECKING:
    from idefics2_service.gate import Gate
    from idefics2_service.generation import Generation
    from idefics2_service.metrics import Metrics
    from idefics2_service.settings import GrpcSettings
    from idefics2_service.submissions import Submissions
    from idefics2_service.tls import Certificates
    from idefics2_service.tracing.spans import Tracer
    from idefics2_service.uploads.library import Library
    from idefics2_service.uploads.uploads import Uploads

SERVICE_NAMES = (
    generation_face.SERVICE_NAME,
    requests_face.SERVICE_NAME,
    files_face.SERVICE_NAME,
    operations_face.SERVICE_NAME,
)

_MAX_REFUSED = 8_192
"""Calls that may come beyond those that are let in by a key, at a time: each is told why it is not.

Those that need no key are among them, and a part of them at most.
"""

_ALIVE_SECONDS = 20.0
"""How long a connection may take to show that it lives; grpc.keepalive_timeout_ms itself has no effect."""

_FOR_EVER_SECONDS = 1e9
"""How long grpc lets calls go on that the service ends by itself: with a clock of its own, it would be first
where the loop is late, and give no reason. Not infinity, which uvloop does not know."""

_LAST_WORDS_SECONDS = 0.5
"""How long calls that are ended by the service may take to tell their callers."""


@dataclass(frozen=True)
class Cores:
    """What stands behind this face."""

    generation: Generation
    submissions: Submissions
    library: Library
    uploads: Uploads


class GrpcServer:
    """One listening server."""

    def __init__(
        self,
        settings: GrpcSettings,
        cores: Cores,
        gate: Gate,
        metrics: Metrics,
        certificates: Certificates | None,
        tracer: Tracer,
    ) -> None:
        """Bind the port; nothing is answered before `start`.

        Raises:
            StartFailed: the port is taken, or the host is no address of this machine.

        """
        most_calls = gate.max_open_calls + _MAX_REFUSED
        self._server = grpc.aio.server(
            interceptors=(Interceptor(gate, metrics, settings, tracer),),
            # The last wall, without a word of ours.
            maximum_concurrent_rpcs=most_calls,
            options=(
                ("grpc.max_receive_message_length", settings.max_receive_bytes),
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
                ("grpc.so_reuseport", 0),  # a taken port is an error, not a surprise
                # Callers who vanish without a word hold places and memory.
                ("grpc.keepalive_time_ms", round(settings.keepalive_seconds * 1000)),
                ("grpc.http2.ping_timeout_ms", round(_ALIVE_SECONDS * 1000)),
                ("grpc.http2.max_pings_without_data", 0),  # no limit: a watch may be quiet for hours
                # Of a burst, grpc would end what was not looked at yet, from 1,000 calls on, as CANCELLED.
                ("grpc.server.max_pending_requests", most_calls),
                ("grpc.server.max_pending_requests_hard_limit", most_calls),
            ),
        )
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(
            generation_face.GenerationServicer(cores.generation), self._server
        )
        requests_pb2_grpc.add_RequestServiceServicer_to_server(
            requests_face.RequestServicer(cores.submissions), self._server
        )
        files_pb2_grpc.add_FileServiceServicer_to_server(
            files_face.FileServicer(cores.library, cores.uploads, gate), self._server
        )
        operations_pb2_grpc.add_OperationsServicer_to_server(
            operations_face.OperationsServicer(cores.submissions), self._server
        )
        self._health = HealthServicer(SERVICE_NAMES)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*SERVICE_NAMES, *OPEN_SERVICES), self._server)
        address = f"{settings.url_host}:{settings.port}"
        try:
            port = self._listen(address, certificates)
        except RuntimeError as error:
            raise StartFailed(
                f"IDEFICS2_GRPC_HOST, IDEFICS2_GRPC_PORT: cannot listen on {address}"
            ) from error
        self.address = f"{settings.url_host}:{port}"

    def _listen(self, address: str, certificates: Certificates | None) -> int:
        if certificates is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, make_credentials(certificates))

    async def start(self) -> None:
        """Answer; health says NOT_SERVING until it is told otherwise."""
        await self._server.start()

    def set_serving(self, *, serving: bool) -> None:
        """Say by grpc.health.v1 whether requests should come here."""
        self._health.set(serving=serving)

    async def close(self, drain_seconds: float) -> None:
        """Take no call any more, and return when those that were begun are over, or were given so long.

        The port is closed, and each connection told (by GOAWAY) that its next calls belong elsewhere.
        """
        self._health.end()
        closing = asyncio.create_task(self._server.stop(_FOR_EVER_SECONDS))
        await asyncio.wait((closing,), timeout=drain_seconds)

    async def stop(self) -> None:
        """End what is still running, after a moment in which it may say so, and close the port.

        The moment begins here: what the service ends by itself, it ends before.
        """
        self._health.end()
        await self._server.stop(_LAST_WORDS_SECONDS)
