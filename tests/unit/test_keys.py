"""Who may call, and how the service comes by its own key."""

from __future__ import annotations

import hashlib
import hmac
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from idefics2_service.errors import ApiKeyInvalid, ApiKeyMissing, SettingInvalid
from idefics2_service.keys import credentials, ring
from idefics2_service.keys.credentials import Credentials
from idefics2_service.keys.own import load_or_make_key
from idefics2_service.keys.ring import KeyRing

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "0123456789abcdef"
KEY = f"alice.{SECRET}"
OTHER_KEY = "bob_2-b.ABCDEFGHIJKLMNOP_-"
WRONG_SECRET = "f" * 16


@pytest.mark.parametrize("scheme", ["Key", "key", "KEY", "Bearer", "bearer"])
def test_a_known_key_is_let_in_by_its_id(scheme: str) -> None:
    keys = KeyRing(KEY, OTHER_KEY)
    assert keys.authenticate(f"{scheme} {KEY}").id == "alice"
    assert keys.authenticate(f"{scheme}  {OTHER_KEY} ").id == "bob_2-b"


def test_a_key_is_known_as_fals_clients_write_theirs() -> None:
    assert KeyRing(KEY).authenticate(f"Key alice:{SECRET}").id == "alice"
    with pytest.raises(ApiKeyInvalid):
        KeyRing(KEY).authenticate(f"Key alice:{WRONG_SECRET}")


@pytest.mark.parametrize("header", [None, ""])
def test_no_header_is_a_missing_key(header: str | None) -> None:
    with pytest.raises(ApiKeyMissing):
        KeyRing(KEY).authenticate(header)


@pytest.mark.parametrize(
    "header",
    [
        f"Key alice.{WRONG_SECRET}",
        f"Key nobody.{SECRET}",
        f"Key bob_2-b.{SECRET}",  # another one's secret
        f"Key alice.{SECRET}0",
        f"Key alice.{SECRET.upper()}",
        f"Key Alice.{SECRET}",
        f"Key {SECRET}",
        f"Key alice.{SECRET[:15]}",
        "Key alice.",
        "Key ",
        "Key",
        KEY,
        f"Basic {KEY}",
        f"Key {KEY} {KEY}",
        f"Key {KEY}\n.",
        "Key alice." + hashlib.sha256(SECRET.encode()).hexdigest(),
        f"Key älice.{SECRET}",
    ],
)
def test_whatever_else_is_an_invalid_key(header: str) -> None:
    with pytest.raises(ApiKeyInvalid) as caught:
        KeyRing(KEY, OTHER_KEY).authenticate(header)
    assert SECRET not in caught.value.message


def test_a_key_that_was_cut_off_is_told_how_long_its_secret_must_be() -> None:
    with pytest.raises(ApiKeyInvalid) as caught:
        KeyRing(KEY).authenticate(f"Key {KEY[:-1]}")
    form = "<id>.<secret>, the secret 16 characters or more of A-Za-z0-9_-"
    assert caught.value.message == f"authorization must be `Key` or `Bearer` before {form}"


def test_an_unknown_id_and_a_wrong_secret_are_told_the_same() -> None:
    messages = set()
    for header in (f"Key nobody.{SECRET}", f"Key alice.{WRONG_SECRET}"):
        with pytest.raises(ApiKeyInvalid) as caught:
            KeyRing(KEY).authenticate(header)
        messages.add((caught.value.message, str(caught.value.metadata)))
    assert len(messages) == 1


@pytest.mark.parametrize("caller", ["alice", "nobody"])
def test_an_unknown_id_goes_the_same_way_as_a_wrong_secret(
    caller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, hashed, compared = KeyRing(KEY), [], []

    class WatchedComparison:
        @staticmethod
        def compare_digest(known: str, given: str) -> bool:
            compared.append((len(known), given))
            return hmac.compare_digest(known, given)

    class WatchedHash:
        @staticmethod
        def sha256(data: bytes) -> Any:
            hashed.append(data)
            return hashlib.sha256(data)

    monkeypatch.setattr(ring, "hmac", WatchedComparison)
    monkeypatch.setattr(credentials, "hashlib", WatchedHash)
    with pytest.raises(ApiKeyInvalid):
        keys.authenticate(f"Key {caller}.{WRONG_SECRET}")
    assert hashed == [WRONG_SECRET.encode()]
    assert compared == [(64, hashlib.sha256(WRONG_SECRET.encode()).hexdigest())] * 2


def test_an_empty_ring_lets_nobody_in() -> None:
    with pytest.raises(ApiKeyInvalid):
        KeyRing().authenticate(f"Key {KEY}")


def test_no_secret_is_kept_in_memory() -> None:
    assert SECRET not in str(vars(KeyRing(KEY)))


@pytest.mark.parametrize(
    "key",
    [
        "",
        "alice",
        SECRET,
        f".{SECRET}",
        "alice.short",
        f"al ice.{SECRET}",
        f"{KEY}\n",
        f"{'a' * 65}.{SECRET}",
    ],
)
def test_a_key_of_another_form_is_refused_as_a_setting_and_not_repeated(key: str) -> None:
    with pytest.raises(SettingInvalid) as caught:
        KeyRing(key)
    message = str(caught.value)
    assert message.startswith("IDEFICS2_API_KEY ")
    assert SECRET not in message


def test_a_made_key_has_256_bits_of_secret_and_is_never_the_same() -> None:
    made = {Credentials.make("local").text for _ in range(20)}
    assert len(made) == 20
    for key in made:
        assert KeyRing(key).authenticate(f"Key {key}").id == "local"
        assert len(key.partition(".")[2]) >= 256 / 6


def test_the_key_is_made_at_the_first_start_and_kept_at_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    key = load_or_make_key(folder)
    assert KeyRing(key).authenticate(f"Key {key}").id == "local"
    assert load_or_make_key(folder) == key
    assert load_or_make_key(tmp_path / "elsewhere") != key


def test_only_its_owner_can_read_the_key(tmp_path: Path) -> None:
    load_or_make_key(tmp_path)
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_that_an_operator_put_there_is_taken(tmp_path: Path) -> None:
    (tmp_path / "api_key").write_text(f"\n {OTHER_KEY} \n")
    assert load_or_make_key(tmp_path) == OTHER_KEY


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, below: str) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("I am no folder.")
    folder = blocked / below
    with pytest.raises(SettingInvalid) as caught:
        load_or_make_key(folder)
    message = str(caught.value)
    assert message.startswith("IDEFICS2_DATA_FOLDER: ")
    assert str(folder) in message
    assert blocked.read_text() == "I am no folder."


def test_of_many_first_starts_at_once_all_have_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(60):
            keys = set(pool.map(load_or_make_key, [tmp_path / f"{number}"] * 16))
            assert len(keys) == 1


def test_a_start_that_was_cut_short_while_it_made_the_key_is_made_good(tmp_path: Path) -> None:
    (tmp_path / "api_key").touch()
    KeyRing(load_or_make_key(tmp_path))
