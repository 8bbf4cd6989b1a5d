"""The file of keys: what it may say, how it is changed, and that a running service sees it change."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from idefics2_service.errors import (
    ApiKeyExpired,
    ApiKeyInvalid,
    ApiKeyRevoked,
    SettingInvalid,
    StoreUnavailable,
)
from idefics2_service.keys import ring as ring_module
from idefics2_service.keys.changes import ChangeRefused, create, revoke, rotate
from idefics2_service.keys.file import KeyFile
from idefics2_service.keys.records import Face, Limits
from idefics2_service.keys.ring import KeyRing
from structlog.testing import capture_logs

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HASH = "0123456789abcdef" * 4
GOOD = {"id": "anna", "hashes": [HASH], "created_at": "2026-11-25T12:00:00Z"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file lies, or will."""
    return tmp_path / "keys.json"


@pytest.fixture
def file(path: Path) -> KeyFile:
    """A file that need not be there."""
    return KeyFile(path, is_required=False)


def let_in(ring: KeyRing, key: str) -> str:
    """Show a key; return its id."""
    return ring.authenticate(f"Key {key}").id


def refuse(ring: KeyRing, key: str) -> type[Exception]:
    """Show a key that must not be let in; return the error."""
    with pytest.raises((ApiKeyInvalid, ApiKeyRevoked, ApiKeyExpired)) as caught:
        ring.authenticate(f"Key {key}")
    return caught.type


def test_a_made_key_is_let_in_with_all_that_it_was_given(file: KeyFile) -> None:
    limits = Limits(2.5, 7, 3, 100, 10**12, 20)
    given: dict[str, Any] = {"limits": limits, "faces": (Face.HTTP,), "apps": ("fal-ai/idefics-2-8b",)}
    made = create(file, "anna", NOW, expires_at=NOW + timedelta(1), **given)
    key = KeyRing(file=file, now=lambda: NOW).authenticate(f"Key {made.text}")
    assert (key.id, key.created_at) == ("anna", NOW)
    assert {"limits": key.limits, "faces": key.faces, "apps": key.apps} == given
    assert file.read() == (key,)


def test_the_file_holds_no_secret_and_only_its_owner_reads_it(file: KeyFile, path: Path) -> None:
    made = create(file, "anna", NOW)
    assert made.secret not in path.read_text()
    assert made.hash in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_no_secret_is_shown_by_accident(file: KeyFile) -> None:
    made = create(file, "anna", NOW)
    assert made.secret not in f"{made} {made!r}"
    assert made.secret not in str(vars(KeyRing(file=file)))


def test_a_missing_file_holds_no_keys_unless_it_was_named(path: Path) -> None:
    assert KeyFile(path, is_required=False).read() == ()
    with pytest.raises(SettingInvalid, match=r"IDEFICS2_API_KEYS_FILE: cannot read .*keys\.json"):
        KeyRing(file=KeyFile(path))


def test_a_file_that_cannot_even_be_looked_for_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match=r"IDEFICS2_API_KEYS_FILE: cannot read .*too long"):
        KeyFile(tmp_path / ("long" * 100), is_required=False).read()


def test_an_id_is_given_once_even_after_its_end(file: KeyFile) -> None:
    create(file, "anna", NOW)
    revoke(file, "anna", NOW)
    with pytest.raises(ChangeRefused, match="'anna'"):
        create(file, "anna", NOW)


def test_two_secrets_are_good_while_callers_move_on(file: KeyFile) -> None:
    first = create(file, "anna", NOW)
    second = rotate(file, "anna", NOW)
    ring = KeyRing(file=file)
    assert let_in(ring, first.text) == let_in(ring, second.text) == "anna"
    third = rotate(file, "anna", NOW)
    ring.refresh()
    assert refuse(ring, first.text) is ApiKeyInvalid
    assert let_in(ring, second.text) == let_in(ring, third.text) == "anna"
    fourth = rotate(file, "anna", NOW, at_once=True)
    ring.refresh()
    assert {refuse(ring, old.text) for old in (second, third)} == {ApiKeyInvalid}
    assert let_in(ring, fourth.text) == "anna"


