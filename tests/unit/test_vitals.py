"""What the process lives on is shown, and what cannot be asked holds up nothing else."""

from __future__ import annotations

import errno
import math
import shutil
from typing import TYPE_CHECKING

import psutil
import pytest
from certificates import Identity
from idefics2_service import vitals
from idefics2_service.metrics import Metrics
from idefics2_service.settings import GrpcSettings
from idefics2_service.tls import Certificates

if TYPE_CHECKING:
    from pathlib import Path


def read(metrics: Metrics, name: str, **labels: str) -> float:
    """Read a gauge."""
    value = metrics.registry.get_sample_value(f"idefics2_{name}", labels)
    assert value is not None
    return value


def test_the_disk_is_that_of_the_folder_also_before_it_is_made(tmp_path: Path) -> None:
    metrics = Metrics()
    disk = vitals.Disk(tmp_path / "not" / "yet", metrics)
    assert math.isnan(read(metrics, "data_free_bytes"))
    disk.look()
    assert read(metrics, "data_size_bytes") == shutil.disk_usage(tmp_path).total
    assert 0 < read(metrics, "data_free_bytes") < read(metrics, "data_size_bytes")


def test_of_a_disk_that_fails_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    disk = vitals.Disk(tmp_path, metrics)
    disk.look()

    def fail(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", fail)
    disk.look()
    assert math.isnan(read(metrics, "data_free_bytes"))
    assert math.isnan(read(metrics, "data_size_bytes"))
    monkeypatch.undo()
    disk.look()
    assert read(metrics, "data_free_bytes") > 0


def test_a_certificate_shows_its_end_and_whether_its_files_are_good(tmp_path: Path) -> None:
    metrics, identity = Metrics(), Identity.make("front")
    certificate, key = identity.write(tmp_path)
    pair = Certificates("grpc", GrpcSettings(tls_certificate_file=certificate, tls_key_file=key))
    vitals.watch(metrics, {"grpc": pair})
    assert read(metrics, "memory_limit_bytes") > 2**20
    ends = identity.certificate.not_valid_after_utc.timestamp()
    assert read(metrics, "certificate_expires_timestamp_seconds", port="grpc") == ends
    assert read(metrics, "certificates_current", port="grpc") == 1
    certificate.write_text("no certificate")
    pair.renew()
    assert read(metrics, "certificates_current", port="grpc") == 0
    assert read(metrics, "certificate_expires_timestamp_seconds", port="grpc") == ends


@pytest.mark.parametrize(
    ("file", "none"),
    [("memory.max", "max"), ("memory/memory.limit_in_bytes", "9223372036854771712")],
    ids=["cgroup v2", "cgroup v1"],
)
def test_the_memory_is_the_containers_or_where_it_has_no_limit_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, none: str
) -> None:
    monkeypatch.setattr(vitals, "_CONTAINER", tmp_path)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    for limit, expected in {"104857600": 104857600, none: psutil.virtual_memory().total}.items():
        (tmp_path / file).write_text(f"{limit}\n")
        metrics = Metrics()
        vitals.watch(metrics, {})
        assert read(metrics, "memory_limit_bytes") == expected
