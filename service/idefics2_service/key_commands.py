"""`idefics2-service keys`: create, list, rotate and revoke keys in the file that services read."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from idefics2_service.keys import changes
from idefics2_service.keys.credentials import Credentials
from idefics2_service.keys.file import KeyFile
from idefics2_service.keys.own import OWN_ID
from idefics2_service.keys.records import Limits

if TYPE_CHECKING:
    from argparse import Namespace

    from idefics2_service.keys.records import Key
    from idefics2_service.settings import Settings


def run(arguments: Namespace, settings: Settings) -> None:
    """Do what `arguments.key_command` names.

    Raises:
        ChangeRefused: it cannot be done.
        SettingInvalid: the file of keys cannot be read or written.

    """
    file = KeyFile(settings.keys_path, is_required=False)
    match arguments.key_command:
        case "create":
            _show_made(_create(file, arguments, settings), arguments)
        case "rotate":
            _show_made(changes.rotate(file, arguments.id, at_once=arguments.at_once), arguments)
        case "revoke":
            changes.revoke(file, arguments.id, datetime.now(UTC))
            print(json.dumps({"id": arguments.id}) if arguments.json else f"revoked {arguments.id}")
        case "list":
            _show_all(file.read(), arguments)


def _create(file: KeyFile, arguments: Namespace, settings: Settings) -> Credentials:
    if arguments.id in _taken(settings):
        raise changes.ChangeRefused(f"{arguments.id!r} is the id of a key beside the file; choose another id")
    if arguments.burst and not arguments.rate:
        raise changes.ChangeRefused("--burst says nothing without --rate")
    now = datetime.now(UTC)
    return changes.create(
        file,
        arguments.id,
        now,
        expires_at=now + arguments.expires_in if arguments.expires_in else None,
        limits=Limits(
            calls_per_second=arguments.rate,
            burst=arguments.burst,
            max_concurrent=arguments.max_concurrent,
            max_queued=arguments.max_queued,
            max_stored_bytes=arguments.max_stored_bytes,
            max_stored_files=arguments.max_stored_files,
        ),
        faces=arguments.faces,
        apps=tuple(dict.fromkeys(arguments.app)) or None,
    )


def _taken(settings: Settings) -> set[str]:
    given = settings.api.key and Credentials.parse(settings.api.key.get_secret_value())
    return {OWN_ID, given.id} if given else {OWN_ID}


def _show_made(made: Credentials, arguments: Namespace) -> None:
    print(json.dumps({"id": made.id, "key": made.text}) if arguments.json else made.text)
    if not arguments.json:
        print("keep it: it is not shown again; services take it within 5 s", file=sys.stderr)


def _show_all(keys: tuple[Key, ...], arguments: Namespace) -> None:
    described = [_describe(key) for key in keys]
    if arguments.json:
        print(json.dumps(described, indent=2))
        return
    for facts in described:
        print("  ".join(f"{name}={value}" for name, value in facts.items() if value is not None))


def _describe(key: Key) -> dict[str, Any]:
    """Tell all but the hashes."""
    return {
        "id": key.id,
        "state": _state(key),
        "num_secrets": len(key.hashes),
        "created_at": key.created_at.isoformat(timespec="seconds"),
        "revoked_at": key.revoked_at and key.revoked_at.isoformat(timespec="seconds"),
        "expires_at": key.expires_at and key.expires_at.isoformat(timespec="seconds"),
        "faces": ",".join(face.value for face in key.faces),
        "apps": key.apps and ",".join(key.apps),
        **msgspec.structs.asdict(key.limits),
    }


def _state(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    is_over = key.expires_at is not None and key.expires_at <= datetime.now(UTC)
    return "expired" if is_over else "active"
