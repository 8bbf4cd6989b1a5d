"""The ready file is whole or not there, and that it cannot be written is found at the start."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest
from idefics2_service.errors import StartFailed
from idefics2_service.ready_file import ReadyFile

if TYPE_CHECKING:
    from pathlib import Path

FACTS = {"grpc": "127.0.0.1:1", "http": "127.0.0.1:2", "api_key": "anna.swordfish"}


def test_it_says_what_is_ready_to_its_owner_alone_until_it_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    file = ReadyFile(str(path))
    path.write_text("of an earlier start")
    file.begin()
    assert list(tmp_path.iterdir()) == []
    file.write(FACTS)
    assert json.loads(path.read_text()) == FACTS
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file.remove()
    file.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["/proc/ready.json", "no/such/folder/ready.json"])
def test_a_folder_that_takes_no_file_is_found_at_the_start(path: str) -> None:
    with pytest.raises(StartFailed, match=f"--ready-file {path}: "):
        ReadyFile(path).begin()


def test_of_what_cannot_be_written_no_key_is_left(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    file = ReadyFile(str(path))
    file.begin()
    path.mkdir()
    with pytest.raises(StartFailed, match="--ready-file"):
        file.write(FACTS)
    assert list(tmp_path.iterdir()) == [path]
