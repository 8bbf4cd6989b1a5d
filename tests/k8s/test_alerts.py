"""Each alert fires when it must and is quiet when it may: Prometheus itself says so, minute by minute."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import yaml
from idefics2_service import errors
from idefics2_service.measured import measure_store
from idefics2_service.metrics import OUR_FAULTS, SUBMITTED, Metrics
from idefics2_service.settings import LimitSettings
from idefics2_service.store.interface import RequestStore
from k8s import promtool
from k8s.manifests import FOLDER
from k8s.monitoring import Rules, read_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RULES = Rules.read(FOLDER / "alerts")
POD = 'namespace="n",pod="p"'
OK, BAD = "requests_total{reason='OK'}", "requests_total{reason='INTERNAL_ERROR'}"
FAST, ALL = (
    "time_to_first_token_seconds_bucket{le='5.0'}",
    "time_to_first_token_seconds_count",
)
LEFT, LEFT_SOON = (
    "time_without_token_seconds_count",
    "time_without_token_seconds_bucket{le='5.0'}",
)
OFF_GRID = "23s"
"""Between two scrapes, of which none falls on a look: `increase` then says a little more than was counted."""
NOBODY_LEFT = {LEFT: "0x500", LEFT_SOON: "0x500"}


@dataclass(frozen=True)
class Case:
    """What Prometheus scrapes, by series, as promtool writes it; names without `idefics2_`."""

    alert: str
    firing: dict[str, str]
    quiet: dict[str, str]
    minutes: int = 40
    """After which one looks."""
    interval: str = "1m"
    """Between two scrapes."""


CASES = (
    Case("Idefics2FailsFast", {OK: "0+90x100", BAD: "0+10x100"}, {OK: "0+999x100", BAD: "0+1x100"}, 90),
    Case("Idefics2FailsFast", {OK: "0+9x100", BAD: "0+1x100"}, {OK: "0+9x100", BAD: "0+9x60 540x40"}, 90),
    Case("Idefics2FailsFast", {OK: "0x100", BAD: "0+0.2x100"},
         {OK: "0x30 1x9 2x9 3x9 4x9 5x9 6x50", BAD: "0x86 1x50"}, 90),
    Case("Idefics2FailsFast", {OK: "0x300", BAD: "3x222 9x50"}, {OK: "0x300", BAD: "3x222 8x50"}, 90,
         OFF_GRID),
    Case("Idefics2FailsSlowly", {OK: "0+95x500", BAD: "0+5x500"}, {OK: "0+98x500", BAD: "0+2x500"}, 480),
    Case("Idefics2FirstTokenLate", {FAST: "0+6x99", ALL: "0+10x99", **NOBODY_LEFT},
         {FAST: "0+9x99", ALL: "0+10x99", **NOBODY_LEFT}, 90),
    Case("Idefics2FirstTokenLate", {FAST: "0+40x99", ALL: "0+40x99", LEFT: "0+60x99", LEFT_SOON: "0x99"},
         {FAST: "0+40x99", ALL: "0+40x99", LEFT: "0+60x99", LEFT_SOON: "0+60x99"}, 90),
    Case("Idefics2FirstTokenLate", {FAST: "0x99", ALL: "0x99", LEFT: "0+9x99", LEFT_SOON: "0x99"},
         {FAST: "0x99", ALL: "0x99", **NOBODY_LEFT}, 90),
    Case("Idefics2FirstTokenLate", {FAST: "0x99", ALL: "0x99", LEFT: "0x81 6x3 8x3 10x50", LEFT_SOON: "0x99"},
         {FAST: "0x99", ALL: "0x99", LEFT: "0x81 1x3 2x3 3x50", LEFT_SOON: "0x99"}, 90),
    Case("Idefics2FirstTokenLate",
         {FAST: "0x300", ALL: "0x300", LEFT: "3x68 4x60 8x89 9x5 10x50", LEFT_SOON: "0x300"},
         {FAST: "0x300", ALL: "0x300", LEFT: "3x68 4x60 7x89 8x5 9x50", LEFT_SOON: "0x300"}, 90, OFF_GRID),
    Case("Idefics2FirstTokenOftenLate", {FAST: "0+85x500", ALL: "0+100x500", **NOBODY_LEFT},
         {FAST: "0+95x500", ALL: "0+100x500", **NOBODY_LEFT}, 480),
    Case("Idefics2FirstTokenOftenLate",
         {FAST: "0+85x500", ALL: "0+85x500", LEFT: "0+15x500", LEFT_SOON: "0x500"},
         {FAST: "0+85x500", ALL: "0+85x500", LEFT: "0+15x500", LEFT_SOON: "0+12x500"}, 480),
    Case("Idefics2LineSlow", {"oldest_waiting_seconds": "40x60"},
         {"oldest_waiting_seconds": "40x3 0 40x3 0x60"}, 9),
    Case("Idefics2LineFull", {"num_requests_waiting": "128x60", "max_requests_waiting": "256x60"},
         {"num_requests_waiting": "10x60", "max_requests_waiting": "256x60"}),
    Case("Idefics2QueueOld", {"store_oldest_queued_seconds": "0+60x60"},
         {"store_oldest_queued_seconds": "300x60"}),
    Case("Idefics2QueueFull",
         {"store_num_requests_queued": "90000x60", "store_max_requests_queued": "100000x60"},
         {"store_num_requests_queued": "9000x60", "store_max_requests_queued": "100000x60"}),
    Case("Idefics2StoreUnavailable", {"store_errors_total{operation='claim'}": "0x8 1+1x99"},
         {"store_errors_total{operation='claim'}": "0x7 1x99"}, 5, "15s"),
    Case("Idefics2StoreUnavailable",
         {"store_errors_total{operation='submit',pod='p'}": "0x30 1x30",
          "store_errors_total{operation='submit',pod='q'}": "0x30 1 1 2x30"},
         {"store_errors_total{operation='submit',pod='p'}": "0x30 1x30",
          "store_errors_total{operation='submit',pod='q'}": "0x30 1x30"}, 37),
    Case("Idefics2StoreUnfit", {"store_unfit": "1x60"}, {"store_unfit": "0x20 1x1 0x40"}, 21),
    Case("Idefics2FileStoreUnavailable", {"file_store_errors_total{operation='put'}": "0x8 1+1x99"},
         {"file_store_errors_total{operation='put'}": "0x7 2x99"}, 5, "15s"),
    Case("Idefics2StoreReplicaBehind", {"store_replica_behind": "1x60"},
         {"store_replica_behind": "0x20 1x3 0x40"}, 22),
    Case("Idefics2StoreSlow",
         {"store_seconds_bucket{operation='claim',le='0.5'}": "0+90x60",
          "store_seconds_bucket{operation='claim',le='2.5'}": "0+100x60",
          "store_seconds_bucket{operation='claim',le='+Inf'}": "0+100x60"},
         {"store_seconds_bucket{operation='claim',le='0.1'}": "0+100x60",
          "store_seconds_bucket{operation='claim',le='0.5'}": "0+100x60",
          "store_seconds_bucket{operation='claim',le='+Inf'}": "0+100x60"}),
    Case("Idefics2LeasesLost", {"store_attempts_total{outcome='lost'}": "0x30 1x30"},
         {"store_attempts_total{outcome='ended'}": "0+9x60"}),
    Case("Idefics2LeasesLost", {"store_late_renewals_total": "0+1x60"},
         {"store_late_renewals_total": "0x30 2x30"}),
    Case("Idefics2RequestsGivenUp", {"requests_total{reason='ATTEMPTS_EXHAUSTED'}": "0x30 1x30"},
         {"requests_total{reason='START_TIMEOUT'}": "0x30 1x30",
          "requests_total{reason='ATTEMPT_LOST'}": "0x30 1x30",
          "store_reaped_total{outcome='requeued'}": "0x30 1x30"}),
    Case("Idefics2WebhooksFail",
         {"webhooks_total{outcome='retried'}": "0+8x60",
          "webhooks_total{outcome='delivered'}": "0+2x60"},
         {"webhooks_total{outcome='retried'}": "0+1x60",
          "webhooks_total{outcome='delivered'}": "0+9x60"}),
    Case("Idefics2WebhooksFail", {"webhooks_total{outcome='given_up'}": "0x10 1x50"},
         {"webhooks_total{outcome='given_up'}": "1x60"}),
    Case("Idefics2ModelLost", {"backend_healthy": "0x60"}, {"backend_healthy": "1x20 0 1x60"}),
    Case("Idefics2EngineStuck",
         {"engine_num_requests_running": "3x60", "engine_last_step_time_seconds": "600x60"},
         {"engine_num_requests_running": "3x60", "engine_last_step_time_seconds": "0+60x60"}),
    Case("Idefics2EngineStuck",
         {"engine_num_requests_running": "1x60", "engine_last_step_time_seconds": "0x60"},
         {"engine_num_requests_running": "0x60", "engine_last_step_time_seconds": "600x60"}),
    Case("Idefics2EngineRestarts", {"engine_start_time_seconds": "1 2 3 4x60"},
         {"engine_start_time_seconds": "1 2x60"}),
    Case("Idefics2EngineRestarts", {"backend_losses_total": "0 1 2 3 4x60"},
         {"backend_losses_total": "0 1x60"}),
    Case("Idefics2EngineRestarts", {"backend_losses_total": "3x90 6x50"},
         {"backend_losses_total": "3x90 5x50"}, 40, OFF_GRID),
    Case("Idefics2SlotsFull",
         {"engine_num_requests_running": "64x60", "engine_kv_cache_slots": "64x60",
          "num_requests_waiting": "5x60"},
         {"engine_num_requests_running": "64x60", "engine_kv_cache_slots": "64x60",
          "num_requests_waiting": "0x60"}),
    Case("Idefics2EngineFaults", {"engine_requests_failed_total{why='not_finite'}": "0x35 1x20"},
         {"engine_requests_failed_total{why='not_finite'}": "1x60"}),
    Case("Idefics2EngineFaults", {"engine_out_of_memory_total": "0x35 1x20"},
         {"engine_out_of_memory_total": "0 1x60"}),
    Case("Idefics2ImageWorkersDie", {"engine_image_workers_killed_total{why='died'}": "0+1x60"},
         {"engine_image_workers_killed_total{why='cancelled'}": "0+9x60"}),
    Case("Idefics2ImageWorkersDie", {"engine_image_workers_killed_total{why='died'}": "3x90 9x50"},
         {"engine_image_workers_killed_total{why='died'}": "3x90 8x50"}, 40, OFF_GRID),
    Case("Idefics2EngineNotScraped",
         {"backend_healthy": "1x60", "engine_start_time_seconds{namespace='n',pod='other'}": "600x60"},
         {"backend_healthy": "1x60", "engine_start_time_seconds{engine='e'}": "600x60"}),
    Case("Idefics2EngineNotScraped", {"backend_healthy": "1x60", "engine_start_time_seconds": "600x5 stale"},
         {"backend_healthy{pod=''}": "1x60", "backend_healthy": "0x60"}),
    Case("Idefics2NothingScraped",
         {"backend_healthy{namespace='lost',pod='p'}": "1x9", "backend_healthy": "1x60"},
         {"backend_healthy{namespace='other',pod='p'}": "1x60", "backend_healthy": "1x60"}),
    Case("Idefics2NothingScraped", {},
         {"backend_healthy{namespace='given_up',pod='p'}": "1x9", "backend_healthy": "1x2000"}, 1500),
    Case("Idefics2KeysNotCurrent", {"api_keys_current": "0x60"}, {"api_keys_current": "1x60"}),
    Case("Idefics2CertificatesNotCurrent", {"certificates_current{port='grpc'}": "0x60"},
         {"certificates_current{port='grpc'}": "1x60"}),
    Case("Idefics2CertificateEnds", {"certificate_expires_timestamp_seconds{port='http'}": "300000x200"},
         {"certificate_expires_timestamp_seconds{port='http'}": "3000000x200"}, 90),
    Case("Idefics2DiskFull", {"data_free_bytes": "5x60", "data_size_bytes": "100x60"},
         {"data_free_bytes": "50x60", "data_size_bytes": "100x60"}),
    Case("Idefics2MemoryFull", {"process_resident_memory_bytes": "95x60", "memory_limit_bytes": "100x60"},
         {"process_resident_memory_bytes": "50x60", "memory_limit_bytes": "100x60"}),
    Case("Idefics2MemoryFull",
         {"engine_memory_used_bytes": "95x60", "engine_memory_limit_bytes": "100x60"},
         {"engine_memory_used_bytes": "50x60", "engine_memory_limit_bytes": "100x60"}),
    Case("Idefics2FileRoomFull", {"held_bytes": "47x60", "max_held_bytes": "100x60"},
         {"held_bytes": "40x60", "max_held_bytes": "100x60"}),
    Case("Idefics2FrontRestarts",
         {"process_start_time_seconds": "1x9 2x9 _x4 3x5 4x40", "backend_healthy": "1x60"},
         {"process_start_time_seconds": "1x9 2x9 _x4 3x40", "backend_healthy": "1x60"}),
    Case("Idefics2PodNotScraped", {"up{job='n/idefics2-triton'}": "0x60"},
         {"up{job='n/idefics2-triton'}": "0x30 1 0x60", "up{job='n/other'}": "0x60"}, 60),
)  # fmt: skip


def test_every_alert_is_tried() -> None:
    assert {case.alert for case in CASES} == {rule["alert"] for rule in RULES.alerts}


@pytest.mark.timeout(300)  # more than a minute on an idle machine
def test_alerts_fire_and_are_quiet_as_they_must() -> None:
    assert (
        list(promtool.try_rules(RULES.file, {"evaluation_interval": "1m", "tests": list(_write_tests())}))
        == []
    )


@pytest.mark.parametrize("is_firing", [True, False])
def test_an_alert_that_does_not_fire_as_it_must_is_found(*, is_firing: bool) -> None:
    case = next(case for case in CASES if case.alert == "Idefics2ModelLost")
    wrong = _write_test(case, case.firing if is_firing else case.quiet, fires=not is_firing)
    (finding,) = promtool.try_rules(RULES.file, {"evaluation_interval": "1m", "tests": [wrong]})
    assert "FAILED" in finding


@pytest.mark.parametrize("has_apt", [True, False])
def test_where_promtool_cannot_be_got_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, has_apt: bool
) -> None:
    if has_apt:  # without lists of packages, as in a fresh container
        (tmp_path / "apt-get").write_text("#!/bin/sh\nexit 100\n")
        (tmp_path / "apt-get").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(promtool, "_PROGRAM", tmp_path / "promtool")
    with pytest.raises(promtool.PromtoolMissing, match="install Debian's or Ubuntu's package `prometheus`"):
        promtool.bring()


def test_the_scaler_has_no_figure_while_no_replica_tells_how_long_requests_have_waited() -> None:
    scaler = yaml.safe_load((FOLDER / "base/components/keda/scaled-object.yaml").read_text())
    (query,) = (t["metadata"]["query"] for t in scaler["spec"]["triggers"] if t["name"] == "queue-age")
    name = "idefics2_store_oldest_queued_seconds"
    told = {"p": "5+60x5 stale 7x9", "q": "3+60x5 stale _x9"}
    series = [{"series": f'{name}{{namespace="idefics2",pod="{p}"}}', "values": v} for p, v in told.items()]
    looks = [(4, [{"labels": "{}", "value": 245}]), (6, []), (8, [{"labels": "{}", "value": 7}])]
    looked = [{"expr": query, "eval_time": f"{minute}m", "exp_samples": found} for minute, found in looks]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": looked}
    assert list(promtool.try_rules({"groups": []}, {"tests": [test]})) == []


def test_the_latency_of_a_request_that_waited_and_ran_for_as_long_as_it_may_has_a_bucket() -> None:
    (alert,) = (rule for rule in RULES.alerts if rule["alert"] == "Idefics2QueueOld")
    tolerated = float(alert["expr"].rpartition(">")[2]) + read_seconds(alert["for"])
    metrics = Metrics()
    metrics.e2e.labels(SUBMITTED).observe(0)
    (family,) = metrics.e2e.collect()
    bounds = [float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels]
    assert max(filter(math.isfinite, bounds)) >= tolerated + LimitSettings().max_run_seconds


def test_what_is_our_fault_is_every_error_of_ours_and_no_other() -> None:
    (rule,) = (
        r for g in RULES.groups for r in g["rules"] if r.get("record", "").endswith("failed:ratio_rate5m")
    )
    ours = {
        error.reason
        for error in vars(errors).values()
        if isinstance(error, type)
        and issubclass(error, errors.ServiceError)
        and error.code in {"INTERNAL", "UNAVAILABLE"}
        and error.reason
    } - {"SERVICE_STOPPING", "ATTEMPT_LOST"}  # a replica's stop is enough for these
    assert set(rule["expr"].split('reason=~"')[1].split('"')[0].split("|")) == ours == set(OUR_FAULTS)


def test_what_an_alert_counts_stands_at_0_from_the_start_so_that_the_first_is_seen() -> None:
    pattern = re.compile(r'(idefics2_\w+_total)\{\s*(\w+)=~?"([^"]*)"')
    wanted = {
        (name, label, value)
        for rule in RULES.alerts
        for name, label, values in pattern.findall(_resolve(rule["expr"]))
        for value in values.split("|")
    }
    metrics = Metrics()
    measure_store(RequestStore, metrics)  # type: ignore[arg-type]  # nothing is asked of it
    shown = {
        (sample.name, *label)
        for family in metrics.registry.collect()
        for sample in family.samples
        for label in sample.labels.items()
        if sample.value == 0
    }
    assert len(wanted) > len(OUR_FAULTS)
    assert wanted - shown == set()


def _resolve(expression: str) -> str:
    """Put in the place of each recorded rule what it records."""
    for group in RULES.groups:
        for rule in group["rules"]:
            if "record" in rule:
                expression = expression.replace(rule["record"], rule["expr"])
    return expression


def _write_tests() -> Iterator[dict[str, object]]:
    for case in CASES:
        yield _write_test(case, case.firing, fires=True)
        yield _write_test(case, case.quiet, fires=False)


def _write_test(case: Case, series: dict[str, str], *, fires: bool) -> dict[str, object]:
    expression = f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}}) or vector(0)'
    looked = {"eval_time": f"{case.minutes}m", "exp_samples": [{"labels": "{}", "value": int(fires)}]}
    return {
        "name": f"{case.alert} {'fires' if fires else 'is quiet'}",
        "interval": case.interval,
        "input_series": [{"series": _place(name), "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expression, **looked}],
    }


def _place(series: str) -> str:
    """Write a series' whole name, with the pod that it is of, where it names none."""
    name, _, labels = series.replace("'", '"').rstrip("}").partition("{")
    prefix = "" if name == "up" or name.startswith("process_") else "idefics2_"
    pod = "" if "pod=" in labels else POD
    return f"{prefix}{name}{{{','.join(filter(None, (labels, pod)))}}}"
