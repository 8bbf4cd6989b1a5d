"""The backend that talks to a Triton, wherever it runs."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, cast

import grpc
import structlog
from tritonclient.grpc import service_pb2, service_pb2_grpc

from idefics2_service.backend import BackendEvent, BackendFinished
from idefics2_service.errors import BackendUnavailable, ServiceError
from idefics2_service.triton import tensors

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Sequence

    from idefics2_service.metrics import Metrics
    from idefics2_service.requests import ImageFile, ResolvedRequest, TokenCount
    from idefics2_service.settings import TritonSettings

logger = structlog.get_logger(__name__)

END = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs lack it
SECONDS_TO_ABANDON = 5.0  # how long a cancelled answer may take to end before its stream is cut
SECONDS_BETWEEN_PINGS_WHILE_LOST = 0.1
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),  # what is sent was bounded by the face; what comes is ours
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Each backend keeps its own connection: channels to one address would share one otherwise.
    ("grpc.use_local_subchannel_pool", 1),
)

# A write on a call that ended raises any of these.
_CALL_ERRORS = (grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError)

Call = grpc.aio.StreamStreamCall[service_pb2.ModelInferRequest, service_pb2.ModelStreamInferResponse]


class TritonBackend:
    """One stream per request; a canary through the engine's own thread says whether it is healthy."""

    def __init__(self, settings: TritonSettings, metrics: Metrics) -> None:
        """Set up; `connect` comes next."""
        self._settings = settings
        self._metrics = metrics
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None
        self._calls: set[Call] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._health = asyncio.Condition()
        self._is_healthy = False

    @property
    def name(self) -> str:
        """As Backend.name."""
        return f"triton/{self._settings.model_name}"

    @property
    def is_healthy(self) -> bool:
        """As Backend.is_healthy: the last canary came back in time."""
        return self._is_healthy

    async def wait_until_healthy(self, *, healthy: bool = True) -> None:
        """As Backend.wait_until_healthy."""
        async with self._health:
            await self._health.wait_for(lambda: self._is_healthy is healthy)

    async def connect(self, url: str) -> None:
        """Use the Triton at `url` from now on, and begin to watch it."""
        await self.close()
        self._channel = grpc.aio.insecure_channel(url, options=_CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._spawn(self._watch())

    async def close(self) -> None:
        """Let go of Triton; answers on the way end with BackendUnavailable."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._set_health(healthy=False)
        if self._channel is not None:
            await self._channel.close(None)

    async def generate(self, request: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        """As Backend.generate."""
        # Callers choose request ids, so two may be alike: the model gets one that is not.
        model_id = f"{request.request_id}/{secrets.token_hex(4)}"
        message = tensors.generate_request(self._settings.model_name, model_id, request)
        call = self._begin()
        ended = False
        try:
            async with aclosing(self._converse(call, message, request.images)) as events:
                async for event in events:
                    ended = isinstance(event, BackendFinished)
                    yield cast("BackendEvent", event)
        except ServiceError:
            ended = True
            raise
        finally:
            self._spawn(self._end(call, cancel="" if ended else model_id))

    async def count_tokens(
        self, prompt: str, images: tuple[ImageFile, ...], *, split_images: bool | None
    ) -> TokenCount:
        """As Backend.count_tokens."""
        model = self._settings.model_name
        message = tensors.count_request(model, prompt, images, split_images=split_images)
        return cast("TokenCount", await self._ask(message, images))

    async def _ask(
        self, message: service_pb2.ModelInferRequest, images: Sequence[ImageFile] = ()
    ) -> tensors.ModelEvent:
        """Send a request that is answered at once, by one event."""
        call = self._begin()
        try:
            async with aclosing(self._converse(call, message, images)) as events:
                return await anext(events)
        finally:
            self._spawn(self._end(call))

    def _begin(self) -> Call:
        if self._stub is None:
            raise BackendUnavailable("the model's server is not connected")
        call: Call = self._stub.ModelStreamInfer()
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return call

    async def _converse(
        self, call: Call, message: service_pb2.ModelInferRequest, images: Sequence[ImageFile]
    ) -> AsyncGenerator[tensors.ModelEvent, None]:
        """Send one request on its own stream and yield the events of its answer."""
        try:
            await call.write(message)
            await call.done_writing()
            while True:
                response: Any = await call.read()
                if response is END:
                    return
                if response.error_message:  # the model itself never uses it: Triton speaks
                    raise BackendUnavailable(f"the model's server says: {response.error_message}")
                for event in tensors.read_events(response.infer_response, images):
                    yield event
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise BackendUnavailable("the model's server was lost") from None  # `_set_health` cut the stream
        except _CALL_ERRORS as error:
            raise BackendUnavailable("the model's server does not answer") from error

    async def _end(self, call: Call, cancel: str = "") -> None:
        """Read a stream to its end, after asking the model to stop where `cancel` names a request.

        Triton may crash when a stream is cut while its last response is on the way, so cutting is the last
        resort.
        """
        with suppress(*_CALL_ERRORS, ServiceError, TimeoutError):
            async with asyncio.timeout(SECONDS_TO_ABANDON):
                if cancel and not call.done():
                    await self._ask(tensors.cancel_request(self._settings.model_name, cancel))
                while not call.done() and await call.read() is not END:
                    pass
        call.cancel()

    async def _watch(self) -> None:
        """Send the canary for ever."""
        while True:
            healthy = await self._ping()
            await self._set_health(healthy=healthy)
            pause = self._settings.canary_interval_seconds if healthy else SECONDS_BETWEEN_PINGS_WHILE_LOST
            await asyncio.sleep(pause)

    async def _ping(self) -> bool:
        try:
            async with asyncio.timeout(self._settings.canary_timeout_seconds):
                await self._ask(tensors.ping_request(self._settings.model_name))
        except (ServiceError, TimeoutError) as error:
            logger.debug("canary did not come back", error=str(error))
            return False
        return True

    async def _set_health(self, *, healthy: bool) -> None:
        if healthy is not self._is_healthy:
            logger.info("model is healthy" if healthy else "model was lost", backend=self.name)
        self._metrics.backend_healthy.set(healthy)
        async with self._health:
            self._is_healthy = healthy
            self._health.notify_all()
        if not healthy:
            for call in list(self._calls):
                call.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let `work` go on by itself, until `close` at most."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