def test_a_revoked_key_says_so_to_who_has_its_secret_and_to_nobody_else(file: KeyFile) -> None:
    made = create(file, "anna", NOW)
    ring = KeyRing(file=file)
    revoke(file, "anna", NOW)
    assert let_in(ring, made.text) == "anna"  # not looked yet
    ring.refresh()
    assert refuse(ring, made.text) is ApiKeyRevoked
    assert refuse(ring, f"anna.{'x' * 43}") is ApiKeyInvalid
    with pytest.raises(ChangeRefused, match="revoked"):
        rotate(file, "anna", NOW)


def test_revoking_again_changes_nothing(file: KeyFile) -> None:
    create(file, "anna", NOW)
    revoke(file, "anna", NOW)
    revoke(file, "anna", NOW + timedelta(1))
    assert file.read()[0].revoked_at == NOW


def test_a_key_expires_at_its_time(file: KeyFile) -> None:
    made = create(file, "anna", NOW, expires_at=NOW + timedelta(hours=1))
    now = NOW
    ring = KeyRing(file=file, now=lambda: now)
    now += timedelta(minutes=59)
    assert let_in(ring, made.text) == "anna"
    now += timedelta(minutes=1)
    assert refuse(ring, made.text) is ApiKeyExpired
    with pytest.raises(ChangeRefused, match="expired at 2"):
        rotate(file, "anna", now)


@pytest.mark.parametrize("change", [rotate, revoke])
def test_a_key_that_is_not_there_cannot_be_changed(file: KeyFile, change: Any) -> None:
    with pytest.raises(ChangeRefused, match="'nobody'"):
        change(file, "nobody", NOW)


