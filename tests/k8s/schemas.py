"""What others say of our files: Kubernetes' schemas, the types of custom resources, and linters."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from k8s.manifests import ROOT, TOOLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from k8s.manifests import Bundle, Manifest

VERSIONS = ("1.33.0", "1.35.0", "1.37.0")
"""The oldest has sidecars for good; the newest is the newest that the schemas know."""
DOCKERFILES = ("service/Dockerfile", "triton_models/Dockerfile")
MODELS = ROOT / ".cache/k8s/models"
_PACKAGES = {
    "gateway.networking.k8s.io": "gateway-api",
    "keda.sh": "keda",
    "monitoring.coreos.com": "prometheus-operator",
}


def check_schemas(bundles: Sequence[Bundle]) -> Iterator[str]:
    """Validate what is Kubernetes' own, strictly: an unknown field is a fault."""
    with tempfile.TemporaryDirectory(prefix="idefics2-k8s-") as folder:
        paths = []
        for bundle in bundles:
            paths.append(Path(folder) / f"{bundle.name}.yaml")
            manifests = [m for m in bundle.manifests if _package(m) is None]
            paths[-1].write_text(yaml.safe_dump_all(manifests))
        for version in VERSIONS:
            command = ("kubernetes-validate", "--strict", "--quiet", "-k", version, *map(str, paths))
            yield from (line.replace(f"{folder}/", "") for line in _run(command))


def check_models(bundles: Sequence[Bundle]) -> Iterator[str]:
    """Compile what is not Kubernetes' own as literals of its types: an unknown field is an error."""
    lines: list[str] = []
    origins: list[str] = []
    for bundle in bundles:
        for manifest in filter(_package, bundle.manifests):
            kind, version = manifest["kind"], manifest["apiVersion"]
            module = f"@kubernetes-models/{_package(manifest)}/{version}/{kind}"
            literal = json.dumps(manifest)
            lines.append(f'export const a{len(lines)}: import("{module}").I{kind} = {literal};')
            origins.append(f"{bundle.name}: {kind}/{manifest['metadata']['name']}")
    (MODELS / "manifests.ts").write_text("\n".join(lines))
    options = ("--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--pretty", "false")
    for line in _run(("node", "node_modules/typescript/bin/tsc", *options, "manifests.ts"), folder=MODELS):
        where = re.match(r"manifests\.ts\((\d+),", line)
        yield f"{origins[int(where[1]) - 1] if where else ''}: {line}"


def check_style(folder: Path) -> Iterator[str]:
    """Read the YAML as written."""
    yield from _run(
        ("yamllint", "--strict", "--format", "parsable", "-c", str(folder / ".yamllint"), str(folder))
    )


def check_dockerfiles(root: Path = ROOT) -> Iterator[str]:
    """Read the Dockerfiles."""
    yield from _run(("hadolint", "--failure-threshold", "style", *(str(root / path) for path in DOCKERFILES)))


def _package(manifest: Manifest) -> str | None:
    return _PACKAGES.get(manifest["apiVersion"].partition("/")[0])


def _run(command: Sequence[str], folder: Path = ROOT) -> list[str]:
    """Run a tool; nothing to say is no finding, whatever a tool that failed says is one."""
    program = TOOLS / command[0]
    path = str(program) if program.exists() else command[0]
    done = subprocess.run((path, *command[1:]), capture_output=True, text=True, check=False, cwd=folder)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if not done.returncode:
        return []
    return said or [f"{command[0]} ended with status {done.returncode}"]
