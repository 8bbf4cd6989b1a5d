"""References: what a manifest names is there, or README says that you bring it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from k8s.manifests import FOLDER, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from k8s.manifests import Bundle, Manifest


def check(bundle: Bundle) -> Iterator[str]:
    """Yield what is wrong."""
    for kind, name in _named(bundle):
        if kind != "Secret" and name not in {m["metadata"]["name"] for m in bundle.of(kind)}:
            yield f"{kind}/{name} is named, and is not there"
    yield from _check_secrets(bundle)
    yield from _check_selectors(bundle)
    yield from _check_targets(bundle)


def _named(bundle: Bundle) -> Iterator[tuple[str, str]]:
    for pod in bundle.pods:
        yield "ServiceAccount", pod.spec["serviceAccountName"]
        for part in walk(pod.spec):
            yield from _named_in(part)


def _named_in(part: Manifest) -> Iterator[tuple[str, str]]:
    for key in ("configMapRef", "configMapKeyRef"):
        if key in part:
            yield "ConfigMap", part[key]["name"]
    if isinstance(part.get("configMap"), dict):
        yield "ConfigMap", part["configMap"]["name"]
    if "persistentVolumeClaim" in part:
        yield "PersistentVolumeClaim", part["persistentVolumeClaim"]["claimName"]


def _check_secrets(bundle: Bundle) -> Iterator[str]:
    """Compare with the table in k8s/README.md: each is asked for by somebody, and told to the reader."""
    found = {
        part["secretKeyRef"]["name"]
        for pod in bundle.pods
        for part in walk(pod.spec)
        if "secretKeyRef" in part
    }
    found |= {part["secretName"] for pod in bundle.pods for part in walk(pod.spec) if "secretName" in part}
    found |= {
        reference["name"]
        for gateway in bundle.of("Gateway")
        for part in walk(gateway)
        for reference in part.get("certificateRefs", ())
    }
    told = {name for name, overlays in read_secrets().items() if bundle.name in overlays}
    yield from (f"Secret/{name} is used, and k8s/README.md does not say so" for name in sorted(found - told))
    yield from (
        f"Secret/{name} is asked for by k8s/README.md, and is not used" for name in sorted(told - found)
    )


def read_secrets() -> dict[str, list[str]]:
    """Read the table of secrets: for which overlays each is needed."""
    text = (FOLDER / "README.md").read_text()
    rows = re.findall(r"^\| `(idefics2-[a-z-]+)` \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    return {name: re.findall(r"`([a-z-]+)`", overlays) for name, overlays in rows}


def _check_selectors(bundle: Bundle) -> Iterator[str]:
    for manifest in bundle.manifests:
        for key, selector in _selectors(manifest):
            if not bundle.selected(selector):
                yield f"{manifest['kind']}/{manifest['metadata']['name']}: {key} means no pod"


def _selectors(manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Service":
        yield "selector", {"matchLabels": spec["selector"]}
    elif isinstance(spec.get("selector"), dict):
        yield "selector", spec["selector"]
    if manifest["kind"] == "NetworkPolicy":
        yield "podSelector", spec["podSelector"]
    for part in walk(manifest):
        if "labelSelector" in part:
            yield "labelSelector", part["labelSelector"]


def _check_targets(bundle: Bundle) -> Iterator[str]:
    there = {(m["kind"], m["metadata"]["name"]) for m in bundle.manifests}
    for manifest in bundle.manifests:
        spec, name = manifest.get("spec", {}), f"{manifest['kind']}/{manifest['metadata']['name']}"
        for target in (*spec.get("targetRefs", ()), *filter(None, [spec.get("scaleTargetRef")])):
            if (target.get("kind", "Deployment"), target["name"]) not in there:
                yield f"{name}: there is no {target['name']}"
        for parent in spec.get("parentRefs", ()):
            gateways = [g for g in bundle.of("Gateway") if g["metadata"]["name"] == parent["name"]]
            sections = [listener["name"] for g in gateways for listener in g["spec"]["listeners"]]
            if parent["sectionName"] not in sections:
                yield f"{name}: no Gateway listens as {parent['name']}/{parent['sectionName']}"
