"""The only place that builds parts, and where the order of start and stop is written."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Self

import structlog

from idefics2_service import vitals
from idefics2_service.authority import Authority
from idefics2_service.blobs.directory import DirectoryBlobs
from idefics2_service.blobs.s3 import S3Blobs
from idefics2_service.budget import Budget
from idefics2_service.downloads import Downloads
from idefics2_service.errors import StartFailed, StoreUnavailable
from idefics2_service.exposure import check_exposure
from idefics2_service.fetcher import Fetcher
from idefics2_service.files import Files
from idefics2_service.gate import Gate
from idefics2_service.generation import Generation
from idefics2_service.keys.file import KeyFile
from idefics2_service.keys.own import load_or_make_key
from idefics2_service.keys.quotas import Quotas
from idefics2_service.keys.ring import KeyRing
from idefics2_service.lifecycle import Means
from idefics2_service.measured import measure_blobs, measure_store
from idefics2_service.metrics import Metrics
from idefics2_service.queue import Turns
from idefics2_service.rest import dependencies as rest
from idefics2_service.rest.connect import ConnectServer
from idefics2_service.rest.face import make_face
from idefics2_service.rest.origins import FAL_HOSTS
from idefics2_service.rest.page import PageFacts
from idefics2_service.rest.server import HttpServer
from idefics2_service.rest.webhooks import make_write_call
from idefics2_service.rpc.server import Cores, GrpcServer
from idefics2_service.settings import ENGINE_PREFIX
from idefics2_service.shares import Shares
from idefics2_service.signatures import Signer
from idefics2_service.store.revocations import find_revocations
from idefics2_service.store.sqlite.store import SqliteStore
from idefics2_service.submissions import Submissions
from idefics2_service.tls import Certificates
from idefics2_service.tracing.spans import Tracer
from idefics2_service.triton.backend import TritonBackend
from idefics2_service.triton.embedded import EmbeddedTriton
from idefics2_service.triton.server import TritonServer, hand_on
from idefics2_service.uploads.announcements import Announcements
from idefics2_service.uploads.library import Library
from idefics2_service.uploads.quotas import FileQuotas
from idefics2_service.uploads.uploads import Uploads
from idefics2_service.webhooks import Webhooks
from idefics2_service.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from types import TracebackType

    from idefics2_service.backend import Backend
    from idefics2_service.blobs.interface import BlobStore
    from idefics2_service.settings import Settings
    from idefics2_service.store.interface import RequestStore

logger = structlog.get_logger(__name__)

_SOON_SECONDS = 2.0
_PAUSE_AFTER_FAULT_SECONDS = 1.0


class App:
    """The whole service, as an async context: inside it, everything answers."""

    def __init__(self, settings: Settings, backend: Backend | None = None) -> None:
        """Build everything and bind the ports; `backend` takes Triton's place where it is given.

        Raises:
            StartFailed: a port is taken.
            SettingInvalid: an API key or a certificate is bad or cannot be kept, or a port would be unsafe.

        """
        self._settings = settings
        self.metrics = Metrics(settings.metrics)
        self._tracer = _make_tracer(settings)
        self.api_key = _api_key(settings)
        self._ring = _make_ring(settings, self.api_key)
        check_exposure(settings, self._ring.num_keys)
        self._given_backend = backend
        self._triton = TritonBackend(settings.triton, self.metrics)
        self._backend: Backend = backend or self._triton
        turns = Turns(settings.queue.max_running, settings.queue.max_waiting)
        self.metrics.running.set_function(lambda: turns.num_running)
        self.metrics.waiting.set_function(lambda: turns.num_waiting)
        self.metrics.oldest_waiting.set_function(lambda: turns.oldest_seconds)
        self.metrics.max_running.set(settings.queue.max_running)
        self.metrics.max_waiting.set(settings.queue.max_waiting)
        self.metrics.max_queued.set(settings.store.max_queued)
        self._store = measure_store(_make_store(settings, self.metrics), self.metrics)
        # Two, each with threads of its own for look-ups: images take nothing from webhooks.
        self._image_fetcher, self._webhook_fetcher = Fetcher(settings.fetch), Fetcher(settings.fetch)
        self._blobs = measure_blobs(_make_blobs(settings), self.metrics)
        self._library = Library(self._blobs, settings.file, tell=self.metrics.record_upload)
        downloads = Downloads(self._image_fetcher, self.metrics.record_download)
        files = Files(settings.limits, downloads, self._library)
        budget = Budget(settings.gate.max_held_bytes, tell_refusal=self.metrics.record_refusal)
        means = Means(self._backend, turns, files, budget, settings.limits, self.metrics, tracer=self._tracer)
        signer = _make_signer(settings)
        self._webhooks = Webhooks(
            self._store,
            self._webhook_fetcher,
            make_write_call(signer) if signer else None,
            settings.webhook,
            self.metrics,
            self._tracer,
        )
        self._generation = Generation(means)
        self._submissions = Submissions(self._store, self._webhooks, self._ring, means)
        self._workers = Workers(self._store, means, settings.store)
        self.metrics.claimed.set_function(lambda: self._workers.num_running)
        places = Shares(settings.gate.max_open_calls)
        gate = Gate(self._ring, Quotas(), places, budget, self.metrics, app_id=settings.api.app)
        file_quotas = FileQuotas(self._blobs, settings.file, lambda key_id: self._ring.find(key_id).limits)
        uploads = Uploads(self._blobs, self._library, settings.file, file_quotas)
        cores = Cores(self._generation, self._submissions, self._library, uploads)
        certificates = Certificates.find("grpc", settings.grpc)
        self._grpc = GrpcServer(settings.grpc, cores, gate, self.metrics, certificates, self._tracer)
        rest_cores = rest.Cores(
            gate=gate,
            generation=self._generation,
            submissions=self._submissions,
            library=self._library,
            announcements=Announcements(self._blobs, self._library, settings.file, file_quotas),
            limits=settings.limits,
            metrics=self.metrics,
            signer=signer,
            app_id=settings.api.app,
        )
        facts = _make_facts(settings, self._grpc)
        face = make_face(rest_cores, gate, self.metrics, settings.http, facts, self._tracer)
        http_certificates = Certificates.find("http", settings.http)
        self._http = HttpServer(settings.http, face, http_certificates)
        connect_certificates = _find_connect_certificates(settings)
        self._connect = (
            ConnectServer(settings.connect, self._http, connect_certificates)
            if connect_certificates is not None
            else None
        )
        ports = {"grpc": certificates, "http": http_certificates, "connect": connect_certificates}
        self._certificates = {port: pair for port, pair in ports.items() if pair is not None}
        vitals.watch(self.metrics, self._certificates)
        self._disk = vitals.Disk(settings.data.folder.expanduser(), self.metrics)
        self._stack = AsyncExitStack()

    @property
    def grpc_address(self) -> str:
        """`host:port` of the gRPC face."""
        return self._grpc.address

    @property
    def http_address(self) -> str:
        """`host:port` of the HTTP face."""
        return self._http.address

    @property
    def connect_address(self) -> str | None:
        """`host:port` of the proxy for fal's host names, where there is one."""
        return self._connect.address if self._connect else None

    async def __aenter__(self) -> Self:
        """Start the faces, which say that they do not serve yet, then what they stand before.

        Raises:
            SettingInvalid: the URL of a store cannot be read.
            StartFailed: a store or the embedded Triton did not start.

        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._blobs.close)
            stack.push_async_callback(self._tracer.close)
            await self._store.start()
            stack.push_async_callback(self._store.stop)
            await self._load_revoked()
            await self._blobs.start()
            await stack.enter_async_context(self._image_fetcher)
            await stack.enter_async_context(self._webhook_fetcher)
            stack.enter_context(self._ring.follow())  # before anybody can call
            stack.enter_context(self._disk.follow())
            for pair in self._certificates.values():
                stack.enter_context(pair.follow())
            await self._http.start()
            stack.push_async_callback(self._http.stop)
            if self._connect is not None:
                await self._connect.start()
                stack.push_async_callback(self._connect.stop)
            await self._connect_triton(stack)
            await self._grpc.start()
            stack.push_async_callback(self._grpc.stop)
            stack.callback(self._submissions.stop)  # first, too, where the start is broken off
            self._run(stack, self._webhooks.deliver)
            self._run(stack, self._workers.tidy)
            self._run(stack, self._library.tidy)
            await self._start_triton(stack)  # it takes minutes, in which the ports answer
            self._run(stack, self._workers.work)
            stack.push_async_callback(self._workers.stop, 0)  # where a second signal breaks the drain off
            # First at the end.
            stack.push_async_callback(self._drain)
            self._run(stack, self._follow_health)
            self._stack = stack.pop_all()
        logger.info("listening", grpc=self.grpc_address, http=self.http_address, backend=self._backend.name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop in the opposite order."""
        await self._stack.__aexit__(kind, error, trace)

    async def _drain(self) -> None:
        """Say so, and answer as ever until it was heard; then close, and let running answers finish.

        What was submitted and does not finish in time is handed back; who watches is told to do so elsewhere.
        """
        self._grpc.set_serving(serving=False)
        self._generation.leave()
        self._workers.leave()
        self._http.leave()
        await asyncio.sleep(self._settings.grpc.drain_delay_seconds)
        seconds = self._settings.grpc.drain_timeout_seconds
        await asyncio.gather(self._finish_calls(seconds), self._workers.stop(seconds))

    async def _finish_calls(self, seconds: float) -> None:
        """Close the ports; refuse nothing that came in before, however late it is read."""
        end = time.monotonic() + seconds
        if self._connect is not None:
            self._connect.close()
        await asyncio.gather(self._grpc.close(seconds), self._http.close(seconds))
        await self._generation.stop(max(end - time.monotonic(), 0))
        self._submissions.stop()
        await self._grpc.stop()

    async def wait_until_serving(self) -> None:
        """Return when a request would be taken."""
        await self._backend.wait_until_healthy()

    async def _load_revoked(self) -> None:
        """Ask which keys are revoked before anybody can call.

        Raises:
            StartFailed: the store that has just opened does not say.

        """
        try:
            await asyncio.to_thread(self._ring.load_revoked)
        except StoreUnavailable as error:
            raise StartFailed(f"it is not known which keys are revoked: {error}") from error

    async def _connect_triton(self, stack: AsyncExitStack) -> None:
        """Connect to a Triton that runs elsewhere, and hear of its health, if that is soon.

        Who calls as soon as the port is open, without asking for health, is not refused then.
        """
        if self._given_backend is not None or not self._settings.triton.url:
            return
        _warn_of_unheard(os.environ)
        await self._triton.connect(self._settings.triton.url)
        stack.push_async_callback(self._triton.close)
        with suppress(TimeoutError):
            async with asyncio.timeout(_SOON_SECONDS):
                await self._triton.wait_until_healthy()

    async def _start_triton(self, stack: AsyncExitStack) -> None:
        if self._given_backend is not None or self._settings.triton.url:
            return
        embedded = EmbeddedTriton(TritonServer(self._settings.triton, hand_on(os.environ)), self._triton)
        stack.push_async_callback(embedded.stop)
        await embedded.start()
        self._run(stack, embedded.keep_running)

    async def _follow_health(self) -> None:
        """Let the health service say what the backend's health is, for ever."""
        healthy = False
        while True:
            await self._backend.wait_until_healthy(healthy=not healthy)
            healthy = not healthy
            self._grpc.set_serving(serving=healthy)

    @staticmethod
    def _run(stack: AsyncExitStack, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Let `work` run until the stack unwinds."""
        task = asyncio.create_task(_keep_running(work))

        async def cancel() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        stack.push_async_callback(cancel)


async def _keep_running(work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run what shall run for ever; where it fails, say so, and begin it again after a pause."""
    while True:
        try:
            return await work()
        except Exception as error:  # whatever it is, the service goes on answering
            logger.critical("a part of the service failed and begins again", exc_info=error)
        await asyncio.sleep(_PAUSE_AFTER_FAULT_SECONDS)


def _warn_of_unheard(environ: Mapping[str, str]) -> None:
    """Say which settings of the engine do nothing here: a Triton elsewhere has variables of its own."""
    unheard = sorted(name for name in environ if name.startswith(ENGINE_PREFIX))
    if unheard:
        logger.warning("no engine hears of these: set them where IDEFICS2_TRITON_URL leads", names=unheard)


def _make_store(settings: Settings, metrics: Metrics) -> RequestStore:
    if not settings.store.url:
        return SqliteStore(settings.data.folder.expanduser(), settings.store)
    from idefics2_service.store.redis.store import RedisStore  # noqa: PLC0415  # it costs a fifth of a second

    store = RedisStore(settings.store, metrics.record_replica_read)
    metrics.store_unfit.set_function(lambda: store.is_unfit)
    metrics.replica_behind.set_function(lambda: store.is_replica_behind)
    return store


def _make_tracer(settings: Settings) -> Tracer:
    """Make what begins spans; where nobody collects them, nothing that sends them is even imported."""
    if not settings.trace.endpoint:
        return Tracer()
    from idefics2_service.tracing.otlp import OtlpTracer  # noqa: PLC0415  # it costs a quarter of a second

    return OtlpTracer(settings.trace)


def _make_blobs(settings: Settings) -> BlobStore:
    if settings.blob.url:
        return S3Blobs(settings.blob.url)
    return DirectoryBlobs(settings.data.folder.expanduser() / "files")


def _make_signer(settings: Settings) -> Signer | None:
    """Make what signs webhooks; replicas that share a store need to be given one key, or none signs."""
    given = settings.webhook.signing_key
    if given is not None:
        return Signer.read(given.get_secret_value())
    return None if settings.store.url else Signer.load_or_make(settings.data.folder.expanduser())


def _make_facts(settings: Settings, grpc: GrpcServer) -> PageFacts:
    """Say what the page says of the service."""
    scheme, port = "grpcs" if settings.grpc.has_tls else "grpc", grpc.address.rpartition(":")[2]
    grpc_url = settings.grpc.public_url or f"{scheme}://:{port}"
    return PageFacts(app_id=settings.api.app, limits=settings.limits, grpc_url=grpc_url)


def _find_connect_certificates(settings: Settings) -> Certificates | None:
    """Read those of the proxy, where it is asked for; where none is given, one of our authority."""
    given, folder = settings.connect, settings.data.folder.expanduser() / "connect"
    if given.port is None:
        return None
    if given.tls_certificate_file is None and given.tls_key_file is None:
        hosts = sorted(FAL_HOSTS)
        certificate, key = Authority.load_or_make(folder, hosts).issue(folder, hosts)
        given = given.model_copy(update={"tls_certificate_file": certificate, "tls_key_file": key})
    return Certificates("connect", given)


def _api_key(settings: Settings) -> str | None:
    """Return the key beside those of the file; where neither was given, the service's own."""
    if settings.api.key is not None:
        return settings.api.key.get_secret_value()
    return None if settings.api.keys_file else load_or_make_key(settings.data.folder.expanduser())


def _make_ring(settings: Settings, api_key: str | None) -> KeyRing:
    file = KeyFile(settings.keys_path, is_required=settings.api.keys_file is not None)
    given = [api_key] if api_key is not None else []
    return KeyRing(*given, file=file, revocations=find_revocations(settings.store))
