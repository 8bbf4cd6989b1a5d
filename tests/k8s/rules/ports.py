"""Ports: what is asked for by others is what a container listens on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from idefics2_service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from k8s.manifests import Bundle, Manifest, Pod

_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def check(bundle: Bundle) -> Iterator[str]:
    """Yield what is wrong."""
    for pod in bundle.pods:
        for container in pod.containers:
            yield from _check_probes(pod, container)
    yield from _check_listeners(bundle)
    yield from _check_services(bundle)
    yield from _check_policies(bundle)
    yield from _check_monitors(bundle)
    yield from _check_routes(bundle)


def _check_probes(pod: Pod, container: Manifest) -> Iterator[str]:
    own = {p["name"]: p["containerPort"] for p in container.get("ports", ())}
    for kind in _PROBES:
        for how in ("httpGet", "grpc", "tcpSocket"):
            port = container.get(kind, {}).get(how, {}).get("port")
            if port is not None and port not in {*own, *own.values()}:
                yield f"{pod.name}: {kind} of {container['name']} asks port {port}, which it does not have"


def _check_listeners(bundle: Bundle) -> Iterator[str]:
    """Compare the ports that are declared with those that the programs are told to listen on."""
    pod = bundle.server
    environment = {n: v for n, v in bundle.environment(pod.container("front")).items() if v is not None}
    settings = Settings.read({n: v for n, v in environment.items() if n.endswith("_PORT")})
    told = {"grpc": settings.grpc.port, "http": settings.http.port}
    (told["triton-metrics"],) = _options(pod, "metrics-port")
    for name, number in told.items():
        if pod.ports.get(name) != number:
            yield f"{pod.name}: port {name} is {pod.ports.get(name)}, but the program listens on {number}"
    (host,), (port,) = _options(pod, "grpc-address"), _options(pod, "grpc-port")
    if environment.get("IDEFICS2_TRITON_URL") != f"{host}:{port}":
        yield f"{pod.name}: the front looks for Triton elsewhere than at {host}:{port}"
    (host,), (port,) = _options(pod, "http-address"), _options(pod, "http-port")
    triton = pod.container("triton")
    for probe in ("startupProbe", "livenessProbe"):
        if f"http://{host}:{port}" not in triton[probe]["exec"]["command"]:
            yield f"{pod.name}: {probe} looks for Triton elsewhere than at {host}:{port}"


def _options(pod: Pod, name: str) -> list[Any]:
    found = (re.fullmatch(rf"--{name}=(.*)", argument) for argument in pod.container("triton")["args"])
    return [int(match[1]) if match[1].isdigit() else match[1] for match in found if match]


def _check_services(bundle: Bundle) -> Iterator[str]:
    for service in bundle.of("Service"):
        for pod in bundle.selected({"matchLabels": service["spec"]["selector"]}):
            for port in service["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                if target not in {*pod.ports, *pod.ports.values()}:
                    yield f"Service/{service['metadata']['name']}: {pod.name} has no port {target}"


def _check_policies(bundle: Bundle) -> Iterator[str]:
    for policy in bundle.of("NetworkPolicy"):
        name = f"NetworkPolicy/{policy['metadata']['name']}"
        asked = [p["port"] for rule in policy["spec"].get("ingress", ()) for p in rule.get("ports", ())]
        for pod in bundle.selected(policy["spec"]["podSelector"]):
            yield from (f"{name}: {fault}" for port in asked for fault in _check_policy_port(pod, port))


def _check_policy_port(pod: Pod, port: str | int) -> Iterator[str]:
    """Look for a port; a name only where every controller looks for it, which is not among sidecars.

    Source: kubernetes#125285, calico#8881, and AWS's network policy controller.
    """
    if port not in {*pod.ports, *pod.ports.values()}:
        yield f"{pod.name} has no port {port}"
    elif isinstance(port, str) and port not in _name_ports(pod.spec["containers"]):
        yield f"{pod.name}: {port} is a sidecar's port, which not every controller finds by name"


def _name_ports(containers: list[Manifest]) -> set[str]:
    return {port["name"] for container in containers for port in container.get("ports", ())}


def _check_monitors(bundle: Bundle) -> Iterator[str]:
    for monitor in bundle.of("PodMonitor"):
        name = f"PodMonitor/{monitor['metadata']['name']}"
        for pod in bundle.selected(monitor["spec"]["selector"]):
            for endpoint in monitor["spec"]["podMetricsEndpoints"]:
                if endpoint["port"] not in pod.ports:
                    yield f"{name}: {pod.name} has no port {endpoint['port']}"


def _check_routes(bundle: Bundle) -> Iterator[str]:
    services = {s["metadata"]["name"]: {p["port"] for p in s["spec"]["ports"]} for s in bundle.of("Service")}
    for route in bundle.of("HTTPRoute", "GRPCRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                if backend["port"] not in services.get(backend["name"], ()):
                    name = f"{route['kind']}/{route['metadata']['name']}"
                    yield f"{name}: there is no port {backend['port']} of Service/{backend['name']}"
