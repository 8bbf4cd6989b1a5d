"""The backend that talks to a Triton, wherever it runs."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Any, cast

import grpc
import structlog
from tritonclient.grpc import service_pb2_grpc

from idefics2_service.backend import BackendEvent, BackendFinished
from idefics2_service.errors import BackendUnavailable, RequestCancelled, ServiceError
from idefics2_service.tracing.spans import Kind, current_span
from idefics2_service.triton import tensors
from idefics2_service.triton.conversation import NO_HEADERS, Conversation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping, Sequence

    from tritonclient.grpc import service_pb2

    from idefics2_service.metrics import Metrics
    from idefics2_service.requests import ImageFile, ResolvedRequest, TokenCount
    from idefics2_service.settings import TritonSettings
    from idefics2_service.tracing.spans import Value

logger = structlog.get_logger(__name__)

SECONDS_TO_ABANDON = 5.0  # how long a cancelled answer may take to end before its stream is cut
SECONDS_BETWEEN_CANCELS = 0.2
SECONDS_BETWEEN_PINGS_WHILE_LOST = 0.1
SLICES_OF_PATIENCE = 4
SECONDS_OF_SILENCE = 10.0  # without a first canary from a Triton that runs elsewhere, until that is logged
_METHOD = "inference.GRPCInferenceService/ModelStreamInfer"
_CALL: dict[str, Value] = {"rpc.system.name": "grpc", "rpc.method": _METHOD}
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),  # what is sent was bounded by the face; what comes is ours
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Each channel has a connection of its own: those to one address would share one otherwise.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),  # those that the environment names lead outside
)


class TritonBackend:
    """One stream per request; a canary through the engine's own thread says whether it is healthy."""

    def __init__(self, settings: TritonSettings, metrics: Metrics) -> None:
        """Set up; `connect` comes next."""
        self._settings = settings
        self._metrics = metrics
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None
        self._open: set[Conversation] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._health = asyncio.Condition()
        self._is_healthy = False
        self._missed = "no answer yet"
        """Why the last canary that was missed did not come back."""

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
        self._metrics.backend_starts.inc()
        self._dial(url)
        self._spawn(self._watch(url))
        if self._settings.url:  # the embedded one is loaded before, and who started it says what it waits for
            self._spawn(self._tell_silence(url))

    def _dial(self, url: str) -> None:
        self._channel = grpc.aio.insecure_channel(url, options=_CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def _hang_up(self) -> None:
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close(None)

    async def close(self) -> None:
        """Let go of Triton; answers on the way end with BackendUnavailable."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._set_health(healthy=False)
        await self._hang_up()

    async def generate(self, request: ResolvedRequest) -> AsyncGenerator[BackendEvent, None]:
        """As Backend.generate."""
        if not self._is_healthy:  # it may have been lost while the request waited for its turn
            raise BackendUnavailable.unsent("the model's server is not ready")
        # Callers choose request ids, so two may be alike: the model gets one that is not.
        model_id = f"{request.name.request_id}/{secrets.token_hex(4)}"
        span = current_span().begin(_METHOD, Kind.CLIENT, _CALL)
        traceparent = span.headers.get("traceparent", "")
        message = tensors.generate_request(self._settings.model_name, model_id, request, traceparent)
        conversation = self._begin(message, span.headers)
        ended = False
        try:
            async for event in _read_events(conversation, request.images):
                if isinstance(event, BackendFinished):
                    ended = True
                    span.add_ended([(f"engine {stage}", took) for stage, took in event.stage_seconds.items()])
                yield cast("BackendEvent", event)
        except ServiceError as error:
            ended = True
            span.fail(error.reason)
            raise
        finally:
            if not ended:
                span.fail(RequestCancelled.reason)
            span.end()
            self._spawn(self._end(conversation, cancel="" if ended else model_id))

    async def count_tokens(
        self, prompt: str, images: tuple[ImageFile, ...], *, split_images: bool | None
    ) -> TokenCount:
        """As Backend.count_tokens."""
        model = self._settings.model_name
        message = tensors.count_request(model, prompt, images, split_images=split_images)
        return cast("TokenCount", await self._ask(message))

    async def _ask(self, message: service_pb2.ModelInferRequest) -> tensors.ModelEvent:
        """Send a request that is answered at once, by one event."""
        conversation = self._begin(message)
        try:
            async for event in _read_events(conversation, ()):
                return event
            raise BackendUnavailable("the model's server ended a request without answering it")
        finally:
            self._spawn(self._end(conversation))

    def _begin(
        self, message: service_pb2.ModelInferRequest, headers: Mapping[str, str] = NO_HEADERS
    ) -> Conversation:
        if self._stub is None:
            raise BackendUnavailable.unsent("the model's server is not connected")
        conversation = Conversation(self._stub, message, headers)
        self._open.add(conversation)
        return conversation

    async def _end(self, conversation: Conversation, cancel: str = "") -> None:
        """Let a conversation end by itself, after asking the model to stop where `cancel` names a request."""
        try:
            async with asyncio.timeout(SECONDS_TO_ABANDON):
                while cancel and not conversation.has_ended:
                    # Again and again: on a stream of its own, it may overtake the request it means.
                    await self._ask(tensors.cancel_request(self._settings.model_name, cancel))
                    await conversation.wait_until_ended(SECONDS_BETWEEN_CANCELS)
                await conversation.wait_until_ended()
        except (ServiceError, TimeoutError) as error:
            logger.debug("conversation was cut", error=repr(error))
        finally:
            conversation.cut()
            self._open.discard(conversation)

    async def _watch(self, url: str) -> None:
        """Send the canary for ever; where none has come back for its time, by a new connection.

        One whose other end is gone without a word looks open for a quarter of an hour, and one to a Triton
        that others were led away from for as long as that lives.
        """
        came_at = time.monotonic()  # the last canary, or the connection
        while True:
            healthy = await self._ping()
            await self._set_health(healthy=healthy)
            if healthy:
                came_at = time.monotonic()
            elif time.monotonic() - came_at >= self._settings.canary_timeout_seconds:
                await self._hang_up()  # all that went on over it was cut
                self._dial(url)
                came_at = time.monotonic()
            pause = self._settings.canary_interval_seconds if healthy else SECONDS_BETWEEN_PINGS_WHILE_LOST
            await asyncio.sleep(pause)

    async def _tell_silence(self, url: str) -> None:
        """Say it once where no canary comes back from the start on; later, a loss has its own line."""
        try:
            async with asyncio.timeout(SECONDS_OF_SILENCE):
                await self.wait_until_healthy()
        except TimeoutError:
            message = "no canary came back from triton: is IDEFICS2_TRITON_URL right, and the model loaded?"
            logger.warning(message, url=url, error=self._missed)

    async def _ping(self) -> bool:
        ping = tensors.ping_request(self._settings.model_name)
        try:
            await _finish_within(self._settings.canary_timeout_seconds, self._ask(ping))
        except Exception as error:  # noqa: BLE001  # nothing may end the watch
            self._missed = _explain(error)
            logger.debug("canary did not come back", error=self._missed)
            return False
        return True

    async def _set_health(self, *, healthy: bool) -> None:
        if healthy is not self._is_healthy:
            self._metrics.backend_losses.inc(not healthy)
            logger.info("model is healthy" if healthy else "model was lost", backend=self.name)
        self._metrics.backend_healthy.set(healthy)
        async with self._health:
            self._is_healthy = healthy
            self._health.notify_all()
        if not healthy:
            for conversation in self._open:
                conversation.cut()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let `work` go on by itself, until `close` at most."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _finish_within(seconds: float, work: Coroutine[Any, Any, object]) -> object:
    """Await `work`, or raise TimeoutError.

    In slices: after a pause of this process (a frozen container, a debugger) a timer is due at once, though
    the answer has come and only has to be read. So a pause takes one slice of the time at most.
    """
    task = asyncio.create_task(work)
    try:
        for _ in range(SLICES_OF_PATIENCE):
            done, _ = await asyncio.wait({task}, timeout=seconds / SLICES_OF_PATIENCE)
            if done:
                return await task
        raise TimeoutError(f"no answer within {seconds:g} s")
    finally:
        task.cancel()
        await asyncio.wait({task})


def _explain(error: Exception) -> str:
    """Say in one line why a request failed, by gRPC's own word where it has one: that names the address."""
    cause = error.__cause__
    details = cause.details() if isinstance(cause, grpc.aio.AioRpcError) else None
    return details or str(error) or repr(error)


async def _read_events(
    conversation: Conversation, images: Sequence[ImageFile]
) -> AsyncIterator[tensors.ModelEvent]:
    async for response in conversation.responses():
        for event in tensors.read_events(response, images):
            yield event
