"""The network: nothing is allowed that is not said, and of the world only what is public."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING

from idefics2_service.addresses import _CARRIERS, _GLOBAL_UNICAST, _NOT_PUBLIC
from idefics2_service.settings import FetchSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from k8s.manifests import Bundle, Manifest

Network = IPv4Network | IPv6Network
_EVERYTHING = (ip_network("0.0.0.0/0"), _GLOBAL_UNICAST)


def check(bundle: Bundle) -> Iterator[str]:
    """Yield what is wrong."""
    policies = bundle.of("NetworkPolicy")
    if not any(_denies_all(policy["spec"]) for policy in policies):
        yield "no NetworkPolicy refuses what is not allowed"
    for policy in policies:
        name = f"NetworkPolicy/{policy['metadata']['name']}"
        yield from (f"{name}: {fault}" for fault in _check_blocks(policy["spec"]))
        yield from (f"{name}: {fault}" for fault in _check_peers(policy["spec"]))
    for pod in bundle.pods:
        if not any(
            _reaches_world(p["spec"]) and pod in bundle.selected(p["spec"]["podSelector"]) for p in policies
        ):
            yield f"{pod.name}: no NetworkPolicy lets it out into the world"


def _denies_all(spec: Manifest) -> bool:
    allowed = spec.get("ingress") or spec.get("egress")
    return spec["podSelector"] == {} and set(spec["policyTypes"]) == {"Ingress", "Egress"} and not allowed


def _check_peers(spec: Manifest) -> Iterator[str]:
    for side, key in (("ingress", "from"), ("egress", "to")):
        for rule in spec.get(side, ()):
            if not rule.get(key) or not rule.get("ports"):
                yield f"{side} is allowed with everybody, or on every port"


def _check_blocks(spec: Manifest) -> Iterator[str]:
    """Compare each block with what the fetcher refuses; of a carrier of IPv4, that is all."""
    for block in _blocks(spec):
        whole, excepted = ip_network(block["cidr"]), {ip_network(e) for e in block.get("except", ())}
        if whole not in _EVERYTHING:
            yield f"{whole} is not all that may be public"
        wanted = {network for network in _refused() if _is_within(network, whole)}
        yield from (f"{network} is let through" for network in sorted(map(str, wanted - excepted)))
        yield from (f"{network} is public" for network in sorted(map(str, excepted - wanted)))
        ports = {port["port"] for rule in spec["egress"] for port in rule.get("ports", ())}
        if ports != FetchSettings().open_ports:
            yield f"ports are {sorted(ports)}, and not the fetcher's"


def _refused() -> set[Network]:
    return {*_NOT_PUBLIC, *(block for block, _ in _CARRIERS)}


def _is_within(network: Network, whole: Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(whole, IPv4Network) and network.subnet_of(whole)
    return isinstance(whole, IPv6Network) and network.subnet_of(whole)


def _blocks(spec: Manifest) -> list[Manifest]:
    return [
        peer["ipBlock"] for rule in spec.get("egress", ()) for peer in rule.get("to", ()) if "ipBlock" in peer
    ]


def _reaches_world(spec: Manifest) -> bool:
    return any(block["cidr"] == "0.0.0.0/0" for block in _blocks(spec))
