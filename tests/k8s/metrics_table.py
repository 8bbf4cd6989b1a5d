"""The table of all metrics, k8s/METRICS.md: print it, or write it there."""

from __future__ import annotations

import sys

from k8s.declared_metrics import describe
from k8s.manifests import FOLDER

DOCUMENT = FOLDER / "METRICS.md"
_PREFIXES = ("idefics2_engine_", "idefics2_")
_VLLM = frozenset(
    (
        "num_requests_running",
        "num_requests_waiting",
        "kv_cache_usage_perc",
        "prefix_cache_queries_total",
        "prefix_cache_hits_total",
        "mm_cache_queries_total",
        "mm_cache_hits_total",
        "prompt_tokens_total",
        "generation_tokens_total",
        "request_prompt_tokens",
        "request_generation_tokens",
        "time_to_first_token_seconds",
        "inter_token_latency_seconds",
        "request_time_per_output_token_seconds",
        "e2e_request_latency_seconds",
    )
)
_HEAD = """# Metrics

The front shows its own at `/metrics` of its HTTP port, which asks for no key; the engine its own among
Triton's, at `/metrics` of Triton's metrics port (of the embedded one: `IDEFICS2_TRITON_METRICS_PORT`).
A histogram `x` is `x_bucket`, `x_sum` and `x_count`. "as" says what it is called elsewhere:
by vLLM, by grpc-ecosystem's go-grpc-prometheus, or by Prometheus' own clients.

Made by `make metrics`; a test compares it with what the programs declare.

| metric | kind | labels | meaning | as |
|---|---|---|---|---|
"""


def main() -> int:
    """Run the command line."""
    if "--write" in sys.argv[1:]:
        DOCUMENT.write_text(render())
    else:
        sys.stdout.write(render())
    return 0


def render() -> str:
    """Write the document."""
    rows = [
        f"| `{name}` | {kind} | {labels and f'`{labels}`'} | {meaning} | {_find_fellow(name)} |"
        for name, kind, labels, meaning in describe()
    ]
    return _HEAD + "\n".join(rows) + "\n"


def _find_fellow(name: str) -> str:
    """Return what a metric is called elsewhere."""
    if name.startswith(("grpc_server_", "http_request", "process_")):
        return "the same"
    bare = next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)
    return f"`vllm:{bare}`" if bare in _VLLM else ""


if __name__ == "__main__":
    sys.exit(main())
