"""The pod, acted out on this machine: options, settings, probes and end are the manifest's."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from k8s.acting import Triton, run_front, run_triton
from processes import patience

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from k8s.manifests import Bundle

SERVING = health_pb2.HealthCheckResponse.ServingStatus.Value("SERVING")


@pytest.fixture(scope="module")
def bundle(bundles: dict[str, Bundle]) -> Bundle:
    """The overlay that needs no GPU."""
    return bundles["one-machine-cpu"]


@pytest.fixture(scope="module")
def triton(bundle: Bundle) -> Iterator[Triton]:
    """The sidecar, once its startup probe has passed."""
    with run_triton(bundle) as triton:
        for _ in patience("Triton"):
            assert triton.process.status() != "zombie", "Triton refuses the manifest's options"
            if not triton.ping(bundle).returncode:
                break
        yield triton


def get(triton: Triton, port: str, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{triton.ports[port]}{path}")


def test_tritons_probe_hears_an_engine_that_stands_still_and_triton_does_not(
    triton: Triton, bundle: Bundle
) -> None:
    assert triton.ping(bundle).stdout == "Alive\n"
    engine = triton.engine
    engine.suspend()
    try:
        assert triton.ping(bundle, "0.5").returncode == 1
        assert get(triton, "http-port", "/v2/health/live").status_code == 200
        assert get(triton, "http-port", "/v2/models/idefics2/ready").status_code == 200
    finally:
        engine.resume()
    assert not triton.ping(bundle).returncode


def test_tritons_own_metrics_are_where_the_monitor_looks(triton: Triton) -> None:
    assert "nv_inference_count" in get(triton, "metrics-port", "/metrics").text


def test_the_front_is_ready_by_its_probes_and_ends_in_time(
    triton: Triton, bundle: Bundle, tmp_path: Path
) -> None:
    container = bundle.server.container("front")
    with run_front(bundle, tmp_path, triton) as (front, ports):
        url = f"http://127.0.0.1:{ports['http']}"
        for _ in patience("the front"):
            assert front.poll() is None, (tmp_path / "front.log").read_text()
            if is_serving(ports["grpc"], container["readinessProbe"]["grpc"]["service"]):
                break
        for probe in ("startupProbe", "livenessProbe"):
            assert httpx.get(url + container[probe]["httpGet"]["path"]).status_code == 200
        front.send_signal(signal.SIGTERM)
        assert front.wait(bundle.server.spec["terminationGracePeriodSeconds"]) == 0


def is_serving(port: int, service: str) -> bool:
    """Ask as kubelet does."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            return bool(
                stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=2).status == SERVING
            )
        except grpc.RpcError:
            return False


def test_a_dead_model_ends_the_pods_readiness_and_its_triton_is_called_dead(
    bundle: Bundle, tmp_path: Path
) -> None:
    service = bundle.server.container("front")["readinessProbe"]["grpc"]["service"]
    with run_triton(bundle) as triton, run_front(bundle, tmp_path, triton) as (_, ports):
        for _ in patience("the front"):
            if is_serving(ports["grpc"], service):
                break
        triton.engine.kill()
        for _ in patience("the front to notice"):
            if not is_serving(ports["grpc"], service):
                break
        assert triton.ping(bundle).returncode == 1
        assert httpx.get(f"http://127.0.0.1:{ports['http']}/healthz/live").status_code == 200


def test_what_a_killed_triton_left_is_swept_and_the_next_gets_its_options(
    bundle: Bundle, tmp_path: Path
) -> None:
    container = bundle.server.container("triton")
    *shell, script, name = container["command"]
    assert script.count("/dev/shm ") == 1  # noqa: S108  # the container's own
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/idefics2_left").touch()
    program = tmp_path / "tritonserver"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    moved = script.replace("/dev/shm ", f"{tmp_path}/memory ")  # noqa: S108  # the same
    told = subprocess.run(
        [*shell, moved, name, *container["args"]],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines() == container["args"]
    assert not list((tmp_path / "memory").iterdir())
