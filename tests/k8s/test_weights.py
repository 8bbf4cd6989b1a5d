"""Weights come as they were pinned, whole, or not at all."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from fakes.hub import COMMIT, REPOSITORY, Hub
from k8s.manifests import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from k8s.manifests import Bundle

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
    where = [str(folder)] if arguments[0] == "pin" else [str(folder / "weights"), "--pause-seconds", "0"]
    command = (sys.executable, str(folder / PROGRAM.name), *arguments, "--folder", *where)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


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


def test_a_folder_of_somebody_else_serves_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    program = runpy.run_path(str(PROGRAM))
    (tmp_path / COMMIT).mkdir()
    monkeypatch.setattr(os, "utime", refuse)
    program["fetch"](REPOSITORY, COMMIT, {"config.json": "0" * 64}, tmp_path, 0)
    assert "keeps its time: [Errno 1]" in capsys.readouterr().out


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


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_is_away_is_asked_until_it_is_back(hub: Hub, folder: Path, status: int) -> None:
    pin(hub, folder)
    hub.statuses = [status] * 3
    done = run(hub, folder, "fetch")
    assert not done.returncode, done.stderr
    assert "again in 0 s" in done.stderr
    assert not hub.statuses
    assert (folder / "weights" / COMMIT / "config.json").read_bytes() == FILES["config.json"]


def test_a_hub_that_goes_away_in_the_middle_is_not_taken_for_one_without_the_files(
    hub: Hub, folder: Path
) -> None:
    pin(hub, folder)
    name = "model-00001-of-00001.safetensors"
    whole, hub.files[name] = hub.files[name], b"another"
    assert run(hub, folder, "fetch").returncode == 1  # what came stays in the folder of the partial download
    hub.files[name], hub.statuses = whole, [200, 503]
    done = run(hub, folder, "fetch")
    assert not done.returncode, done.stderr
    assert "again in 0 s" in done.stderr


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_hub_that_says_no_is_not_asked_again(hub: Hub, folder: Path, status: int) -> None:
    pin(hub, folder)
    hub.statuses = [status] * 9
    done = run(hub, folder, "fetch")
    assert done.returncode == 1
    assert f"{status}" in done.stderr
    assert "again in" not in done.stderr


def test_a_third_revision_takes_the_place_of_the_one_that_was_not_wanted_for_longest(
    hub: Hub, folder: Path
) -> None:
    weights = folder / "weights"
    first, second, third = (digit * 40 for digit in "123")
    for commit in (first, second, first):  # rolled back
        hub.commit = commit
        pin(hub, folder)
        assert not run(hub, folder, "fetch").returncode
    assert {path.name for path in weights.iterdir()} == {first, second}
    for name in ("lost+found", f"{'4' * 40}.partial", f"{'5' * 40}.removed"):
        (weights / name).mkdir()
        (weights / name / "file").touch()
    hub.commit = third
    pin(hub, folder)
    assert not run(hub, folder, "fetch").returncode
    assert {path.name for path in weights.iterdir()} == {first, third, "lost+found"}


@contextmanager
def waiting(bundles: dict[str, Bundle], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Wait as a pod does, but look more often, for the revision COMMIT in a folder."""
    shell, option, script = bundles["one-gpu"].server.container("wait-for-weights")["command"]
    script = script.replace("/weights/", f"{folder}/").replace("sleep 5", "sleep 0.1")
    environment = {"PATH": os.environ["PATH"], "WEIGHTS_REVISION": COMMIT}
    command = (shell, option, script)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_pod_that_waits_for_weights_says_for_which_and_who_brings_them(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    with waiting(bundles, tmp_path) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert COMMIT in said
        assert "job idefics2-weights" in said
        (tmp_path / COMMIT).mkdir()
        assert process.wait() == 0


def test_a_pod_that_waits_for_weights_ends_when_it_is_told_to(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    with waiting(bundles, tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 1


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
