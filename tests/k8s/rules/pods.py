"""Pods: who they are, what they may write, how much they take, and how they end."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import torch
from bench.results import read
from idefics2_engine.config import EngineConfig
from idefics2_engine.kv_cache import KVShape
from idefics2_engine.memory import HOST_SHARE, plan_memory
from idefics2_service.gate import PARTS_PER_STRANGERS
from idefics2_service.settings import Settings
from idefics2_service.tracing.otlp import _MAX_CLOSE_SECONDS
from idefics2_service.webhooks import _LAST_SECONDS
from idefics2_service.workers import _RELEASE_SECONDS
from k8s.manifests import ROOT
from k8s.quantities import read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from k8s.manifests import Bundle, Manifest, Pod

_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
_EMBEDDED = ROOT / "triton_models/idefics2/checkpoints/tiny"
_MIB = 2**20


def check(bundle: Bundle) -> Iterator[str]:
    """Yield what is wrong."""
    for pod in bundle.pods:
        yield from (f"{pod.name}: {fault}" for fault in _check_pod(pod))
        for container in pod.containers:
            yield from (f"{pod.name}: {container['name']}: {f}" for f in _check_container(container, bundle))
    yield from (f"{bundle.server.name}: {fault}" for fault in _check_end(bundle))
    yield from (f"{bundle.server.name}: {fault}" for fault in _check_memory(bundle))


def _check_pod(pod: Pod) -> Iterator[str]:
    context = pod.spec.get("securityContext", {})
    if not context.get("runAsNonRoot") or not context.get("runAsUser"):
        yield "may run as root"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "has no seccomp profile"
    if pod.spec.get("enableServiceLinks") is not False:
        yield "enableServiceLinks is not false: what it sets is no setting, and ends the front's start"
    if pod.spec.get("automountServiceAccountToken") is not False:
        yield "is given a token of Kubernetes that it does not need"
    if pod.workload["kind"] == "Job" and pod.spec["restartPolicy"] != "Never":
        yield "is a job's, and what fails takes its log with it: restartPolicy is not Never"
    volumes = {volume["name"] for volume in pod.spec.get("volumes", ())}
    mounted = {mount["name"] for c in pod.containers for mount in c.get("volumeMounts", ())}
    yield from (f"volume {name} is mounted and not there, or the reverse" for name in volumes ^ mounted)
    if any(c.get("emptyDir") is not None and not c["emptyDir"].get("sizeLimit") for c in pod.spec["volumes"]):
        yield "an emptyDir has no bound"


def _check_container(container: Manifest, bundle: Bundle) -> Iterator[str]:
    context = container.get("securityContext", {})
    yield from (f"{name} is not {value}" for name, value in _RESTRICTED.items() if context.get(name) != value)
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= resources.get("requests", {}).keys() or "memory" not in resources.get(
        "limits", {}
    ):
        yield "does not say what it takes"
    if bundle.name.startswith("production") and not _DIGEST.fullmatch(container["image"]):
        yield f"image {container['image']} has no digest"


def _check_end(bundle: Bundle) -> Iterator[str]:
    """Compare the grace period with all that one after the other may take: what is cut off, callers feel."""
    pod = bundle.server
    settings = read_settings(bundle)
    (triton,) = (int(a.partition("=")[2]) for a in pod.container("triton")["args"] if "exit-timeout" in a)
    takes = (
        settings.grpc.drain_delay_seconds,
        settings.grpc.drain_timeout_seconds,
        _RELEASE_SECONDS,
        settings.http.drain_timeout_seconds,
        _LAST_SECONDS,
        _MAX_CLOSE_SECONDS,
        triton,
    )
    grace = pod.spec.get("terminationGracePeriodSeconds", 30)
    if takes[0] < 2 * pod.container("front")["readinessProbe"]["periodSeconds"]:
        yield "calls are taken no more before others have heard that the pod is going"
    if grace < sum(takes):
        yield f"terminationGracePeriodSeconds is {grace}, but the end may take {sum(takes):g} s"
    if sum(takes[:-1]) >= 60:
        yield f"the front's own end may take {sum(takes[:-1]):g} s"


def _check_memory(bundle: Bundle) -> Iterator[str]:
    """Compare with what was measured with the embedded checkpoint, which is the least."""
    measured = {row.name: row.value * _MIB for row in read("footprint").rows}
    front, triton = (
        max(value for name, value in measured.items() if name.startswith(who))
        for who in ("the front", "Triton")
    )
    at_start = measured["Triton with the model, at its start"]
    config = EngineConfig()
    pod = bundle.server
    shared = sum(
        read_bytes(v["emptyDir"]["sizeLimit"])
        for v in pod.spec["volumes"]
        if (v.get("emptyDir") or {}).get("medium") == "Memory"
    )
    if not shared:
        yield "Triton has no shared memory of its own"
    limit = read_bytes(pod.container("triton")["resources"]["limits"]["memory"])
    try:
        plan = _plan(config, limit - at_start)
    except ValueError as error:
        yield f"triton: {error}"
        return
    decoders = config.num_image_workers * config.max_image_memory_bytes
    files = read_settings(bundle).gate.max_held_bytes  # each process has them, until they are decoded
    needs = {
        "front": (front, front + files + files / PARTS_PER_STRANGERS),
        "triton": (triton, at_start + plan + files + decoders + config.max_pixel_bytes + shared),
    }
    for name, (least, most) in needs.items():
        yield from _compare(name, pod.container(name)["resources"], least, most)


def _plan(config: EngineConfig, free: float) -> int:
    """Return how much of `free` bytes of a container the engine plans with, for the embedded checkpoint.

    Raises:
        ValueError: there is no room for a single request.

    """
    text = json.loads((_EMBEDDED / "config.json").read_text())["text_config"]
    shape = KVShape(text["num_hidden_layers"], text["num_key_value_heads"], text["head_dim"], torch.float32)
    slot_bytes = shape.bytes_per_token * text["max_position_embeddings"]
    plan = plan_memory(config, int(free * HOST_SHARE), slot_bytes)
    return plan.workspace + plan.image_cache + plan.prefix_cache + plan.kv_cache


def _compare(name: str, resources: Mapping[str, Manifest], least: float, most: float) -> Iterator[str]:
    if read_bytes(resources["requests"]["memory"]) < least:
        yield f"{name} asks for less memory than the {least / _MIB:.0f} MiB that were measured"
    if read_bytes(resources["limits"]["memory"]) < most:
        yield f"{name} may need {most / _MIB:.0f} MiB of memory, which is above its limit"


def read_settings(bundle: Bundle) -> Settings:
    """Read the front's settings; secrets are left out."""
    environment = bundle.environment(bundle.server.container("front"))
    return Settings.read({name: value for name, value in environment.items() if value is not None})
