"""Every metric of the front, declared once. Names follow vLLM's and grpc-ecosystem's where they have one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from idefics2_service.requests import GenerateOutput

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKENS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_BYTES = (1e3, 1e4, 1e5, 5e5, 1e6, 2e6, 5e6, 1e7, 2e7)


class Metrics:
    """One set over its own registry, so that a process can hold several."""

    def __init__(self) -> None:
        """Declare them all."""
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "idefics2_requests", "Requests that ended, by error reason or OK.", ["reason"], registry=registry
        )
        self.running = Gauge("idefics2_num_requests_running", "Requests on the model.", registry=registry)
        self.waiting = Gauge(
            "idefics2_num_requests_waiting", "Requests that wait for a turn.", registry=registry
        )
        self.queued = Gauge(
            "idefics2_store_num_requests_queued",
            "Submitted requests that wait, of all replicas.",
            registry=registry,
        )
        self.oldest_queued = Gauge(
            "idefics2_store_oldest_queued_seconds",
            "How long the submitted request that was taken first has waited.",
            registry=registry,
        )
        self.claimed = Gauge(
            "idefics2_store_num_requests_claimed",
            "Submitted requests that this replica runs.",
            registry=registry,
        )
        self.webhooks = Counter(
            "idefics2_webhooks", "Calls of webhooks, by what became of them.", ["outcome"], registry=registry
        )
        self.time_to_first_token = Histogram(
            "idefics2_time_to_first_token_seconds",
            "From a request's arrival to its first token.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage = Histogram(
            "idefics2_stage_seconds",
            "How long requests that were answered spent in each stage; preprocessing is part of queued, "
            "vision of prefill.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.prompt_tokens = Histogram(
            "idefics2_request_prompt_tokens",
            "Prompt tokens of a request.",
            buckets=_TOKENS,
            registry=registry,
        )
        self.generation_tokens = Histogram(
            "idefics2_request_generation_tokens",
            "Generated tokens of a request.",
            buckets=_TOKENS,
            registry=registry,
        )
        self.image_bytes = Histogram(
            "idefics2_image_bytes", "Size of image files.", ["format"], buckets=_BYTES, registry=registry
        )
        self.backend_healthy = Gauge(
            "idefics2_backend_healthy", "1 while the model's server answers, else 0.", registry=registry
        )
        self.refused = Counter(
            "idefics2_refused_calls",
            "Calls that were refused for their key or its limits, by error reason.",
            ["reason"],
            registry=registry,
        )
        self.open_calls = Gauge(
            "idefics2_open_calls", "Calls of all keys that are being answered.", registry=registry
        )
        self.held_bytes = Gauge(
            "idefics2_held_bytes", "Bytes of files that calls and their requests hold.", registry=registry
        )
        self.stalled = Counter(
            "idefics2_stalled_streams",
            "Streams that were ended because their caller did not read.",
            ["method"],
            registry=registry,
        )
        self.keys_current = Gauge(
            "idefics2_api_keys_current",
            "1 while the file of keys was read as it is, 0 while an older state of it is used.",
            registry=registry,
        )
        self.handled = Counter(
            "grpc_server_handled",
            "RPCs completed on the server.",
            ["grpc_service", "grpc_method", "grpc_code"],
            registry=registry,
        )
        self.handling = Histogram(
            "grpc_server_handling_seconds",
            "Response latency of RPCs on the server.",
            ["grpc_service", "grpc_method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.http_handled = Counter(
            "http_requests", "Calls of the HTTP port.", ["method", "handler", "status"], registry=registry
        )
        self.http_handling = Histogram(
            "http_request_duration_seconds",
            "From a call of the HTTP port to the end of its answer.",
            ["method", "handler"],
            buckets=_SECONDS,
            registry=registry,
        )

    def record_output(self, output: GenerateOutput) -> None:
        """Record what an answered request used."""
        self.prompt_tokens.observe(output.usage.num_prompt_tokens)
        self.generation_tokens.observe(output.usage.num_generated_tokens)
        for stage, seconds in output.stage_seconds.items():
            self.stage.labels(stage).observe(seconds)

    def render(self) -> bytes:
        """Write them in Prometheus' text format."""
        return generate_latest(self.registry)
