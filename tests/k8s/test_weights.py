"""Weights come as they were pinned, whole, or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from fakes.hub import COMMIT, REPOSITORY, Hub
from k8s.manifests import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = {
    "config.json": b"{}",
    "model-00001-of-00001.safetensors": bytes(range(256)) * 64,
    "README.md": b"not wanted",
}
PROGRAM = FOLDER / "base/components/weights/fetch_weights.py"


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub that has the files."""
    with Hub(FILES) as hub:
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the job sees: the program with its pins, and a volume."""
    for path in (PROGRAM, PROGRAM.with_name("weights.env"), PROGRAM.with_name("sha256sums.txt")):
        shutil.copy(path, tmp_path)
    (tmp_path / "weights").mkdir()
    return tmp_path


def run(hub: Hub, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program as the job does, with the pins that are there."""
    lines = (folder / "weights.env").read_text().splitlines()
    pins = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        **pins,
    }
    command = (sys.executable, str(folder / PROGRAM.name), *arguments, "--folder")
    where = folder if arguments[0] == "pin" else folder / "weights"
    return subprocess.run(
        (*command, str(where)), env=environment, capture_output=True, text=True, check=False
    )


def pin(hub: Hub, folder: Path) -> None:
    done = run(hub, folder, "pin", REPOSITORY)
    assert not done.returncode, done.stderr


def test_nothing_is_fetched_before_something_is_pinned(hub: Hub, folder: Path) -> None:
    done = run(hub, folder, "fetch")
    assert done.returncode == 1
    assert "nothing is pinned" in done.stderr
    assert not hub.fetched


def test_what_was_pinned_is_fetched_and_nothing_else(hub: Hub, folder: Path) -> None:
    pin(hub, folder)
    assert f"WEIGHTS_REVISION={COMMIT}" in (folder / "weights.env").read_text()
    done = run(hub, folder, "fetch")
    assert not done.returncode, done.stderr
    found = {
        path.name: path.read_bytes() for path in (folder / "weights" / COMMIT).iterdir() if path.is_file()
    }
    assert found == {name: data for name, data in FILES.items() if name != "README.md"}


def test_a_second_job_fetches_nothing(hub: Hub, folder: Path) -> None:
    pin(hub, folder)
    run(hub, folder, "fetch")
    hub.fetched.clear()
    assert not run(hub, folder, "fetch").returncode
    assert not hub.fetched


def test_a_file_that_is_another_leaves_no_folder_of_that_name_and_the_next_job_mends_it(
    hub: Hub, folder: Path
) -> None:
    pin(hub, folder)
    name = "model-00001-of-00001.safetensors"
    hub.files[name] = FILES[name][::-1]
    done = run(hub, folder, "fetch")
    assert done.returncode == 1
    assert f"{name} has SHA-256" in done.stderr
    assert not (folder / "weights" / COMMIT).exists()
    hub.files[name] = FILES[name]
    assert not run(hub, folder, "fetch").returncode
    assert (folder / "weights" / COMMIT / name).read_bytes() == FILES[name]


def test_a_file_that_is_missing_is_told(hub: Hub, folder: Path) -> None:
    pin(hub, folder)
    del hub.files["config.json"]
    done = run(hub, folder, "fetch")
    assert done.returncode == 1
    assert "config.json is not in the repository" in done.stderr


@pytest.mark.parametrize(
    "line", ["abc  config.json", f"{'0' * 64}  ../config.json", f"{'0' * 64}  /etc/passwd"]
)
def test_sums_that_lead_elsewhere_are_refused(hub: Hub, folder: Path, line: str) -> None:
    pin(hub, folder)
    (folder / "sha256sums.txt").write_text(f"{line}\n")
    done = run(hub, folder, "fetch")
    assert done.returncode == 1
    assert "not a sum and a name" in done.stderr
