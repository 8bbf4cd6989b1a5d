"""The key of webhooks is kept whole, or not at all."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from disks import note_safe_names
from idefics2_service.errors import SettingInvalid, StartFailed
from idefics2_service.signatures import Signer

if TYPE_CHECKING:
    from pathlib import Path

OF_OTHERS = 0o077


def test_the_key_that_was_made_is_found_again_and_is_the_owners_alone(tmp_path: Path) -> None:
    made = Signer.load_or_make(tmp_path / "new")
    assert Signer.load_or_make(tmp_path / "new").jwks == made.jwks
    (file,) = (tmp_path / "new").iterdir()
    assert not file.stat().st_mode & OF_OTHERS


def test_all_who_make_it_at_once_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        signers = list(threads.map(Signer.load_or_make, [tmp_path] * 8))
    assert len({str(signer.jwks) for signer in signers}) == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_disk_that_fails_is_said_and_leaves_no_half_of_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(
            StartFailed, match=r"IDEFICS2_DATA_FOLDER: cannot keep .*: No space left on device"
        ):
            Signer.load_or_make(tmp_path)
    assert not list(tmp_path.iterdir())
    Signer.load_or_make(tmp_path)


def test_a_made_key_is_there_after_a_loss_of_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    safe = note_safe_names(tmp_path, monkeypatch)
    Signer.load_or_make(tmp_path)
    assert safe == [{"webhook_key"}]


def test_a_damaged_key_is_said(tmp_path: Path) -> None:
    (tmp_path / "webhook_key").write_bytes(b"half")
    with pytest.raises(SettingInvalid, match=r"IDEFICS2_DATA_FOLDER: the key of webhooks in .* is damaged"):
        Signer.load_or_make(tmp_path)
