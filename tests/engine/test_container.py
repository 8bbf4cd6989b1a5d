"""The engine takes as many cores as its container has time of, whatever the host has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from idefics2_engine.config import EngineConfig
from idefics2_engine.container import count_cores

if TYPE_CHECKING:
    from pathlib import Path

NUM_CORES = 64


@pytest.fixture(autouse=True)
def _host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large host, whose kernel tells of a container what stands in a folder of the test's."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(NUM_CORES)))
    monkeypatch.setattr("idefics2_engine.container._CONTAINER", tmp_path)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("50000 25000", 2),
        ("9000000 100000", NUM_CORES),
        ("max 100000", NUM_CORES),
    ],
)
def test_cores_are_counted_by_the_containers_quota_of_time(tmp_path: Path, told: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{told}\n")
    assert count_cores() == expected


@pytest.mark.parametrize(("quota", "expected"), [("200000", 2), ("150000", 2), ("-1", NUM_CORES)])
def test_so_they_are_where_the_kernel_tells_of_it_in_the_old_way(
    tmp_path: Path, quota: str, expected: int
) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert count_cores() == expected


def test_where_the_kernel_tells_of_no_container_the_hosts_cores_count() -> None:
    assert count_cores() == NUM_CORES


def test_messages_are_as_many_as_those_cores_can_send(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    assert EngineConfig().message_rate == 2 * EngineConfig(max_messages_per_second=200).message_rate
