"""Dashboards ask for what there is, and what is declared is what the running programs show."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from idefics2_engine.metrics import SERIES
from k8s import metrics_table, monitoring
from k8s.declared_metrics import find_declared, find_series
from k8s.manifests import FOLDER
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Harness
    from k8s.conftest import Copy

DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
ENGINES = {series.name for series in SERIES}
OF_THE_FRONT = {
    name
    for name in find_declared().keys() - ENGINES
    if name != "up" and not name.startswith(("nv_", "ALERTS"))
}


async def test_the_front_shows_all_that_is_declared_and_nothing_else(on_real_triton: Harness) -> None:
    text = (await on_real_triton.http.get("/metrics")).text
    assert set(find_series(text_string_to_metric_families(text))) == OF_THE_FRONT


async def test_the_engine_shows_all_that_is_declared_through_triton(on_real_triton: Harness) -> None:
    assert await on_real_triton.engine.read_names() == ENGINES


def test_the_table_of_metrics_is_what_the_programs_declare() -> None:
    assert metrics_table.DOCUMENT.read_text() == metrics_table.render()


def test_dashboards_and_alerts_ask_for_nothing_that_is_not_there() -> None:
    assert list(monitoring.check(FOLDER)) == []


def test_the_runbook_calls_dashboards_by_their_titles() -> None:
    titles = {json.loads(path.read_text())["title"] for path in DASHBOARDS}
    readme = (FOLDER / "README.md").read_text()
    patterns = (r'[Dd]ashboard "([^"]+)"', r'"(Idefics2: [^"]+)"')
    assert {name for pattern in patterns for name in re.findall(pattern, readme)} == titles


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_whole(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"] == f"idefics2-{path.stem}"
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places)), "two panels lie on each other"
    assert max(x for x, _ in places) < 24
    assert all(panel["targets"] for panel in panels if panel["type"] != "row")


@pytest.mark.parametrize(
    ("path", "old", "new", "finding"),
    [
        ("dashboards/engine.json", "sum by (pod) (rate(", "sum by (pod) rate((", "cannot be parsed"),
        (
            "dashboards/queue.json",
            "idefics2_webhooks_total",
            "idefics2_webhook_total",
            "no metric idefics2_webhook_",
        ),
        ("dashboards/queue.json", 'kind=\\"submitted\\"', 'sort=\\"submitted\\"', "no label sort"),
        ("alerts/engine.yaml", "idefics2_backend_healthy == 0", "idefics2_backend_health == 0", "no metric"),
        ("alerts/engine.yaml", "idefics2_backend_healthy == 0", "idefics2_backend_healthy == (", "promtool"),
        ("alerts/queue.yaml", "for: 5m", "during: 5m", "field during not found"),
        ("alerts/queue.yaml", 'outcome="lost"', 'result="lost"', "no label result"),
        ("alerts/objectives.yaml", "idefics2:requests_failed:ratio_rate1h >", "idefics2:gone >", "no metric"),
        ("alerts/front.yaml", "severity: critical", "severity: dire", "no severity"),
        ("alerts/front.yaml", "#idefics2diskfull", "#disk", "does not link to its entry"),
        (
            "alerts/front.yaml",
            "alert: Idefics2DiskFull",
            "alert: Idefics2DiskFuller",
            "0 entries in the runbook",
        ),
        ("alerts/queue.yaml", "errors_total[1m]", "errors_total[30s]", "30s are fewer than four scrapes"),
        (
            "base/components/monitoring/pod-monitors.yaml",
            "interval: 15s",
            "interval: 30s",
            "1m are fewer than four scrapes",
        ),
        ("README.md", "### Idefics2DiskFull", "### Idefics2DiscFull", "which is no alert"),
    ],
)
def test_a_planted_fault_is_found(copy: Copy, path: str, old: str, new: str, finding: str) -> None:
    copy.spoil(path, old, new)
    findings = []
    for found in monitoring.check(copy.folder):
        if finding in found:
            return
        findings.append(found)
    pytest.fail(f"not found, but {findings}")
