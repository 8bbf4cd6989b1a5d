"""Changes of the file of keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

import msgspec

from idefics2_service.keys.credentials import Credentials
from idefics2_service.keys.records import MAX_SECRETS, AppId, Face, Key, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from idefics2_service.keys.file import KeyFile


class ChangeRefused(Exception):
    """A change that cannot be made; the message says why."""


class Grant(TypedDict, total=False):
    """What a key is given, as Key has it; what is left out is as there."""

    expires_at: datetime | None
    limits: Limits
    faces: tuple[Face, ...]
    apps: tuple[AppId, ...] | None


def create(file: KeyFile, key_id: str, now: datetime, **grant: Unpack[Grant]) -> Credentials:
    """Add a key; what is returned is kept nowhere.

    Raises:
        ChangeRefused: there is one of this id, if only a revoked one: requests belong to ids. Or it would
            have a burst of no rate.
        SettingInvalid: the file cannot be changed.

    """
    made = Credentials.make(key_id)
    _check_limits(grant.get("limits", Limits()))
    with file.edit() as keys:
        if key_id in keys:
            raise ChangeRefused(f"there is a key {key_id!r}; choose another id")
        keys[key_id] = Key(id=key_id, hashes=(made.hash,), created_at=now, **grant)
    return made


def rotate(file: KeyFile, key_id: str, now: datetime, *, at_once: bool = False) -> Credentials:
    """Give a key another secret; the one before it stays good until the next time, unless `at_once`.

    Raises:
        ChangeRefused: there is no such key, or nobody would be let in with it.
        SettingInvalid: the file cannot be changed.

    """
    made = Credentials.make(key_id)
    with file.edit() as keys:
        key = _find(keys, key_id)
        if key.revoked_at is not None:
            raise ChangeRefused(f"the key {key_id!r} is revoked")
        if key.expires_at is not None and key.expires_at <= now:
            raise ChangeRefused(f"the key {key_id!r} expired at {key.expires_at.isoformat()}")
        hashes = (made.hash,) if at_once else (made.hash, *key.hashes)[:MAX_SECRETS]
        keys[key_id] = msgspec.structs.replace(key, hashes=hashes)
    return made


def limit(file: KeyFile, key_id: str, **limits: float | None) -> Key:
    """Change limits of a key, named as `Limits` has them; None lifts one. What is not named stays.

    Raises:
        ChangeRefused: there is no such key, it is revoked, or it would have a burst of no rate.
        SettingInvalid: the file cannot be changed.

    """
    with file.edit() as keys:
        key = _find(keys, key_id)
        if key.revoked_at is not None:
            raise ChangeRefused(f"the key {key_id!r} is revoked")
        keys[key_id] = changed = msgspec.structs.replace(
            key, limits=_check_limits(msgspec.structs.replace(key.limits, **limits))
        )
    return changed


def revoke(file: KeyFile, key_id: str, now: datetime) -> None:
    """Let a key in no more; one that is revoked stays as it is.

    Raises:
        ChangeRefused: there is no such key.
        SettingInvalid: the file cannot be changed.

    """
    with file.edit() as keys:
        key = _find(keys, key_id)
        keys[key_id] = msgspec.structs.replace(key, revoked_at=key.revoked_at or now)


def check_known(file: KeyFile, key_id: str) -> None:
    """Look whether there is a key, revoked or not.

    Raises:
        ChangeRefused: there is not.
        SettingInvalid: the file cannot be read.

    """
    _find({key.id: key for key in file.read()}, key_id)


def _find(keys: Mapping[str, Key], key_id: str) -> Key:
    key = keys.get(key_id)
    if key is None:
        raise ChangeRefused(f"there is no key {key_id!r}; idefics2-service keys list names them")
    return key


def _check_limits(limits: Limits) -> Limits:
    """Return limits that mean something.

    Raises:
        ChangeRefused: there is a burst of no rate.

    """
    if limits.burst and not limits.calls_per_second:
        raise ChangeRefused("--burst says nothing without --rate")
    return limits
