"""Prometheus' own reader of rules, from Debian's package: installed, that would start a Prometheus, too."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from k8s.manifests import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

_FOLDER = ROOT / ".cache/k8s/prometheus"
_PROGRAM = _FOLDER / "usr/bin/promtool"
_ADVICE = (
    "Prometheus' promtool is missing, which tries rules and alerts: install Debian's or Ubuntu's package "
    "`prometheus` (`apt-get update` before), or put the program of https://prometheus.io/download on the PATH"
)


class PromtoolMissing(Exception):
    """It is not there, and cannot be got; the message says what to install."""


def find() -> str | None:
    """Return the program's path; None where it is not there."""
    return shutil.which("promtool") or (str(_PROGRAM) if _PROGRAM.exists() else None)


def bring() -> str:
    """Return the program's path, and get it first where it is not there.

    Raises:
        PromtoolMissing: it is to be installed.

    """
    if (program := find()) is not None:
        return program
    try:
        _extract()
    except (
        FileNotFoundError,
        subprocess.CalledProcessError,
    ) as error:  # no apt-get, or it has said what it lacks
        raise PromtoolMissing(_ADVICE) from error
    return str(_PROGRAM)


def _extract() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(("apt-get", "download", "-qq", "prometheus"), cwd=folder, check=True)
        (package,) = Path(folder).glob("*.deb")
        subprocess.run(("dpkg-deb", "--extract", str(package), str(_FOLDER)), check=True)


def check_rules(rules: Mapping[str, object]) -> Iterator[str]:
    """Yield what Prometheus finds wrong with groups of rules."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rules.yaml"
        path.write_text(yaml.safe_dump(dict(rules)))
        yield from _run("check", "rules", str(path))


def try_rules(rules: Mapping[str, Any], tests: Mapping[str, object]) -> Iterator[str]:
    """Yield which unit tests of rules fail; `tests` is written as promtool wants it.

    Groups are evaluated in their order: left alone, promtool draws one, and what a group reads of another
    would be a minute old in some runs.
    """
    order = [group["name"] for group in rules["groups"]]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rules.yaml").write_text(yaml.safe_dump(dict(rules)))
        path = Path(folder) / "tests.yaml"
        path.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "group_eval_order": order, **tests}))
        yield from _run("test", "rules", str(path))


def _run(*arguments: str) -> Iterator[str]:
    done = subprocess.run((bring(), *arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        yield f"promtool: {' '.join((done.stdout + done.stderr).split())}"
