"""How many there are: by figures that exist, and never so that nobody may be moved."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from idefics2_service.metrics import Metrics
from idefics2_service.rest import origins
from idefics2_service.settings import ApiSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from k8s.manifests import Bundle, Pod

_HIDDEN = {"healthz", "metrics"}


def check(bundle: Bundle) -> Iterator[str]:
    """Yield what is wrong."""
    yield from _check_budgets(bundle)
    yield from _check_metrics(bundle)
    yield from _check_strategy(bundle)
    yield from _check_paths(bundle)
    yield from _check_hosts(bundle)


def _check_budgets(bundle: Bundle) -> Iterator[str]:
    for budget in bundle.of("PodDisruptionBudget"):
        spec = budget["spec"]
        for pod in bundle.selected(spec["selector"]):
            least = count_least(bundle, pod)
            may_go = spec.get("maxUnavailable", least - spec.get("minAvailable", 0))
            if not isinstance(may_go, int) or may_go < 1:
                yield f"PodDisruptionBudget/{budget['metadata']['name']} holds {pod.name} where it is"


def count_least(bundle: Bundle, pod: Pod) -> int:
    """Count the replicas that there always are."""
    name = pod.workload["metadata"]["name"]
    for scaler in bundle.of("ScaledObject", "HorizontalPodAutoscaler"):
        if scaler["spec"]["scaleTargetRef"]["name"] == name:
            return int(scaler["spec"].get("minReplicaCount") or scaler["spec"].get("minReplicas") or 0)
    return int(pod.workload["spec"].get("replicas", 1))


def _check_metrics(bundle: Bundle) -> Iterator[str]:
    known = {family.name for family in Metrics().registry.collect()}
    for scaler in bundle.of("ScaledObject"):
        for trigger in scaler["spec"]["triggers"]:
            named = set(re.findall(r"\b(idefics2_\w+)", trigger["metadata"]["query"]))
            yield from (f"ScaledObject: there is no metric {name}" for name in sorted(named - known))
            if not named:
                yield "ScaledObject: a trigger asks for no metric"
            if trigger["metadata"].get("ignoreNullValues") != "false":
                yield "ScaledObject: a trigger takes a figure that is missing for 0, and replicas away"
            namespaces = re.findall(r'namespace="([^"]*)"', trigger["metadata"]["query"])
            own = scaler["metadata"]["namespace"]
            if len(namespaces) < len(named) or {*namespaces} != {own}:
                yield f"ScaledObject: a trigger asks for more than what is in the namespace {own}"


def _check_strategy(bundle: Bundle) -> Iterator[str]:
    """See that a volume of one pod is never wanted by two, and that scalers alone say how many there are."""
    spec = bundle.server.workload["spec"]
    has_scaler = bool(bundle.of("ScaledObject", "HorizontalPodAutoscaler"))
    if len(bundle.of("ScaledObject", "HorizontalPodAutoscaler")) > 1:
        yield "two scalers pull at one Deployment"
    if has_scaler == ("replicas" in spec):
        yield "either replicas, or a scaler that sets them"
    if any(c["metadata"]["name"] == "idefics2-data" for c in bundle.of("PersistentVolumeClaim")) and (
        spec["strategy"]["type"] != "Recreate" or spec.get("replicas") != 1
    ):
        yield "two pods may want the volume of one"


def _check_paths(bundle: Bundle) -> Iterator[str]:
    """Compare the gateway's paths with those that the service has for the world."""
    own = {*origins.SERVICES, *origins._OWN_PATHS, ApiSettings().app, origins.PROXY_PATH.strip("/")} - _HIDDEN
    for route in bundle.of("HTTPRoute"):
        matches = [match["path"]["value"] for rule in route["spec"]["rules"] for match in rule["matches"]]
        if {path.strip("/") for path in matches} != own:
            yield f"HTTPRoute: paths are {matches}, and the service's {sorted(own)}"


def _check_hosts(bundle: Bundle) -> Iterator[str]:
    """Compare the gateway's hosts with those that the service names to its callers."""
    environment = bundle.environment(bundle.server.container("front"))
    for kind, face, pattern in (
        ("HTTPRoute", "HTTP", "https://{}"),
        ("GRPCRoute", "GRPC", "grpcs://{}:443"),
    ):
        for route in bundle.of(kind):
            name = f"IDEFICS2_{face}_PUBLIC_URL"
            urls = [pattern.format(host) for host in route["spec"]["hostnames"]]
            if environment.get(name) not in urls:
                yield f"{name} is {environment.get(name)}, and the gateway's {kind} leads here from {urls}"