def test_of_many_changes_at_once_none_is_lost(file: KeyFile) -> None:
    ids = [f"key-{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda key_id: create(file, key_id, NOW), ids))
    ring = KeyRing(file=file)
    assert sorted(let_in(ring, key.text) for key in made) == sorted(ids)


def test_a_change_that_cannot_be_written_leaves_the_file_as_it_was(
    file: KeyFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(file, "anna", NOW)
    before = path.read_bytes()

    def fail(*_: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(SettingInvalid, match=r"cannot write .* No space left"):
        create(file, "bert", NOW)
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == [path.name]


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
OTHER_UID, OTHER_GID = 4_321, 4_322


@as_root
@pytest.mark.parametrize("change", [rotate, revoke])
def test_a_file_that_root_changes_stays_its_owners(file: KeyFile, path: Path, change: Any) -> None:
    create(file, "anna", NOW)
    os.chown(path, OTHER_UID, OTHER_GID)
    change(file, "anna", NOW)
    status = path.stat()
    assert (status.st_uid, status.st_gid) == (OTHER_UID, OTHER_GID)
    assert stat.S_IMODE(status.st_mode) == 0o600


@as_root
def test_a_file_is_not_taken_from_its_owner(
    file: KeyFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(file, "anna", NOW)
    os.chown(path, OTHER_UID, OTHER_GID)
    before = path.read_bytes()

    def fail(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", fail)
    with pytest.raises(SettingInvalid, match=rf"cannot write .*keys\.json: it belongs to user {OTHER_UID}"):
        revoke(file, "anna", NOW)
    assert path.read_bytes() == before
    assert path.stat().st_uid == OTHER_UID
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def write(path: Path, *keys: dict[str, Any], **fields: Any) -> None:
    """Write a file by hand."""
    path.write_text(json.dumps({"version": 1, "keys": keys, **fields}))


DAMAGED: dict[str, dict[str, Any]] = {
    "a misspelt limit": {"limits": {"max_concurent": 1}},
    "an unknown field": {"app": ["fal-ai/idefics-2-8b"]},
    "no limit at all": {"limits": {"max_queued": 0}},
    "an endless rate": {"limits": {"calls_per_second": 1e300}},
    "an unknown face": {"faces": ["carrier pigeon"]},
    "no face": {"faces": []},
    "no app": {"apps": []},
    "an app without an owner": {"apps": ["idefics-2-8b"]},
    "no bytes at all": {"limits": {"max_stored_bytes": 0}},
    "a secret": {"hashes": ["swordfish"]},
    "no secret": {"hashes": []},
    "three secrets": {"hashes": [HASH] * 3},
    "a bad id": {"id": "an na\n"},
    "a time without a zone": {"created_at": "2026-11-25T12:00:00"},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_mistake_in_the_file_is_told_and_its_content_is_not(path: Path, case: str) -> None:
    write(path, {**GOOD, **DAMAGED[case]})
    with pytest.raises(
        SettingInvalid, match=r"IDEFICS2_API_KEYS_FILE: cannot read .*\$\.keys\[0\]"
    ) as caught:
        KeyFile(path).read()
    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe", b"[]", b'{"version": 2, "keys": []}', b"[" * 99_999]
)
def test_what_is_no_file_of_keys_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(SettingInvalid, match="IDEFICS2_API_KEYS_FILE: cannot read"):
        KeyFile(path).read()


def test_an_id_that_stands_there_twice_is_a_mistake(path: Path) -> None:
    write(path, GOOD, GOOD)
    with pytest.raises(SettingInvalid, match="twice"):
        KeyFile(path).read()


def test_the_key_beside_the_file_may_not_have_the_id_of_another(file: KeyFile) -> None:
    create(file, "anna", NOW)
    with pytest.raises(SettingInvalid, match="'anna'"):
        KeyRing("anna.0123456789abcdef", file=file)


@pytest.mark.parametrize("damage", [b"", b'{"version": 1, "keys": [', None])
def test_a_damaged_file_locks_nobody_out_and_the_log_says_so_once(
    file: KeyFile, path: Path, damage: bytes | None
) -> None:
    made = create(file, "anna", NOW)
    ring = KeyRing(file=file)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    with capture_logs() as lines:
        ring.refresh()
        ring.refresh()
    assert [(line["log_level"], line["event"]) for line in lines] == [("error", "keys stay as they were")]
    assert let_in(ring, made.text) == "anna"
    assert not ring.is_current
    path.unlink(missing_ok=True)
    create(KeyFile(path), "bert", NOW)
    ring.refresh()
    assert ring.is_current
    assert refuse(ring, made.text) is ApiKeyInvalid


def test_a_file_that_comes_later_is_read(file: KeyFile) -> None:
    ring = KeyRing(file=file)
    made = create(file, "anna", NOW)
    ring.refresh()
    assert let_in(ring, made.text) == "anna"


def test_a_file_that_did_not_change_is_not_read_again(file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    create(file, "anna", NOW)
    ring = KeyRing(file=file)
    monkeypatch.setattr(KeyFile, "read", lambda _: pytest.fail("it was read"))
    ring.refresh()


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes replaces a secret: `keys.json` leads to `..data/keys.json`, `..data` to a new folder."""
    made = []
    for number in range(2):
        (tmp_path / f"..{number}").mkdir()
        made.append(create(KeyFile(tmp_path / f"..{number}/keys.json"), "anna", NOW))
    (tmp_path / "..data").symlink_to("..0")
    (tmp_path / "keys.json").symlink_to("..data/keys.json")
    ring = KeyRing(file=KeyFile(tmp_path / "keys.json"))
    assert let_in(ring, made[0].text) == "anna"
    (tmp_path / "..new").symlink_to("..1")
    (tmp_path / "..new").replace(tmp_path / "..data")
    ring.refresh()
    assert let_in(ring, made[1].text) == "anna"
    assert refuse(ring, made[0].text) is ApiKeyInvalid


def test_a_link_to_the_file_stays_one(tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "keys.json")
    create(KeyFile(link), "anna", NOW)
    assert link.is_symlink()
    assert len(KeyFile(tmp_path / "keys.json").read()) == 1


async def test_every_ring_over_the_file_follows_it(file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    class Told(KeyRing):
        """A ring that says when it has looked."""

        def refresh(self) -> None:
            super().refresh()
            loop.call_soon_threadsafe(self.looked.set)

        looked: asyncio.Event

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(ring_module, "LOOK_AGAIN_SECONDS", 0)
    made = create(file, "anna", NOW)
    rings = [Told(file=file) for _ in range(2)]
    revoke(file, "anna", NOW)
    for ring in rings:
        ring.looked = asyncio.Event()
    with ExitStack() as following:
        for ring in rings:
            following.enter_context(ring.follow())
        async with asyncio.timeout(10):
            await asyncio.gather(*(ring.looked.wait() for ring in rings))
        assert {refuse(ring, made.text) for ring in rings} == {ApiKeyRevoked}


class Shared:
    """As Revocations, in memory; where `is_away`, nobody is answered."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.is_away = False

    def add(self, key_id: str) -> None:
        """As Revocations.add."""
        self.ids.add(key_id)

    def read(self) -> frozenset[str]:
        """As Revocations.read."""
        if self.is_away:
            raise StoreUnavailable("the store of requests cannot be used: Timeout")
        return frozenset(self.ids)


def test_what_the_store_revokes_is_refused_and_all_else_let_in(file: KeyFile) -> None:
    anna, bert = (create(file, name, NOW).text for name in ("anna", "bert"))
    shared = Shared()
    ring = KeyRing(file=file, revocations=shared)
    shared.add("anna")
    ring.load_revoked()
    assert refuse(ring, anna) is ApiKeyRevoked
    assert let_in(ring, bert) == "bert"
    with pytest.raises(ApiKeyRevoked):
        ring.find("anna")


def test_a_store_that_is_away_changes_nothing_and_the_log_says_so_once(file: KeyFile) -> None:
    anna, bert = (create(file, name, NOW).text for name in ("anna", "bert"))
    shared = Shared()
    shared.add("anna")
    ring = KeyRing(file=file, revocations=shared)
    ring.load_revoked()
    shared.is_away = True
    with capture_logs() as lines:
        ring.refresh_revoked()
        ring.refresh_revoked()
        ring.refresh()
    assert [(line["log_level"], line["event"]) for line in lines] == [("error", "keys stay as they were")]
    assert not ring.is_current
    assert refuse(ring, anna) is ApiKeyRevoked
    assert let_in(ring, bert) == "bert"
    shared.is_away = False
    shared.add("bert")
    ring.refresh_revoked()
    assert ring.is_current
    assert refuse(ring, bert) is ApiKeyRevoked


def test_what_the_store_forgets_stays_revoked_and_the_log_says_so_once(file: KeyFile) -> None:
    anna, bert = (create(file, name, NOW).text for name in ("anna", "bert"))
    shared = Shared()
    shared.add("anna")
    ring = KeyRing(file=file, revocations=shared)
    ring.load_revoked()
    shared.ids.clear()
    with capture_logs() as lines:
        for _ in range(2):
            ring.refresh_revoked()
            assert refuse(ring, anna) is ApiKeyRevoked
        shared.add("bert")
        ring.refresh_revoked()
        assert refuse(ring, bert) is ApiKeyRevoked
        shared.ids.clear()
        ring.refresh_revoked()
    told = [(line["log_level"], line["key_ids"]) for line in lines]
    assert told == [("warning", ["anna"]), ("warning", ["bert"])]
    assert ring.is_current


async def test_a_store_that_hangs_does_not_delay_the_file(file: KeyFile) -> None:
    class Hanging(Shared):
        """One that hangs until it is let go."""

        def read(self) -> frozenset[str]:
            """As Revocations.read."""
            go_on.wait(10)
            return super().read()

    class Told(KeyRing):
        """A ring that says when it has looked, and when it was answered."""

        def refresh(self) -> None:
            super().refresh()
            loop.call_soon_threadsafe(looked.set)

        def refresh_revoked(self) -> None:
            super().refresh_revoked()
            loop.call_soon_threadsafe(answered.set)

    loop, go_on, looked, answered = (
        asyncio.get_running_loop(),
        threading.Event(),
        asyncio.Event(),
        asyncio.Event(),
    )
    anna, bert = (create(file, name, NOW).text for name in ("anna", "bert"))
    shared = Hanging()
    shared.add("bert")
    ring = Told(file=file, revocations=shared)
    revoke(file, "anna", NOW)
    async with asyncio.timeout(10):
        with ring.follow():
            await looked.wait()
            assert refuse(ring, anna) is ApiKeyRevoked
            assert let_in(ring, bert) == "bert"
            assert not answered.is_set()
            go_on.set()
            await answered.wait()
            assert refuse(ring, bert) is ApiKeyRevoked


def test_what_is_revoked_is_looked_for_well_within_what_is_promised() -> None:
    assert ring_module.LOOK_AGAIN_SECONDS <= 2
