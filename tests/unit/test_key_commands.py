"""`idefics2-service keys`, as an operator uses it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from idefics2_service.__main__ import EXIT_FAILED, EXIT_USAGE, main
from idefics2_service.errors import ApiKeyInvalid, ApiKeyRevoked
from idefics2_service.keys.file import KeyFile
from idefics2_service.keys.ring import KeyRing

if TYPE_CHECKING:
    from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where keys are kept."""
    return tmp_path / "new folder" / "keys.json"


@pytest.fixture
def run(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `keys` with arguments; return exit status, standard output and standard error."""
    monkeypatch.setenv("IDEFICS2_API_KEYS_FILE", str(path))

    def run_(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["idefics2-service", "keys", *arguments])
        try:
            status = main()
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        return status, *capsys.readouterr()

    return run_


def ring(path: Path) -> KeyRing:
    """Read the keys as a service does."""
    return KeyRing(file=KeyFile(path))


def test_a_key_is_printed_once_and_let_in(run: Run, path: Path) -> None:
    status, key, hint = run("create", "--id", "anna")
    assert status == 0
    assert "not shown again" in hint
    assert ring(path).authenticate(f"Key {key.strip()}").id == "anna"
    secret = key.strip().partition(".")[2]
    for arguments in (("list",), ("list", "--json")):
        status, shown, _ = run(*arguments)
        assert status == 0
        assert "anna" in shown
        assert secret not in shown


def test_programs_read_json(run: Run, path: Path) -> None:
    limits = ("--rate", "0.5", "--burst", "3", "--max-concurrent", "2", "--max-queued", "9")
    stored = ("--max-stored-bytes", "5000000000", "--max-stored-files", "7")
    apps = ("--app", "fal-ai/idefics-2-8b", "--app", "me/mine", "--app", "me/mine")
    others = ("--faces", "http", "--expires-in", "90d", "--json")
    status, out, err = run("create", *limits, *stored, *apps, *others)
    made = json.loads(out)
    assert (status, err) == (0, "")
    assert ring(path).authenticate(f"Key {made['key']}").id == made["id"]
    (listed,) = json.loads(run("list", "--json")[1])
    assert (listed["id"], listed["state"], listed["num_secrets"]) == (made["id"], "active", 1)
    assert (listed["calls_per_second"], listed["burst"]) == (0.5, 3)
    assert (listed["max_concurrent"], listed["max_queued"], listed["faces"]) == (2, 9, "http")
    assert (listed["max_stored_bytes"], listed["max_stored_files"]) == (5_000_000_000, 7)
    assert listed["apps"] == "fal-ai/idefics-2-8b,me/mine"
    assert listed["expires_at"] > listed["created_at"]


def test_a_key_is_rotated_and_revoked(run: Run, path: Path) -> None:
    first, second = (run(*arguments)[1].strip() for arguments in (("create", "--id", "a"), ("rotate", "a")))
    assert {ring(path).authenticate(f"Key {key}").id for key in (first, second)} == {"a"}
    third = run("rotate", "a", "--at-once")[1].strip()
    with pytest.raises(ApiKeyInvalid):
        ring(path).authenticate(f"Key {second}")
    assert run("revoke", "a")[:2] == (0, "revoked a\n")
    with pytest.raises(ApiKeyRevoked):
        ring(path).authenticate(f"Key {third}")
    assert "state=revoked" in run("list")[1]


def test_limits_of_a_key_are_changed_and_lifted_and_the_others_stay(run: Run, path: Path) -> None:
    key = run("create", "--id", "a", "--rate", "5", "--burst", "20", "--max-queued", "9")[1].strip()
    status, shown, _ = run("limit", "a", "--rate", "0.5", "--burst", "none", "--max-stored-files", "7")
    assert (status, "calls_per_second=0.5  max_queued=9  max_stored_files=7" in shown) == (0, True)
    limits = ring(path).authenticate(f"Key {key}").limits
    assert (limits.calls_per_second, limits.burst) == (0.5, None)
    assert (limits.max_queued, limits.max_stored_files) == (9, 7)
    (listed,) = json.loads(run("limit", "a", "--max-queued", "none", "--json")[1])
    assert listed == json.loads(run("list", "--json")[1])[0]
    assert (listed["calls_per_second"], listed["max_queued"]) == (0.5, None)


def test_a_key_that_is_revoked_is_not_limited(run: Run) -> None:
    run("create", "--id", "a")
    run("revoke", "a")
    status, out, err = run("limit", "a", "--rate", "1")
    assert (status, out) == (EXIT_FAILED, "")
    assert "revoked" in err


def test_no_file_is_no_key(run: Run) -> None:
    assert run("list") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("rotate", "nobody"), "'nobody'"),
        (("revoke", "nobody"), "'nobody'"),
        (("create", "--id", "taken"), "'taken'"),
        (("create", "--id", "local"), "'local'"),
        (("create", "--burst", "3"), "--rate"),
        (("limit", "nobody", "--rate", "3"), "'nobody'"),
        (("limit", "taken", "--burst", "3"), "--rate"),
    ],
)
def test_what_cannot_be_done_is_said(run: Run, arguments: tuple[str, ...], named: str) -> None:
    run("create", "--id", "taken")
    status, out, err = run(*arguments)
    assert (status, out) == (EXIT_FAILED, "")
    assert named in err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("destroy",),
        ("rotate",),
        ("create", "--id", "an na"),
        ("create", "--rate", "none"),
        ("limit",),
        ("limit", "anna", "--rate", "0"),
        ("limit", "anna", "--max-queued", "no"),
        ("create", "--rate", "0"),
        ("create", "--rate", "nan"),
        ("create", "--rate", "inf"),
        ("create", "--max-queued", "0"),
        ("create", "--max-concurrent", "1.5"),
        ("create", "--max-stored-bytes", "0"),
        ("create", "--max-stored-files", "many"),
        ("create", "--app", "idefics-2-8b"),
        ("create", "--app", ""),
        ("create", "--faces", "grpc,pigeon"),
        ("create", "--expires-in", "0d"),
        ("create", "--expires-in", "90"),
        ("create", "--expires-in", "9999999999d"),
    ],
)
def test_bad_usage_changes_nothing(run: Run, path: Path, arguments: tuple[str, ...]) -> None:
    assert run(*arguments)[0] == EXIT_USAGE
    assert not path.exists()


def test_a_damaged_file_is_named_and_left_alone(run: Run, path: Path) -> None:
    path.parent.mkdir()
    path.write_text("{")
    for arguments in (("list",), ("create",), ("revoke", "anna")):
        status, _, err = run(*arguments)
        assert status == EXIT_USAGE
        assert "IDEFICS2_API_KEYS_FILE" in err
    assert path.read_text() == "{"


def test_the_id_of_the_key_beside_the_file_is_taken(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDEFICS2_API_KEY", "anna.0123456789abcdef")
    status, _, err = run("create", "--id", "anna")
    assert (status, "0123456789abcdef" in err) == (EXIT_FAILED, False)
