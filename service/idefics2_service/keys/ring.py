"""Who may call: the keys of the file as it is now, and those that were given at the start."""

from __future__ import annotations

import hmac
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import structlog

from idefics2_service.errors import (
    ApiKeyExpired,
    ApiKeyInvalid,
    ApiKeyMissing,
    ApiKeyRevoked,
    SettingInvalid,
    StoreUnavailable,
)
from idefics2_service.keys.credentials import FORM, Credentials
from idefics2_service.keys.records import MAX_SECRETS, Key
from idefics2_service.lookout import keep_looking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from idefics2_service.keys.file import KeyFile, Version
    from idefics2_service.keys.revocations import Revocations

logger = structlog.get_logger(__name__)

LOOK_AGAIN_SECONDS = 1.0
"""How often file and store are looked at: what they revoke is refused within 5 s, on a busy replica too."""
_SCHEMES = ("key", "bearer")
_NO_HASH = "0" * 64
"""Of no secret that anybody could find."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class KeyRing:
    """All keys."""

    def __init__(
        self,
        *given: str,
        file: KeyFile | None = None,
        revocations: Revocations | None = None,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        """Know the keys `given`, each `<id>.<secret>` and without limits, and those of `file`.

        What `revocations` names is not asked for before `load_revoked`.

        Raises:
            SettingInvalid: a given key has another form, or the file is damaged.

        """
        self._now = now
        self._given = [_read_given(key, now()) for key in given]
        self._file = file
        self._revocations = revocations
        self._revoked_ids: frozenset[str] = frozenset()
        self._forgotten_ids: frozenset[str] = frozenset()
        """Of those, the ones that the store does not name any more."""
        self._trouble = self._store_trouble = ""
        self._version: Version | None = None
        self._keys: dict[str, Key] = {}
        self._load()

    @property
    def is_current(self) -> bool:
        """Whether the file could be read when it last changed, and the store when it was last asked."""
        return not (self._trouble or self._store_trouble)

    @property
    def num_keys(self) -> int:
        """How many there are, in force or not."""
        return len(self._keys)

    def authenticate(self, authorization: str | None) -> Key:
        """Return the key in an `authorization` header, as it is now, with no hash but the shown secret's.

        Takes as long for an unknown id as for a wrong secret.

        Raises:
            ApiKeyMissing: there is no header.
            ApiKeyInvalid: it holds no key that is known.
            ApiKeyRevoked, ApiKeyExpired: the key is known, and its time is over.

        """
        if not authorization:
            raise ApiKeyMissing("send `authorization: Key <id>.<secret>`")
        scheme, _, text = authorization.partition(" ")
        shown = Credentials.parse(text.strip())
        if scheme.lower() not in _SCHEMES or shown is None:
            raise ApiKeyInvalid(f"authorization must be `Key` or `Bearer` before {FORM}")
        known = self._keys.get(shown.id)
        if not _matches(known.hashes if known else (), shown.hash):
            raise _unknown()
        return msgspec.structs.replace(self.find(shown.id), hashes=(shown.hash,))

    def confirm(self, key: Key) -> None:
        """Look whether what `authenticate` returned once would be let in now.

        Raises:
            ApiKeyInvalid: there is no such key by now, or it has other secrets.
            ApiKeyRevoked, ApiKeyExpired: its time is over.

        """
        known = self._keys.get(key.id)
        if known is None or not set(key.hashes) <= set(known.hashes):
            raise _unknown()
        self.find(key.id)

    def find(self, key_id: str) -> Key:
        """Return a key as it is now.

        Raises:
            ApiKeyInvalid: there is none by now.
            ApiKeyRevoked, ApiKeyExpired: its time is over.

        """
        key = self._keys.get(key_id)
        if key is None:
            raise _unknown()
        if key.revoked_at is not None or key_id in self._revoked_ids:
            raise ApiKeyRevoked("the API key was revoked")
        if key.expires_at is not None and key.expires_at <= self._now():
            raise ApiKeyExpired("the API key has expired")
        return key

    @contextmanager
    def follow(self) -> Iterator[None]:
        """Look for changes again and again, until the context ends; a store that hangs delays no file."""
        with ExitStack() as looking:
            looking.enter_context(keep_looking(self.refresh, LOOK_AGAIN_SECONDS))
            if self._revocations is not None:
                looking.enter_context(keep_looking(self.refresh_revoked, LOOK_AGAIN_SECONDS))
            yield

    def refresh(self) -> None:
        """Read the file again if it has changed; where that fails, all stays, and the log says so."""
        if self._file is None or (self._file.version == self._version and not self._trouble):
            return
        try:
            self._load()
        except SettingInvalid as error:
            if str(error) != self._trouble:  # once, not at each look
                logger.error("keys stay as they were", error=str(error))  # noqa: TRY400  # it says it all
            self._trouble = str(error)
        else:
            logger.info("keys read", num_keys=len(self._keys))

    def refresh_revoked(self) -> None:
        """Ask the store again; where that fails, all stays, and the log says so."""
        try:
            self.load_revoked()
        except StoreUnavailable as error:
            if not self._store_trouble:
                logger.error("keys stay as they were", error=str(error))  # noqa: TRY400  # as above
            self._store_trouble = str(error)

    def load_revoked(self) -> None:
        """Ask the store which keys are revoked, beside those that it ever named.

        Raises:
            StoreUnavailable: it does not answer.

        """
        if self._revocations is not None:
            self._remember(self._revocations.read())
            self._store_trouble = ""

    def _remember(self, revoked_ids: frozenset[str]) -> None:
        """Keep what a store forgets that was restored, or took the place of one that had heard more."""
        forgotten_ids = self._revoked_ids - revoked_ids
        if new := forgotten_ids - self._forgotten_ids:  # once, not at each look
            logger.warning("the store forgot that keys are revoked; revoke them again", key_ids=sorted(new))
        self._revoked_ids |= revoked_ids
        self._forgotten_ids = forgotten_ids

    def _load(self) -> None:
        version, keys = None, {}
        if self._file is not None:
            version = self._file.version  # first: what changes while it is read is read again
            keys = {key.id: key for key in self._file.read()}
        if both := [key.id for key in self._given if key.id in keys]:
            message = f"IDEFICS2_API_KEY: {both[0]!r} is in the file of keys, too; unset it where you serve"
            raise SettingInvalid(message)
        self._keys = {**keys, **{key.id: key for key in self._given}}
        self._version, self._trouble = version, ""


def _read_given(text: str, now: datetime) -> Key:
    credentials = Credentials.parse(text)
    if credentials is None:
        raise SettingInvalid(f"IDEFICS2_API_KEY must be {FORM}")
    return Key(id=credentials.id, hashes=(credentials.hash,), created_at=now)


def _matches(hashes: tuple[str, ...], shown: str) -> bool:
    """Compare with as many hashes whoever asks, and each of them to its end."""
    padded = (*hashes, *(_NO_HASH,) * MAX_SECRETS)[:MAX_SECRETS]
    return sum(hmac.compare_digest(known, shown) for known in padded) > 0


def _unknown() -> ApiKeyInvalid:
    return ApiKeyInvalid("the API key is not known to this service")
