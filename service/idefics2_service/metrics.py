"""Every metric of the front, declared once. Names follow vLLM's and grpc-ecosystem's where they have one."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import (
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from idefics2_service.errors import (
    AttemptsExhausted,
    BackendUnavailable,
    FileStoreUnavailable,
    InternalError,
    StoreUnavailable,
)
from idefics2_service.exposition import Registry, UnsureGauge
from idefics2_service.key_labels import KeyLabels
from idefics2_service.settings import MetricsSettings

if TYPE_CHECKING:
    from idefics2_service.errors import ServiceError
    from idefics2_service.requests import GenerateOutput, ImageFile, Usage

disable_created_metrics()  # type: ignore[no-untyped-call]  # when each series began: as many lines again, and nobody asks

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_SUBMITTED_SECONDS = (*_SECONDS, 600, 1_800, 3_600, 14_400, 86_400)
"""A submitted request may wait for hours, and then run for IDEFICS2_LIMITS_MAX_RUN_SECONDS."""
_CALL_SECONDS = (0.005, 0.025, 0.1, 0.5, 2.5, 10, 60)
_STORE_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10)
_FILE_STORE_SECONDS = (0.005, 0.025, 0.1, 0.5, 2.5, 10, 30)
_TOKEN_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1)
_TOKENS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_BYTES = (1e3, 1e4, 1e5, 5e5, 1e6, 2e6, 5e6, 1e7, 2e7, 1e8)
_MEGAPIXELS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 12, 20, 40)
OUR_FAULTS = tuple(
    error.reason
    for error in (
        InternalError,
        BackendUnavailable,
        StoreUnavailable,
        FileStoreUnavailable,
        AttemptsExhausted,
    )
)
"""Reasons for which requests fail and no caller can help it; none that a replica's stop may be behind."""
ATTACHED, SUBMITTED = "attached", "submitted"
"""Kinds of requests: somebody waits on a call, or asks later."""


