"""Everything that can be known of the manifests without a cluster: `make verify-k8s`."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from k8s import monitoring
from k8s.manifests import FOLDER, Bundle, NotRendered, list_overlays, render
from k8s.rules import network, pods, ports, references, scaling, settings
from k8s.schemas import check_dockerfiles, check_models, check_schemas, check_style

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RULES = (network, pods, ports, references, scaling)


def main() -> int:
    """Check all overlays; exit status 1: there are findings, one a line."""
    findings = [*check_dockerfiles(), *check_style(FOLDER), *find(FOLDER), *monitoring.check(FOLDER)]
    print("\n".join(findings))
    print(f"{len(list_overlays())} overlays, {len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0


def find(folder: Path, overlays: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield what is wrong with all, or some, overlays of a folder."""
    names = overlays or list_overlays(folder)
    try:
        with ThreadPoolExecutor() as threads:
            bundles = list(threads.map(lambda name: render(name, folder), names))
    except NotRendered as error:
        yield str(error)
        return
    yield from check_schemas(bundles)
    yield from check_models(bundles)
    for bundle in bundles:
        yield from (f"{bundle.name}: {finding}" for finding in find_broken_rules(bundle))


def find_broken_rules(bundle: Bundle) -> Iterator[str]:
    """Yield what is against our own rules, which need no tool; settings first, for the others read them."""
    if wrong := list(settings.check(bundle)):
        yield from wrong
        return
    for rules in RULES:
        yield from rules.check(bundle)


if __name__ == "__main__":
    sys.exit(main())
