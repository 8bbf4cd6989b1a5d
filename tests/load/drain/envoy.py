"""Envoy before the fronts of a cluster: round robin, health checks, and no call made twice."""

from __future__ import annotations

import json
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faults.requests.programs import Program
from ports import HOST, free_port, wait_for_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from faults.requests.cluster import Cluster

CHECK_SECONDS = 0.2
"""How often it asks each front for its health."""
_PACE = {
    **dict.fromkeys(("interval", "no_traffic_interval", "no_traffic_healthy_interval"), f"{CHECK_SECONDS}s"),
    "timeout": "10s",  # on a busy machine, a late answer is one all the same
    "unhealthy_threshold": 1,
    "healthy_threshold": 1,
}
_UNTOUCHED = "connect-failure,refused-stream,reset-before-request"
"""What makes it ask another front: only that the first one has not begun."""
_HTTP = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_OTHER = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
_ROUTER = "envoy.extensions.filters.http.router.v3.Router"


@dataclass(frozen=True)
class Envoy:
    """Where it listens."""

    grpc: str
    http: str


@asynccontextmanager
async def run_envoy(cluster: Cluster, folder: Path) -> AsyncIterator[Envoy]:
    """Run it until the block ends; yield it once it answers."""
    port, http_port = free_port(), free_port()
    config = folder / "envoy.json"
    config.write_text(json.dumps(_configure(cluster, port, http_port)))
    command = [str(Path(sys.executable).with_name("envoy")), "--config-path", str(config)]
    options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
    program = Program(
        "envoy", [*command, *options], folder / "envoy.log", lambda: wait_for_port(http_port), {}
    )
    async with program:
        await program.wait_until_up()
        yield Envoy(f"{HOST}:{port}", f"{HOST}:{http_port}")


def _configure(cluster: Cluster, port: int, http_port: int) -> dict[str, Any]:
    grpc_check = {"grpc_health_check": {"service_name": "idefics2.v1.GenerationService"}}
    http_check = {"http_health_check": {"path": "/healthz/ready"}}
    ways = {"grpc": (port, "http2_protocol_options"), "http": (http_port, "http_protocol_options")}
    backends = (
        _make_backend("grpc", ways["grpc"][1], cluster.addresses, grpc_check),
        _make_backend("http", ways["http"][1], [front.http for front in cluster.fronts], http_check),
    )
    listeners = [_make_listener(name, listening) for name, (listening, _) in ways.items()]
    return {"static_resources": {"listeners": listeners, "clusters": list(backends)}}


def _make_listener(name: str, port: int) -> dict[str, Any]:
    other = {"name": "other", "typed_config": {"@type": f"type.googleapis.com/{_OTHER}"}}
    retries = {"retry_on": _UNTOUCHED, "num_retries": 3, "retry_host_predicate": [other]}
    route = {"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "0s", "retry_policy": retries}}
    connection_manager = {
        "@type": f"type.googleapis.com/{_HTTP}",
        "stat_prefix": name,
        "stream_idle_timeout": "0s",
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"type.googleapis.com/{_ROUTER}"}}],
    }
    chain = {"filters": [{"name": "http", "typed_config": connection_manager}]}
    return {"name": name, "address": _address(HOST, port), "filter_chains": [chain]}


def _make_backend(
    name: str, protocol: str, addresses: Sequence[str], check: dict[str, Any]
) -> dict[str, Any]:
    endpoints = [
        {"endpoint": {"address": _address(host, int(port))}}
        for host, _, port in (address.partition(":") for address in addresses)
    ]
    return {
        "name": name,
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "health_checks": [_PACE | check],
        "typed_extension_protocol_options": {
            _OPTIONS: {"@type": f"type.googleapis.com/{_OPTIONS}", "explicit_http_config": {protocol: {}}}
        },
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