class Metrics:
    """One set over its own registry, so that a process can hold several."""

    def __init__(self, settings: MetricsSettings | None = None) -> None:
        """Declare them all; None: as where nothing is set."""
        self.registry = Registry()
        self._count = partial(Counter, registry=self.registry)
        self._gauge = partial(Gauge, registry=self.registry)
        self._histogram = partial(Histogram, registry=self.registry)
        self._keys = KeyLabels((settings or MetricsSettings()).max_keys, self._forget_key)
        ProcessCollector(registry=self.registry)
        self._declare_requests()
        self._declare_use()
        self._declare_files()
        self._declare_backend()
        self._declare_store()
        self._declare_calls()
        self._declare_process()
        self._declare_faces()

    def _declare_requests(self) -> None:
        self.requests = self._count(
            "idefics2_requests", "Requests that ended or were not taken, by error reason or OK.", ["reason"]
        )
        _begin(self.requests, "OK", *OUR_FAULTS)
        self.running = self._gauge("idefics2_num_requests_running", "Requests on the model.")
        self.waiting = self._gauge("idefics2_num_requests_waiting", "Requests that wait for a turn.")
        self.max_running = self._gauge("idefics2_max_requests_running", "How many may be on the model.")
        self.max_waiting = self._gauge("idefics2_max_requests_waiting", "How many may wait for a turn.")
        self.oldest_waiting = self._gauge(
            "idefics2_oldest_waiting_seconds", "How long the one has waited for a turn who waits longest."
        )
        self.e2e = self._histogram(
            "idefics2_e2e_request_latency_seconds",
            "From arrival to the end of an answer; attached: somebody waited, submitted: with the time in "
            "the store.",
            ["kind"],
            buckets=_SUBMITTED_SECONDS,
        )
        self.time_to_first_token = self._histogram(
            "idefics2_time_to_first_token_seconds",
            "From a request's arrival to its first token; of one that was submitted, from its claim.",
            buckets=_SECONDS,
        )
        self.time_without_token = self._histogram(
            "idefics2_time_without_token_seconds",
            "From a request's arrival, or its claim, to its end, where that came before a first token: it "
            "was cancelled, its caller was gone, or its time was over.",
            buckets=_SECONDS,
        )
        self.time_per_token = self._histogram(
            "idefics2_request_time_per_output_token_seconds",
            "Mean time between two tokens of a request that was answered.",
            buckets=_TOKEN_SECONDS,
        )
        self.stage = self._histogram(
            "idefics2_stage_seconds",
            "How long requests that were answered spent in each stage; preprocessing is part of queued, "
            "vision of prefill.",
            ["stage"],
            buckets=_SECONDS,
        )

    def _declare_use(self) -> None:
        self.prompt_tokens = self._histogram(
            "idefics2_request_prompt_tokens", "Prompt tokens of a request.", buckets=_TOKENS
        )
        self.generation_tokens = self._histogram(
            "idefics2_request_generation_tokens", "Generated tokens of a request.", buckets=_TOKENS
        )

        self.key_requests = self._count(
            "idefics2_key_requests",
            "Requests of a key that ended or were not taken, by whether it got an answer.",
            ["key", "end"],
        )
        self.key_tokens = self._count(
            "idefics2_key_tokens", "Tokens of a key's requests that were answered.", ["key", "kind"]
        )

    def _declare_files(self) -> None:
        self.image_bytes = self._histogram(
            "idefics2_image_bytes", "Size of image files.", ["format"], buckets=_BYTES
        )
        self.image_megapixels = self._histogram(
            "idefics2_image_megapixels", "Size of images, in millions of pixels.", buckets=_MEGAPIXELS
        )
        self.downloads = self._count(
            "idefics2_downloads",
            "Files that requests named by URL: fetched, shared with another request of the key, failed, or "
            "cancelled.",
            ["outcome"],
        )
        self.download_seconds = self._histogram(
            "idefics2_download_seconds", "How long fetching a file took.", buckets=_SECONDS
        )
        self.download_bytes = self._count("idefics2_download_bytes", "Bytes of files that were fetched.")
        self.uploads = self._count(
            "idefics2_uploads", "Files that were uploaded and kept, by whether the key had them.", ["content"]
        )
        self.upload_bytes = self._histogram(
            "idefics2_upload_bytes", "Size of files that were kept.", buckets=_BYTES
        )

    def _declare_backend(self) -> None:
        self.backend_healthy = self._gauge(
            "idefics2_backend_healthy", "1 while the model's server answers, else 0."
        )
        self.backend_losses = self._count("idefics2_backend_losses", "How often the model's server was lost.")
        self.backend_starts = self._count(
            "idefics2_backend_starts",
            "How often a Triton was connected to: each start of the embedded one, or the one that runs "
            "elsewhere.",
        )

    def _declare_store(self) -> None:
        self.queued = UnsureGauge(
            "idefics2_store_num_requests_queued",
            "Submitted requests that wait, of all replicas; not there while the store is away.",
            self.registry,
        )
        self.max_queued = self._gauge(
            "idefics2_store_max_requests_queued", "How many submitted requests may wait."
        )
        self.oldest_queued = UnsureGauge(
            "idefics2_store_oldest_queued_seconds",
            "How long the submitted request that was taken first has waited; not there while the store is "
            "away, so that none could be begun.",
            self.registry,
        )
        self.claimed = self._gauge(
            "idefics2_store_num_requests_claimed", "Submitted requests that this replica runs."
        )
        self.attempts = self._count(
            "idefics2_store_attempts",
            "Claims of submitted requests that are over: ended with the request, handed_back at a shutdown, "
            "backend_lost and to be begun again, or lost with the lease.",
            ["outcome"],
        )
        _begin(self.attempts, "ended", "handed_back", "backend_lost", "lost")
        self.reaped = self._count(
            "idefics2_store_reaped",
            "Requests whose worker was not heard of any more: requeued, exhausted by too many losses, "
            "lost_once where that is too many, or cancelled; and overdue: those that waited too long.",
            ["outcome"],
        )
        _begin(self.reaped, "requeued", "exhausted", "lost_once", "cancelled", "overdue")
        self.late_renewals = self._count(
            "idefics2_store_late_renewals", "Leases that were renewed later than after twice the usual time."
        )
        self.store_seconds = self._histogram(
            "idefics2_store_seconds",
            "How long an operation of the store took.",
            ["operation"],
            buckets=_STORE_SECONDS,
        )
        self.store_errors = self._count(
            "idefics2_store_errors", "Operations for which the store was not available.", ["operation"]
        )
        self.file_store_seconds = self._histogram(
            "idefics2_file_store_seconds",
            "How long an operation of the store of files took.",
            ["operation"],
            buckets=_FILE_STORE_SECONDS,
        )
        self.file_store_errors = self._count(
            "idefics2_file_store_errors",
            "Operations for which the store of files was not available.",
            ["operation"],
        )
        self.replica_reads = self._count(
            "idefics2_store_replica_reads",
            "Operations that the store's replica answered, since the store was away.",
            ["operation"],
        )
        self.store_unfit = self._gauge(
            "idefics2_store_unfit",
            "1 while the store may lose what it acknowledges, so that nothing is submitted to it, else 0.",
        )
        self.replica_behind = self._gauge(
            "idefics2_store_replica_behind",
            "1 while the store has a replica that does not follow it and would not be read, else 0.",
        )
        self.webhooks_queued = UnsureGauge(
            "idefics2_store_num_webhooks_queued",
            "Webhooks that were neither told of an end yet nor given up, of all replicas; not there while "
            "the store is away.",
            self.registry,
        )
        self.webhooks = self._count(
            "idefics2_webhooks", "Calls of webhooks, by what became of them.", ["outcome"]
        )
        _begin(self.webhooks, "delivered", "retried", "given_up")
        self.webhook_seconds = self._histogram(
            "idefics2_webhook_seconds", "How long a call of a webhook took.", buckets=_SECONDS
        )

    def _declare_calls(self) -> None:
        self.refused = self._count(
            "idefics2_refused_calls",
            "Calls that were refused for their key or its limits, or for want of room, by error reason.",
            ["reason"],
        )
        self.open_calls = self._gauge("idefics2_open_calls", "Calls of all keys that are being answered.")
        self.max_open_calls = self._gauge("idefics2_max_open_calls", "How many may be.")
        self.held_bytes = self._gauge(
            "idefics2_held_bytes", "Bytes of files that calls and their requests hold."
        )
        self.max_held_bytes = self._gauge("idefics2_max_held_bytes", "How many may be held.")
        self.stalled = self._count(
            "idefics2_stalled_streams",
            "Answers that were ended because their caller did not read them.",
            ["method"],
        )

    def _declare_process(self) -> None:
        self.keys_current = self._gauge(
            "idefics2_api_keys_current",
            "1 while keys are as the file and the store say, 0 while an older state is used.",
        )
        self.certificates_current = self._gauge(
            "idefics2_certificates_current",
            "1 while a port's certificates were read as they are, 0 while older ones are used.",
            ["port"],
        )
        self.certificate_expires = self._gauge(
            "idefics2_certificate_expires_timestamp_seconds",
            "When the certificate that a port shows ends, in seconds since the epoch.",
            ["port"],
        )
        self.tasks = self._gauge("idefics2_tasks", "What goes on in the front's event loop: asyncio's tasks.")
        self.data_free_bytes = self._gauge(
            "idefics2_data_free_bytes",
            "Bytes that are free where the service keeps its own files; NaN where the disk fails.",
        )
        self.data_size_bytes = self._gauge("idefics2_data_size_bytes", "Bytes that there are.")
        self.memory_limit_bytes = self._gauge(
            "idefics2_memory_limit_bytes", "Memory that the container, or the machine, has."
        )

    def _declare_faces(self) -> None:
        self.handled = self._count(
            "grpc_server_handled",
            "RPCs completed on the server.",
            ["grpc_service", "grpc_method", "grpc_code"],
        )
        self.handling = self._histogram(
            "grpc_server_handling_seconds",
            "Response latency of RPCs on the server.",
            ["grpc_service", "grpc_method"],
            buckets=_CALL_SECONDS,
        )
        self.http_handled = self._count(
            "http_requests", "Calls of the HTTP port.", ["method", "handler", "status"]
        )
        self.http_handling = self._histogram(
            "http_request_duration_seconds",
            "From a call of the HTTP port to the end of its answer.",
            ["method", "handler"],
            buckets=_CALL_SECONDS,
        )

    def record_output(self, output: GenerateOutput, kind: str, seconds: float) -> None:
        """Record what an answered request used; `seconds` are all from its arrival to its end."""
        tokens = output.usage.num_generated_tokens
        self.e2e.labels(kind).observe(seconds)
        self.prompt_tokens.observe(output.usage.num_prompt_tokens)
        self.generation_tokens.observe(tokens)
        for stage, spent in output.stage_seconds.items():
            self.stage.labels(stage).observe(spent)
        if tokens > 1:
            self.time_per_token.observe(output.stage_seconds["decode"] / (tokens - 1))

    def record_key(self, key_id: str, reason: str, usage: Usage | None = None) -> None:
        """Record a request of a key that ended, and what it used, where it was answered."""
        key = self._keys.use(key_id)
        ends = {"OK": "answered", "REQUEST_CANCELLED": "cancelled"}
        self.key_requests.labels(key, ends.get(reason, "failed")).inc()
        if usage is not None:
            self.key_tokens.labels(key, "prompt").inc(usage.num_prompt_tokens)
            self.key_tokens.labels(key, "generation").inc(usage.num_generated_tokens)

    def record_refusal(self, error: ServiceError) -> None:
        """Record that a call was refused for its key or its limits, or for want of room."""
        self.refused.labels(error.reason).inc()

    def record_image(self, image: ImageFile) -> None:
        """Record an image of a request."""
        self.image_bytes.labels(image.format).observe(len(image.data))
        self.image_megapixels.observe(image.width * image.height / 1e6)

    def record_download(self, outcome: str, seconds: float, num_bytes: int) -> None:
        """Record a file that was wanted by URL."""
        self.downloads.labels(outcome).inc()
        if outcome == "fetched":
            self.download_seconds.observe(seconds)
            self.download_bytes.inc(num_bytes)

    def record_upload(self, content: str, num_bytes: int) -> None:
        """Record a file that was uploaded; `content` is `new` or `known`."""
        self.uploads.labels(content).inc()
        self.upload_bytes.observe(num_bytes)

    def record_replica_read(self, operation: str) -> None:
        """Record what the store's replica answered in its place."""
        self.replica_reads.labels(operation).inc()

    def render(self) -> bytes:
        """Write them in Prometheus' text format."""
        return self.registry.render()

    def _forget_key(self, key_id: str) -> None:
        for metric, values in (
            (self.key_requests, ("answered", "cancelled", "failed")),
            (self.key_tokens, ("prompt", "generation")),
        ):
            for value in values:
                with suppress(KeyError):  # not every key has ended in every way
                    metric.remove(key_id, value)


def _begin(counter: Counter, *values: str) -> None:
    """Show series from 0: else the first increase of each would not be seen, and no alert come of it."""
    for value in values:
        counter.labels(value)
