"""What Kubernetes would be told: an overlay as kustomize renders it, and how to read it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "k8s"
TOOLS = ROOT / ".cache/k8s/bin"
"""Made by `make verify-k8s`."""
_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")

Manifest = dict[str, Any]


class NotRendered(Exception):
    """Kustomize refuses the overlay; the message is its own."""


@dataclass(frozen=True)
class Pod:
    """The pod that a workload makes."""

    workload: Manifest
    labels: Mapping[str, str]
    spec: Manifest

    @property
    def name(self) -> str:
        """Kind and name of the workload."""
        return f"{self.workload['kind']}/{self.workload['metadata']['name']}"

    @property
    def containers(self) -> list[Manifest]:
        """All of them, init containers first."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        """The numbers of all ports, by name."""
        return {p["name"]: p["containerPort"] for c in self.containers for p in c.get("ports", ())}

    def container(self, name: str) -> Manifest:
        """Find a container."""
        return next(c for c in self.containers if c["name"] == name)


@dataclass(frozen=True)
class Bundle:
    """All manifests of an overlay."""

    name: str
    manifests: list[Manifest] = field(repr=False)

    def of(self, *kinds: str) -> list[Manifest]:
        """List those of some kinds."""
        return [manifest for manifest in self.manifests if manifest["kind"] in kinds]

    @property
    def pods(self) -> list[Pod]:
        """The pods of all workloads."""
        templates = [(w, w["spec"]["template"]) for w in self.of(*_WORKLOADS)]
        return [Pod(w, t["metadata"].get("labels", {}), t["spec"]) for w, t in templates]

    @property
    def server(self) -> Pod:
        """The pod that serves."""
        return next(pod for pod in self.pods if any(c["name"] == "front" for c in pod.containers))

    def selected(self, selector: Manifest) -> list[Pod]:
        """List the pods that a label selector means; an empty one means all."""
        return [pod for pod in self.pods if _matches(selector, pod.labels)]

    def environment(self, container: Manifest) -> dict[str, str | None]:
        """Resolve the environment of a container; what comes from a secret is None.

        Raises:
            KeyError: a ConfigMap, or a key of one, is not there.

        """
        found: dict[str, str | None] = {}
        for source in container.get("envFrom", ()):
            if "configMapRef" in source:
                found |= self._config_map(source["configMapRef"]["name"])
        for variable in container.get("env", ()):
            found[variable["name"]] = self._value(variable, found)
        return found

    def _value(self, variable: Manifest, known: Mapping[str, str | None]) -> str | None:
        source = variable.get("valueFrom", {})
        if "configMapKeyRef" in source:
            reference = source["configMapKeyRef"]
            return self._config_map(reference["name"])[reference["key"]]
        if source:
            return None
        text: str = variable["value"]
        for name, value in known.items():
            text = text.replace(f"$({name})", value or "")
        return text

    def _config_map(self, name: str) -> dict[str, str]:
        return next((m.get("data", {}) for m in self.of("ConfigMap") if m["metadata"]["name"] == name), {})


def list_overlays(folder: Path = FOLDER) -> list[str]:
    """Name all overlays."""
    return sorted(path.parent.name for path in folder.glob("overlays/*/kustomization.yaml"))


def render(overlay: str, folder: Path = FOLDER) -> Bundle:
    """Render an overlay as `kubectl apply -k` would.

    Raises:
        NotRendered: it cannot be.

    """
    command = (str(TOOLS / "kubectl"), "kustomize", str(folder / "overlays" / overlay))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotRendered(done.stderr.strip())
    return Bundle(overlay, [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest])


def walk(value: Any) -> Iterator[Manifest]:
    """Yield every mapping within, the outer ones first."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)


def _matches(selector: Manifest, labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels", {})
    unread = selector.keys() - {"matchLabels"}
    assert not unread, f"a selector is written in a way that is not read here: {unread}"
    return all(labels.get(name) == value for name, value in wanted.items())
