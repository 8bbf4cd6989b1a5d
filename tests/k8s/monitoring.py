"""Dashboards and alerts: whether all that they ask for is there, and whether each alert says what to do."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import yaml
from k8s import expressions, promtool
from k8s.declared_metrics import add_recorded, find_declared
from k8s.manifests import render
from k8s.schemas import check_models, check_schemas

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SEVERITIES = ("critical", "warning")
_RUNBOOK = "k8s/README.md#"
_ENTRY = re.compile(r"^### (Idefics2\w+)$", re.MULTILINE)
_WINDOW = re.compile(r"(\d+)([smhd])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_NUM_SCRAPES = 4
"""In the shortest window of a rule: one may fail, and what is left still shows what happened."""


@dataclass(frozen=True)
class Rules:
    """All rules of a folder, as a Prometheus without an operator reads them."""

    groups: list[Any]

    @classmethod
    def read(cls, folder: Path) -> Rules:
        """Read every PrometheusRule of a folder."""
        manifests = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]
        rules = [manifest for manifest in manifests if manifest["kind"] == "PrometheusRule"]
        return cls([group for manifest in rules for group in manifest["spec"]["groups"]])

    @property
    def file(self) -> dict[str, object]:
        """The content of a rule file."""
        return {"groups": self.groups}

    @property
    def alerts(self) -> list[Any]:
        """Those that tell somebody."""
        return [rule for group in self.groups for rule in group["rules"] if "alert" in rule]

    @property
    def recorded(self) -> list[str]:
        """The names of what is recorded."""
        return [rule["record"] for group in self.groups for rule in group["rules"] if "record" in rule]


def check(folder: Path) -> Iterator[str]:
    """Yield what is wrong with dashboards/, alerts/ and the runbook of a folder, what is found fast first."""
    rules = Rules.read(folder / "alerts")
    known = add_recorded(find_declared(), rules.recorded)
    for group in rules.groups:
        for rule in group["rules"]:
            name = rule.get("alert") or rule["record"]
            yield from (f"alerts: {name}: {fault}" for fault in expressions.find_faults(rule["expr"], known))
    yield from (f"alerts: {fault}" for fault in find_bad_words(rules, (folder / "README.md").read_text()))
    yield from (f"alerts: {fault}" for fault in find_short_windows(rules, folder))
    for path in sorted((folder / "dashboards").glob("*.json")):
        for title, text in find_expressions(json.loads(path.read_text())):
            yield from (f"{path.name}: {title}: {fault}" for fault in expressions.find_faults(text, known))
    yield from promtool.check_rules(rules.file)
    bundles = [replace(render(f"../{part}", folder), name=part) for part in ("alerts", "dashboards")]
    yield from check_schemas(bundles)
    yield from check_models(bundles)


def find_expressions(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield title and expression of each target of a dashboard."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def find_bad_words(rules: Rules, readme: str) -> Iterator[str]:
    """Yield which alerts do not say how grave they are, what happened, or what to do about it."""
    entries = _ENTRY.findall(readme)
    for rule in rules.alerts:
        name, annotations = rule["alert"], rule["annotations"]
        if rule["labels"].get("severity") not in SEVERITIES:
            yield f"{name} has no severity of {', '.join(SEVERITIES)}"
        if not annotations["summary"].rstrip().endswith("."):
            yield f"{name} has no sentence as its summary"
        if annotations["runbook"] != _RUNBOOK + name.lower():
            yield f"{name} does not link to its entry in the runbook"
        if entries.count(name) != 1:
            yield f"{name} has {entries.count(name)} entries in the runbook"
    alerts = {rule["alert"] for rule in rules.alerts}
    yield from (f"the runbook has an entry for {name}, which is no alert" for name in set(entries) - alerts)


def find_short_windows(rules: Rules, folder: Path) -> Iterator[str]:
    """Yield which rules look at a window in which Prometheus may have too little."""
    monitors = yaml.safe_load_all((folder / "base/components/monitoring/pod-monitors.yaml").read_text())
    intervals = [e["interval"] for monitor in monitors for e in monitor["spec"]["podMetricsEndpoints"]]
    least = _NUM_SCRAPES * max(map(read_seconds, intervals))
    for group in rules.groups:
        for rule in group["rules"]:
            for window in re.findall(r"\[(\w+)\]", rule["expr"]):
                if read_seconds(window) < least:
                    yield f"{rule.get('alert') or rule['record']}: {window} are fewer than four scrapes"


def read_seconds(duration: str) -> int:
    """Read a duration as rules write it: 15s, 10m."""
    match = _WINDOW.fullmatch(duration)
    assert match, f"{duration} is written in a way that is not read here"
    return int(match[1]) * _UNIT_SECONDS[match[2]]
