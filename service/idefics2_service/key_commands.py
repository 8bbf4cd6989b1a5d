"""`idefics2-service keys`: create, list, limit, rotate and revoke keys in the file that services read."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from idefics2_service.errors import SettingInvalid, StoreUnavailable
from idefics2_service.key_arguments import read_limits
from idefics2_service.keys import changes
from idefics2_service.keys.credentials import Credentials
from idefics2_service.keys.file import KeyFile
from idefics2_service.keys.own import OWN_ID
from idefics2_service.keys.records import Limits
from idefics2_service.store.revocations import find_revocations

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from idefics2_service.keys.records import Key
    from idefics2_service.keys.revocations import Revocations
    from idefics2_service.settings import Settings


def run(arguments: Namespace, settings: Settings) -> None:
    """Do what `arguments.key_command` names.

    Raises:
        ChangeRefused: it cannot be done.
        SettingInvalid: the file of keys cannot be read or written, or the store's URL cannot be read.
        StoreUnavailable: it is to be revoked in the store, too, which does not answer; the file is unchanged.

    """
    file = KeyFile(settings.keys_path, is_required=False)
    revocations = find_revocations(settings.store)
    match arguments.key_command:
        case "create":
            _check_not_revoked(arguments.id, revocations)
            _show_made(_create(file, arguments, settings), arguments)
        case "rotate":
            _check_not_revoked(arguments.id, revocations)
            made = changes.rotate(file, arguments.id, datetime.now(UTC), at_once=arguments.at_once)
            _show_made(made, arguments)
        case "limit":
            limited = changes.limit(file, arguments.id, **read_limits(arguments))
            _show((_describe(limited, is_revoked=False),), arguments)
        case "revoke":
            _revoke(file, arguments.id, revocations)
            print(json.dumps({"id": arguments.id}) if arguments.json else f"revoked {arguments.id}")
        case "list":
            _show_all(file.read(), _read_revoked(revocations), arguments)


def _create(file: KeyFile, arguments: Namespace, settings: Settings) -> Credentials:
    if arguments.id in _taken(settings):
        raise changes.ChangeRefused(f"{arguments.id!r} is the id of a key beside the file; choose another id")
    now = datetime.now(UTC)
    return changes.create(
        file,
        arguments.id,
        now,
        expires_at=now + arguments.expires_in if arguments.expires_in else None,
        limits=Limits(**read_limits(arguments)),
        faces=arguments.faces,
        apps=tuple(dict.fromkeys(arguments.app)) or None,
    )


def _check_not_revoked(key_id: str, revocations: Revocations | None) -> None:
    """Make no secret that nobody would let in.

    Raises:
        ChangeRefused: the store says that the key is revoked.

    """
    if key_id in _read_revoked(revocations):
        raise changes.ChangeRefused(f"the key {key_id!r} is revoked; choose another id")


def _revoke(file: KeyFile, key_id: str, revocations: Revocations | None) -> None:
    """Revoke in the store first: a file may be a Kubernetes secret, which is changed elsewhere.

    Raises:
        StoreUnavailable: the store did not take it; this file did, if it can be changed.

    """
    changes.check_known(file, key_id)
    if revocations is None:
        changes.revoke(file, key_id, datetime.now(UTC))
        return
    try:
        revocations.add(key_id)
    except StoreUnavailable:
        with suppress(SettingInvalid):  # what failed first is what has to be mended
            changes.revoke(file, key_id, datetime.now(UTC))
            told = f"only this file says that {key_id!r} is revoked; do it again for the store"
            print(told, file=sys.stderr)
        raise
    try:
        changes.revoke(file, key_id, datetime.now(UTC))
    except SettingInvalid as error:
        print(f"replicas refuse it within 5 s; do the same to their file of keys: {error}", file=sys.stderr)


def _read_revoked(revocations: Revocations | None) -> frozenset[str]:
    if revocations is None:
        return frozenset()
    try:
        return revocations.read()
    except StoreUnavailable as error:
        print(f"only the file was asked which keys are revoked: {error}", file=sys.stderr)
        return frozenset()


def _taken(settings: Settings) -> set[str]:
    given = settings.api.key and Credentials.parse(settings.api.key.get_secret_value())
    return {OWN_ID, given.id} if given else {OWN_ID}


def _show_made(made: Credentials, arguments: Namespace) -> None:
    print(json.dumps({"id": made.id, "key": made.text}) if arguments.json else made.text)
    if not arguments.json:
        print("keep it: it is not shown again; services take it within 5 s", file=sys.stderr)


def _show_all(keys: tuple[Key, ...], revoked_ids: frozenset[str], arguments: Namespace) -> None:
    _show([_describe(key, is_revoked=key.id in revoked_ids) for key in keys], arguments)


def _show(described: Sequence[dict[str, Any]], arguments: Namespace) -> None:
    if arguments.json:
        print(json.dumps(described, indent=2))
        return
    for facts in described:
        print("  ".join(f"{name}={value}" for name, value in facts.items() if value is not None))


def _describe(key: Key, *, is_revoked: bool) -> dict[str, Any]:
    """Tell all but the hashes; `is_revoked` in the store."""
    return {
        "id": key.id,
        "state": "revoked" if is_revoked else _state(key),
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
